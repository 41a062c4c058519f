-- depends: 0012_invoice_numbers

-- What is gone from each line: given back, or about to be. The check is what keeps refunds within what was paid,
-- however many are asked for at once.
ALTER TABLE order_items
    ADD COLUMN refunded_cents bigint NOT NULL DEFAULT 0 CHECK (refunded_cents BETWEEN 0 AND total_cents),
    ADD COLUMN gone boolean NOT NULL GENERATED ALWAYS AS (0 < total_cents AND refunded_cents = total_cents) STORED;

CREATE TABLE refunds (
    id                 uuid PRIMARY KEY,
    order_id           uuid NOT NULL REFERENCES orders,
    origin             text NOT NULL CHECK (origin IN ('buyer', 'seller', 'admin', 'platform', 'dispute')),
    requested_by       uuid REFERENCES users,
    status             text NOT NULL CHECK (status IN ('requested', 'declined', 'pending', 'succeeded', 'failed')),
    reason             text NOT NULL,
    details            text NOT NULL DEFAULT '',
    amount_cents       bigint NOT NULL CHECK (amount_cents > 0),
    currency           text NOT NULL CHECK (currency ~ '^[A-Z]{3}$'),
    reference          text NOT NULL UNIQUE,   -- the provider's id of it; of the dispute where that took the money
    failure_code       text,
    failure_message    text,
    credit_note_number text UNIQUE CHECK (credit_note_number ~ '^CN-[0-9]{4}-[0-9]{6,}$'),
    decided_by         uuid REFERENCES users,
    decided_at         timestamptz,
    created_at         timestamptz NOT NULL DEFAULT now(),
    completed_at       timestamptz,
    -- The queue: when the provider is asked next, how often it was, and who is at it.
    due_at             timestamptz,
    asked              integer NOT NULL DEFAULT 0,
    claim_id           uuid,
    claimed_until      timestamptz,
    CHECK ((due_at IS NOT NULL) = (status = 'pending')),
    CHECK ((completed_at IS NOT NULL) = (status IN ('succeeded', 'failed'))),
    -- A payment that could not be honoured was never invoiced. Any other gets its number as the last thing done, so that
    -- nobody waits for it longer than needed: that it has one is an invariant of the ledger's.
    CHECK ((credit_note_number IS NOT NULL) <= (status = 'succeeded' AND origin <> 'platform'))
);
CREATE INDEX refunds_of_order ON refunds (order_id, created_at, id);
CREATE INDEX refunds_due ON refunds (due_at) WHERE due_at IS NOT NULL;
CREATE INDEX refunds_to_decide ON refunds (created_at, id) WHERE status = 'requested';
CREATE UNIQUE INDEX refunds_of_platform ON refunds (order_id) WHERE origin = 'platform' AND status <> 'failed';

CREATE TABLE refund_items (
    refund_id     uuid NOT NULL REFERENCES refunds,
    order_item_id uuid NOT NULL REFERENCES order_items,
    amount_cents  bigint NOT NULL CHECK (amount_cents > 0),
    quantity      integer CHECK (quantity > 0),   -- null where an amount was asked for, not pieces
    PRIMARY KEY (refund_id, order_item_id)
);
CREATE INDEX refund_items_of_line ON refund_items (order_item_id);

