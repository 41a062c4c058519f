-- depends: 0015_disputes

-- What kind of product a line was sold as decides its VAT: later changes of the product are no business of the sale's.
ALTER TABLE order_items ADD COLUMN product_type text;
UPDATE order_items SET product_type = products.product_type FROM products WHERE products.id = product_id;
ALTER TABLE order_items ALTER COLUMN product_type SET NOT NULL;

CREATE INDEX refunds_newest ON refunds (created_at DESC, id DESC);

-- Why a request for a refund was declined, in its seller's words; and by what it was overtaken, where nobody declined it.
ALTER TABLE refunds ADD COLUMN decision_reason text NOT NULL DEFAULT '';
