-- Revert hopcount:domain_short_code from pg

BEGIN;

SET LOCAL ROLE hopcount_owner;
SET LOCAL lock_timeout = '5s';
DROP DOMAIN hopcount.short_code;

COMMIT;
