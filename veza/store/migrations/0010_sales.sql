-- depends: 0009_licences

-- What a seller sold is looked up by seller: their lines, and their earnings.
CREATE INDEX order_items_of_seller ON order_items (seller_id, order_id);
CREATE INDEX earnings_of_seller ON earnings (seller_id, order_id);
