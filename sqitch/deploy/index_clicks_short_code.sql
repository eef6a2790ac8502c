-- Deploy hopcount:index_clicks_short_code to pg

BEGIN;

SET LOCAL ROLE hopcount_owner;
SET LOCAL lock_timeout = '5s';

CREATE INDEX clicks_short_code_id_idx ON hopcount.clicks (short_code, id);

COMMIT;
