use std::collections::{BTreeMap, BTreeSet};
use std::time::Duration;

use partitura_broker::Timestamp;
use partitura_engine::{Client, ClientError, Filter, Status, StatusKind, Summary, Waiting};
use partitura_workflow::__private::{BoxFuture, FutureExt};
use partitura_workflow::{Event, EventKind, Workflow};

/// An instance and its history.
type Seen = (Summary, Vec<Event>);
type Asked<T> = BoxFuture<'static, Result<T, ClientError>>;

/// The parts of a test, by the names on the wire.
#[derive(Debug, Clone, Default)]
pub(super) struct Registered {
    pub(super) services: BTreeSet<&'static str>,
    pub(super) workflows: BTreeMap<&'static str, Kind>,
}

/// How instances of one workflow are asked, without its type.
#[derive(Debug, Clone, Copy)]
pub(super) struct Kind {
    inspect: fn(Client, String) -> Asked<Seen>,
    list: fn(Client, Filter) -> Asked<Vec<Summary>>,
    signals: &'static [&'static str],
}

impl Kind {
    pub(super) fn for_workflow<W: Workflow>() -> Self {
        Self { inspect: inspect::<W>, list: list::<W>, signals: W::signals() }
    }
}

fn inspect<W: Workflow>(client: Client, id: String) -> Asked<Seen> {
    let asked = async move {
        let handle = client.workflow::<W>(id);
        Ok((handle.describe().await?, handle.history().await?))
    };
    asked.boxed()
}

fn list<W: Workflow>(client: Client, filter: Filter) -> Asked<Vec<Summary>> {
    async move { client.list::<W>(filter).await }.boxed()
}

/// Where an instance and its children stand.
#[derive(Debug, Default)]
pub(super) struct Standing {
    /// How many instances that are.
    pub(super) instances: usize,
    /// How many events the instance and its children have: more of them are progress.
    pub(super) events: usize,
    /// The things that it waits for, each a phrase.
    pub(super) waits: Vec<String>,
    /// Something that it waits for cannot come, whatever the test does.
    pub(super) misses: bool,
    /// In how much time the next of its timers is due.
    pub(super) next_timer: Option<Duration>,
    /// Why it, or one of its children, cannot go on.
    pub(super) stopped: Option<String>,
}

/// The activities of instances that are not awaited.
#[derive(Debug, Default)]
pub(super) struct Others {
    /// Why one of them is stopped.
    pub(super) stopped: Option<String>,
    /// Whether some of them have not ended.
    pub(super) run: bool,
}

impl Registered {
    /// Looks at an instance and its children.
    pub(super) async fn look(&self, client: &Client, now: Timestamp, instance: (&str, &str)) -> Standing {
        self.look_from(client, now, instance, &[]).await
    }

