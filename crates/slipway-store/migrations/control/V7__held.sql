-- A held item has a lease and no end. Indexes that say it so, and not by the state, stay as they are
-- while the item is acknowledged and runs. Nothing looks items up by their run: a run names its item.
UPDATE items SET leased_at = NULL WHERE state = 0;
DROP INDEX items_held;
DROP INDEX items_active;
DROP INDEX items_by_run;
CREATE INDEX items_held ON items (agent_entity_id, agent_id) WHERE leased_at IS NOT NULL AND ended_at IS NULL;
CREATE INDEX items_active ON items (entity_id, queue_id) WHERE leased_at IS NOT NULL AND ended_at IS NULL;
