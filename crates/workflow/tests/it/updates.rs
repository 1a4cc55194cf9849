//! Updates: their answers are part of the history.

use partitura::{
    Cancelled, Cx, Definition, Event, EventKind, Execution, Failure, Never, Payload, StopReason, Update, UpdateRefusal,
    Workflow,
};
use partitura_macros::workflow;
use serde::{Deserialize, Serialize};

use crate::harness::{Live, payload, reason, replay};

/// Takes items until it is closed.
#[derive(Debug, Default)]
struct Cart {
    items: Vec<String>,
    closed: bool,
}

#[derive(Debug, PartialEq, Serialize, Deserialize, thiserror::Error)]
enum CartError {
    #[error("{0} items are enough")]
    Full(usize),
    #[error("an item has a name")]
    Nameless,
}

#[workflow]
impl Cart {
    #[run]
    async fn run(cx: Cx<Self>) -> Result<Vec<String>, Cancelled> {
        cx.until(|cart: &Cart| !cart.items.is_empty()).await?;
        drop(cx.sleep(partitura::hours(1)));
        cx.until(|cart: &Cart| cart.closed).await?;
        Ok(cx.state(|cart| cart.items.clone()))
    }

    /// Puts an item into the cart.
    #[update(validate = Self::may_add)]
    fn add(&mut self, item: String) -> Result<usize, CartError> {
        if self.items.len() >= 2 {
            return Err(CartError::Full(self.items.len()));
        }
        self.items.push(item);
        Ok(self.items.len())
    }

    fn may_add(&self, item: &str) -> Result<(), CartError> {
        assert_ne!(item, "a bomb");
        if item.is_empty() { Err(CartError::Nameless) } else { Ok(()) }
    }

    #[update(name = "shut")]
    fn close(&mut self) -> usize {
        self.closed = true;
        self.items.len()
    }

    #[update]
    fn explode(&mut self) {
        panic!("{} items", self.items.len())
    }

    #[update]
    fn weigh(&mut self) -> f64 {
        self.items.clear();
        f64::NAN
    }
}

fn refusal<T, E>(live: &Live<Cart>, update: Update<Cart, T, E>) -> UpdateRefusal {
    let (name, args) = update.into_parts().unwrap();
    live.execution.check_update(&name, &args).unwrap_err()
}

fn add(item: &str) -> Update<Cart, usize, CartError> {
    CartUpdate::add(item.to_owned())
}

#[test]
fn an_update_and_its_answer_are_recorded_before_what_the_code_does_about_them() {
    let mut live = Live::<Cart>::start(());
    live.update(add("nuts"), "u-1").update(add("figs"), "u-2").update(add("more"), "u-3");
    assert_eq!(
        live.lines()[..4],
        ["UpdateReceived add", "UpdateCompleted u-1", "UpdateReceived add", "UpdateCompleted u-2"]
    );
    let full = Failure::application(&CartError::Full(2), "2 items are enough");
    assert!(
        matches!(&live.history.last().unwrap().kind, EventKind::UpdateFailed { id, failure } if id == "u-3" && *failure == full)
    );
    live.update(CartUpdate::close(), "u-4");
    assert_eq!(live.lines()[6..], ["UpdateReceived shut", "UpdateCompleted u-4", "WorkflowCompleted"]);
    assert_eq!(live.result(), ["nuts", "figs"]);
}

#[test]
fn an_id_counts_once() {
    let mut live = Live::<Cart>::start(());
    live.update(add("nuts"), "u-1");
    assert_eq!(
        (live.execution.had_update("u-1"), live.execution.had_update("u-2")),
        (Some(live.execution.started().run.as_str()), None)
    );
    let (name, args) = add("figs").into_parts().unwrap();
    live.ignored(EventKind::UpdateReceived { name, args, id: "u-1".to_owned() });
    let (replayed, _) = replay::<Cart>(&live.history).unwrap();
    assert!(replayed.had_update("u-1").is_some());
}

