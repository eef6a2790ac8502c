-- Deploy hopcount:domain_short_code to pg

BEGIN;

SET LOCAL ROLE hopcount_owner;
SET LOCAL lock_timeout = '5s';

-- A domain is checked when a value comes in, a CHECK of the table at every update of any column:
-- this one costs a counted click nothing.
CREATE DOMAIN hopcount.short_code AS text COLLATE "C"
    CONSTRAINT short_code_shape CHECK (VALUE ~ '^[0-9A-Za-z_-]{1,32}$');

COMMIT;
