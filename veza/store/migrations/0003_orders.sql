-- depends: 0002_catalog

CREATE TABLE orders (
    id             uuid PRIMARY KEY,
    buyer_id       uuid NOT NULL REFERENCES users,
    status         text NOT NULL CHECK (status IN ('pending', 'paid', 'failed', 'cancelled', 'expired',
                                                   'partially_refunded', 'refunded', 'disputed')),
    currency       text NOT NULL CHECK (currency ~ '^[A-Z]{3}$'),
    total_cents    bigint NOT NULL CHECK (total_cents >= 0),
    created_at     timestamptz NOT NULL DEFAULT now(),
    paid_at        timestamptz,
    expires_at     timestamptz NOT NULL,
    -- The payment. Its id is derived from the order's, so creating it twice creates it once; a free order has none.
    payment_id     text UNIQUE,
    client_secret  text,                  -- null until the provider has the payment
    payment_status text,
    payment_note   text,                  -- why a captured payment did not settle the order, for the operator
    -- The payments queue: when this order is to be synced with the provider next, and who is at it.
    sync_due_at    timestamptz,
    sync_count     integer NOT NULL DEFAULT 0,
    claim_id       uuid,
    claimed_until  timestamptz
);
CREATE INDEX orders_of_buyer ON orders (buyer_id, created_at DESC, id DESC);
CREATE INDEX orders_to_sync ON orders (sync_due_at) WHERE sync_due_at IS NOT NULL;

CREATE TABLE order_items (
    id               uuid PRIMARY KEY,
    order_id         uuid NOT NULL REFERENCES orders ON DELETE CASCADE,
    position         integer NOT NULL,
    product_id       uuid NOT NULL REFERENCES products,
    seller_id        uuid NOT NULL REFERENCES users,
    title            text NOT NULL,
    quantity         integer NOT NULL CHECK (quantity > 0),
    unit_price_cents bigint NOT NULL CHECK (unit_price_cents >= 0),
    total_cents      bigint NOT NULL CHECK (total_cents = quantity * unit_price_cents),
    UNIQUE (order_id, position)
);
CREATE INDEX order_items_of_product ON order_items (product_id);

-- What each seller of an order earns by it, frozen with the fee's rate when the order is placed.
CREATE TABLE earnings (
    order_id    uuid NOT NULL REFERENCES orders ON DELETE CASCADE,
    seller_id   uuid NOT NULL REFERENCES users,
    gross_cents bigint NOT NULL CHECK (gross_cents > 0),
    fee_cents   bigint NOT NULL CHECK (fee_cents >= 0 AND fee_cents <= gross_cents),
    fee_bp      integer NOT NULL CHECK (fee_bp BETWEEN 0 AND 10000),
    PRIMARY KEY (order_id, seller_id)
);

CREATE TABLE idempotency_keys (
    user_id         uuid NOT NULL REFERENCES users ON DELETE CASCADE,
    route           text NOT NULL,
    key             text NOT NULL,
    body_sha256     bytea NOT NULL,
    resource_id     uuid NOT NULL,        -- what the first request made: a repeat answers with it
    in_flight_until timestamptz,          -- lapses by itself, so that a process that died blocks nobody for long
    created_at      timestamptz NOT NULL DEFAULT now(),
    PRIMARY KEY (user_id, route, key)
);
CREATE INDEX idempotency_keys_age ON idempotency_keys (created_at);

-- Webhooks as received. Verified, inserted, answered; what they mean is asked of the provider afterwards.
CREATE TABLE provider_events (
    provider    text NOT NULL CHECK (provider IN ('hyperswitch', 'stripe')),
    event_id    text NOT NULL,
    event_type  text NOT NULL,
    subject     text,                     -- the payment or account it speaks of
    received_at timestamptz NOT NULL DEFAULT now(),
    PRIMARY KEY (provider, event_id)
);

CREATE TABLE downloads (
    id         uuid PRIMARY KEY,
    order_id   uuid NOT NULL REFERENCES orders,
    file_id    uuid NOT NULL,
    user_id    uuid NOT NULL REFERENCES users,
    created_at timestamptz NOT NULL DEFAULT now()
);
CREATE INDEX downloads_of_order ON downloads (order_id);