    /// Looks at an instance and its children. Those that are `above` it wait for it.
    fn look_from<'a>(
        &'a self,
        client: &'a Client,
        now: Timestamp,
        (workflow, id): (&'a str, &'a str),
        above: &'a [(&'a str, &'a str)],
    ) -> BoxFuture<'a, Standing> {
        let look = async move {
            let mut standing = Standing::default();
            if above.contains(&(workflow, id)) {
                standing.waits.push("this one in turn".to_owned());
                return standing;
            }
            let Some(kind) = self.workflows.get(workflow) else { return standing };
            let (summary, history) = match (kind.inspect)(client.clone(), id.to_owned()).await {
                Ok(seen) => seen,
                Err(error) => {
                    standing.waits.push(format!("an answer to the question where it stands: {error}"));
                    return standing;
                }
            };
            (standing.instances, standing.events) = (1, history.len());
            if let Status::Stopped { reason } = summary.status {
                standing.stopped = Some(reason);
                return standing;
            }
            let path = [above, &[(workflow, id)]].concat();
            for waiting in &summary.waiting {
                self.note(client, now, kind, (waiting, &path), &mut standing).await;
            }
            let unnamed = summary.waits_for.saturating_sub(summary.waiting.len());
            standing.waits.extend((unnamed > 0).then(|| format!("{unnamed} more")));
            standing
        };
        look.boxed()
    }

    async fn note(
        &self,
        client: &Client,
        now: Timestamp,
        kind: &Kind,
        (waiting, path): (&Waiting, &[(&str, &str)]),
        standing: &mut Standing,
    ) {
        let (what, is_missing) = match waiting {
            Waiting::Task { service, method, .. } if !self.services.contains(&**service) => {
                let advice = how_to_register(service);
                (format!("the task {service}.{method}: the service {service} is not registered; write {advice}"), true)
            }
            Waiting::Child { workflow, id, .. } if !self.workflows.contains_key(&**workflow) => {
                let advice = format!("`TestEnv::new().workflow::<{workflow}>()`");
                (format!("its child {workflow}/{id}: the workflow {workflow} is not registered; write {advice}"), true)
            }
            Waiting::Task { service, method, delegated: true, .. } => {
                let advice = "let the test call `complete_task` or `fail_task` of `TestEnv::client` with the token";
                (format!("the completion of the task {service}.{method}, which was delegated; {advice}"), false)
            }
            Waiting::Task { service, method, .. } => {
                (format!("the task {service}.{method}, which does not return"), false)
            }
            Waiting::Step { name, .. } => (format!("the step {name:?}, which does not return"), false),
            Waiting::Timer { due_at, .. } => {
                let due_in = Timestamp::from_millis(*due_at).since(now);
                standing.next_timer = earlier(standing.next_timer, Some(due_in));
                (format!("a timer that is due in {due_in:?}"), false)
            }
            Waiting::Child { workflow, id, .. } => {
                let child = self.look_from(client, now, (workflow, id), path).await;
                standing.instances += child.instances;
                standing.events += child.events;
                standing.next_timer = earlier(standing.next_timer, child.next_timer);
                standing.stopped = standing.stopped.take().or(child.stopped);
                (format!("its child {workflow}/{id}, which waits for {}", child.waits.join(", and for ")), child.misses)
            }
            Waiting::Channel { name } => (format!("a signal to the channel {name:?}"), false),
            Waiting::Condition => match kind.signals {
                [] => ("a condition on its state, which has no signal that could change it".to_owned(), false),
                names => {
                    (format!("a condition on its state, which these signals may change: {}", names.join(", ")), false)
                }
            },
            other => (format!("{other:?}"), false),
        };
        standing.waits.push(what);
        standing.misses |= is_missing;
    }

    /// Looks at all instances of the test, of which `known` are those of a standing.
    pub(super) async fn others(&self, client: &Client, known: usize) -> Others {
        let (mut others, mut running) = (Others::default(), 0);
        for kind in self.workflows.values() {
            let list = |filter| async { (kind.list)(client.clone(), filter).await.unwrap_or_default() };
            let stopped = list(Filter::first(1).status(StatusKind::Stopped)).await.pop();
            if let Some(Status::Stopped { reason }) = stopped.map(|summary| summary.status) {
                others.stopped = Some(reason);
            }
            running += list(Filter::first(known + 1).status(StatusKind::Running)).await.len();
        }
        others.run = running > known;
        others
    }

    /// Whether a task of this method is open in an instance and is tried again without an end.
    pub(super) async fn is_endless(&self, client: &Client, (workflow, id): (&str, &str), task: (&str, &str)) -> bool {
        let Some(kind) = self.workflows.get(workflow) else { return false };
        let Ok((summary, history)) = (kind.inspect)(client.clone(), id.to_owned()).await else { return false };
        let is_open = |call: &u32| {
            summary.waiting.iter().any(|waiting| match waiting {
                Waiting::Task { seq, service, method, .. } => {
                    seq == call && (service.as_str(), method.as_str()) == task
                }
                _ => false,
            })
        };
        history.iter().any(|event| match &event.kind {
            EventKind::TaskScheduled { seq, options, .. } => {
                let has_end = options.overall_timeout.is_some()
                    || options.retry.unwrap_or_default().delay(u32::MAX - 1, 0.0).is_none();
                is_open(seq) && !has_end
            }
            _ => false,
        })
    }
}

/// Names the wrapper as `#[partitura::service]` does where the name on the wire is that of a trait.
fn how_to_register(service: &str) -> String {
    let is_a_trait = service.starts_with(|first: char| first.is_ascii_uppercase())
        && service.chars().all(|character| character.is_ascii_alphanumeric());
    if is_a_trait {
        format!("`TestEnv::new().service({service}Service(…))`, around an implementation of `{service}`")
    } else {
        format!(
            "`TestEnv::new().service(…)`, with an implementation in the wrapper that \
             `#[partitura::service(name = \"{service}\")]` generates"
        )
    }
}

fn earlier(one: Option<Duration>, other: Option<Duration>) -> Option<Duration> {
    one.into_iter().chain(other).min()
}
