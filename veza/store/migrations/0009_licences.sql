-- depends: 0008_media

-- What a buyer shows for a line they bought: 122 random bits, made with the line and told once it is paid.
ALTER TABLE order_items ADD COLUMN licence_key uuid NOT NULL DEFAULT gen_random_uuid() UNIQUE;
