//! Every statement of the store, except for those that make its tables.

/// The statements, for one schema.
#[derive(Debug)]
pub(crate) struct Statements {
    pub(crate) write: String,
    pub(crate) get: String,
    pub(crate) scan: String,
    pub(crate) scan_to_the_end: String,
    pub(crate) scan_each: String,
    pub(crate) count_each: String,
    pub(crate) count_to_the_end: String,
    pub(crate) register: String,
    pub(crate) resolve: String,
}

impl Statements {
    pub(crate) fn for_schema(schema: &str) -> Self {
        let with_schema = |statement: &str| statement.replace("$schema", schema);
        Self {
            write: with_schema(WRITE),
            get: with_schema("SELECT version, value FROM $schema.entry WHERE space = $1 AND key = $2"),
            scan: with_schema(
                "SELECT key, version, value FROM $schema.entry
                 WHERE space = $1 AND key >= $2 AND key < $4 ORDER BY key LIMIT $3",
            ),
            scan_each: with_schema(SCAN_EACH),
            count_each: with_schema(COUNT_EACH),
            count_to_the_end: with_schema(
                "SELECT count(*) FROM (
                     SELECT FROM $schema.entry WHERE space = $1 AND key >= $2 ORDER BY key LIMIT $3
                 ) AS counted",
            ),
            register: with_schema(REGISTER),
            resolve: with_schema(RESOLVE),
            scan_to_the_end: with_schema(
                "SELECT key, version, value FROM $schema.entry WHERE space = $1 AND key >= $2 ORDER BY key LIMIT $3",
            ),
        }
    }
}

/// Reads the server's clock, in milliseconds since the Unix epoch. It is the time of the statement, not of its
/// transaction.
pub(crate) const NOW: &str = "SELECT floor(extract(epoch FROM clock_timestamp()) * 1000)::int8";

/// Takes ranges of one space as arrays of their bounds, and reads up to a number of rows of each. The first column says
/// of which range a row is.
///
/// Both bounds are conditions of the index. A bound that may be null (`high IS NULL OR key < high`) is none where the
/// plan is made before the value is known: the whole rest of the space would be read for a short range.
const SCAN_EACH: &str = "
    SELECT given.place, found.key, found.version, found.value
    FROM unnest($2::bytea[], $4::bytea[]) WITH ORDINALITY AS given (low, high, place)
    CROSS JOIN LATERAL (
        SELECT key, version, value FROM $schema.entry
        WHERE space = $1 AND key >= given.low AND key < given.high ORDER BY key LIMIT $3
    ) AS found
    ORDER BY given.place, found.key";

/// Counts up to a number of rows of each range, in the index alone where the table is vacuumed. In an order, since
/// without one all rows of a range may be looked up before the first is counted.
const COUNT_EACH: &str = "
    SELECT (
        SELECT count(*) FROM (
            SELECT FROM $schema.entry WHERE space = $1 AND key >= given.low AND key < given.high ORDER BY key LIMIT $3
        ) AS counted
    )
    FROM unnest($2::bytea[], $4::bytea[]) WITH ORDINALITY AS given (low, high, place)
    ORDER BY given.place";

/// Takes a batch of puts as arrays, in which each key occurs once: the number of the group, space, key, the
/// expected version (null: any; 0: no value) and the value (null: remove); then the writer and the number of its batch.
/// Returns the first put of each refused group, as its place in the arrays from 1. A place of 0 says that nothing was
/// written, since the writer has no row, or this batch was given up.
///
/// * `noted` is the receipt: the row of the writer holds the number of its last batch and the answer to it, so that
///   both can be read if the connection breaks before the answer comes. A batch that was given up is not noted, and
///   nothing is accepted of it.
/// * `put` compares every expectation with the row as it is now, and locks the row until the commit. Under `READ
///   COMMITTED`, locking waits for the writer that has the lock, and then reads its result.
/// * A row that another writer adds between the comparison and `added` violates the primary key, which undoes the
///   whole statement. For this reason there is no `DO NOTHING`.
/// * `replaced` without an expectation replaces the current row. Another writer of the same row comes before or after.
/// * No key occurs twice, so no part of the statement needs to see the writes of another part.
const WRITE: &str = "
    WITH put AS MATERIALIZED (
        SELECT place, unit, space, key, value, expected,
               expected IS NOT NULL AND expected <> coalesce((
                   SELECT version FROM $schema.entry
                   WHERE entry.space = given.space AND entry.key = given.key FOR UPDATE
               ), 0) AS refused
        FROM unnest($1::int4[], $2::text[], $3::bytea[], $4::int8[], $5::bytea[]) WITH ORDINALITY
             AS given (unit, space, key, expected, value, place)
    ), refused AS MATERIALIZED (
        SELECT unit, min(place) AS place FROM put WHERE refused GROUP BY unit
    ), noted AS (
        UPDATE $schema.writer SET batch = $7, refused = ARRAY(SELECT place FROM refused), at = now()
        WHERE id = $6 AND given_up < $7 RETURNING id
    ), accepted AS MATERIALIZED (
        SELECT * FROM put WHERE unit NOT IN (SELECT unit FROM refused) AND EXISTS (SELECT FROM noted)
    ), added AS (
        INSERT INTO $schema.entry (space, key, version, value)
        SELECT space, key, 1, value FROM accepted WHERE value IS NOT NULL AND expected = 0
    ), replaced AS (
        INSERT INTO $schema.entry (space, key, version, value)
        SELECT space, key, 1, value FROM accepted WHERE value IS NOT NULL AND expected IS DISTINCT FROM 0
        ON CONFLICT (space, key) DO UPDATE SET version = entry.version + 1, value = excluded.value
    ), removed AS (
        DELETE FROM $schema.entry USING accepted
        WHERE accepted.value IS NULL AND entry.space = accepted.space AND entry.key = accepted.key
    )
    SELECT place FROM refused UNION ALL SELECT 0 WHERE NOT EXISTS (SELECT FROM noted)";

/// Adds the row of a writer, and removes those of writers that have not written for long. Batches up to this number are
/// given up.
const REGISTER: &str = "
    WITH removed AS (DELETE FROM $schema.writer WHERE at < now() - interval '30 days' AND id <> $1)
    INSERT INTO $schema.writer (id, given_up) VALUES ($1, $2) ON CONFLICT (id) DO NOTHING";

/// Gives up a batch that is not written, so that it never will be: its statement may still be running. Returns whether
/// it was written, and then the answer to it. It waits for that statement if this one has its row.
const RESOLVE: &str = "
    UPDATE $schema.writer SET given_up = $2 WHERE id = $1 RETURNING batch = $2, refused";
