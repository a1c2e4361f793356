-- Where a waiting item stands among those of its priority: by its number, which is the order of
-- submission, unless a preemption sent it to the end, which is then the number here.
ALTER TABLE items ADD COLUMN place BIGINT;
DROP INDEX items_ready;
CREATE INDEX items_ready ON items (entity_id, queue_id, priority, COALESCE(place, id)) WHERE state = 0;
