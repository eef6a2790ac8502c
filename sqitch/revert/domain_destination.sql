-- Revert hopcount:domain_destination from pg

BEGIN;

SET LOCAL ROLE hopcount_owner;
SET LOCAL lock_timeout = '5s';
DROP DOMAIN hopcount.destination;

COMMIT;
