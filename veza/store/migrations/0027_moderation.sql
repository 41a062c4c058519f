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
