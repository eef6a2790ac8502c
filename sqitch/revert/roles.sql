-- Revert hopcount:roles from pg

BEGIN;

-- A role that something else still uses stays: objects or grants in another database, or a member
-- that an administrator added.
DO $$
DECLARE
    ours text;
BEGIN
    FOREACH ours IN ARRAY ARRAY['hopcount_service', 'hopcount_owner'] LOOP
        IF EXISTS (
            SELECT FROM pg_auth_members m
            WHERE m.roleid = to_regrole(ours)
              AND m.member NOT IN (to_regrole(quote_ident(current_user)), to_regrole(quote_ident(session_user)))
        ) THEN
            RAISE NOTICE 'role % has members and stays', ours;
            CONTINUE;
        END IF;
        BEGIN
            EXECUTE format('DROP ROLE IF EXISTS %I', ours);
        EXCEPTION WHEN dependent_objects_still_exist THEN
            RAISE NOTICE 'role % is used by another database and stays', ours;
        END;
    END LOOP;
END $$;

COMMIT;
