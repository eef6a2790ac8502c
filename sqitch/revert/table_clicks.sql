-- Revert hopcount:table_clicks from pg

BEGIN;

SET LOCAL ROLE hopcount_owner;
SET LOCAL lock_timeout = '5s';
-- With the partitions go the months that were built but not attached yet.
DO $$
DECLARE
    built regclass;
BEGIN
    DROP TABLE hopcount.clicks;
    FOR built IN
        SELECT oid FROM pg_class
        WHERE relnamespace = 'hopcount'::regnamespace AND relkind = 'r' AND relname ~ '^clicks_[0-9]{4}_[0-9]{2}$'
    LOOP
        EXECUTE format('DROP TABLE %s', built);
    END LOOP;
END $$;

COMMIT;
