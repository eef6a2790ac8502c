-- Deploy hopcount:table_urls to pg

BEGIN;

SET LOCAL ROLE hopcount_owner;
SET LOCAL lock_timeout = '5s';

-- No default on the id: the service makes UUIDv7, and a random one would break the order of pages.
-- click_count is in no index and the pages keep free space, so that counting stays a HOT update.
CREATE TABLE hopcount.urls (
    id           uuid                 NOT NULL,
    short_code   hopcount.short_code  NOT NULL,
    original_url hopcount.destination NOT NULL,
    click_count  bigint               NOT NULL DEFAULT 0,
    created_at   timestamptz          NOT NULL DEFAULT now(),
    updated_at   timestamptz          NOT NULL DEFAULT now(),
    CONSTRAINT urls_pkey PRIMARY KEY (id),
    CONSTRAINT urls_short_code_key UNIQUE (short_code)
) WITH (
    fillfactor = 80,
    autovacuum_vacuum_scale_factor = 0.02,
    autovacuum_analyze_scale_factor = 0.05
);

COMMENT ON TABLE hopcount.urls IS 'The links. click_count = the link''s rows in clicks, in every committed state.';

COMMIT;
