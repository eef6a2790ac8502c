-- Deploy hopcount:grants_service to pg

BEGIN;

SET LOCAL ROLE hopcount_owner;
SET LOCAL lock_timeout = '5s';

GRANT USAGE ON SCHEMA hopcount TO hopcount_service;
GRANT SELECT, INSERT, DELETE ON hopcount.urls TO hopcount_service;
GRANT UPDATE (original_url, click_count, updated_at) ON hopcount.urls TO hopcount_service;
-- DELETE: the clicks of a deleted link go after it.
GRANT SELECT, INSERT, DELETE ON hopcount.clicks TO hopcount_service;
GRANT SELECT ON hopcount.api_keys TO hopcount_service;

-- Nobody else may call it, as nobody else may see a click.
REVOKE EXECUTE ON FUNCTION hopcount.clicked_at(hopcount.clicks) FROM PUBLIC;
GRANT EXECUTE ON FUNCTION hopcount.clicked_at(hopcount.clicks) TO hopcount_service;

COMMIT;
