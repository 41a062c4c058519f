-- depends: 0028_privacy_and_announcements

-- The janitor finds the sessions of those who never came back: they hold network addresses.
CREATE INDEX sessions_by_expiry ON sessions (expires_at);
