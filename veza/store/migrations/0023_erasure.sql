-- depends: 0022_exports

-- Who was erased. The row stays, for what the law has kept refers to it, and tells nothing of whose it was.
ALTER TABLE users
    ADD COLUMN erased_at timestamptz,
    ADD CHECK (erased_at IS NULL OR role = 'user');

-- Names and addresses are unique among those who are there: of the erased they are free again. What is more, an index of
-- some of the rows makes no column a key: erasing locks the user's row FOR NO KEY UPDATE, and whoever only refers to
-- the user (a sale that settles, say) does not wait.
DROP INDEX users_username_key;
DROP INDEX users_email_key;
CREATE UNIQUE INDEX users_username_key ON users (lower(username)) WHERE erased_at IS NULL;
CREATE UNIQUE INDEX users_email_key ON users (email) WHERE erased_at IS NULL;

-- Nothing new comes to be in the name of the erased. What was under way when they were erased waits at their row, or at
-- one of their rows that erasing locks as well, and is refused: nothing is left behind.
CREATE FUNCTION refuse_the_erased() RETURNS trigger LANGUAGE plpgsql AS $$
BEGIN
    RAISE EXCEPTION 'the user was erased' USING ERRCODE = 'check_violation', CONSTRAINT = 'user_is_there';
END $$;

-- Whether a user was erased, which then can't change before the transaction is over. FOR SHARE, since erasing locks FOR
-- NO KEY UPDATE.
CREATE FUNCTION is_erased(whose uuid) RETURNS boolean LANGUAGE plpgsql AS $$
DECLARE
    erased boolean;
BEGIN
    SELECT erased_at IS NOT NULL INTO erased FROM users WHERE id = whose FOR SHARE;
    RETURN erased;
END $$;

-- The same without waiting, for changes of rows that erasing locks too: they have waited there.
CREATE FUNCTION was_erased(whose uuid) RETURNS boolean LANGUAGE plpgsql AS $$
BEGIN
    RETURN (SELECT erased_at IS NOT NULL FROM users WHERE id = whose);
END $$;
CREATE FUNCTION seller_was_erased(what uuid) RETURNS boolean LANGUAGE plpgsql AS $$
BEGIN
    RETURN (SELECT erased_at IS NOT NULL FROM products JOIN users ON users.id = seller_id WHERE products.id = what);
END $$;

CREATE TRIGGER user_is_there BEFORE UPDATE ON users
    FOR EACH ROW WHEN (OLD.erased_at IS NOT NULL) EXECUTE FUNCTION refuse_the_erased();
CREATE TRIGGER user_is_there BEFORE INSERT ON sessions
    FOR EACH ROW WHEN (is_erased(NEW.user_id)) EXECUTE FUNCTION refuse_the_erased();
CREATE TRIGGER user_is_there BEFORE INSERT ON stream_tickets
    FOR EACH ROW WHEN (is_erased(NEW.user_id)) EXECUTE FUNCTION refuse_the_erased();
CREATE TRIGGER user_is_there BEFORE INSERT ON idempotency_keys
    FOR EACH ROW WHEN (is_erased(NEW.user_id)) EXECUTE FUNCTION refuse_the_erased();
CREATE TRIGGER user_is_there BEFORE INSERT ON connect_accounts
    FOR EACH ROW WHEN (is_erased(NEW.user_id)) EXECUTE FUNCTION refuse_the_erased();
CREATE TRIGGER user_is_there BEFORE INSERT ON cloud_files
    FOR EACH ROW WHEN (is_erased(NEW.owner_id)) EXECUTE FUNCTION refuse_the_erased();
CREATE TRIGGER user_is_there BEFORE INSERT ON gear
    FOR EACH ROW WHEN (is_erased(NEW.owner_id)) EXECUTE FUNCTION refuse_the_erased();
CREATE TRIGGER user_is_there BEFORE INSERT ON streams
    FOR EACH ROW WHEN (is_erased(NEW.owner_id)) EXECUTE FUNCTION refuse_the_erased();
CREATE TRIGGER user_is_there BEFORE INSERT ON exports
    FOR EACH ROW WHEN (is_erased(NEW.user_id)) EXECUTE FUNCTION refuse_the_erased();
CREATE TRIGGER user_is_there BEFORE INSERT ON orders
    FOR EACH ROW WHEN (is_erased(NEW.buyer_id)) EXECUTE FUNCTION refuse_the_erased();
CREATE TRIGGER user_is_there BEFORE INSERT ON refunds
    FOR EACH ROW WHEN (is_erased(NEW.requested_by)) EXECUTE FUNCTION refuse_the_erased();
CREATE TRIGGER user_is_there BEFORE INSERT ON products
    FOR EACH ROW WHEN (is_erased(NEW.seller_id)) EXECUTE FUNCTION refuse_the_erased();
CREATE TRIGGER user_is_there BEFORE INSERT ON reviews
    FOR EACH ROW WHEN (is_erased(NEW.buyer_id)) EXECUTE FUNCTION refuse_the_erased();

-- What stays of theirs stays as it was left. Others still count what was sold of it, and rate it.
CREATE TRIGGER seller_is_there BEFORE UPDATE OF title, description, tags, status, cover_key, preview_key ON products
    FOR EACH ROW WHEN (was_erased(NEW.seller_id)) EXECUTE FUNCTION refuse_the_erased();
CREATE TRIGGER seller_is_there BEFORE INSERT ON product_files
    FOR EACH ROW WHEN (seller_was_erased(NEW.product_id)) EXECUTE FUNCTION refuse_the_erased();
CREATE TRIGGER author_is_there BEFORE UPDATE OF comment, response ON reviews
    FOR EACH ROW WHEN (
        NEW.comment <> '' AND NEW.comment <> OLD.comment AND was_erased(NEW.buyer_id)
        OR NEW.response IS NOT NULL AND NEW.response IS DISTINCT FROM OLD.response AND seller_was_erased(NEW.product_id)
    ) EXECUTE FUNCTION refuse_the_erased();

-- Whose row is closed is told nothing any more, not even by what was about to tell them when they were erased.
ALTER TABLE notification_numbers ADD COLUMN closed boolean NOT NULL DEFAULT false;
