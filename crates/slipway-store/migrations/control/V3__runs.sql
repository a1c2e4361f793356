-- Projects, runs and what belongs to a run's page. What a run logs is in the run-data lane.

CREATE TABLE projects (
    id {id},
    entity_id BIGINT NOT NULL,
    name TEXT NOT NULL,
    created_at BIGINT NOT NULL,
    {postgres:PRIMARY KEY (entity_id, id),}
    UNIQUE (entity_id, name)
);

-- Rows are narrow, because heartbeats rewrite them: what people and clients wrote is in run_texts.
CREATE TABLE runs (
    id {id},
    entity_id BIGINT NOT NULL,
    project_id BIGINT NOT NULL,
    run_id TEXT NOT NULL,
    state BIGINT NOT NULL,
    username TEXT NOT NULL,
    item_entity_id BIGINT,
    item_id BIGINT,
    stop_requested BIGINT NOT NULL,
    exit_code BIGINT,
    created_at BIGINT NOT NULL,
    heartbeat_at BIGINT,
    ended_at BIGINT,
    {postgres:PRIMARY KEY (entity_id, id),}
    UNIQUE (entity_id, project_id, run_id)
);
CREATE INDEX runs_by_time ON runs (entity_id, project_id, created_at, run_id);
-- Running and preempting: what the clock looks at.
CREATE INDEX runs_alive ON runs (heartbeat_at) WHERE state IN (1, 6);

CREATE TABLE run_texts (
    run_id {sqlite:INTEGER PRIMARY KEY}{postgres:BIGINT NOT NULL},
    entity_id BIGINT NOT NULL,
    display_name TEXT,
    config TEXT,
    summary TEXT,
    system_metrics TEXT,
    tags TEXT,
    notes TEXT,
    description TEXT,
    group_name TEXT,
    job_type TEXT,
    host TEXT,
    program TEXT,
    repo TEXT,
    commit_hash TEXT,
    sweep TEXT
    {postgres:, PRIMARY KEY (entity_id, run_id)}
);

CREATE TABLE run_files (
    entity_id BIGINT NOT NULL,
    run_id BIGINT NOT NULL,
    name TEXT NOT NULL,
    size BIGINT NOT NULL,
    md5 TEXT NOT NULL,
    updated_at BIGINT NOT NULL,
    PRIMARY KEY (entity_id, run_id, name)
) {sqlite:WITHOUT ROWID};

CREATE TABLE alerts (
    id {id},
    entity_id BIGINT NOT NULL,
    run_id BIGINT NOT NULL,
    title TEXT NOT NULL,
    text TEXT NOT NULL,
    severity TEXT NOT NULL,
    at BIGINT NOT NULL
    {postgres:, PRIMARY KEY (entity_id, id)}
);
CREATE INDEX alerts_by_run ON alerts (entity_id, run_id);

-- Runs that were deleted and whose blobs and lines have yet to follow.
CREATE TABLE deleted_runs (
    run_id {sqlite:INTEGER PRIMARY KEY}{postgres:BIGINT NOT NULL},
    entity_id BIGINT NOT NULL
    {postgres:, PRIMARY KEY (entity_id, run_id)}
);
