-- Verify hopcount:roles on pg

BEGIN;

DO $$
BEGIN
    ASSERT pg_has_role('hopcount_owner', 'MEMBER'), 'the deployer cannot act as hopcount_owner';
    ASSERT (SELECT NOT rolcanlogin AND NOT rolsuper FROM pg_roles WHERE rolname = 'hopcount_owner');
    ASSERT (SELECT NOT rolcanlogin AND NOT rolsuper FROM pg_roles WHERE rolname = 'hopcount_service');
    ASSERT NOT pg_has_role('hopcount_service', 'hopcount_owner', 'MEMBER'), 'the service must not be the owner';
END $$;

ROLLBACK;
