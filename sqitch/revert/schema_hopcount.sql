-- Revert hopcount:schema_hopcount from pg

BEGIN;

SET LOCAL ROLE hopcount_owner;
SET LOCAL lock_timeout = '5s';
DROP SCHEMA hopcount;

COMMIT;
