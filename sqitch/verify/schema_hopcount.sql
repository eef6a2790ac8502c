-- Verify hopcount:schema_hopcount on pg

BEGIN;

SET LOCAL ROLE hopcount_owner;
SELECT 1 / count(*) FROM pg_namespace
WHERE nspname = 'hopcount' AND nspowner = 'hopcount_owner'::regrole;

ROLLBACK;
