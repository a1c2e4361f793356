-- Artifacts: collections number their versions, versions have manifests and files, and the bytes lie
-- in the blob storage by content.

CREATE TABLE collections (
    id {id},
    entity_id BIGINT NOT NULL,
    project_id BIGINT NOT NULL,
    kind TEXT NOT NULL,
    name TEXT NOT NULL,
    -- The index of the next version.
    next_index BIGINT NOT NULL,
    created_at BIGINT NOT NULL,
    {postgres:PRIMARY KEY (entity_id, id),}
    UNIQUE (entity_id, project_id, name)
);

CREATE TABLE artifacts (
    id {id},
    entity_id BIGINT NOT NULL,
    collection_id BIGINT NOT NULL,
    state BIGINT NOT NULL,
    version_index BIGINT,
    digest TEXT NOT NULL,
    description TEXT,
    metadata TEXT,
    tags TEXT NOT NULL,
    -- Aliases to move to it at commit.
    wanted_aliases TEXT NOT NULL,
    size BIGINT NOT NULL,
    file_count BIGINT NOT NULL,
    -- The run by name and by number: a version outlives the run that logged it.
    run_number BIGINT,
    run_entity TEXT,
    run_project TEXT,
    run_id TEXT,
    client_id TEXT,
    created_at BIGINT NOT NULL,
    updated_at BIGINT NOT NULL
    {postgres:, PRIMARY KEY (entity_id, id)}
);
CREATE UNIQUE INDEX artifacts_by_index ON artifacts (entity_id, collection_id, version_index);
CREATE INDEX artifacts_by_digest ON artifacts (entity_id, collection_id, digest);
CREATE INDEX artifacts_by_run ON artifacts (run_number) WHERE run_number IS NOT NULL;

-- What clients call versions before they know the server's ids. The first to use an id keeps it.
CREATE TABLE artifact_client_ids (
    client_id TEXT NOT NULL PRIMARY KEY,
    entity_id BIGINT NOT NULL,
    artifact_id BIGINT NOT NULL
) {sqlite:WITHOUT ROWID};

CREATE TABLE aliases (
    entity_id BIGINT NOT NULL,
    collection_id BIGINT NOT NULL,
    alias TEXT NOT NULL,
    artifact_id BIGINT NOT NULL,
    PRIMARY KEY (entity_id, collection_id, alias)
) {sqlite:WITHOUT ROWID};
CREATE INDEX aliases_by_artifact ON aliases (entity_id, artifact_id);

CREATE TABLE manifests (
    id {id},
    entity_id BIGINT NOT NULL,
    artifact_id BIGINT NOT NULL,
    name TEXT NOT NULL,
    -- Empty until announced.
    digest TEXT NOT NULL,
    kind TEXT NOT NULL,
    {postgres:PRIMARY KEY (entity_id, id),}
    UNIQUE (entity_id, artifact_id, name)
);

CREATE TABLE artifact_files (
    entity_id BIGINT NOT NULL,
    artifact_id BIGINT NOT NULL,
    name TEXT NOT NULL,
    md5 TEXT NOT NULL,
    size BIGINT,
    PRIMARY KEY (entity_id, artifact_id, name)
) {sqlite:WITHOUT ROWID};

-- Blobs of artifacts whose bytes are known to be stored.
CREATE TABLE blobs (
    path TEXT NOT NULL PRIMARY KEY,
    size BIGINT NOT NULL
) {sqlite:WITHOUT ROWID};

CREATE TABLE artifact_uses (
    run_number BIGINT NOT NULL,
    artifact_entity_id BIGINT NOT NULL,
    artifact_id BIGINT NOT NULL,
    at BIGINT NOT NULL,
    PRIMARY KEY (run_number, artifact_entity_id, artifact_id)
) {sqlite:WITHOUT ROWID};
