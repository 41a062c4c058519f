-- depends: 0026_switches

-- Who is banned (`banned_until`, from 0017) was so when, and what they were told of why.
ALTER TABLE users
    ADD COLUMN banned_at  timestamptz,
    ADD COLUMN ban_reason text NOT NULL DEFAULT '';
CREATE INDEX users_banned ON users (banned_until) WHERE banned_until IS NOT NULL;
CREATE INDEX users_newest ON users (created_at DESC, id DESC) WHERE erased_at IS NULL;

-- Whoever listens on behalf of somebody looks whether they still may: whatever changed a ban, each process is rung.
CREATE FUNCTION tell_of_ban() RETURNS trigger LANGUAGE plpgsql AS $$
BEGIN
    PERFORM pg_notify('notifications', '');
    RETURN NULL;
END $$;
CREATE TRIGGER ban_told_of AFTER UPDATE OF banned_until ON users
    FOR EACH ROW WHEN (NEW.banned_until IS DISTINCT FROM OLD.banned_until) EXECUTE FUNCTION tell_of_ban();

-- What was under way when somebody was banned adds nothing in their name any more: it waits at their row, as what was
-- under way when somebody was erased does, and is refused in the same way. Every trigger of 0023 that asks this does so
-- for a row that somebody adds of their own.
ALTER FUNCTION is_erased(uuid) RENAME TO may_add_nothing;
CREATE OR REPLACE FUNCTION may_add_nothing(whose uuid) RETURNS boolean LANGUAGE plpgsql AS $$
DECLARE
    nothing boolean;
BEGIN
    SELECT erased_at IS NOT NULL OR banned_until > now() IS TRUE INTO nothing FROM users WHERE id = whose FOR SHARE;
    RETURN nothing;
END $$;

-- Who finds fault with what: one row for each person and thing, whatever they call it. `owner_id` is whose it was then.
-- A report outlives what it is about, so its id refers to no row; and who decided, as in the audit, to none of users.
CREATE TABLE reports (
    id           uuid PRIMARY KEY,
    reporter_id  uuid REFERENCES users,    -- null once they were erased
    subject      text NOT NULL CHECK (subject IN ('user', 'product', 'review', 'stream')),
    content_type text NOT NULL CHECK (content_type IN ('user', 'track', 'comment', 'product', 'review', 'stream')),
    content_id   uuid NOT NULL,
    owner_id     uuid NOT NULL REFERENCES users,
    reason       text NOT NULL,
    status       text NOT NULL DEFAULT 'pending' CHECK (status IN ('pending', 'resolved', 'dismissed')),
    action       text CHECK (action IN ('resolve', 'dismiss', 'ban', 'warn')),
    note         text NOT NULL DEFAULT '', -- what its owner was told with a warning or a ban
    decided_by   uuid,
    decided_at   timestamptz,
    created_at   timestamptz NOT NULL DEFAULT now(),
    CHECK ((status = 'pending') = (action IS NULL)),
    CHECK ((status = 'dismissed') = (action IS NOT DISTINCT FROM 'dismiss')),
    CHECK ((status = 'pending') = (decided_at IS NULL))
);
CREATE UNIQUE INDEX reports_once ON reports (reporter_id, subject, content_id);
CREATE INDEX reports_by_status ON reports (status, created_at, id);
CREATE INDEX reports_newest ON reports (created_at, id);
CREATE INDEX reports_of_content ON reports (subject, content_id);
CREATE INDEX reports_of_owner ON reports (owner_id);
CREATE TRIGGER user_is_there BEFORE INSERT ON reports
    FOR EACH ROW WHEN (may_add_nothing(NEW.reporter_id)) EXECUTE FUNCTION refuse_the_erased();
