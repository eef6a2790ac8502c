-- Revert hopcount:index_urls_search from pg

DROP INDEX CONCURRENTLY IF EXISTS hopcount.urls_search_idx;