-- A seller's part of a refund, and how it comes back from them: withheld from what was not sent yet, reversed, or owed.
CREATE TABLE refund_shares (
    id              uuid PRIMARY KEY,
    refund_id       uuid NOT NULL REFERENCES refunds,
    order_id        uuid NOT NULL REFERENCES orders,
    seller_id       uuid NOT NULL REFERENCES users,
    currency        text NOT NULL CHECK (currency ~ '^[A-Z]{3}$'),
    gross_cents     bigint NOT NULL CHECK (gross_cents > 0),
    fee_cents       bigint NOT NULL CHECK (fee_cents BETWEEN 0 AND gross_cents),
    withheld_cents  bigint NOT NULL DEFAULT 0 CHECK (withheld_cents >= 0),
    reversed_cents  bigint NOT NULL DEFAULT 0 CHECK (reversed_cents >= 0),
    status          text NOT NULL CHECK (status IN ('open', 'waiting', 'reversing', 'owed', 'settled', 'void')),
    -- The reversal, as a transfer's own columns.
    reversing_cents bigint NOT NULL DEFAULT 0 CHECK (reversing_cents >= 0),
    due_at          timestamptz,
    attempts        integer NOT NULL DEFAULT 0,
    key_epoch       integer NOT NULL DEFAULT 0,   -- the idempotency key is reversal:<id>:<key_epoch>
    key_used_at     timestamptz,
    doubtful        boolean NOT NULL DEFAULT false,
    absent_since    timestamptz,
    claim_id        uuid,
    claimed_until   timestamptz,
    external_ref    text UNIQUE,                  -- the provider's reversal
    failure_code    text,
    failure_message text,
    UNIQUE (refund_id, seller_id),
    CHECK (withheld_cents + reversed_cents + reversing_cents <= gross_cents - fee_cents),
    CHECK ((status = 'settled') <= (withheld_cents + reversed_cents = gross_cents - fee_cents)),
    CHECK ((status = 'reversing') = (reversing_cents > 0)),
    CHECK ((reversed_cents > 0) = (external_ref IS NOT NULL))
);
CREATE INDEX refund_shares_due ON refund_shares (due_at) WHERE due_at IS NOT NULL;
CREATE INDEX refund_shares_of_sale ON refund_shares (order_id, seller_id);
CREATE INDEX refund_shares_owed ON refund_shares (seller_id, id) WHERE status = 'owed';

-- Where a share was withheld: from the order's own transfer, or from a later one. Never changed, never deleted.
CREATE TABLE withholdings (
    share_id     uuid NOT NULL REFERENCES refund_shares,
    transfer_id  uuid NOT NULL REFERENCES transfers,
    amount_cents bigint NOT NULL CHECK (amount_cents > 0),
    created_at   timestamptz NOT NULL DEFAULT now(),
    PRIMARY KEY (share_id, transfer_id)
);
CREATE INDEX withholdings_of_transfer ON withholdings (transfer_id);
CREATE TRIGGER withholdings_append_only BEFORE UPDATE OR DELETE OR TRUNCATE ON withholdings
    FOR EACH STATEMENT EXECUTE FUNCTION refuse_change();

ALTER TABLE transfers
    ADD COLUMN withheld_cents bigint NOT NULL DEFAULT 0,
    ADD COLUMN reversed_cents bigint NOT NULL DEFAULT 0,
    ADD COLUMN reversed_at    timestamptz,                -- when something of it last came back
    ADD COLUMN open_refunds   integer NOT NULL DEFAULT 0 CHECK (open_refunds >= 0),  -- it isn't tried while there are
    ADD CHECK (withheld_cents BETWEEN 0 AND amount_cents),
    ADD CHECK (reversed_cents BETWEEN 0 AND amount_cents - withheld_cents),
    DROP CONSTRAINT transfers_check3,
    ADD CHECK ((status = 'completed') <= (external_ref IS NOT NULL OR withheld_cents = amount_cents));

-- Whether a refund ever outran a payout of theirs. Read under the row's lock by whoever owes them something new.
ALTER TABLE connect_accounts ADD COLUMN has_owed boolean NOT NULL DEFAULT false;

-- 'buyers': what came for orders that could not be honoured any more, and is theirs until it went back.
ALTER TABLE ledger_accounts DROP CONSTRAINT ledger_accounts_kind_check,
    ADD CONSTRAINT ledger_accounts_kind_check
        CHECK (kind IN ('clearing', 'seller', 'platform_fee', 'payouts', 'buyers'));
ALTER TABLE journals DROP CONSTRAINT journals_kind_check,
    ADD CONSTRAINT journals_kind_check
        CHECK (kind IN ('capture', 'transfer', 'deposit', 'refund', 'reversal'));
ALTER TABLE number_series DROP CONSTRAINT number_series_series_check,
    ADD CONSTRAINT number_series_series_check CHECK (series IN ('invoice', 'credit_note'));
