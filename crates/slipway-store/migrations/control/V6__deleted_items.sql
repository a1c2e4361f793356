-- Items that were deleted and whose captured output has yet to follow.
CREATE TABLE deleted_items (
    entity_id BIGINT NOT NULL,
    item_id BIGINT NOT NULL,
    PRIMARY KEY (entity_id, item_id)
) {sqlite:WITHOUT ROWID};
