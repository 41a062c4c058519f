-- depends: 0024_orphans

-- The audit takes a row for every request that changes something now, so it is kept by the month: what is old goes by
-- dropping the months that are over, and nothing else can take a row away.
ALTER TABLE audit_entries RENAME TO audit_entries_before;
DROP INDEX audit_entries_newest;
DROP INDEX audit_entries_of_actor;
ALTER TABLE audit_entries_before RENAME CONSTRAINT audit_entries_pkey TO audit_entries_before_pkey;

CREATE TABLE audit_entries (
    id         uuid NOT NULL,
    at         timestamptz NOT NULL DEFAULT now(),
    actor_id   uuid,                      -- who did it; null for the command line, the system and who did not say
    action     text NOT NULL,
    resource   text NOT NULL,
    request_id text,
    address    text,
    details    jsonb NOT NULL DEFAULT '{}',
    method     text,                      -- of a request; null where an action was written in its own transaction
    status     smallint,                  -- what it was answered; null too where its client hung up before that
    PRIMARY KEY (at, id)
) PARTITION BY RANGE (at);
CREATE INDEX audit_entries_of_actor ON audit_entries (actor_id, at, id);
CREATE INDEX audit_entries_of_action ON audit_entries (action, at, id);
CREATE INDEX audit_entries_of_status ON audit_entries (status, at, id) WHERE status IS NOT NULL;
CREATE INDEX audit_entries_of_request ON audit_entries (request_id) WHERE request_id IS NOT NULL;
CREATE INDEX audit_entries_of_resource ON audit_entries (resource text_pattern_ops);
CREATE TRIGGER audit_entries_append_only BEFORE UPDATE OR DELETE OR TRUNCATE ON audit_entries
    FOR EACH STATEMENT EXECUTE FUNCTION refuse_change();

-- Such a trigger is not handed down to partitions, and each can be reached by its own name.
CREATE FUNCTION audit_make_partition(name text) RETURNS void LANGUAGE plpgsql AS $$
BEGIN
    EXECUTE format('CREATE TABLE %I (LIKE audit_entries INCLUDING DEFAULTS)', name);
    EXECUTE format('CREATE TRIGGER append_only BEFORE UPDATE OR DELETE OR TRUNCATE ON %I'
        ' FOR EACH STATEMENT EXECUTE FUNCTION refuse_change()', name);
END $$;

-- Whether a month's partition had to be made. It is attached rather than made as a part: that keeps nobody from
-- writing to the other months.
CREATE FUNCTION audit_make_month(month date) RETURNS boolean LANGUAGE plpgsql AS $$
DECLARE
    name text := 'audit_entries_' || to_char(month, 'YYYY_MM');
BEGIN
    IF to_regclass(name) IS NOT NULL THEN
        RETURN false;
    END IF;
    PERFORM audit_make_partition(name);
    EXECUTE format('ALTER TABLE audit_entries ATTACH PARTITION %I FOR VALUES FROM (%L) TO (%L)', name,
        month::timestamp AT TIME ZONE 'UTC', (month + interval '1 month') AT TIME ZONE 'UTC');
    RETURN true;
END $$;

-- Takes what is of no month that was made, so that no row is ever refused for want of one.
CREATE FUNCTION audit_make_default() RETURNS void LANGUAGE plpgsql AS $$
BEGIN
    PERFORM audit_make_partition('audit_entries_default');
    ALTER TABLE audit_entries ATTACH PARTITION audit_entries_default DEFAULT;
END $$;

-- Moves what the default partition has taken to months of its own; how many rows that were. While it has a row of a
-- month, that month can't be made, and rows can't be deleted: so it is taken off, copied and dropped.
CREATE FUNCTION audit_empty_default() RETURNS bigint LANGUAGE plpgsql AS $$
DECLARE
    month date;
    moved bigint;
BEGIN
    LOCK TABLE audit_entries IN ACCESS EXCLUSIVE MODE;
    ALTER TABLE audit_entries DETACH PARTITION audit_entries_default;
    FOR month IN SELECT DISTINCT date_trunc('month', at AT TIME ZONE 'UTC')::date FROM audit_entries_default LOOP
        PERFORM audit_make_month(month);
    END LOOP;
    INSERT INTO audit_entries SELECT * FROM audit_entries_default;
    GET DIAGNOSTICS moved = ROW_COUNT;
    DROP TABLE audit_entries_default;
    PERFORM audit_make_default();
    RETURN moved;
END $$;

DO $$ BEGIN
    PERFORM audit_make_month((date_trunc('month', now() AT TIME ZONE 'UTC') + ahead * interval '1 month')::date)
    FROM generate_series(0, 2) AS ahead;
    PERFORM audit_make_month(month) FROM (
        SELECT DISTINCT date_trunc('month', at AT TIME ZONE 'UTC')::date AS month FROM audit_entries_before
    ) AS months;
    PERFORM audit_make_default();
END $$;
INSERT INTO audit_entries (id, at, actor_id, action, resource, request_id, address, details)
SELECT id, at, actor_id, action, resource, request_id, address, details FROM audit_entries_before;
DROP TABLE audit_entries_before;
