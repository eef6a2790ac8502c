-- Revert hopcount:table_urls from pg

BEGIN;

SET LOCAL ROLE hopcount_owner;
SET LOCAL lock_timeout = '5s';
DROP TABLE hopcount.urls;

COMMIT;
