-- Queues. Items lie in three tables that are written in turn: one that is drained is truncated, so that what was taken leaves nothing behind even while
-- an old snapshot keeps vacuum from working.

CREATE SEQUENCE cache_ext_internal.queue_item_id CACHE 1;
COMMENT ON SEQUENCE cache_ext_internal.queue_item_id IS 'numbers the items of all queues';
SELECT pg_catalog.pg_extension_config_dump('cache_ext_internal.queue_item_id', '');

-- Not a table: it is changed at once, for all, and leaves no old versions.
CREATE SEQUENCE cache_ext_internal.queue_state MINVALUE 0 START 0;
COMMENT ON SEQUENCE cache_ext_internal.queue_state IS
    'last_value % 4 is the table that items are written to, last_value / 4 how often items were moved from one table to another';

-- Kept as heaps whatever the default is: rows are put straight into them.
CREATE TABLE cache_ext_internal.queue_items_0 (
    queue text COLLATE "C" NOT NULL,
    id bigint NOT NULL,
    added_at timestamptz NOT NULL,
    data jsonb NOT NULL,
    PRIMARY KEY (queue, id)
) USING heap WITH (autovacuum_vacuum_scale_factor = 0, autovacuum_vacuum_threshold = 10000);
CREATE TABLE cache_ext_internal.queue_items_1 (LIKE cache_ext_internal.queue_items_0 INCLUDING ALL) USING heap
WITH (autovacuum_vacuum_scale_factor = 0, autovacuum_vacuum_threshold = 10000);
CREATE TABLE cache_ext_internal.queue_items_2 (LIKE cache_ext_internal.queue_items_0 INCLUDING ALL) USING heap
WITH (autovacuum_vacuum_scale_factor = 0, autovacuum_vacuum_threshold = 10000);
COMMENT ON TABLE cache_ext_internal.queue_items_0 IS 'items of queues; queue_state tells where new ones go';
COMMENT ON TABLE cache_ext_internal.queue_items_1 IS 'items of queues; queue_state tells where new ones go';
COMMENT ON TABLE cache_ext_internal.queue_items_2 IS 'items of queues; queue_state tells where new ones go';
SELECT pg_catalog.pg_extension_config_dump('cache_ext_internal.queue_items_0', '');
SELECT pg_catalog.pg_extension_config_dump('cache_ext_internal.queue_items_1', '');
SELECT pg_catalog.pg_extension_config_dump('cache_ext_internal.queue_items_2', '');

CREATE FUNCTION enqueue(p_queue text, p_data jsonb)
RETURNS bigint LANGUAGE c VOLATILE PARALLEL UNSAFE AS 'MODULE_PATHNAME', 'enqueue';
COMMENT ON FUNCTION enqueue(text, jsonb) IS 'adds an item to a queue as the transaction commits; its number';

CREATE FUNCTION dequeue(p_queue text)
RETURNS jsonb LANGUAGE c VOLATILE PARALLEL UNSAFE AS 'MODULE_PATHNAME', 'dequeue';
COMMENT ON FUNCTION dequeue(text) IS
    'takes the oldest item of a queue that nobody else is taking: it is gone as the transaction commits, and there again where it does not; null: there is none';

CREATE FUNCTION queue_length(p_queue text)
RETURNS bigint LANGUAGE c VOLATILE PARALLEL UNSAFE AS 'MODULE_PATHNAME', 'queue_length';
COMMENT ON FUNCTION queue_length(text) IS 'how many items a queue has, those included that somebody is taking';
