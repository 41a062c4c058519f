-- depends: 0003_orders

CREATE TABLE ledger_accounts (
    id       uuid PRIMARY KEY DEFAULT gen_random_uuid(),
    kind     text NOT NULL CHECK (kind IN ('clearing', 'seller', 'platform_fee', 'payouts')),
    owner    uuid REFERENCES users,       -- the seller; null for the platform's own accounts
    currency text NOT NULL CHECK (currency ~ '^[A-Z]{3}$'),
    CHECK ((kind = 'seller') = (owner IS NOT NULL)),
    UNIQUE NULLS NOT DISTINCT (kind, owner, currency)
);

CREATE TABLE journals (
    id           uuid PRIMARY KEY DEFAULT gen_random_uuid(),
    kind         text NOT NULL CHECK (kind IN ('capture', 'transfer')),
    external_ref text NOT NULL UNIQUE,    -- what happened at the provider: one journal for each, ever
    order_id     uuid NOT NULL REFERENCES orders,
    created_at   timestamptz NOT NULL DEFAULT now()
);
CREATE INDEX journals_of_order ON journals (order_id);

-- Signed minor units: a debit is positive, a credit negative.
CREATE TABLE entries (
    id           bigint GENERATED ALWAYS AS IDENTITY PRIMARY KEY,
    journal_id   uuid NOT NULL REFERENCES journals,
    account_id   uuid NOT NULL REFERENCES ledger_accounts,
    amount_cents bigint NOT NULL CHECK (amount_cents <> 0),
    currency     text NOT NULL
);
CREATE INDEX entries_of_journal ON entries (journal_id);
CREATE INDEX entries_of_account ON entries (account_id);

CREATE FUNCTION journal_must_balance() RETURNS trigger LANGUAGE plpgsql AS $$
BEGIN
    IF EXISTS (SELECT FROM entries WHERE journal_id = NEW.journal_id GROUP BY currency HAVING sum(amount_cents) <> 0) THEN
        RAISE EXCEPTION 'journal % does not balance', NEW.journal_id USING ERRCODE = 'check_violation';
    END IF;
    IF EXISTS (SELECT FROM ledger_accounts a WHERE a.id = NEW.account_id AND a.currency <> NEW.currency) THEN
        RAISE EXCEPTION 'entry in % on an account in another currency', NEW.currency USING ERRCODE = 'check_violation';
    END IF;
    RETURN NULL;
END $$;
CREATE CONSTRAINT TRIGGER entries_balance AFTER INSERT ON entries
    DEFERRABLE INITIALLY DEFERRED FOR EACH ROW EXECUTE FUNCTION journal_must_balance();

CREATE FUNCTION refuse_change() RETURNS trigger LANGUAGE plpgsql AS $$
BEGIN
    RAISE EXCEPTION '% is append-only', TG_TABLE_NAME USING ERRCODE = 'restrict_violation';
END $$;
CREATE TRIGGER entries_append_only BEFORE UPDATE OR DELETE OR TRUNCATE ON entries
    FOR EACH STATEMENT EXECUTE FUNCTION refuse_change();
CREATE TRIGGER journals_append_only BEFORE UPDATE OR DELETE OR TRUNCATE ON journals
    FOR EACH STATEMENT EXECUTE FUNCTION refuse_change();
