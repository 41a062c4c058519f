-- depends: 0022_exports

-- Everything by which a row names an object of the store: whoever adds a column that does, adds it here. What is not in
-- this view is removed.
CREATE VIEW object_references AS
    SELECT object_key FROM product_files
    UNION ALL SELECT cover_key FROM products WHERE cover_key IS NOT NULL
    UNION ALL SELECT preview_key FROM products WHERE preview_key IS NOT NULL
    UNION ALL SELECT object_key FROM gear_documents
    UNION ALL SELECT object_key FROM cloud_files
    UNION ALL SELECT object_key FROM cloud_versions
    UNION ALL SELECT object_key FROM exports WHERE object_key IS NOT NULL;
CREATE INDEX product_files_of_object ON product_files (object_key);
CREATE INDEX products_of_cover ON products (cover_key) WHERE cover_key IS NOT NULL;
CREATE INDEX products_of_preview ON products (preview_key) WHERE preview_key IS NOT NULL;

-- Objects that no row named when the janitor last looked, and since when it has seen that.
CREATE TABLE orphans (
    object_key text PRIMARY KEY,
    since      timestamptz NOT NULL DEFAULT now()
);
CREATE INDEX orphans_by_age ON orphans (since);
