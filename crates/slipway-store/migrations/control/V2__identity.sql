-- Who there is: entities, users, memberships, credentials, the audit log. Small tables, read by every
-- request; where the others are sharded by entity, these are copied to every shard.

-- An owner of queues and projects: 0 a user's own, 1 a team, 2 the reserved name of a service
-- account, which owns nothing.
CREATE TABLE entities (
    id {id},
    name TEXT NOT NULL UNIQUE,
    kind BIGINT NOT NULL,
    created_at BIGINT NOT NULL
    {postgres:, PRIMARY KEY (id)}
);
-- `Alice` cannot pose as `alice`.
CREATE UNIQUE INDEX entities_by_folded_name ON entities (LOWER(name));

CREATE TABLE users (
    -- The personal entity's number is the user's.
    entity_id BIGINT NOT NULL PRIMARY KEY,
    username TEXT NOT NULL UNIQUE,
    name TEXT NOT NULL,
    email TEXT NOT NULL,
    admin BIGINT NOT NULL,
    disabled BIGINT NOT NULL,
    -- The team of a service account.
    service_of BIGINT,
    password_hash TEXT,
    created_at BIGINT NOT NULL
) {sqlite:WITHOUT ROWID};

CREATE TABLE memberships (
    entity_id BIGINT NOT NULL,
    user_id BIGINT NOT NULL,
    role TEXT NOT NULL,
    PRIMARY KEY (entity_id, user_id)
) {sqlite:WITHOUT ROWID};
CREATE INDEX memberships_by_user ON memberships (user_id);

-- Keys (0) and page sessions (1), by the SHA-256 of their text.
CREATE TABLE credentials (
    id {id},
    user_id BIGINT NOT NULL,
    kind BIGINT NOT NULL,
    sha256 {bytes} NOT NULL UNIQUE,
    hint TEXT NOT NULL,
    description TEXT NOT NULL,
    created_at BIGINT NOT NULL,
    expires_at BIGINT,
    last_used_at BIGINT
    {postgres:, PRIMARY KEY (id)}
);
CREATE INDEX credentials_by_user ON credentials (user_id);

CREATE TABLE audit (
    id {id},
    at BIGINT NOT NULL,
    actor TEXT NOT NULL,
    action TEXT NOT NULL,
    subject TEXT NOT NULL,
    detail TEXT NOT NULL
    {postgres:, PRIMARY KEY (id)}
);
