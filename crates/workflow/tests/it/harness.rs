use std::marker::PhantomData;

use futures::FutureExt;
use partitura::{
    Definition, Event, EventKind, Execution, Failure, FailureKind, Payload, RULES, Started, Step, Stop, StopReason,
    Turn, Update, Workflow,
};
use serde::Serialize;
use serde::de::DeserializeOwned;

/// A live instance with the history that an engine would have recorded. Every input is followed by a replay of the
/// whole history, which must end where the live instance is.
pub(crate) struct Live<W> {
    pub(crate) execution: Execution,
    pub(crate) history: Vec<Event>,
    pub(crate) steps: Vec<Step>,
    now: u64,
    messages: u32,
    checked: bool,
    workflow: PhantomData<W>,
}

pub(crate) const START: u64 = 1_700_000_000_000;

pub(crate) fn payload<T: Serialize>(value: &T) -> Payload {
    Payload::encode_unproven(value).unwrap()
}

pub(crate) fn started<W: Workflow>(input: &W::Input) -> Event {
    Event::new(
        START,
        EventKind::WorkflowStarted(Box::new(Started {
            workflow: W::NAME.to_owned(),
            id: "order-42".to_owned(),
            run: "018f0000-0000-7000-8000-000000000000".to_owned(),
            seed: 42,
            input: payload(input),
            parent: None,
            reply_to: None,
            tags: Vec::new(),
            rules: RULES,
            version: W::VERSION,
            deadline: None,
            run_timeout_ms: None,
            retry: None,
            continued: None,
            trace: None,
        })),
    )
}

impl<W: Workflow> Live<W> {
    pub(crate) fn start(input: W::Input) -> Self {
        Self::try_start(input).unwrap()
    }

    pub(crate) fn try_start(input: W::Input) -> Result<Self, Stop> {
        let first = started::<W>(&input);
        let (execution, turn) = Execution::start(&Definition::for_workflow::<W>(), first.clone())?;
        let mut live = Self {
            execution,
            history: vec![first],
            steps: Vec::new(),
            now: START,
            messages: 0,
            checked: true,
            workflow: PhantomData,
        };
        live.record(turn);
        Ok(live)
    }

    /// Without the replay after each input.
    pub(crate) fn unchecked(mut self) -> Self {
        self.checked = false;
        self
    }

    pub(crate) fn try_apply(&mut self, kind: EventKind) -> Result<Turn, Stop> {
        self.now += 1_000;
        self.execution.apply(Event::new(self.now, kind))
    }

    pub(crate) fn apply(&mut self, kind: EventKind) -> &mut Self {
        let turn = self.try_apply(kind.clone()).unwrap();
        assert!(!turn.ignored, "{kind} was ignored");
        self.history.push(Event::new(self.now, kind));
        self.record(turn);
        self
    }

    pub(crate) fn ignored(&mut self, kind: EventKind) -> &mut Self {
        let turn = self.try_apply(kind.clone()).unwrap();
        assert!(turn.ignored && turn.events.is_empty() && turn.steps.is_empty(), "{kind} was not ignored");
        self
    }

    fn record(&mut self, turn: Turn) {
        self.history.extend(turn.events);
        self.steps.extend(turn.steps);
        if self.checked {
            self.check_replay();
        }
    }

    pub(crate) fn check_replay(&self) {
        let (replayed, turn) = replay::<W>(&self.history).unwrap();
        assert_eq!(turn.events, []);
        assert_eq!(replayed.outcome(), self.execution.outcome());
    }

    pub(crate) fn complete<T: Serialize>(&mut self, seq: u32, result: T) -> &mut Self {
        self.apply(EventKind::TaskCompleted { seq, result: payload(&result) })
    }

    pub(crate) fn fail(&mut self, seq: u32, failure: Failure) -> &mut Self {
        self.apply(EventKind::TaskFailed { seq, failure, attempts: 1 })
    }

    pub(crate) fn fire(&mut self, seq: u32) -> &mut Self {
        self.apply(EventKind::TimerFired { seq })
    }

    pub(crate) fn signal<T: Serialize>(&mut self, name: &str, value: T) -> &mut Self {
        self.messages += 1;
        let message_id = format!("message-{}", self.messages);
        self.apply(EventKind::SignalReceived { name: name.to_owned(), payload: payload(&value), message_id })
    }

    /// Asks the validator, and applies an update.
    pub(crate) fn update<V, T, E>(&mut self, update: Update<V, T, E>, id: &str) -> &mut Self {
        let (name, args) = update.into_parts().unwrap();
        self.execution.check_update(&name, &args).unwrap();
        self.apply(EventKind::UpdateReceived { name, args, id: id.to_owned() })
    }

    pub(crate) fn cancel(&mut self) -> &mut Self {
        self.apply(EventKind::CancelRequested { reason: Some("changed my mind".to_owned()) })
    }

    /// Runs the oldest step, which must not wait, and applies its result.
    pub(crate) fn run_step(&mut self) -> &mut Self {
        let Step { seq, future, .. } = self.steps.remove(0);
        let result = future.now_or_never().unwrap();
        self.apply(match result {
            Ok(result) => EventKind::StepCompleted { seq, result },
            Err(failure) => EventKind::StepFailed { seq, failure },
        })
    }

    pub(crate) fn result(&self) -> W::Output
    where
        W::Output: DeserializeOwned,
    {
        match self.execution.outcome() {
            Some(EventKind::WorkflowCompleted { result }) => result.decode().unwrap(),
            other => panic!("not completed: {other:?}"),
        }
    }

    pub(crate) fn failure(&self) -> &Failure {
        match self.execution.outcome() {
            Some(EventKind::WorkflowFailed { failure }) => failure,
            Some(EventKind::WorkflowCancelled { failure: Some(failure), .. }) => failure,
            other => panic!("not failed: {other:?}"),
        }
    }

    /// Everything after the start, one line each.
    pub(crate) fn lines(&self) -> Vec<String> {
        self.history[1..].iter().map(ToString::to_string).collect()
    }

    pub(crate) fn commands(&self) -> Vec<String> {
        self.history.iter().filter(|event| event.kind.is_command()).map(ToString::to_string).collect()
    }
}

pub(crate) fn replay<W: Workflow>(history: &[Event]) -> Result<(Execution, Turn), Stop> {
    Execution::replay(&Definition::for_workflow::<W>(), history.iter().cloned())
}

pub(crate) fn reason<T>(result: Result<T, Stop>) -> StopReason {
    match result {
        Ok(_) => panic!("it did not stop"),
        Err(stop) => stop.reason,
    }
}

pub(crate) fn panic_failure() -> Failure {
    Failure::new(FailureKind::Panic, "boom")
}
