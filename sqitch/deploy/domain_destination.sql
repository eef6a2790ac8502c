-- Deploy hopcount:domain_destination to pg

BEGIN;

SET LOCAL ROLE hopcount_owner;
SET LOCAL lock_timeout = '5s';

-- A URL as the WHATWG parser writes it: http or https, printable ASCII only, at most 8,192 bytes.
CREATE DOMAIN hopcount.destination AS text COLLATE "C"
    CONSTRAINT destination_length CHECK (octet_length(VALUE) <= 8192)
    CONSTRAINT destination_scheme CHECK (VALUE ~ '^https?://[!-~]+$');

COMMIT;
