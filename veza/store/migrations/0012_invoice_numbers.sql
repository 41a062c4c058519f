-- depends: 0011_reconciliations

-- The last number given out of each series in each year. A number is taken in the transaction that needs it, which holds
-- the row until it commits: so one that rolls back gives its number back, and none is skipped or given twice.
CREATE TABLE number_series (
    series text NOT NULL CHECK (series IN ('invoice')),
    year   integer NOT NULL,
    last   integer NOT NULL CHECK (last > 0),
    PRIMARY KEY (series, year)
);

ALTER TABLE orders ADD COLUMN invoice_number text UNIQUE CHECK (invoice_number ~ '^[0-9]{4}-[0-9]{6,}$');

-- What was paid before there were numbers gets them in the order it was paid.
WITH numbered AS (
    SELECT id, extract(year FROM paid_at AT TIME ZONE 'UTC')::integer AS year,
           row_number() OVER (PARTITION BY extract(year FROM paid_at AT TIME ZONE 'UTC') ORDER BY paid_at, id) AS number
    FROM orders WHERE paid_at IS NOT NULL
), counted AS (
    INSERT INTO number_series (series, year, last) SELECT 'invoice', year, max(number) FROM numbered GROUP BY year
)
UPDATE orders SET invoice_number = year || '-' || lpad(number::text, greatest(6, length(number::text)), '0') FROM numbered
WHERE orders.id = numbered.id;
ALTER TABLE orders ADD CHECK ((paid_at IS NULL) = (invoice_number IS NULL));
