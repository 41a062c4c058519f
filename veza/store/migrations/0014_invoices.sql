-- depends: 0013_refunds

-- Who issues invoices and at what VAT rates, each time that changed: a sale keeps those of its day. Rows are added when
-- a process starts with other settings than the last one's.
CREATE TABLE billings (
    id      bigint GENERATED ALWAYS AS IDENTITY PRIMARY KEY,
    since   timestamptz NOT NULL DEFAULT now(),
    billing jsonb NOT NULL
);
CREATE TRIGGER billings_append_only BEFORE UPDATE OR DELETE OR TRUNCATE ON billings
    FOR EACH STATEMENT EXECUTE FUNCTION refuse_change();

-- What an invoice or a credit note says, from the first time somebody asked for it. Never changed, never deleted.
CREATE TABLE invoice_documents (
    number   text PRIMARY KEY CHECK (number ~ '^(CN-)?[0-9]{4}-[0-9]{6,}$'),
    document jsonb NOT NULL,
    made_at  timestamptz NOT NULL DEFAULT now()
);
CREATE TRIGGER invoice_documents_append_only BEFORE UPDATE OR DELETE OR TRUNCATE ON invoice_documents
    FOR EACH STATEMENT EXECUTE FUNCTION refuse_change();
