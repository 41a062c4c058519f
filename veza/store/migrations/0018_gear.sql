-- depends: 0017_live

-- -- gear: what people own, its papers, and what its repairs cost ---------------------------------------------------

CREATE TABLE gear (
    id                   uuid PRIMARY KEY,
    owner_id             uuid NOT NULL REFERENCES users ON DELETE CASCADE,
    name                 text NOT NULL,
    category             text,
    brand                text,
    model                text,
    serial_number        text,
    purchase_date        date,
    purchase_price_cents bigint CHECK (purchase_price_cents >= 0),
    currency             text CHECK (currency ~ '^[A-Z]{3}$'),
    warranty_expires_on  date,
    status               text NOT NULL CHECK (status IN ('active', 'sold', 'broken', 'lost')),
    notes                text,
    category_key         text,             -- the category folded, for comparing
    words                text NOT NULL,    -- what a search finds it by, folded by domain/catalog.py: ' word word'
    created_at           timestamptz NOT NULL,
    updated_at           timestamptz NOT NULL,
    CHECK ((purchase_price_cents IS NULL) = (currency IS NULL))
);
CREATE INDEX gear_of_owner ON gear (owner_id, id DESC);

-- Bytes kept by the objects gateway under their SHA-256; what no row names any more is for its janitor.
CREATE TABLE gear_documents (
    id           uuid PRIMARY KEY,
    gear_id      uuid NOT NULL REFERENCES gear ON DELETE CASCADE,
    type         text NOT NULL CHECK (type IN ('invoice', 'manual', 'warranty', 'photo', 'other')),
    object_key   text NOT NULL,
    filename     text NOT NULL,
    content_type text NOT NULL,
    size_bytes   bigint NOT NULL CHECK (size_bytes > 0),
    created_at   timestamptz NOT NULL
);
CREATE INDEX gear_documents_of_gear ON gear_documents (gear_id, id DESC);
CREATE INDEX gear_documents_of_object ON gear_documents (object_key);

CREATE TABLE gear_repairs (
    id          uuid PRIMARY KEY,
    gear_id     uuid NOT NULL REFERENCES gear ON DELETE CASCADE,
    repair_date date NOT NULL,
    description text NOT NULL,
    cost_cents  bigint CHECK (cost_cents >= 0),
    currency    text CHECK (currency ~ '^[A-Z]{3}$'),
    provider    text,
    created_at  timestamptz NOT NULL,
    CHECK ((cost_cents IS NULL) = (currency IS NULL))
);
CREATE INDEX gear_repairs_of_gear ON gear_repairs (gear_id, repair_date DESC, id DESC);

-- -- tags: which are in use, and how much ---------------------------------------------------------------------------

-- What a tag is found by: case folded already by domain/catalog.py, here its accents as well. Compatibility forms come
-- apart into the letters and marks they are made of, the marks of letters are taken off, and letters that Unicode does
-- not take apart become those that are typed for them. Case once more, since some forms come apart into capitals.
-- Neither the server's locale nor a collation has a say in it. Stored and searched tags are folded here alone.
CREATE FUNCTION tag_key(tag text) RETURNS text
LANGUAGE sql IMMUTABLE STRICT PARALLEL SAFE AS $$
    SELECT left(replace(replace(translate(
        regexp_replace(
            lower(normalize(tag, NFKD) COLLATE "C"),
            '[\u0300-\u036f\u1ab0-\u1aff\u1dc0-\u1dff\u20d0-\u20ff\ufe20-\ufe2f]', '', 'g'
        ), 'đøłı', 'doli'), 'æ', 'ae'), 'œ', 'oe'), 64)
$$;

-- A row for each tag that a published product or a titled stream has.
CREATE TABLE tags (
    tag  text COLLATE "C" PRIMARY KEY,
    key  text COLLATE "C" NOT NULL,
    uses bigint NOT NULL
);
CREATE INDEX tags_by_key ON tags (key) INCLUDE (uses, tag); -- with all that is asked, or the server would prefer others
-- However many tags begin with a letter or three, the most used of them come first in one of these.
CREATE INDEX tags_by_1 ON tags (left(key, 1), uses DESC, key, tag);
CREATE INDEX tags_by_2 ON tags (left(key, 2), uses DESC, key, tag);
CREATE INDEX tags_by_3 ON tags (left(key, 3), uses DESC, key, tag);

