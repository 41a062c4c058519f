-- depends: 0001_accounts

CREATE TABLE products (
    id           uuid PRIMARY KEY,
    seller_id    uuid NOT NULL REFERENCES users,
    title        text NOT NULL,
    description  text NOT NULL DEFAULT '',
    product_type text NOT NULL,
    price_cents  bigint NOT NULL CHECK (price_cents >= 0),
    currency     text NOT NULL CHECK (currency ~ '^[A-Z]{3}$'),
    tags         text[] NOT NULL DEFAULT '{}',
    status       text NOT NULL DEFAULT 'draft' CHECK (status IN ('draft', 'published', 'archived')),
    rating_sum   bigint NOT NULL DEFAULT 0,
    rating_count integer NOT NULL DEFAULT 0,
    sold_count   bigint NOT NULL DEFAULT 0,
    created_at   timestamptz NOT NULL DEFAULT now(),
    updated_at   timestamptz NOT NULL DEFAULT now(),
    rating_average double precision GENERATED ALWAYS AS (rating_sum::float8 / NULLIF(rating_count, 0)) STORED,
    -- What a search finds it by: the words of its title, description and tags, cut up and folded by domain/catalog.py,
    -- which cuts up searches too. So neither the server's locale nor its text parser has a say in it.
    words        tsvector NOT NULL DEFAULT ''
);
-- One index for each order and each filter of the public listing, and one for a seller's own shelf.
CREATE INDEX products_words ON products USING gin (words) WHERE status = 'published';
CREATE INDEX products_tags ON products USING gin (tags) WHERE status = 'published';
CREATE INDEX products_newest ON products (created_at DESC, id DESC) WHERE status = 'published';
CREATE INDEX products_cheapest ON products (price_cents, id) WHERE status = 'published';
CREATE INDEX products_popular ON products (sold_count DESC, id DESC) WHERE status = 'published';
CREATE INDEX products_best ON products (rating_average DESC NULLS LAST, rating_count DESC, id DESC)
    WHERE status = 'published';
CREATE INDEX products_of_type ON products (product_type, created_at DESC, id DESC) WHERE status = 'published';
CREATE INDEX products_of_seller ON products (seller_id, created_at DESC, id DESC);

-- What the buyer gets: bytes kept by the objects gateway under their SHA-256.
CREATE TABLE product_files (
    id           uuid PRIMARY KEY,
    product_id   uuid NOT NULL REFERENCES products ON DELETE CASCADE,
    object_key   text NOT NULL,
    filename     text NOT NULL,
    content_type text NOT NULL,
    size_bytes   bigint NOT NULL CHECK (size_bytes > 0),
    created_at   timestamptz NOT NULL DEFAULT now()
);
CREATE INDEX product_files_of_product ON product_files (product_id, created_at, id);
