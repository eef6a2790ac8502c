-- Deploy hopcount:function_clicked_at to pg

BEGIN;

SET LOCAL ROLE hopcount_owner;
SET LOCAL lock_timeout = '5s';

-- The first 48 bits of a UUIDv7 are milliseconds since 1970 (RFC 9562, section 5.7). To narrow
-- a query to a time, compare ids: they are in an index.
CREATE FUNCTION hopcount.clicked_at(click hopcount.clicks) RETURNS timestamptz
    LANGUAGE sql IMMUTABLE STRICT PARALLEL SAFE
    RETURN to_timestamp(
        ('x' || translate(left((click).id::text, 13), '-', ''))::bit(48)::bigint / 1000.0::double precision
    );

COMMIT;
