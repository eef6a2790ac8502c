-- Deploy hopcount:index_urls_search to pg

-- CONCURRENTLY cannot run in a transaction, and one that failed leaves an invalid index behind.
SET ROLE hopcount_owner;
DROP INDEX CONCURRENTLY IF EXISTS hopcount.urls_search_idx;

-- For the search by prefix. A B-tree entry ends at about 2,700 bytes and a destination at 8,192, so the index
-- holds the beginning only, and the query checks the whole once more.
CREATE INDEX CONCURRENTLY urls_search_idx ON hopcount.urls (lower(left(original_url, 1000)));

-- The planner asks for statistics of the expression.
ANALYZE hopcount.urls;
