use std::sync::Arc;

use futures::FutureExt;
use partitura::{
    Cx, DEFAULT_TIMEOUT, Failure, FailureKind, Never, OwnErrors, Payload, Retry, Service, TaskFailure, TaskOptions,
    Transient, Workflow, days, minutes, seconds,
};
use partitura_macros::{select, service, workflow};
use serde::{Deserialize, Serialize};

#[derive(Debug, Serialize, Deserialize, PartialEq)]
pub(crate) enum StockError {
    Empty,
    Busy,
}

impl StockError {
    fn is_transient(&self) -> bool {
        matches!(self, Self::Busy)
    }
}

/// Goods in a warehouse.
#[service(name = "stock")]
pub(crate) trait Stock: std::fmt::Debug {
    /// Takes goods out.
    #[task(name = "take", retry = Retry::fixed(seconds(1)), retry_if = StockError::is_transient, timeout = minutes(1))]
    async fn take_out(&self, goods: String, count: u32, note: Option<String>) -> Result<String, StockError>;
    async fn count(&self) -> u32;
    async fn r#match(&self, r#type: (u8, u8));
}

#[derive(Debug)]
struct Warehouse;

impl Stock for Warehouse {
    async fn take_out(&self, goods: String, count: u32, note: Option<String>) -> Result<String, StockError> {
        match count {
            0 => Err(StockError::Empty),
            1 => Err(StockError::Busy),
            _ => Ok(format!("{count} {goods} {note:?}")),
        }
    }

    async fn count(&self) -> u32 {
        7
    }

    async fn r#match(&self, r#type: (u8, u8)) {
        assert_eq!(r#type, (1, 2));
    }
}

fn call(method: &str, args: &str) -> Result<Payload, TaskFailure> {
    let service: Arc<dyn Service> = Arc::new(StockService(Warehouse));
    service.call(method, Payload::from_json(args).unwrap()).now_or_never().unwrap()
}

