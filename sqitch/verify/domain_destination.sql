-- Verify hopcount:domain_destination on pg

BEGIN;

SET LOCAL ROLE hopcount_owner;
SELECT 'https://example.org/?q=%20#f'::hopcount.destination;
DO $$
DECLARE
    bad text;
    refused boolean;
BEGIN
    FOREACH bad IN ARRAY ARRAY[
        '', 'example.org', 'https://', 'javascript:alert(1)', 'ftp://example.org/', ' https://example.org/',
        E'https://example.org/\r\nX: y', 'https://example.org/ä', 'https://example.org/' || repeat('x', 8192)
    ] LOOP
        refused := false;
        BEGIN
            PERFORM bad::hopcount.destination;
        EXCEPTION WHEN check_violation THEN
            refused := true;
        END;
        ASSERT refused, format('%L passes as a destination', bad);
    END LOOP;
END $$;

ROLLBACK;
