-- Whether a push was answered stands with the push: noting it on the item would lock the item at the
-- very moment when agents hear of it, and they pass over what is locked.
ALTER TABLE pushes ADD COLUMN delivered BIGINT NOT NULL DEFAULT 1;
UPDATE pushes SET delivered = 0 WHERE EXISTS
    (SELECT 1 FROM items WHERE items.entity_id = pushes.entity_id AND items.id = pushes.item_id AND items.delivered = 0);
CREATE INDEX pushes_by_item ON pushes (entity_id, item_id);
ALTER TABLE items DROP COLUMN delivered;
