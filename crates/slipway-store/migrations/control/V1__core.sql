-- Queues, items, agents, events: what a pop touches. Everything is keyed by its entity, so that
-- the tables can be sharded by it; on SQLite the number alone is the fast key.

CREATE TABLE settings (
    name TEXT NOT NULL PRIMARY KEY,
    value {bytes} NOT NULL
);

CREATE TABLE revisions (
    id {id},
    entity_id BIGINT NOT NULL,
    -- NULL while no queue uses it.
    queue_id BIGINT,
    number BIGINT NOT NULL,
    resource TEXT NOT NULL,
    config TEXT NOT NULL,
    template_variables TEXT NOT NULL,
    policy TEXT NOT NULL,
    created_by TEXT NOT NULL,
    created_at BIGINT NOT NULL
    {postgres:, PRIMARY KEY (entity_id, id)}
);
CREATE INDEX revisions_by_queue ON revisions (entity_id, queue_id, number);

CREATE TABLE queues (
    id {id},
    entity_id BIGINT NOT NULL,
    project TEXT NOT NULL,
    name TEXT NOT NULL,
    access TEXT NOT NULL,
    prioritization TEXT NOT NULL,
    paused BIGINT NOT NULL,
    links TEXT NOT NULL,
    revision_id BIGINT,
    created_by TEXT NOT NULL,
    created_at BIGINT NOT NULL,
    {postgres:PRIMARY KEY (entity_id, id),}
    UNIQUE (entity_id, project, name)
);

CREATE TABLE agents (
    id {id},
    entity_id BIGINT NOT NULL,
    name TEXT NOT NULL,
    instance TEXT,
    hostname TEXT NOT NULL,
    version TEXT NOT NULL,
    config TEXT NOT NULL,
    max_jobs BIGINT NOT NULL,
    status BIGINT NOT NULL,
    drain_requested BIGINT NOT NULL,
    epoch BIGINT NOT NULL,
    managed BIGINT NOT NULL,
    -- 1 once a later registration has taken the name: the row stays for the items that name it.
    replaced BIGINT NOT NULL,
    username TEXT NOT NULL,
    heartbeat_at BIGINT NOT NULL,
    created_at BIGINT NOT NULL
    {postgres:, PRIMARY KEY (entity_id, id)}
);
CREATE UNIQUE INDEX agents_by_name ON agents (entity_id, name) WHERE replaced = 0;

CREATE TABLE agent_queues (
    entity_id BIGINT NOT NULL,
    agent_id BIGINT NOT NULL,
    queue_entity_id BIGINT NOT NULL,
    queue_id BIGINT NOT NULL,
    PRIMARY KEY (entity_id, agent_id, queue_entity_id, queue_id)
) {sqlite:WITHOUT ROWID};
CREATE INDEX agent_queues_by_queue ON agent_queues (queue_entity_id, queue_id);

-- Rows are narrow: what a submitter wrote is in item_specs.
CREATE TABLE items (
    id {id},
    entity_id BIGINT NOT NULL,
    queue_id BIGINT NOT NULL,
    state BIGINT NOT NULL,
    priority BIGINT NOT NULL,
    epoch BIGINT NOT NULL,
    attempt BIGINT NOT NULL,
    agent_entity_id BIGINT,
    agent_id BIGINT,
    managed BIGINT NOT NULL,
    -- When the tick has to look at it: the end of the lease, or of the time that a lost agent has.
    deadline BIGINT,
    start_recorded BIGINT NOT NULL,
    lost_since BIGINT,
    stop_requested BIGINT NOT NULL,
    exit_code BIGINT,
    preemptions BIGINT NOT NULL,
    created_at BIGINT NOT NULL,
    leased_at BIGINT,
    started_at BIGINT,
    ended_at BIGINT,
    -- 0 while the answer of a push that may be sent again is not known to have arrived.
    delivered BIGINT NOT NULL,
    revision_id BIGINT,
    key_id BIGINT NOT NULL,
    author TEXT NOT NULL,
    run_entity TEXT,
    run_project TEXT,
    run_id TEXT,
    failure TEXT,
    warning TEXT
    {postgres:, PRIMARY KEY (entity_id, id)}
);
CREATE INDEX items_ready ON items (entity_id, queue_id, priority, id) WHERE state = 0;
CREATE INDEX items_deadline ON items (deadline) WHERE deadline IS NOT NULL;
CREATE INDEX items_held ON items (agent_entity_id, agent_id) WHERE state IN (1, 2, 3);
CREATE INDEX items_active ON items (entity_id, queue_id) WHERE state IN (1, 2, 3);
CREATE INDEX items_succeeded ON items (entity_id, queue_id, ended_at) WHERE state = 4;
CREATE INDEX items_by_queue ON items (entity_id, queue_id, id);
CREATE INDEX items_by_run ON items (run_id) WHERE run_id IS NOT NULL;

CREATE TABLE item_specs (
    item_id {sqlite:INTEGER PRIMARY KEY}{postgres:BIGINT NOT NULL},
    entity_id BIGINT NOT NULL,
    template_values TEXT NOT NULL,
    spec TEXT NOT NULL
    {postgres:, PRIMARY KEY (entity_id, item_id)}
);

-- What recognises a push that is sent again: an idempotency key or the digest of the request.
CREATE TABLE pushes (
    id {id},
    entity_id BIGINT NOT NULL,
    key_id BIGINT NOT NULL,
    token TEXT NOT NULL,
    item_id BIGINT NOT NULL,
    at BIGINT NOT NULL,
    {postgres:PRIMARY KEY (entity_id, id),}
    UNIQUE (entity_id, key_id, token)
);
CREATE INDEX pushes_by_age ON pushes (at);

-- The record, in commit order: (major, id).
CREATE TABLE events (
    id {id},
    major BIGINT NOT NULL,
    at BIGINT NOT NULL,
    entity_id BIGINT NOT NULL,
    queue_id BIGINT,
    item_id BIGINT,
    agent_entity_id BIGINT,
    agent_id BIGINT,
    kind TEXT NOT NULL,
    actor TEXT NOT NULL,
    detail TEXT NOT NULL
    {postgres:, PRIMARY KEY (entity_id, id)}
);
CREATE INDEX events_by_item ON events (entity_id, item_id) WHERE item_id IS NOT NULL;
{postgres:CREATE INDEX events_by_position ON events (major, id);}
