-- Revert hopcount:grants_service from pg

BEGIN;

SET LOCAL ROLE hopcount_owner;
SET LOCAL lock_timeout = '5s';

REVOKE EXECUTE ON FUNCTION hopcount.clicked_at(hopcount.clicks) FROM hopcount_service;
GRANT EXECUTE ON FUNCTION hopcount.clicked_at(hopcount.clicks) TO PUBLIC;
REVOKE ALL ON hopcount.api_keys, hopcount.clicks, hopcount.urls FROM hopcount_service;
REVOKE ALL (original_url, click_count, updated_at) ON hopcount.urls FROM hopcount_service;
REVOKE USAGE ON SCHEMA hopcount FROM hopcount_service;

COMMIT;
