-- Verify hopcount:table_api_keys on pg

BEGIN;

SET LOCAL ROLE hopcount_owner;
SELECT id, name, key_hash, scope, created_at FROM hopcount.api_keys WHERE FALSE;

ROLLBACK;
