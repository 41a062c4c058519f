-- depends: 0026_switches

-- What somebody said of selling or sharing their data: themselves, or their browser (Global Privacy Control).
ALTER TABLE users
    ADD COLUMN do_not_sell        boolean NOT NULL DEFAULT false,
    ADD COLUMN do_not_sell_source text CHECK (do_not_sell_source IN ('user', 'signal')),
    ADD COLUMN do_not_sell_at     timestamptz,
    ADD CHECK ((do_not_sell_source IS NULL) = (do_not_sell_at IS NULL)),
    ADD CHECK (NOT do_not_sell OR do_not_sell_source IS NOT NULL),
    ADD CHECK (do_not_sell OR do_not_sell_source IS DISTINCT FROM 'signal');
