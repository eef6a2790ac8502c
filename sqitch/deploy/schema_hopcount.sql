-- Deploy hopcount:schema_hopcount to pg

BEGIN;

CREATE SCHEMA hopcount AUTHORIZATION hopcount_owner;

COMMIT;
