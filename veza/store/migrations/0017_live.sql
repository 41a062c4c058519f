-- depends: 0016_frozen_lines

-- What is switched off. A feature without a row is on.
CREATE TABLE feature_flags (
    name       text PRIMARY KEY,
    enabled    boolean NOT NULL,
    updated_at timestamptz NOT NULL DEFAULT now()
);

-- Who is banned until then may not publish, and is dropped; infinity for good, null for nobody's concern.
ALTER TABLE users ADD COLUMN banned_until timestamptz;

CREATE TABLE streams (
    id          uuid PRIMARY KEY,
    owner_id    uuid NOT NULL REFERENCES users ON DELETE CASCADE,
    title       text NOT NULL,             -- empty: a draft, made for its key alone
    description text NOT NULL,
    category    text,
    tags        text[] NOT NULL,
    key_version integer NOT NULL DEFAULT 1,
    changes     bigint NOT NULL DEFAULT 0, -- of its state: never goes back, or a poller would keep what is old
    state       text NOT NULL DEFAULT 'offline' CHECK (state IN ('offline', 'ended')), -- while no session is open
    created_at  timestamptz NOT NULL,
    updated_at  timestamptz NOT NULL
);
CREATE INDEX streams_of_owner ON streams (owner_id, id DESC);
CREATE INDEX streams_listed ON streams (id DESC) WHERE title <> '';

-- The processes that hold sessions, each seen again every second. One not seen for a while holds nothing any more.
CREATE TABLE live_processes (
    id      uuid PRIMARY KEY,
    seen_at timestamptz NOT NULL DEFAULT now(),
    viewers jsonb NOT NULL DEFAULT '{}'    -- of each stream, how many polled that process lately
);

CREATE TABLE stream_sessions (
    id           uuid PRIMARY KEY,
    stream_id    uuid NOT NULL REFERENCES streams ON DELETE CASCADE,
    state        text NOT NULL CHECK (state IN ('starting', 'live', 'stalled', 'reconnecting', 'ended')),
    holder       uuid NOT NULL,            -- of live_processes: who alone may write this row
    ingest       text,
    boot         text,
    client_id    text,
    key_version  integer NOT NULL,
    started_at   timestamptz NOT NULL,
    live_at      timestamptz,
    ended_at     timestamptz,
    end_reason   text CHECK (end_reason IN ('finished', 'timeout', 'key_rotated', 'banned', 'ingest_lost', 'deleted')),
    reconnects   integer NOT NULL DEFAULT 0,
    peak_viewers integer NOT NULL DEFAULT 0,
    bytes_before bigint NOT NULL DEFAULT 0,
    bytes_in     bigint NOT NULL DEFAULT 0, -- with those of the publisher it has
    ready        boolean NOT NULL DEFAULT false,
    video        jsonb,
    audio        jsonb,
    CHECK ((state = 'ended') = (ended_at IS NOT NULL) AND (ended_at IS NULL) = (end_reason IS NULL))
);
CREATE UNIQUE INDEX stream_sessions_open ON stream_sessions (stream_id) WHERE ended_at IS NULL;
CREATE INDEX stream_sessions_of_stream ON stream_sessions (stream_id, started_at DESC);
