-- depends: 0019_notifications

-- Bytes kept by the objects gateway under their SHA-256; what no row names any more is for its janitor.
CREATE TABLE cloud_files (
    id           uuid PRIMARY KEY,
    owner_id     uuid NOT NULL REFERENCES users ON DELETE CASCADE,
    name         text NOT NULL,
    words        text COLLATE "C" NOT NULL, -- what it is found and sorted by, folded by domain/catalog.py: ' word word'
    version      integer NOT NULL CHECK (version > 0),
    object_key   text NOT NULL,
    size_bytes   bigint NOT NULL CHECK (size_bytes >= 0),
    content_type text NOT NULL,             -- its uploader's word
    created_at   timestamptz NOT NULL,
    updated_at   timestamptz NOT NULL
);
CREATE INDEX cloud_files_of_owner ON cloud_files (owner_id, id DESC);
CREATE INDEX cloud_files_of_object ON cloud_files (object_key);

-- The content that a file had at a version of it, which the file may have left behind.
CREATE TABLE cloud_versions (
    id           uuid PRIMARY KEY,
    file_id      uuid NOT NULL REFERENCES cloud_files ON DELETE CASCADE,
    version      integer NOT NULL CHECK (version > 0),
    object_key   text NOT NULL,
    size_bytes   bigint NOT NULL CHECK (size_bytes >= 0),
    content_type text NOT NULL,
    created_at   timestamptz NOT NULL,
    UNIQUE (file_id, version)
);
CREATE INDEX cloud_versions_of_object ON cloud_versions (object_key);

-- Links to a file. Who reads this table can open none of them: it has the tokens' SHA-256 alone.
CREATE TABLE cloud_shares (
    id         uuid PRIMARY KEY,
    file_id    uuid NOT NULL REFERENCES cloud_files ON DELETE CASCADE,
    token_hash bytea NOT NULL UNIQUE,
    expires_at timestamptz NOT NULL,
    created_at timestamptz NOT NULL
);
CREATE INDEX cloud_shares_of_file ON cloud_shares (file_id, id DESC);
CREATE INDEX cloud_shares_by_expiry ON cloud_shares (expires_at);
