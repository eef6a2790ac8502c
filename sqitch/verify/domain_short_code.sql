-- Verify hopcount:domain_short_code on pg

BEGIN;

SET LOCAL ROLE hopcount_owner;
SELECT 'Aa0_-'::hopcount.short_code;
DO $$
DECLARE
    bad text;
    refused boolean;
BEGIN
    FOREACH bad IN ARRAY ARRAY['', 'a b', 'a/b', 'ä', repeat('x', 33), E'ok\n'] LOOP
        refused := false;
        BEGIN
            PERFORM bad::hopcount.short_code;
        EXCEPTION WHEN check_violation THEN
            refused := true;
        END;
        ASSERT refused, format('%L passes as a short code', bad);
    END LOOP;
END $$;

ROLLBACK;
