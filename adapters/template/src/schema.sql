-- All data of this broker. The first process creates the tables; see `topology::prepare`.

CREATE TABLE topic (
    name text PRIMARY KEY,
    kind text NOT NULL,
    partitions int -- NULL: shared
);

-- The log of one reader: a partition of a topic, for one subscription. The messages of a topic are copied to each of
-- its lines, so that every subscription settles by deleting.
CREATE TABLE line (
    id int GENERATED ALWAYS AS IDENTITY PRIMARY KEY,
    topic text NOT NULL, -- or the address of an inbox
    subscription text, -- NULL: a listener, or an inbox
    partition int, -- NULL: all of them
    owner bigint, -- of a line that lives no longer than its owner
    UNIQUE (topic, subscription, partition)
);

-- The order within a line is the order of `place`. A message that is not due yet has none.
CREATE SEQUENCE place;

CREATE TABLE message (
    number bigint GENERATED ALWAYS AS IDENTITY PRIMARY KEY,
    line int NOT NULL REFERENCES line ON DELETE CASCADE,
    place bigint,
    partition int NOT NULL,
    id text NOT NULL,
    key bytea,
    headers bytea NOT NULL,
    payload bytea NOT NULL,
    due bigint, -- milliseconds since 1970
    deliveries int NOT NULL DEFAULT 0,
    owner bigint -- the owner that has it and has not settled it
) WITH (autovacuum_vacuum_scale_factor = 0, autovacuum_vacuum_threshold = 5000);

CREATE INDEX message_free ON message (line, place) WHERE owner IS NULL AND place IS NOT NULL;
CREATE INDEX message_delayed ON message (line, due, number) WHERE place IS NULL;
CREATE INDEX message_held ON message (line, owner);

CREATE FUNCTION now_in_millis() RETURNS bigint LANGUAGE sql AS $$
    SELECT floor(extract(epoch FROM clock_timestamp()) * 1000)::bigint
$$;

-- An owner is the key of an advisory lock that its session holds. The server drops the lock when it drops the session:
-- then the owner is dead, and no other check is needed.
CREATE FUNCTION living_owners() RETURNS SETOF bigint LANGUAGE sql AS $$
    SELECT (classid::bigint << 32) | objid::bigint FROM pg_locks
    WHERE locktype = 'advisory' AND objsubid = 1
        AND database = (SELECT oid FROM pg_database WHERE datname = current_database())
$$;

-- A number is drawn from a sequence before the commit, so that a reader may see 8, and later 7. Hence the rule: only
-- the transaction that has locked the line draws places, until it commits. (Each statement of a function sees the
-- commits before that statement.)
CREATE FUNCTION publish(
    topics text[], partitions int[], ids text[], keys bytea[], header_lists bytea[], payloads bytea[], dues bigint[]
) RETURNS void LANGUAGE sql AS $$
    SELECT FROM line
    WHERE topic = ANY (topics)
        AND (partition IS NULL OR (topic, partition) IN (SELECT * FROM unnest(topics, partitions)))
    ORDER BY id FOR UPDATE;

    INSERT INTO message (line, place, partition, id, key, headers, payload, due)
    SELECT line.id, CASE WHEN m.due IS NULL OR m.due <= now_in_millis() THEN nextval('place') END,
        m.partition, m.id, m.key, m.headers, m.payload, m.due
    FROM unnest(topics, partitions, ids, keys, header_lists, payloads, dues) WITH ORDINALITY
            AS m (topic, partition, id, key, headers, payload, due, position)
        JOIN line ON line.topic = m.topic AND (line.partition IS NULL OR line.partition = m.partition)
    ORDER BY m.position;
$$;

-- Cancels waiting messages, and returns their positions among the wanted ones. While the lines are locked, no message
-- becomes due in one of them and is deleted in another.
CREATE FUNCTION cancel(topics text[], partitions int[], ids text[], dues bigint[])
RETURNS TABLE (which bigint) LANGUAGE sql AS $$
    SELECT FROM line
    WHERE topic = ANY (topics)
        AND (partition IS NULL OR (topic, partition) IN (SELECT * FROM unnest(topics, partitions)))
    ORDER BY id FOR UPDATE;

    WITH gone AS (
        DELETE FROM message m
        USING unnest(topics, partitions, ids, dues) WITH ORDINALITY AS wanted (topic, partition, id, due, position)
            JOIN line ON line.topic = wanted.topic AND (line.partition IS NULL OR line.partition = wanted.partition)
        WHERE m.line = line.id AND m.place IS NULL AND m.due = wanted.due AND m.id = wanted.id
            AND wanted.due > (SELECT now_in_millis())
        RETURNING wanted.position
    )
    SELECT DISTINCT position FROM gone;
