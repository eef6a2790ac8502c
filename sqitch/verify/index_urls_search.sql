-- Verify hopcount:index_urls_search on pg

BEGIN;

SET LOCAL ROLE hopcount_owner;
SELECT 1 / count(*) FROM pg_index
WHERE indexrelid = 'hopcount.urls_search_idx'::regclass AND indisvalid;

ROLLBACK;