#[test]
fn what_is_refused_leaves_no_trace() {
    let mut live = Live::<Cart>::start(());
    let nameless = Failure::application(&CartError::Nameless, "an item has a name");
    assert_eq!(refusal(&live, add("")), UpdateRefusal::Invalid(nameless));
    assert!(matches!(refusal(&live, add("a bomb")), UpdateRefusal::Panicked(text) if text.contains("a bomb")));
    let unknown = refusal(&live, Update::<Cart, (), Never>::new("steal", Ok(Payload::null())));
    assert_eq!(
        unknown.to_string(),
        r#"workflow Cart has no update `steal`; it has ["add", "shut", "explode", "weigh"]"#
    );
    let wrong = Update::<Cart, (), Never>::new("add", Ok(payload(&7)));
    assert!(matches!(refusal(&live, wrong), UpdateRefusal::Payload(_)));
    // Recorded by another build, perhaps: it is no input for this one.
    for (name, args) in [("steal", Payload::null()), ("add", payload(&7))] {
        let update = EventKind::UpdateReceived { name: name.to_owned(), args, id: "u-1".to_owned() };
        assert!(matches!(reason(live.try_apply(update)), StopReason::BadInput { .. }));
    }
    assert_eq!(live.lines(), Vec::<String>::new());
    assert_eq!(live.execution.had_update("u-1"), None);
    live.update(add("nuts"), "u-1");
}

#[test]
fn a_handler_that_panics_stops_the_instance_by_its_name() {
    let mut live = Live::<Cart>::start(());
    let (name, args) = CartUpdate::explode().into_parts().unwrap();
    let stopped = reason(live.try_apply(EventKind::UpdateReceived { name, args, id: "u-1".to_owned() }));
    let expected = StopReason::HandlerPanicked { handler: "update explode".to_owned(), message: "0 items".to_owned() };
    assert_eq!(stopped, expected);
}

#[test]
fn a_result_that_cannot_be_encoded_is_an_answer() {
    let mut live = Live::<Cart>::start(());
    live.update(CartUpdate::weigh(), "u-1");
    let last = live.history.last().unwrap().to_string();
    assert!(last.starts_with("UpdateFailed u-1 (unknown: the result of update weigh: "), "{last}");
}

/// Says how often it was called in this process, which is not deterministic.
#[derive(Debug, Default)]
struct Odd;

#[workflow]
impl Odd {
    #[run]
    async fn run(cx: Cx<Self>) -> Result<(), Cancelled> {
        cx.until(|_: &Odd| false).await
    }

    #[update]
    fn count(&mut self) -> u32 {
        static CALLS: std::sync::atomic::AtomicU32 = std::sync::atomic::AtomicU32::new(0);
        CALLS.fetch_add(1, std::sync::atomic::Ordering::SeqCst)
    }
}

#[test]
fn a_replay_says_where_an_answer_differs() {
    let mut live = Live::<Odd>::start(()).unchecked();
    live.update(OddUpdate::count(), "u-1");
    let StopReason::NonDeterministic { event_index: 2, history, code } = reason(replay::<Odd>(&live.history)) else {
        panic!("another reason")
    };
    assert_eq!((history.as_str(), code.as_str()), ("UpdateCompleted u-1 0", "UpdateCompleted u-1 1"));
    let replayed = Execution::replay_and_compare(&Definition::for_workflow::<Odd>(), live.history.clone());
    assert_eq!(replayed.unwrap().2.len(), 1);
    // An answer to another update is no difference of values.
    if let EventKind::UpdateCompleted { id, .. } = &mut live.history[2].kind {
        *id = "u-7".to_owned();
    }
    assert!(Execution::replay_and_compare(&Definition::for_workflow::<Odd>(), live.history).is_err());
}

#[test]
fn a_signal_and_an_update_of_one_id_are_two() {
    let mut live = Live::<Cart>::start(());
    live.update(add("nuts"), "message-1").signal("note", "a channel");
    assert!(live.execution.has_seen_message("message-1"));
}

#[test]
fn histories_that_are_read_by_people_say_what_was_answered() {
    let failed = EventKind::UpdateFailed {
        id: "u-1".into(),
        failure: Failure::application(&CartError::Nameless, "an item has a name"),
    };
    assert_eq!(Event::new(1, failed).to_string(), "UpdateFailed u-1 (an item has a name)");
    assert_eq!(<Cart as Workflow>::updates(), ["add", "shut", "explode", "weigh"]);
}
