-- Verify hopcount:table_urls on pg

BEGIN;

SET LOCAL ROLE hopcount_owner;
SELECT id, short_code, original_url, click_count, created_at, updated_at FROM hopcount.urls WHERE FALSE;
SELECT 1 / count(*) FROM pg_constraint
WHERE conrelid = 'hopcount.urls'::regclass AND conname = 'urls_short_code_key' AND contype = 'u';
SELECT 1 / count(*) FROM pg_class
WHERE oid = 'hopcount.urls'::regclass AND relowner = 'hopcount_owner'::regrole AND 'fillfactor=80' = ANY (reloptions);

ROLLBACK;
