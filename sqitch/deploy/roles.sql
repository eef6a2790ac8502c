-- Deploy hopcount:roles to pg

BEGIN;

-- Roles belong to the cluster: another database in it may have made them already, even this moment.
DO $$
DECLARE
    wanted text;
BEGIN
    FOREACH wanted IN ARRAY ARRAY['hopcount_owner', 'hopcount_service'] LOOP
        BEGIN
            EXECUTE format('CREATE ROLE %I NOLOGIN', wanted);
        EXCEPTION WHEN duplicate_object OR unique_violation THEN
            RAISE NOTICE 'role % is there already', wanted;
        END;
    END LOOP;
END $$;

-- The changes that follow act as the owner. From PostgreSQL 16 on, making a role gives the right to
-- grant it, and no more.
DO $$
BEGIN
    IF NOT pg_has_role('hopcount_owner', 'MEMBER')
       OR (current_setting('server_version_num')::int >= 160000 AND NOT pg_has_role('hopcount_owner', 'SET')) THEN
        EXECUTE format('GRANT hopcount_owner TO %I', current_user);
    END IF;
END $$;

COMMIT;