$$;

-- Returns the next messages of a line, which belong to the owner from now on, and the milliseconds until the next one
-- is due, which are a row of their own if there are no messages. First, messages that have become due join the line,
-- at its end.
-- `most` is a number of messages. Messages follow as long as those before them have less than `most_bytes`.
CREATE FUNCTION take(of_line int, by_owner bigint, most int, most_bytes bigint, our_now bigint) RETURNS TABLE (
    due_in bigint, number bigint, partition int, id text, key bytea, headers bytea, payload bytea, due bigint,
    deliveries int
) LANGUAGE sql AS $$
    SELECT FROM line WHERE line.id = of_line AND EXISTS (
        -- Messages may become due while this runs: those that get a place below get it with the line locked.
        SELECT FROM message m WHERE m.line = of_line AND m.place IS NULL AND m.due <= our_now
    ) FOR UPDATE;

    WITH due AS MATERIALIZED (
        SELECT m.number FROM message m
        WHERE m.line = of_line AND m.place IS NULL AND m.due <= least(now_in_millis(), our_now)
        ORDER BY m.due, m.number FOR UPDATE SKIP LOCKED
    ), placed AS MATERIALIZED (SELECT due.number, nextval('place') AS place FROM due)
    UPDATE message m SET place = placed.place FROM placed WHERE m.number = placed.number;

    WITH free AS MATERIALIZED (
        SELECT m.number, m.place, octet_length(m.payload) + octet_length(m.headers) AS size FROM message m
        WHERE m.line = of_line AND m.owner IS NULL AND m.place IS NOT NULL
        ORDER BY m.place LIMIT most FOR UPDATE SKIP LOCKED
    ), next AS (
        SELECT free.number, sum(free.size) OVER (ORDER BY free.place) - free.size AS bytes_before FROM free
    ), taken AS (
        UPDATE message m SET owner = by_owner, deliveries = m.deliveries + 1 FROM next
        WHERE m.number = next.number AND next.bytes_before < most_bytes RETURNING m.*
    ), delayed AS (
        SELECT min(m.due) - least(now_in_millis(), our_now) AS due_in FROM message m
        WHERE m.line = of_line AND m.place IS NULL
    )
    SELECT d.due_in, t.number, t.partition, t.id, t.key, t.headers, t.payload, t.due, t.deliveries
    FROM delayed d LEFT JOIN taken t ON true ORDER BY t.place;
$$;

-- Frees the messages of dead owners of a line, and removes the lines that ended with their owners.
CREATE FUNCTION sweep(of_line int) RETURNS void LANGUAGE sql AS $$
    WITH dead AS MATERIALIZED (
        SELECT DISTINCT owner FROM message WHERE line = of_line AND owner IS NOT NULL
        EXCEPT SELECT * FROM living_owners()
    )
    UPDATE message SET owner = NULL WHERE number IN (
        SELECT number FROM message WHERE line = of_line AND owner IN (SELECT owner FROM dead)
        FOR UPDATE SKIP LOCKED
    );

    WITH dead AS MATERIALIZED (
        SELECT owner FROM line WHERE owner IS NOT NULL EXCEPT SELECT * FROM living_owners()
    )
    DELETE FROM line WHERE id IN (
        SELECT id FROM line WHERE owner IN (SELECT owner FROM dead) ORDER BY id FOR UPDATE SKIP LOCKED
    );
$$;

-- Ends a lease: its unsettled messages are free.
CREATE FUNCTION give_up(of_line int, by_owner bigint) RETURNS void LANGUAGE sql AS $$
    UPDATE message SET owner = NULL WHERE line = of_line AND owner = by_owner;
    DELETE FROM line WHERE id = of_line AND owner = by_owner;
$$;
