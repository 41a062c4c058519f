-- depends: 0025_audit

-- Whether the doors are closed: one row.
CREATE TABLE maintenance (
    one          boolean PRIMARY KEY DEFAULT true CHECK (one),
    enabled      boolean NOT NULL,
    message      text,
    expected_end timestamptz,
    updated_at   timestamptz NOT NULL DEFAULT now()
);
INSERT INTO maintenance (enabled) VALUES (false);

-- Every process listens for the names of these tables. Whoever changes one rings, whatever they changed it with.
CREATE FUNCTION tell_of_switch() RETURNS trigger LANGUAGE plpgsql AS $$
BEGIN
    PERFORM pg_notify(TG_TABLE_NAME, '');
    RETURN NULL;
END $$;
CREATE TRIGGER feature_flags_told_of AFTER INSERT OR UPDATE OR DELETE OR TRUNCATE ON feature_flags
    FOR EACH STATEMENT EXECUTE FUNCTION tell_of_switch();
CREATE TRIGGER maintenance_told_of AFTER INSERT OR UPDATE OR DELETE OR TRUNCATE ON maintenance
    FOR EACH STATEMENT EXECUTE FUNCTION tell_of_switch();
