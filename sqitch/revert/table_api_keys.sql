-- Revert hopcount:table_api_keys from pg

BEGIN;

SET LOCAL ROLE hopcount_owner;
SET LOCAL lock_timeout = '5s';
DROP TABLE hopcount.api_keys;

COMMIT;
