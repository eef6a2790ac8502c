-- Verify hopcount:index_clicks_short_code on pg

BEGIN;

SET LOCAL ROLE hopcount_owner;
SELECT 1 / count(*) FROM pg_index
WHERE indexrelid = 'hopcount.clicks_short_code_id_idx'::regclass AND indisvalid;

ROLLBACK;
