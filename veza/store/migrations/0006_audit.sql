-- depends: 0005_payouts

-- What admins and money actions did, each row written in the transaction of what it tells of.
CREATE TABLE audit_entries (
    id         uuid PRIMARY KEY,
    at         timestamptz NOT NULL DEFAULT now(),
    actor_id   uuid,                      -- who did it; null for the command line and the system
    action     text NOT NULL,
    resource   text NOT NULL,
    request_id text,
    address    text,
    details    jsonb NOT NULL DEFAULT '{}'
);
CREATE INDEX audit_entries_newest ON audit_entries (at DESC, id DESC);
CREATE TRIGGER audit_entries_append_only BEFORE UPDATE OR DELETE OR TRUNCATE ON audit_entries
    FOR EACH STATEMENT EXECUTE FUNCTION refuse_change();
