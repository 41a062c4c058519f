-- depends: 0014_invoices

-- A payment that its buyer's bank disputes, by the provider's id. Its first event is what we learn of it by; all that is
-- known of it is asked of the provider.
CREATE TABLE disputes (
    id            text PRIMARY KEY,
    order_id      uuid NOT NULL REFERENCES orders,
    status        text,                   -- the provider's word; null until it was asked
    state         text NOT NULL DEFAULT 'unknown' CHECK (state IN ('unknown', 'open', 'won', 'lost')),
    amount_cents  bigint CHECK (amount_cents > 0),
    taken_cents   bigint NOT NULL DEFAULT 0 CHECK (taken_cents >= 0),   -- of a lost one: what was deducted for it
    created_at    timestamptz NOT NULL DEFAULT now(),
    closed_at     timestamptz,
    due_at        timestamptz,
    asked         integer NOT NULL DEFAULT 0,
    claim_id      uuid,
    claimed_until timestamptz,
    CHECK (taken_cents <= coalesce(amount_cents, 0)),
    CHECK ((closed_at IS NOT NULL) = (state IN ('won', 'lost')))
);
CREATE INDEX disputes_of_order ON disputes (order_id);
CREATE INDEX disputes_due ON disputes (due_at) WHERE due_at IS NOT NULL;
CREATE INDEX disputes_newest ON disputes (created_at DESC, id DESC);

-- Whether the order's payment is disputed: whatever comes of a transfer that is in hand then, it is held afterwards.
ALTER TABLE transfers ADD COLUMN disputed boolean NOT NULL DEFAULT false;
