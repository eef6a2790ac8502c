-- Verify hopcount:grants_service on pg

BEGIN;

SET LOCAL ROLE hopcount_owner;
DO $$
DECLARE
    role CONSTANT text := 'hopcount_service';
BEGIN
    ASSERT has_schema_privilege(role, 'hopcount', 'USAGE');
    ASSERT has_table_privilege(role, 'hopcount.urls', 'SELECT');
    ASSERT has_table_privilege(role, 'hopcount.urls', 'INSERT');
    ASSERT has_table_privilege(role, 'hopcount.urls', 'DELETE');
    ASSERT has_column_privilege(role, 'hopcount.urls', 'original_url', 'UPDATE');
    ASSERT has_column_privilege(role, 'hopcount.urls', 'click_count', 'UPDATE');
    ASSERT has_column_privilege(role, 'hopcount.urls', 'updated_at', 'UPDATE');
    ASSERT has_table_privilege(role, 'hopcount.clicks', 'SELECT');
    ASSERT has_table_privilege(role, 'hopcount.clicks', 'INSERT');
    ASSERT has_table_privilege(role, 'hopcount.clicks', 'DELETE');
    ASSERT has_table_privilege(role, 'hopcount.api_keys', 'SELECT');

    ASSERT NOT has_schema_privilege(role, 'hopcount', 'CREATE');
    ASSERT NOT has_column_privilege(role, 'hopcount.urls', 'id', 'UPDATE');
    ASSERT NOT has_column_privilege(role, 'hopcount.urls', 'short_code', 'UPDATE');
    ASSERT NOT has_table_privilege(role, 'hopcount.urls', 'TRUNCATE');
    ASSERT NOT has_any_column_privilege(role, 'hopcount.clicks', 'UPDATE');
    ASSERT NOT has_table_privilege(role, 'hopcount.clicks', 'TRUNCATE');
    ASSERT NOT has_any_column_privilege(role, 'hopcount.api_keys', 'INSERT');
    ASSERT NOT has_any_column_privilege(role, 'hopcount.api_keys', 'UPDATE');
    ASSERT NOT has_table_privilege(role, 'hopcount.api_keys', 'DELETE');
    ASSERT NOT has_table_privilege(role, 'hopcount.api_keys', 'TRUNCATE');
    ASSERT NOT has_table_privilege('public', 'hopcount.urls', 'SELECT');
END $$;

ROLLBACK;
