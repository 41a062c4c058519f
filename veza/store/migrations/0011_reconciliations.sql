-- depends: 0010_sales

-- When each piece of work that is done by the clock is due next. Whoever takes it moves it on, so that of several
-- processes one does it.
CREATE TABLE schedules (
    name   text PRIMARY KEY,
    due_at timestamptz NOT NULL
);
-- An hour from now: a platform that is just being set up has nothing to reconcile yet.
INSERT INTO schedules (name, due_at) VALUES ('reconciliation', now() + interval '1 hour');

-- What each reconciliation found. Never changed, never deleted.
CREATE TABLE reconciliations (
    id             uuid PRIMARY KEY,
    ran_at         timestamptz NOT NULL DEFAULT now(),
    provider_asked boolean NOT NULL,
    findings       jsonb NOT NULL
);
CREATE INDEX reconciliations_newest ON reconciliations (ran_at DESC, id DESC);
CREATE TRIGGER reconciliations_append_only BEFORE UPDATE OR DELETE OR TRUNCATE ON reconciliations
    FOR EACH STATEMENT EXECUTE FUNCTION refuse_change();
