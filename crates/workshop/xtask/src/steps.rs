//! The steps of CI, as data. A new step (another suite, another broker) is one more entry here.

/// One line of the summary.
pub(crate) struct Step {
    /// The name by which the step is chosen: `cargo xtask test clippy`.
    pub(crate) name: &'static str,
    /// The heading: the fact that the step shows when it passes.
    pub(crate) about: &'static str,
    pub(crate) action: Action,
}

/// The way in which a step is done.
pub(crate) enum Action {
    /// In this process.
    Tidy,
    /// `cargo deny check`, where it is installed.
    Deny,
    /// In this process.
    BuildTools,
    /// The published crates, packed, and a crate outside that uses them.
    Package,
    /// In this process; the servers that it starts are stopped after the last step.
    Brokers,
    /// Every test, several programs at a time.
    Tests,
    /// The engine's tests, a program for each broker.
    EngineTests,
    /// By cargo, with the profile and features of every other step, so that little is built twice.
    Cargo { arguments: &'static [&'static str], environment: &'static [(&'static str, &'static str)] },
}

/// Every broker and store behind the facade. The same in each step, so that little is built twice.
const ALL: &str = "partitura/all";

/// The arguments of cargo for every test.
pub(crate) const WORKSPACE: &[&str] = &["--locked", "--workspace", "--features", ALL];

/// The brokers with servers that CI tests. The step before tests the one that needs none.
pub(crate) const BROKERS: &str = "kafka nats pulsar rabbitmq";

/// From the cheapest to the most expensive, so that a mistake shows early.
pub(crate) const STEPS: &[Step] = &[
    Step { name: "fmt", about: "the code is formatted", action: cargo(&["fmt", "--all", "--check"]) },
    Step { name: "tidy", about: "the repository's rules hold", action: Action::Tidy },
    Step { name: "deny", about: "no dependency has a known fault, if cargo-deny is installed", action: Action::Deny },
    Step { name: "tools", about: "the tools that the adapters' build needs are installed", action: Action::BuildTools },
    Step {
        name: "clippy",
        about: "no lint fires, in any target",
        action: cargo(&[
            "clippy",
            "--locked",
            "--workspace",
            "--all-targets",
            "--features",
            ALL,
            "--",
            "--deny",
            "warnings",
        ]),
    },
    Step {
        name: "features",
        about: "the facade builds without its default features",
        action: cargo(&["check", "--locked", "--package", "partitura", "--no-default-features"]),
    },
    Step {
        name: "package",
        about: "a crate outside has the suite with all hooks from the published files",
        action: Action::Package,
    },
    Step {
        name: "doc",
        about: "the documentation builds without a warning",
        action: Action::Cargo {
            arguments: &["doc", "--locked", "--workspace", "--features", ALL, "--no-deps"],
            environment: &[("RUSTDOCFLAGS", "--deny warnings")],
        },
    },
    Step { name: "brokers", about: "the real brokers and Postgres are up", action: Action::Brokers },
    Step { name: "test", about: "unit, integration and documentation tests pass", action: Action::Tests },
    Step { name: "engine", about: "workflows do the same on every broker", action: Action::EngineTests },
    Step {
        name: "scenarios",
        about: "an example loses nothing while processes and the broker are killed",
        action: Action::Cargo {
            arguments: &["test", "--locked", "--workspace", "--features", ALL, "--no-fail-fast", "--test", "scenarios"],
            environment: &[
                ("PARTITURA_SCENARIO_BROKERS", BROKERS),
                ("PARTITURA_SCENARIO_CLUSTERS", "nats"),
                ("RUST_BACKTRACE", "0"),
                ("PARTITURA_SCENARIO_BUILD", "--workspace --features partitura/all"),
            ],
        },
    },
    Step {
        name: "simulate",
        about: "2,000 seeded worlds come to rest with nothing lost, doubled or stuck",
        action: cargo(&["run", "--locked", "--package", "partitura-simulation", "--", "--seeds", "2000"]),
    },
];

const fn cargo(arguments: &'static [&'static str]) -> Action {
    Action::Cargo { arguments, environment: &[] }
}
