-- Revert hopcount:index_clicks_short_code from pg

BEGIN;

SET LOCAL ROLE hopcount_owner;
SET LOCAL lock_timeout = '5s';
DROP INDEX hopcount.clicks_short_code_id_idx;

COMMIT;
