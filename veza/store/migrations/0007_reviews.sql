-- depends: 0006_audit

CREATE TABLE reviews (
    id           uuid PRIMARY KEY,
    product_id   uuid NOT NULL REFERENCES products,
    order_id     uuid NOT NULL REFERENCES orders,
    buyer_id     uuid NOT NULL REFERENCES users,
    rating       smallint NOT NULL CHECK (rating BETWEEN 1 AND 5),
    comment      text NOT NULL DEFAULT '',
    response     text,
    responded_at timestamptz,
    created_at   timestamptz NOT NULL DEFAULT now(),
    updated_at   timestamptz NOT NULL DEFAULT now(),
    CHECK ((response IS NULL) = (responded_at IS NULL)),
    UNIQUE (order_id, product_id)
);
CREATE INDEX reviews_of_product ON reviews (product_id, created_at DESC, id DESC);
CREATE INDEX reviews_of_buyer ON reviews (buyer_id);
