-- depends: 0007_reviews

-- A cover and a preview for each product: bytes kept by the objects gateway, and what they are.
ALTER TABLE products
    ADD COLUMN cover_key    text,
    ADD COLUMN cover_type   text,
    ADD COLUMN preview_key  text,
    ADD COLUMN preview_type text,
    ADD CHECK ((cover_key IS NULL) = (cover_type IS NULL)),
    ADD CHECK ((preview_key IS NULL) = (preview_type IS NULL));
