-- depends:

CREATE TABLE users (
    id            uuid PRIMARY KEY,
    username      text NOT NULL,
    email         text NOT NULL,          -- case-folded when written
    password_hash text NOT NULL,
    role          text NOT NULL DEFAULT 'user' CHECK (role IN ('user', 'admin')),
    created_at    timestamptz NOT NULL DEFAULT now(),
    updated_at    timestamptz NOT NULL DEFAULT now()
);
CREATE UNIQUE INDEX users_username_key ON users (lower(username));
CREATE UNIQUE INDEX users_email_key ON users (email);

-- One row a signed-in device: the family of refresh tokens that one login began.
CREATE TABLE sessions (
    id           uuid PRIMARY KEY,
    user_id      uuid NOT NULL REFERENCES users ON DELETE CASCADE,
    refresh_id   uuid NOT NULL,           -- the jti of the one refresh token that is good now
    previous_id  uuid,                    -- the one before it, good for REFRESH_GRACE_SECONDS
    rotated_at   timestamptz NOT NULL DEFAULT now(),
    created_at   timestamptz NOT NULL DEFAULT now(),
    last_used_at timestamptz NOT NULL DEFAULT now(),
    expires_at   timestamptz NOT NULL,
    ended_at     timestamptz,
    ended_why    text CHECK (ended_why IN ('logout', 'reused', 'password_changed', 'ended_by_user', 'banned', 'erased')),
    user_agent   text,
    address      text
);
CREATE INDEX sessions_of_user ON sessions (user_id);
