-- Deploy hopcount:table_api_keys to pg

BEGIN;

SET LOCAL ROLE hopcount_owner;
SET LOCAL lock_timeout = '5s';

-- Only the SHA-256 of a key is kept; the key itself has 256 random bits.
CREATE TABLE hopcount.api_keys (
    id         uuid        NOT NULL,
    name       text        NOT NULL,
    key_hash   bytea       NOT NULL,
    scope      text        NOT NULL,
    created_at timestamptz NOT NULL DEFAULT now(),
    CONSTRAINT api_keys_pkey PRIMARY KEY (id),
    CONSTRAINT api_keys_name_key UNIQUE (name),
    CONSTRAINT api_keys_name_length CHECK (char_length(name) BETWEEN 1 AND 100),
    CONSTRAINT api_keys_key_hash_length CHECK (octet_length(key_hash) = 32),
    CONSTRAINT api_keys_scope_known CHECK (scope IN ('read', 'write'))
);

COMMIT;
