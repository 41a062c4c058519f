-- depends: 0026_switches

-- What somebody said of selling or sharing their data: themselves, or their browser (Global Privacy Control).
ALTER TABLE users
    ADD COLUMN do_not_sell        boolean NOT NULL DEFAULT false,
    ADD COLUMN do_not_sell_source text CHECK (do_not_sell_source IN ('user', 'signal')),
    ADD COLUMN do_not_sell_at     timestamptz,
    ADD CHECK ((do_not_sell_source IS NULL) = (do_not_sell_at IS NULL)),
    ADD CHECK (NOT do_not_sell OR do_not_sell_source IS NOT NULL),
    ADD CHECK (do_not_sell OR do_not_sell_source IS DISTINCT FROM 'signal');

-- What the operator tells everybody, from one moment to another.
CREATE TABLE announcements (
    id         uuid PRIMARY KEY,
    title      text NOT NULL,
    content    text NOT NULL,
    type       text NOT NULL CHECK (type IN ('info', 'warning', 'error')),
    starts_at  timestamptz NOT NULL,
    ends_at    timestamptz CHECK (ends_at > starts_at),
    created_at timestamptz NOT NULL DEFAULT now()
);
CREATE INDEX announcements_newest ON announcements (created_at DESC, id DESC);
CREATE TRIGGER announcements_told_of AFTER INSERT OR UPDATE OR DELETE OR TRUNCATE ON announcements
    FOR EACH STATEMENT EXECUTE FUNCTION tell_of_switch();
