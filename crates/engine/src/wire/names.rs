//! Which topics there are, what they are called, and how they are keyed.

use std::sync::Arc;

use bytes::Bytes;
use partitura_broker::{Error, ErrorKind, MAX_NAME, Message, Ordering, Result, SubscriptionName, TopicName, Topology};
use partitura_lanes::SubscriptionTopics;
use uuid::Uuid;

use crate::wire::namespace::Namespace;

/// The one subscription of each command topic.
const WORKERS: &str = "workers";

/// The topics of one workflow: commands to its instances, and what happened to them.
#[derive(Debug, Clone)]
pub(crate) struct WorkflowTopics {
    pub(crate) commands: TopicName,
    pub(crate) events: TopicName,
}

impl WorkflowTopics {
    pub(crate) fn new(namespace: &Namespace, workflow: &str) -> Result<Self> {
        let topic = |of| topic(namespace, "workflow", workflow, of);
        Ok(Self { commands: topic("commands")?, events: topic("events")? })
    }

    /// The commands, as workers take them.
    pub(crate) fn source(&self, partitions: u32) -> Result<SubscriptionTopics> {
        let subscription = SubscriptionName::new(WORKERS)?;
        Ok(SubscriptionTopics::new(self.commands.clone(), subscription, Ordering::ByKey { partitions }))
    }

    pub(crate) fn topology(&self, partitions: u32) -> Result<Topology> {
        let topology = Topology::new().stream(self.events.clone(), Ordering::ByKey { partitions });
        self.source(partitions)?.declare_queue(topology, false)
    }
}

/// The topics of one service: tasks for its workers, and what happened to them.
#[derive(Debug, Clone)]
pub(crate) struct ServiceTopics {
    pub(crate) tasks: TopicName,
    pub(crate) events: TopicName,
}

impl ServiceTopics {
    pub(crate) fn new(namespace: &Namespace, service: &str) -> Result<Self> {
        let topic = |of| topic(namespace, "service", service, of);
        Ok(Self { tasks: topic("tasks")?, events: topic("events")? })
    }

    /// The tasks, as workers take them.
    pub(crate) fn source(&self) -> Result<SubscriptionTopics> {
        Ok(SubscriptionTopics::new(self.tasks.clone(), SubscriptionName::new(WORKERS)?, Ordering::Shared))
    }

    pub(crate) fn topology(&self, partitions: u32) -> Result<Topology> {
        let topology = Topology::new().stream(self.events.clone(), Ordering::ByKey { partitions });
        self.source()?.declare_queue(topology, false)
    }
}

/// One of the topics of a workflow or service. An error about a name speaks of the name that the user gave.
fn topic(namespace: &Namespace, what: &'static str, name: &str, of: &str) -> Result<TopicName> {
    let full = namespace.topic(format!("{what}.{name}.{of}"));
    let excess = full.len().saturating_sub(MAX_NAME);
    let problem = if name.is_empty() {
        "it is empty".to_owned()
    } else if name.contains(|c: char| !(c.is_ascii_alphanumeric() || "._-".contains(c))) {
        "topics are called after it, with no other characters than A–Z a–z 0–9 . _ -".to_owned()
    } else if excess > 0 {
        format!(
            "topics are called after it, and their names get too long: shorten it or the namespace by {excess} bytes"
        )
    } else {
        return Ok(TopicName::new(full)?);
    };
    let shown: String = name.chars().take(MAX_NAME).collect();
    let message = format!("{shown:?} cannot be the name of a {what}: {problem}");
    Err(Error::new(ErrorKind::InvalidArgument, "name", message))
}

/// An instance of a workflow, named by the workflow and an id of the user's choice.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub(crate) struct InstanceKey {
    pub(crate) workflow: Arc<str>,
    pub(crate) id: Arc<str>,
}

impl InstanceKey {
    pub(crate) fn new(workflow: &str, id: &str) -> Self {
        Self { workflow: workflow.into(), id: id.into() }
    }

    /// The instance that a command is for: the workflow is the topic's, the id is the message's key.
    pub(crate) fn from_message(workflow: &Arc<str>, message: &Message) -> Result<Self, String> {
        let id = message.key.as_deref().ok_or("the message has no key; it must be the id of an instance")?;
        let id = std::str::from_utf8(id).map_err(|_| "the key is not UTF-8; it must be the id of an instance")?;
        check_id(id)?;
        Ok(Self { workflow: workflow.clone(), id: id.into() })
    }

    /// Under which the store keeps the summary. Workflow names contain no NUL, so no two instances share one.
    pub(crate) fn stored(&self) -> Bytes {
        [self.workflow.as_bytes(), b"\0", self.id.as_bytes()].concat().into()
    }
}

impl std::fmt::Display for InstanceKey {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "{}/{}", self.workflow, self.id)
    }
}

/// Why an id cannot be that of an instance.
pub(crate) fn check_id(id: &str) -> Result<(), String> {
    partitura_workflow::check_id(id).map_err(|invalid| invalid.to_string())
}

/// The run of a child: always the same for the same call of the same parent run, so that a start sent twice is
/// recognised.
pub(crate) fn child_run(parent_run: &str, seq: u32) -> String {
    let (high, low) = Uuid::parse_str(parent_run).unwrap_or_default().as_u64_pair();
    let first = mix(high ^ mix(low ^ mix(u64::from(seq))));
    let second = mix(first ^ low);
    let mut bytes = [0; 16];
    bytes[..8].copy_from_slice(&first.to_be_bytes());
    bytes[8..].copy_from_slice(&second.to_be_bytes());
    Uuid::new_v8(bytes).to_string()
}

/// SplitMix64 (Steele, Lea, Flood 2014): a number that depends on all bits of another.
pub(crate) fn mix(x: u64) -> u64 {
    let mut z = x.wrapping_add(0x9e37_79b9_7f4a_7c15);
    z = (z ^ (z >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
    z = (z ^ (z >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
    z ^ (z >> 31)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_error_about_a_name_tells_the_name_that_the_user_gave() {
        let (short, long) = (Namespace::default(), Namespace::new("n".repeat(60)));
        for (namespace, name, problem) in [
            (&short, "", "it is empty"),
            (&short, "Zahlüng", "no other characters"),
            (&short, "pay ments", "no other characters"),
            (&long, &*"x".repeat(128), "shorten it or the namespace by"),
        ] {
            let of_workflow = WorkflowTopics::new(namespace, name).map(drop);
            let of_service = ServiceTopics::new(namespace, name).map(drop);
            for (error, what) in [(of_workflow, "workflow"), (of_service, "service")] {
                let error = error.expect_err("refused").to_string();
                assert!(error.contains(&format!("{name:?} cannot be the name of a {what}")), "{error}");
                assert!(error.contains(problem), "{error}");
            }
        }
    }

    #[test]
    fn a_name_of_the_length_that_the_macros_allow_is_taken_with_all_that_is_put_behind_it() {
        let (name, partitions) = ("x".repeat(128), 8);
        WorkflowTopics::new(&Namespace::default(), &name).unwrap().topology(partitions).expect("a workflow");
        ServiceTopics::new(&Namespace::default(), &name).unwrap().topology(partitions).expect("a service");
    }

    #[test]
    fn a_child_has_the_same_run_each_time_and_another_one_for_each_call() {
        let parent = Uuid::now_v7().to_string();
        assert_eq!(child_run(&parent, 1), child_run(&parent, 1));
        assert_ne!(child_run(&parent, 1), child_run(&parent, 2));
        assert_ne!(child_run(&parent, 1), child_run(&Uuid::now_v7().to_string(), 1));
    }
}
