-- depends: 0021_warranties

-- Archives of what is held about somebody, made one at a time for each. The row is the queue: due, in hand under a lease,
-- or done. What names its bytes is what the objects gateway's janitor leaves alone.
CREATE TABLE exports (
    id            uuid PRIMARY KEY,
    user_id       uuid NOT NULL REFERENCES users ON DELETE CASCADE,
    status        text NOT NULL DEFAULT 'queued' CHECK (status IN ('queued', 'running', 'ready', 'failed', 'expired')),
    files_done    integer NOT NULL DEFAULT 0,
    files_total   integer NOT NULL DEFAULT 0,
    bytes_done    bigint NOT NULL DEFAULT 0,
    bytes_total   bigint NOT NULL DEFAULT 0,
    attempts      integer NOT NULL DEFAULT 0,   -- tries that were begun, but for those that a stop of ours cut short
    due_at        timestamptz DEFAULT now(),
    claim_id      uuid,
    claimed_until timestamptz,
    object_key    text,
    size_bytes    bigint CHECK (size_bytes > 0),
    failure       text,
    created_at    timestamptz NOT NULL,
    started_at    timestamptz,
    finished_at   timestamptz,
    expires_at    timestamptz,
    CHECK ((status = 'queued') = (due_at IS NOT NULL)),
    CHECK ((status = 'running') = (claim_id IS NOT NULL)),
    CHECK ((claim_id IS NULL) = (claimed_until IS NULL)),
    CHECK ((status = 'ready') = (object_key IS NOT NULL)),
    CHECK ((status IN ('ready', 'failed', 'expired')) = (finished_at IS NOT NULL)),
    CHECK ((status IN ('ready', 'expired')) = (expires_at IS NOT NULL))
);
CREATE UNIQUE INDEX exports_open ON exports (user_id) WHERE status IN ('queued', 'running');
CREATE INDEX exports_due ON exports (due_at) WHERE due_at IS NOT NULL;
CREATE INDEX exports_claimed ON exports (claimed_until) WHERE claim_id IS NOT NULL;
CREATE INDEX exports_of_user ON exports (user_id, created_at DESC, id DESC);
CREATE INDEX exports_of_object ON exports (object_key) WHERE object_key IS NOT NULL;
CREATE INDEX exports_expiring ON exports (expires_at) WHERE status = 'ready';

-- What somebody did is looked up by who did it.
CREATE INDEX audit_entries_of_actor ON audit_entries (actor_id);
