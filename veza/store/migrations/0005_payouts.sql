-- depends: 0004_ledger

-- A seller's account at Stripe Connect. The row is the intent: it stands before the account is asked for, under the
-- idempotency key account:<user_id>:<key_epoch>, so that asking twice makes one account.
CREATE TABLE connect_accounts (
    user_id           uuid PRIMARY KEY REFERENCES users,
    account_id        text UNIQUE,
    key_epoch         integer NOT NULL DEFAULT 0,
    transfers_active  boolean NOT NULL DEFAULT false,
    details_submitted boolean NOT NULL DEFAULT false,
    check_due_at      timestamptz,        -- when it is to be fetched from Stripe again
    created_at        timestamptz NOT NULL DEFAULT now(),
    updated_at        timestamptz NOT NULL DEFAULT now(),
    CHECK (account_id IS NOT NULL OR NOT transfers_active)
);
CREATE INDEX connect_accounts_due ON connect_accounts (check_due_at) WHERE check_due_at IS NOT NULL;

CREATE TABLE transfers (
    id                 uuid PRIMARY KEY,
    order_id           uuid NOT NULL REFERENCES orders,
    seller_id          uuid NOT NULL REFERENCES users,
    amount_cents       bigint NOT NULL CHECK (amount_cents > 0),
    platform_fee_cents bigint NOT NULL CHECK (platform_fee_cents >= 0),
    currency           text NOT NULL CHECK (currency ~ '^[A-Z]{3}$'),
    status             text NOT NULL CHECK (status IN ('pending', 'processing', 'completed', 'failed', 'held', 'reversed')),
    hold_reason        text CHECK (hold_reason IN ('not_onboarded', 'awaiting_funds', 'banned', 'disputed', 'admin', 'flag')),
    retry_count        integer NOT NULL DEFAULT 0,   -- tries after the first, manual ones too
    attempts           integer NOT NULL DEFAULT 0,   -- tries that count towards giving up
    key_epoch          integer NOT NULL DEFAULT 0,   -- the idempotency key is <id>:<key_epoch>
    next_retry_at      timestamptz,                  -- when it is due; null when nothing but an admin or an event moves it
    -- The claim. While it stands nobody else calls the provider for this row.
    claim_id           uuid,
    claimed_until      timestamptz,
    -- The present key's story: when it was first used, whether its outcome must be looked up before it is used
    -- again, and when such a look first found nothing.
    key_used_at        timestamptz,
    doubtful           boolean NOT NULL DEFAULT false,
    absent_since       timestamptz,
    destination        text,                         -- the account the present key was first used with
    tried_at           timestamptz,
    external_ref       text UNIQUE,                  -- the provider's transfer
    failure_code       text,
    failure_message    text,
    created_at         timestamptz NOT NULL DEFAULT now(),
    updated_at         timestamptz NOT NULL DEFAULT now(),
    completed_at       timestamptz,
    UNIQUE (order_id, seller_id),
    CHECK ((status = 'held') = (hold_reason IS NOT NULL)),
    CHECK ((status = 'processing') = (claim_id IS NOT NULL)),
    CHECK (claim_id IS NULL OR next_retry_at IS NULL),   -- due or in hand, never both
    CHECK ((status = 'completed') <= (external_ref IS NOT NULL))
);
-- Of what is due at the same moment, the oldest comes first: ids sort by time.
CREATE INDEX transfers_due ON transfers (next_retry_at, id) WHERE next_retry_at IS NOT NULL;
CREATE INDEX transfers_held ON transfers (hold_reason, seller_id) WHERE status = 'held';
CREATE INDEX transfers_claimed ON transfers (claimed_until) WHERE claim_id IS NOT NULL;
CREATE INDEX transfers_of_seller ON transfers (seller_id, created_at DESC, id DESC);
CREATE INDEX transfers_newest ON transfers (created_at DESC, id DESC);
CREATE INDEX transfers_by_status ON transfers (status, created_at DESC, id DESC);

-- Each try: written as an intent with the claim, closed with what came of it. One that its process did not survive
-- stays open. Never deleted.
CREATE TABLE transfer_attempts (
    claim_id        uuid NOT NULL,
    transfer_id     uuid NOT NULL REFERENCES transfers,
    idempotency_key text NOT NULL,
    started_at      timestamptz NOT NULL DEFAULT now(),
    finished_at     timestamptz,
    outcome         text,
    message         text,
    PRIMARY KEY (claim_id, transfer_id)
);
CREATE INDEX transfer_attempts_of_transfer ON transfer_attempts (transfer_id, started_at);
