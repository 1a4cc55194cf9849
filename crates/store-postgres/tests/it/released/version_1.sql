CREATE SCHEMA $schema;
CREATE TABLE $schema.migration (version int4 PRIMARY KEY, applied_at timestamptz NOT NULL DEFAULT now());
CREATE TABLE $schema.entry (
    space text COLLATE "C" NOT NULL,
    key bytea NOT NULL,
    version bigint NOT NULL,
    value bytea NOT NULL,
    PRIMARY KEY (space, key)
) PARTITION BY LIST (space);
CREATE TABLE $schema.entry_history PARTITION OF $schema.entry FOR VALUES IN ('history');
CREATE TABLE $schema.entry_outbox PARTITION OF $schema.entry FOR VALUES IN ('outbox')
    WITH (autovacuum_vacuum_scale_factor = 0, autovacuum_vacuum_threshold = 5000);
CREATE TABLE $schema.entry_other PARTITION OF $schema.entry DEFAULT;
INSERT INTO $schema.migration (version) VALUES (1);
INSERT INTO $schema.entry (space, key, version, value)
VALUES ('history', 'a', 1, 'turn'), ('outbox', 'b', 2, 'message'), ('test', 'c', 7, 'value');
