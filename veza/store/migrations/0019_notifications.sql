-- depends: 0017_live

CREATE TABLE notifications (
    id         uuid PRIMARY KEY,
    user_id    uuid NOT NULL REFERENCES users ON DELETE CASCADE,
    number     bigint NOT NULL,           -- of the user's, without gaps: who has seen one has seen all before it
    kind       text NOT NULL,
    title      text NOT NULL,
    body       text NOT NULL,
    data       jsonb NOT NULL,
    created_at timestamptz NOT NULL DEFAULT now(),
    read_at    timestamptz,
    UNIQUE (user_id, number)
);
CREATE INDEX notifications_unread ON notifications (user_id) WHERE read_at IS NULL;

-- The last number of each user. Who tells them something holds this row until it is committed, so numbers come in order.
CREATE TABLE notification_numbers (
    user_id uuid PRIMARY KEY REFERENCES users ON DELETE CASCADE,
    last    bigint NOT NULL
);

-- What lets a browser's EventSource in, which can send no bearer token: once, and only by its hash.
CREATE TABLE stream_tickets (
    hash       bytea PRIMARY KEY,
    user_id    uuid NOT NULL REFERENCES users ON DELETE CASCADE,
    session_id uuid NOT NULL REFERENCES sessions ON DELETE CASCADE,
    expires_at timestamptz NOT NULL
);