-- Count so many uses less and more. Each tag stands in an array once for each use. Differences, never recounts: what
-- other transactions do at the same time adds up, since each waits for those before it at the tag's row. All wait in
-- the order of the tags, so none waits for one that waits for it. A tag out of use is deleted; who waited for its row
-- then writes a new one.
CREATE FUNCTION shift_tags(gone text[], come text[]) RETURNS void
LANGUAGE plpgsql AS $$
BEGIN
    INSERT INTO tags AS t (tag, key, uses)
    SELECT tag, tag_key(tag), sum(change)
    FROM (SELECT unnest(come) AS tag, 1 AS change UNION ALL SELECT unnest(gone), -1) AS changes
    GROUP BY tag HAVING sum(change) <> 0
    ORDER BY tag COLLATE "C"
    ON CONFLICT (tag) DO UPDATE SET uses = t.uses + excluded.uses;
    DELETE FROM tags WHERE tag = ANY(gone) AND uses = 0;
END
$$;

CREATE FUNCTION count_product_tags() RETURNS trigger
LANGUAGE plpgsql AS $$
DECLARE
    gone text[];
    come text[];
BEGIN
    IF TG_OP <> 'INSERT' THEN
        SELECT array_agg(tag ORDER BY tag) INTO gone
        FROM (SELECT DISTINCT id, unnest(tags) AS tag FROM old_rows WHERE status = 'published') AS used;
    END IF;
    IF TG_OP <> 'DELETE' THEN
        SELECT array_agg(tag ORDER BY tag) INTO come
        FROM (SELECT DISTINCT id, unnest(tags) AS tag FROM new_rows WHERE status = 'published') AS used;
    END IF;
    IF gone IS DISTINCT FROM come THEN
        PERFORM shift_tags(gone, come);
    END IF;
    RETURN NULL;
END
$$;

CREATE FUNCTION count_stream_tags() RETURNS trigger
LANGUAGE plpgsql AS $$
DECLARE
    gone text[];
    come text[];
BEGIN
    IF TG_OP <> 'INSERT' THEN
        SELECT array_agg(tag ORDER BY tag) INTO gone
        FROM (SELECT DISTINCT id, unnest(tags) AS tag FROM old_rows WHERE title <> '') AS used;
    END IF;
    IF TG_OP <> 'DELETE' THEN
        SELECT array_agg(tag ORDER BY tag) INTO come
        FROM (SELECT DISTINCT id, unnest(tags) AS tag FROM new_rows WHERE title <> '') AS used;
    END IF;
    IF gone IS DISTINCT FROM come THEN
        PERFORM shift_tags(gone, come);
    END IF;
    RETURN NULL;
END
$$;

-- Each for a whole statement: what changes many rows still takes their tags in one order.
CREATE TRIGGER tags_of_new AFTER INSERT ON products
    REFERENCING NEW TABLE AS new_rows FOR EACH STATEMENT EXECUTE FUNCTION count_product_tags();
CREATE TRIGGER tags_of_changed AFTER UPDATE ON products
    REFERENCING OLD TABLE AS old_rows NEW TABLE AS new_rows FOR EACH STATEMENT EXECUTE FUNCTION count_product_tags();
CREATE TRIGGER tags_of_deleted AFTER DELETE ON products
    REFERENCING OLD TABLE AS old_rows FOR EACH STATEMENT EXECUTE FUNCTION count_product_tags();
CREATE TRIGGER tags_of_new AFTER INSERT ON streams
    REFERENCING NEW TABLE AS new_rows FOR EACH STATEMENT EXECUTE FUNCTION count_stream_tags();
CREATE TRIGGER tags_of_changed AFTER UPDATE ON streams
    REFERENCING OLD TABLE AS old_rows NEW TABLE AS new_rows FOR EACH STATEMENT EXECUTE FUNCTION count_stream_tags();
CREATE TRIGGER tags_of_deleted AFTER DELETE ON streams
    REFERENCING OLD TABLE AS old_rows FOR EACH STATEMENT EXECUTE FUNCTION count_stream_tags();

-- What is there already. The triggers' locks keep others from changing it until this is committed.
INSERT INTO tags (tag, key, uses)
SELECT tag, tag_key(tag), count(*)
FROM (
    SELECT DISTINCT id, unnest(tags) AS tag FROM products WHERE status = 'published'
    UNION ALL
    SELECT DISTINCT id, unnest(tags) FROM streams WHERE title <> ''
) AS used
GROUP BY tag;
