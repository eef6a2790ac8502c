-- Verify hopcount:table_clicks on pg

BEGIN;

SET LOCAL ROLE hopcount_owner;
SELECT id, short_code FROM hopcount.clicks WHERE FALSE;
SELECT 1 / count(*) FROM pg_partitioned_table
WHERE partrelid = 'hopcount.clicks'::regclass AND partstrat = 'r' AND partdefid = 'hopcount.clicks_default'::regclass;

ROLLBACK;
