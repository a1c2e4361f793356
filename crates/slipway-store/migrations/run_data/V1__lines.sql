-- What runs and items log. A run is named by its number in the control lane: a later run of the same
-- id starts empty, and nothing here is looked up by text.

-- How far each stream reaches: the number after the last line.
CREATE TABLE stream_ends (
    run_number BIGINT NOT NULL,
    stream BIGINT NOT NULL,
    lines BIGINT NOT NULL,
    PRIMARY KEY (run_number, stream)
) {sqlite:WITHOUT ROWID};

CREATE TABLE lines (
    run_number BIGINT NOT NULL,
    stream BIGINT NOT NULL,
    line BIGINT NOT NULL,
    text TEXT NOT NULL,
    PRIMARY KEY (run_number, stream, line)
) {sqlite:WITHOUT ROWID};

-- Output that our agent captured, by the position of the first byte.
CREATE TABLE outputs (
    entity_id BIGINT NOT NULL,
    item_id BIGINT NOT NULL,
    attempt BIGINT NOT NULL,
    start_at BIGINT NOT NULL,
    end_at BIGINT NOT NULL,
    bytes {bytes} NOT NULL,
    PRIMARY KEY (entity_id, item_id, attempt, start_at)
);
