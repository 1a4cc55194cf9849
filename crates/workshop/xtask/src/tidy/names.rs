//! Names that code must not contain: a vendor outside its adapter, a clock inside the pure core.

use super::problem::Problem;
use super::source::without_comments;
use crate::repository::Repository;

/// The words must not occur, in either case, in the code below `within`, except below `except`.
struct Rule {
    words: &'static [&'static str],
    within: &'static [&'static str],
    except: &'static [&'static str],
    because: &'static str,
}

const RULES: &[Rule] = &[
    Rule {
        words: &["amqp", "jetstream", "kafka", "lapin", "nats", "pulsar", "rabbitmq", "redpanda", "solace", "sqlite"],
        within: &["crates/", "conformance/", "benches/"],
        // The repository's commands know everything, and the servers belong to vendors. The facade has the feature
        // flags, and the URLs of those features.
        except: &[
            "crates/workshop/servers/",
            "crates/workshop/fuzz/libfuzzer/targets/",
            "crates/workshop/xtask/",
            "crates/partitura/src/lib.rs",
            "crates/partitura/src/connect.rs",
            // The projects that the command writes name the broker that they are written for.
            "crates/cli/src/new.rs",
            "crates/cli/tests/it/process.rs",
        ],
        because: "only adapters and the facade's feature flags name a vendor; say it in the contract's words, or move it to the adapter",
    },
    Rule {
        words: &[
            "Instant::now",
            "SystemTime",
            "Timestamp::now",
            "Zoned::now",
            "now_v7",
            "new_v4",
            "getrandom",
            "std::env",
            "std::fs",
            "std::net",
            "std::process",
            "thread::sleep",
            "thread::spawn",
        ],
        within: &["crates/workflow/src/"],
        except: &[],
        because: "the pure core does no I/O and reads no clock; take the value as an input of the turn",
    },
];

pub(super) fn check(repository: &Repository) -> Vec<Problem> {
    let sources = repository.files.iter().filter(|(path, _)| path.ends_with(".rs"));
    sources.flat_map(|(path, text)| check_file(path, text)).collect()
}

fn check_file(path: &str, text: &str) -> Vec<Problem> {
    let below = |prefixes: &[&str]| prefixes.iter().any(|prefix| path.starts_with(prefix));
    let rules: Vec<&Rule> = RULES.iter().filter(|rule| below(rule.within) && !below(rule.except)).collect();
    if rules.is_empty() {
        return Vec::new();
    }
    let mut problems = Vec::new();
    for (number, line) in without_comments(text).lines().enumerate() {
        let line = line.to_lowercase();
        for rule in &rules {
            for word in rule.words.iter().filter(|word| line.contains(&word.to_lowercase())) {
                problems.push(Problem::new(format!("{path}:{}", number + 1), format!("`{word}`: {}", rule.because)));
            }
        }
    }
    problems
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_vendor_in_code_is_reported_with_its_line() {
        let found = check_file(
            "crates/lanes/src/retry.rs",
            "//! Like Kafka's.\n\nfn f() { connect(\"nats://x\") }\nstruct PulsarLane;\n",
        );
        let places: Vec<_> = found.iter().map(|problem| problem.place.as_str()).collect();
        assert_eq!(places, ["crates/lanes/src/retry.rs:3", "crates/lanes/src/retry.rs:4"]);
        assert!(found[0].what.contains("nats"), "{found:?}");
    }

    #[test]
    fn comments_and_documentation_may_name_a_vendor() {
        assert_eq!(
            check_file(
                "crates/broker/src/lib.rs",
                "/// A Kafka offset, a RabbitMQ tag.\npub struct Token; // Pulsar too\n"
            ),
            []
        );
    }

    #[test]
    fn adapters_and_the_facade_s_features_may_name_a_vendor() {
        for path in ["adapters/nats/src/lib.rs", "crates/partitura/src/connect.rs", "crates/workshop/xtask/src/main.rs"]
        {
            assert_eq!(check_file(path, "#[cfg(feature = \"nats\")] use partitura_nats;"), [], "{path}");
        }
        assert_eq!(check_file("crates/partitura/examples/checkout.rs", "const URL: &str = \"nats://x\";").len(), 1);
    }

    #[test]
    fn the_pure_core_reads_no_clock_and_the_engine_may() {
        let code = "let now = std::time::Instant::now();";
        assert_eq!(check_file("crates/workflow/src/replay.rs", code).len(), 1);
        assert_eq!(check_file("crates/engine/src/turn.rs", code), []);
    }
}
