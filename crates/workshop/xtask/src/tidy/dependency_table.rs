//! The dependency table of docs/architecture.md: the packages that each crate may use. Tests and benchmarks may use
//! more.

/// One row: the crates in `directory` may depend on these packages and on no other.
pub(super) struct Row {
    /// A crate's directory, or `adapters/*` for each of them.
    pub(super) directory: &'static str,
    pub(super) may_use: &'static [&'static str],
    /// The reason, for the reader of the error.
    pub(super) because: &'static str,
}

pub(super) const ROWS: &[Row] = &[
    Row {
        directory: "crates/broker",
        may_use: &["async-trait", "bytes", "metrics", "thiserror", "tracing"],
        because: "the contract has no runtime, no vendor and no serialization format",
    },
    Row {
        directory: "crates/adapter-kit",
        may_use: &["partitura-broker", "async-trait", "bytes", "futures", "tokio", "tracing"],
        because: "the kit serves any adapter, also those of others: no vendor, no lanes",
    },
    Row {
        directory: "crates/codec",
        may_use: &["base64", "serde", "serde_json"],
        because: "it knows values and their text, and not their senders",
    },
    Row { directory: "crates/retry", may_use: &["serde"], because: "a policy is plain data and arithmetic" },
    Row {
        directory: "crates/lanes",
        may_use: &[
            "partitura-broker",
            "partitura-codec",
            "partitura-retry",
            "async-trait",
            "bytes",
            "futures",
            "metrics",
            "serde",
            "serde_json",
            "thiserror",
            "tokio",
            "tracing",
            "uuid",
        ],
        because: "messaging knows neither a vendor nor workflows",
    },
    Row {
        directory: "crates/workflow",
        may_use: &["partitura-codec", "partitura-retry", "futures", "jiff", "serde", "serde_json", "thiserror", "uuid"],
        because: "the workflow core is pure: no I/O, no clock, no randomness, no runtime, no broker",
    },
    Row {
        directory: "crates/macros",
        may_use: &["proc-macro2", "quote", "syn"],
        because: "macros only rewrite source; what they expand to lives in the other crates",
    },
    Row {
        directory: "crates/engine",
        may_use: &[
            "partitura-broker",
            "partitura-codec",
            "partitura-lanes",
            "partitura-workflow",
            "async-trait",
            "bytes",
            "cronexpr",
            "futures",
            "jiff",
            "lru",
            "metrics",
            "serde",
            "serde_json",
            "thiserror",
            "tokio",
            "tracing",
            "uuid",
        ],
        because: "the engine works on any broker: it knows the contract, never an adapter",
    },
    Row {
        directory: "crates/partitura",
        may_use: &[
            "partitura-amqp",
            "partitura-broker",
            "partitura-embedded",
            "partitura-engine",
            "partitura-kafka",
            "partitura-lanes",
            "partitura-macros",
            "partitura-nats",
            "partitura-pulsar",
            "partitura-rabbitmq",
            "partitura-store-postgres",
            "partitura-workflow",
            "serde",
            "serde_json",
            "tokio",
        ],
        because: "the facade re-exports and connects, and has no logic of its own",
    },
    Row {
        directory: "crates/opentelemetry",
        may_use: &["partitura-engine", "partitura-workflow", "opentelemetry", "tracing", "tracing-opentelemetry"],
        because: "it links the engine's spans to one tracing system, and does nothing else",
    },
    Row {
        directory: "crates/admin",
        may_use: &[
            "partitura-broker",
            "partitura-engine",
            "partitura-lanes",
            "partitura-workflow",
            "serde",
            "serde_json",
            "thiserror",
            "tokio",
            "tracing",
        ],
        because: "an operator's answers are the same on every broker, and in every form",
    },
    Row {
        directory: "crates/web",
        may_use: &[
            "partitura-admin",
            "partitura-broker",
            "partitura-engine",
            "partitura-workflow",
            "axum",
            "futures",
            "getrandom",
            "maud",
            "serde",
            "serde_json",
            "tokio",
            "tracing",
        ],
        because: "services mount the page: it brings no adapter, and nothing to build it with",
    },
    Row {
        directory: "crates/cli",
        may_use: &[
            "partitura",
            "partitura-admin",
            "partitura-web",
            "axum",
            "clap",
            "clap_complete",
            "serde",
            "serde_json",
            "thiserror",
            "tokio",
        ],
        because: "the command connects through the facade, and prints what the operator's answers are",
    },
    Row {
        directory: "crates/workshop/xtask",
        may_use: &["partitura-servers", "cargo_metadata", "clap", "serde", "serde_json", "syn"],
        because: "the repository's commands start quickly on a bare machine",
    },
    Row {
        directory: "crates/workshop/servers",
        may_use: &["serde", "serde_json", "thiserror"],
        because: "it starts other vendors' programs, and knows none of ours",
    },
    Row {
        directory: "crates/workshop/server-harness",
        may_use: &["partitura-broker", "partitura-conformance", "partitura-servers", "async-trait", "tokio"],
        because: "it brings the suite and the servers together, and knows no adapter",
    },
    Row {
        directory: "crates/store-postgres",
        may_use: &[
            "partitura-broker",
            "partitura-engine",
            "async-trait",
            "bytes",
            "futures",
            "sqlx",
            "tokio",
            "tracing",
        ],
        because: "a store knows the engine's trait and its database, never a broker",
    },
    Row {
        directory: "adapters/*",
        may_use: &[
            "partitura-adapter-kit",
            "partitura-broker",
            "async-trait",
            "bytes",
            "futures",
            "thiserror",
            "tokio",
            "tracing",
            "uuid",
        ],
        because: "an adapter knows the contract, the kit and its own client; never the engine, workflows, lanes or another adapter",
    },
    Row {
        directory: "crates/workshop/simulation",
        may_use: &[
            "partitura",
            "partitura-broker",
            "partitura-engine",
            "partitura-lanes",
            "partitura-workflow",
            "async-trait",
            "bytes",
            "clap",
            "futures",
            "serde",
            "serde_json",
            "thiserror",
            "tokio",
            "uuid",
        ],
        because: "the simulation has a broker of its own, and runs the code that every adapter's users run",
    },
    Row {
        directory: "conformance",
        may_use: &[
            "partitura-broker",
            "partitura-lanes",
            "async-trait",
            "bytes",
            "futures",
            "libtest-mimic",
            "serde",
            "serde_json",
            "thiserror",
            "tokio",
        ],
        because: "the suite knows the contract and the lanes, never an adapter or the engine: it also tests brokers of other authors",
    },
    Row {
        directory: "benches",
        may_use: &["partitura", "async-trait", "bytes", "clap", "futures", "serde", "serde_json", "tempfile", "tokio"],
        because: "benchmarks measure the public interface, as users do",
    },
];

/// The client of each adapter's own vendor, in addition to the row of `adapters/*`.
pub(super) const CLIENTS: &[(&str, &[&str])] = &[
    ("adapters/amqp", &["fe2o3-amqp", "percent-encoding", "serde_json", "tokio-rustls", "webpki-roots"]),
    ("adapters/embedded", &["rusqlite"]),
    ("adapters/kafka", &["rdkafka"]),
    ("adapters/nats", &["async-nats", "serde", "serde_json"]),
    (
        "adapters/pulsar",
        &["base64", "prost", "pulsar", "reqwest", "serde", "serde_json", "tokio-rustls", "tokio-util", "webpki-roots"],
    ),
    ("adapters/rabbitmq", &["lapin"]),
    ("adapters/template", &["sqlx"]),
];

/// The facade, in which adapters are optional.
pub(super) const FACADE: &str = "crates/partitura";

/// The directory of the adapters.
pub(super) const ADAPTERS: &str = "adapters/";