#[test]
fn a_service_answers_calls_by_name() {
    assert_eq!(
        call("take", r#"{"count":2,"goods":"nuts"}"#).unwrap().as_json(),
        r#""2 nuts None""#,
        "order does not matter, and a missing option is none"
    );
    assert_eq!(call("count", "{}").unwrap().as_json(), "7");
    assert_eq!(call("count", "null").unwrap().as_json(), "7");
    assert_eq!(call("match", r#"{"type":[1,2]}"#).unwrap(), Payload::null());
}

#[test]
fn a_services_error_travels_typed_with_its_predicates_verdict() {
    let empty = call("take", r#"{"count":0,"goods":"nuts"}"#).unwrap_err();
    assert_eq!((empty.failure.kind, empty.retryable), (FailureKind::Application, Some(false)));
    assert_eq!(empty.failure.details.unwrap().decode::<StockError>().unwrap(), StockError::Empty);
    assert_eq!(empty.failure.message, "Empty", "without Display, Debug speaks");
    assert_eq!(call("take", r#"{"count":1,"goods":"nuts"}"#).unwrap_err().retryable, Some(true));
}

#[test]
fn unknown_methods_and_arguments_that_do_not_fit_are_failures_that_name_them() {
    let message = |method, args| {
        let failure = call(method, args).unwrap_err().failure;
        assert_eq!(failure.kind, FailureKind::Unknown);
        failure.message
    };
    assert_eq!(message("steal", "{}"), "service stock has no method `steal`; it has: take, count, match");
    assert_eq!(
        message("take", r#"{"goods":"nuts"}"#),
        "stock.take: argument `count` (u32) could not be decoded: it is missing"
    );
    assert!(
        message("take", r#"{"goods":"nuts","count":-1}"#).starts_with("stock.take: argument `count`: u32 could not be")
    );
    assert!(message("count", "17").starts_with("stock.count: "));
}

#[test]
fn method_options_are_known_on_both_sides() {
    let service = StockService(Warehouse);
    let [take, count, _] = service.methods() else { panic!("three methods") };
    assert_eq!((service.name(), take.name, count.name), ("stock", "take", "count"));
    assert_eq!((take.options)().timeout, Some(minutes(1)));
    assert!((count.options)().is_default());
}

#[test]
fn only_what_was_stated_or_is_nobodys_answer_is_retried() {
    let service = StockService(Warehouse);
    let stated = (service.methods()[0].options)();
    let unstated = (service.methods()[1].options)();
    let failure = |kind, retryable| TaskFailure { failure: Failure::new(kind, "…"), retryable };
    use FailureKind::{Application, Cancelled, Panic, TimedOut, Unknown, WorkerLost};
    for kind in [Panic, TimedOut, WorkerLost] {
        assert_eq!(unstated.retry_after(&failure(kind, None), 1, 0.0), Some(seconds(1)));
        assert_eq!(unstated.retry_after(&failure(kind, None), 10, 0.0), None);
    }
    let all = TaskOptions { own_errors: Some(OwnErrors::Retried), ..unstated.clone() }.complete();
    for options in [&unstated, &unstated.clone().complete(), &stated, &stated.clone().complete(), &all] {
        assert_eq!(options.retry_after(&failure(Application, Some(true)), 1, 0.0), Some(seconds(1)));
        assert_eq!(options.retry_after(&failure(Application, Some(false)), 1, 0.0), None);
    }
    assert_eq!(unstated.complete().retry_after(&failure(Application, None), 1, 0.0), None);
    assert_eq!(all.retry_after(&failure(Application, None), 1, 0.0), Some(seconds(1)));
    assert_eq!(stated.clone().complete().retry_after(&failure(Application, None), 1, 0.0), None);
    // A task of an older history, in which a stated policy covered the service's errors.
    assert_eq!(stated.retry_after(&failure(Application, None), 99, 0.0), Some(seconds(1)));
    for kind in [Cancelled, Unknown] {
        assert_eq!(stated.retry_after(&failure(kind, None), 1, 0.0), None);
    }
}

#[test]
fn a_task_has_a_time_out_unless_it_says_that_it_has_none() {
    let stated = |options: TaskOptions| options.complete().run_timeout();
    let default = TaskOptions::default;
    assert_eq!(stated(default()), Some(DEFAULT_TIMEOUT));
    assert_eq!(stated(TaskOptions { timeout: Some(days(1)), no_timeout: true, ..default() }), Some(days(1)));
    assert_eq!(stated(TaskOptions { overall_timeout: Some(days(1)), ..default() }), None);
    assert_eq!(stated(TaskOptions { heartbeat_timeout: Some(seconds(1)), ..default() }), None);
    assert_eq!(stated(TaskOptions { start_timeout: Some(seconds(1)), ..default() }), Some(DEFAULT_TIMEOUT));
    assert_eq!(stated(TaskOptions { no_timeout: true, ..default() }), None);
    assert_eq!(default().run_timeout(), None, "a task of an older history has none");
}

#[derive(Debug, Serialize, Deserialize)]
enum Weather {
    Fog,
    Storm,
}

impl Transient for Weather {
    fn is_transient(&self) -> bool {
        matches!(self, Self::Fog)
    }
}

#[service]
trait Ferry {
    async fn cross(&self, fog: bool) -> Result<(), Weather>;
    #[task(retry_if = |weather| matches!(weather, Weather::Storm))]
    async fn brave(&self, fog: bool) -> Result<(), Weather>;
    #[task(no_timeout, retry_errors)]
    async fn wait(&self) -> Result<(), StockError>;
}

struct Boat;

impl Ferry for Boat {
    async fn cross(&self, fog: bool) -> Result<(), Weather> {
        Err(if fog { Weather::Fog } else { Weather::Storm })
    }

    async fn brave(&self, fog: bool) -> Result<(), Weather> {
        self.cross(fog).await
    }

    async fn wait(&self) -> Result<(), StockError> {
        Err(StockError::Empty)
    }
}

#[test]
fn an_error_type_says_which_errors_pass_unless_the_method_says_otherwise() {
    let service = FerryService(Boat);
    let verdict = |method, args: &str| {
        let failed = service.call(method, Payload::from_json(args).unwrap()).now_or_never().unwrap();
        failed.unwrap_err().retryable
    };
    assert_eq!([r#"{"fog":true}"#, r#"{"fog":false}"#].map(|args| verdict("cross", args)), [Some(true), Some(false)]);
    assert_eq!([r#"{"fog":true}"#, r#"{"fog":false}"#].map(|args| verdict("brave", args)), [Some(false), Some(true)]);
    assert_eq!(verdict("wait", "{}"), None);
    let wait = (service.methods()[2].options)();
    assert_eq!((wait.no_timeout, wait.own_errors), (true, Some(OwnErrors::Retried)));
}

#[test]
fn waits_grow_up_to_a_limit_and_are_only_ever_shortened_at_random() {
    let retry = Retry::exponential();
    assert_eq!(retry.delay(7, 0.0), Some(minutes(1)));
    assert_eq!(retry.delay(u32::MAX, 0.0), Some(minutes(1)));
    assert_eq!(retry.delay(1, 1.0), Some(std::time::Duration::from_millis(800)));
    assert_eq!(Retry::none().delay(1, 0.0), None);
    assert!(Retry::fixed(days(1_000_000_000)).coefficient(f64::NAN).jitter(f64::INFINITY).delay(3, 2.0).is_some());
}

/// Names on the wire, raw identifiers, and names that generated code might trip over.
#[derive(Default)]
struct Named {
    selected: u32,
}

#[workflow(name = "named")]
impl Named {
    const ORDINARY: u32 = 1;

    #[run]
    async fn process(cx: Cx<Self>) -> Result<u32, Never> {
        let selected = Self::ORDINARY;
        let context = 1;
        let stock = cx.service::<StockStub>();
        Ok(select! {
            () = async { std::future::ready(()).await } => selected + context,
            Ok(count) | Err(count) = async { Ok::<u32, u32>(3) } => { count }
            _ = stock.count() => unreachable!(),
        })
    }

    /// Documented.
    #[signal(name = "pick")]
    fn select(&mut self, name: u32, payload: u32, args: u32) {
        self.selected = name + payload + args;
    }

    #[query(name = "picked")]
    fn selected(&self, name: u32) -> u32 {
        self.selected + name
    }

    fn helper(&self) -> u32 {
        self.selected
    }
}

#[test]
fn handlers_keep_their_methods_and_get_names_on_the_wire() {
    let mut named = Named::default();
    let (name, payload) = NamedSignal::select(1, 2, 3).into_parts().unwrap();
    assert_eq!((Named::NAME, name.as_str()), ("named", "pick"));
    assert_eq!(Workflow::signal(&mut named, &name, &payload), Ok(true));
    assert_eq!(Workflow::signal(&mut named, "other", &payload), Ok(false));
    assert_eq!(named.helper(), 6);
    let (name, args) = NamedQuery::selected(4).into_parts().unwrap();
    assert_eq!(Workflow::query(&named, &name, &args).unwrap().as_json(), "10");
    assert_eq!((<Named as Workflow>::signals(), <Named as Workflow>::queries()), (&["pick"][..], &["picked"][..]));
}
