-- Revert hopcount:index_urls_search from pg

SET ROLE hopcount_owner;
DROP INDEX CONCURRENTLY IF EXISTS hopcount.urls_search_idx;
