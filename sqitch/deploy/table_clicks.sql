-- Deploy hopcount:table_clicks to pg

BEGIN;

SET LOCAL ROLE hopcount_owner;
SET LOCAL lock_timeout = '5s';

-- A month of ids a partition, made ahead by `hopcount db partitions`; the default one makes sure that
-- no click is ever refused. There is no foreign key: a link goes at once, its clicks go afterwards.
CREATE TABLE hopcount.clicks (
    id         uuid             NOT NULL,
    short_code text COLLATE "C" NOT NULL,
    CONSTRAINT clicks_pkey PRIMARY KEY (id)
) PARTITION BY RANGE (id);

CREATE TABLE hopcount.clicks_default PARTITION OF hopcount.clicks DEFAULT;

COMMENT ON TABLE hopcount.clicks IS 'One row a counted click. The id is a UUIDv7 and holds the instant: see clicked_at().';

COMMIT;
