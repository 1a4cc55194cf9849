//! Checks whether an existing stream keeps the promises of its topic, also one that an operator has configured.

use async_nats::jetstream::stream::{Config, DiscardPolicy, RetentionPolicy, StorageType};
use partitura_broker::{Error, ErrorKind, Result, Topic, TopicKind};

/// The retention of a topic's stream.
pub(crate) fn retention(kind: TopicKind) -> RetentionPolicy {
    match kind {
        TopicKind::Queue => RetentionPolicy::WorkQueue,
        TopicKind::Stream => RetentionPolicy::Interest,
    }
}

/// Compares a stream with the needs of its topic. `replicas` is the least number of replicas, if one was asked for.
///
/// # Errors
/// [`Incompatible`](ErrorKind::Incompatible), with the difference and both values.
pub(crate) fn check(operation: &'static str, topic: &Topic, found: &Config, replicas: Option<usize>) -> Result<()> {
    let differs = |what: &str, expected: &str, found: String| {
        let text = format!("{what} of its stream is {found}, {expected} is needed; change it with `nats stream edit`");
        Err(Error::new(ErrorKind::Incompatible, operation, text).of(&topic.name))
    };
    let retention = retention(topic.kind);
    if found.retention != retention {
        return differs("the retention", &format!("{retention:?}"), format!("{:?}", found.retention));
    }
    if found.storage != StorageType::File {
        return differs("the storage", "File", format!("{:?}", found.storage));
    }
    if !found.max_age.is_zero() {
        return differs("the greatest age", "none", format!("{:?}", found.max_age));
    }
    // With the discard policy New, a publisher learns that a limit is reached. With Old, messages would be dropped.
    let drops = found.discard == DiscardPolicy::Old;
    for (what, limit, drops) in [
        ("the greatest size", found.max_bytes, drops),
        ("the greatest number of messages", found.max_messages, drops),
        // A subject's oldest message is dropped, unless both are set.
        (
            "the greatest number of messages of a subject",
            found.max_messages_per_subject,
            drops || !found.discard_new_per_subject,
        ),
    ] {
        if limit > 0 && drops {
            return differs(what, "none, or the discard policy New", format!("{limit} with the discard policy Old"));
        }
    }
    for (what, expected, found) in [
        ("`allow_msg_schedules`", true, found.allow_message_schedules),
        ("`allow_rollup_hdrs`", true, found.allow_rollup),
        ("`no_ack`", false, found.no_ack),
        ("`sealed`", false, found.sealed),
        ("`deny_purge`", false, found.deny_purge),
    ] {
        if expected != found {
            return differs(what, &expected.to_string(), found.to_string());
        }
    }
    match replicas.filter(|replicas| found.num_replicas < *replicas) {
        Some(replicas) => {
            differs("the number of replicas", &format!("{replicas} or more"), found.num_replicas.to_string())
        }
        None => Ok(()),
    }
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use partitura_broker::{Ordering, TopicName};

    use super::*;

    fn topic() -> Topic {
        let name = TopicName::new("orders").expect("a valid name");
        Topic { name, kind: TopicKind::Queue, ordering: Ordering::Shared }
    }

    fn fitting() -> Config {
        Config {
            retention: RetentionPolicy::WorkQueue,
            allow_message_schedules: true,
            allow_rollup: true,
            num_replicas: 3,
            max_messages: -1,
            ..Config::default()
        }
    }

    #[test]
    fn each_difference_is_named_with_both_sides() {
        assert!(check("declare", &topic(), &fitting(), Some(3)).is_ok());
        for (found, expected) in [
            (Config { retention: RetentionPolicy::Limits, ..fitting() }, ["Limits", "WorkQueue"]),
            (Config { storage: StorageType::Memory, ..fitting() }, ["Memory", "File"]),
            (Config { max_age: Duration::from_secs(60), ..fitting() }, ["60s", "none"]),
            (Config { max_bytes: 1_000, ..fitting() }, ["1000", "New"]),
            (Config { max_messages_per_subject: 1, ..fitting() }, ["1 with", "New"]),
            (Config { allow_message_schedules: false, ..fitting() }, ["false", "true"]),
            (Config { deny_purge: true, ..fitting() }, ["`deny_purge`", "false"]),
            (Config { num_replicas: 1, ..fitting() }, ["is 1", "3 or more"]),
        ] {
            let error = check("declare", &topic(), &found, Some(3)).expect_err(expected[0]);
            assert_eq!(error.kind(), ErrorKind::Incompatible);
            assert!(expected.iter().all(|text| error.to_string().contains(text)), "{error}");
        }
    }

    #[test]
    fn a_limit_that_refuses_is_no_harm_and_more_replicas_are_none() {
        assert!(
            check("declare", &topic(), &Config { max_bytes: 1_000, discard: DiscardPolicy::New, ..fitting() }, None)
                .is_ok()
        );
        assert!(check("declare", &topic(), &Config { num_replicas: 5, ..fitting() }, Some(3)).is_ok());
    }
}
