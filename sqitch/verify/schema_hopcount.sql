-- Verify hopcount:schema_hopcount on pg

BEGIN;

SELECT 1 / count(*) FROM pg_namespace
WHERE nspname = 'hopcount' AND nspowner = 'hopcount_owner'::regrole;

ROLLBACK;
