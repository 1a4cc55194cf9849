use futures::FutureExt;
use futures::future::BoxFuture;
use partitura_workflow::{Caller, MethodInfo, ServiceStub, TaskFailure, TaskOptions, millis, seconds};

use super::*;

struct Payments;

impl Service for Payments {
    fn name(&self) -> &'static str {
        "Payments"
    }

    fn methods(&self) -> &'static [MethodInfo] {
        &[MethodInfo { name: "charge", options: TaskOptions::default }]
    }

    fn call<'a>(&'a self, _: &'a str, _: Payload) -> BoxFuture<'a, std::result::Result<Payload, TaskFailure>> {
        std::future::pending().boxed()
    }
}

impl ServiceStub for Payments {
    const NAME: &'static str = "Payments";

    fn new(_: Caller) -> Self {
        Self
    }
}

fn try_limits(limits: Vec<Limit>, concurrency: usize) -> Result<Limits> {
    Limits::new(limits, &[Box::new(Payments)], concurrency)
}

fn limits(limits: Vec<Limit>, concurrency: usize) -> Arc<Limits> {
    Arc::new(try_limits(limits, concurrency).expect("limits"))
}

fn enter(limits: &Arc<Limits>, tenant: &str) -> Turn {
    let args = Payload::from_json(format!(r#"{{"order":{{"tenant":"{tenant}"}},"cents":1}}"#)).expect("JSON");
    limits.enter("Payments", "charge", &args)
}

fn now(turn: Turn) -> Permit {
    match turn {
        Turn::Now(Some(permit)) => permit,
        Turn::Now(None) => panic!("without a permit"),
        Turn::Wait(_) | Turn::Back(_) => panic!("there is no room"),
    }
}

fn waits(turn: Turn) -> oneshot::Receiver<Permit> {
    match turn {
        Turn::Wait(permit) => permit,
        Turn::Now(_) => panic!("there is room"),
        Turn::Back(wait) => panic!("back for {wait:?}"),
    }
}

fn back(turn: Turn) -> Duration {
    match turn {
        Turn::Back(wait) => wait,
        Turn::Now(_) => panic!("there is room"),
        Turn::Wait(_) => panic!("there is a place to wait at"),
    }
}

fn per_tenant() -> Limit {
    Limit::method::<Payments>("charge").per("order.tenant")
}

#[tokio::test(start_paused = true)]
async fn each_key_has_room_of_its_own_and_gives_it_back() {
    let limits = limits(vec![per_tenant().at_most(2)], 100);
    let [first, _second] = [now(enter(&limits, "a")), now(enter(&limits, "a"))];
    let mut third = waits(enter(&limits, "a"));
    let _other = now(enter(&limits, "b"));
    assert!((&mut third).now_or_never().is_none());
    drop(first);
    let third = third.await.expect("a permit");
    let fourth = waits(enter(&limits, "a"));
    let fifth = waits(enter(&limits, "a"));
    drop(fourth);
    drop(third);
    let fifth = fifth.await.expect("the one before it has left");
    // A permit that was given to nobody is not lost.
    let sixth = waits(enter(&limits, "a"));
    drop(fifth);
    drop(sixth);
    now(enter(&limits, "a"));
}

#[tokio::test(start_paused = true)]
async fn keys_take_turns_however_many_tasks_each_has() {
    let limits = limits(vec![Limit::service::<Payments>().at_most(1), per_tenant().at_most(1)], 1_000);
    let running = now(enter(&limits, "a"));
    let many: Vec<_> = (0..2).map(|_| waits(enter(&limits, "a"))).collect();
    let few = waits(enter(&limits, "b"));
    drop(running);
    let mut order = Vec::new();
    let mut waiting: Vec<_> = many.into_iter().map(|permit| ("a", permit)).chain([("b", few)]).collect();
    while !waiting.is_empty() {
        let next = waiting.iter_mut().position(|(_, permit)| permit.now_or_never().is_some());
        order.push(waiting.remove(next.expect("one of them runs")).0);
    }
    assert_eq!(order, ["a", "b", "a"]);
}

#[tokio::test(start_paused = true)]
async fn a_rate_spreads_tasks_evenly() {
    for (rate, count, takes) in [(10.0, 5, millis(400)), (1_000.0, 201, millis(190)), (0.5, 2, seconds(2))] {
        let limits = limits(vec![per_tenant().per_second(rate)], 10_000);
        let began = Instant::now();
        let turns: Vec<_> = (0..count).map(|_| enter(&limits, "a")).collect();
        for turn in turns {
            match turn {
                Turn::Now(permit) => drop(permit),
                Turn::Wait(permit) => drop(permit.await.expect("a permit")),
                Turn::Back(wait) => panic!("back for {wait:?}"),
            }
        }
        let took = began.elapsed();
        assert!((takes..=takes + millis(12)).contains(&took), "{count} at {rate} per second took {took:?}");
    }
}

#[tokio::test(start_paused = true)]
async fn few_wait_in_memory_and_the_others_come_back_one_after_the_other() {
    let limits = limits(vec![per_tenant().at_most(1)], 16);
    let running = now(enter(&limits, "a"));
    let _waiting: Vec<_> = (0..4).map(|_| waits(enter(&limits, "a"))).collect();
    let backs: Vec<_> = (0..50).map(|_| back(enter(&limits, "a"))).collect();
    assert!(backs.is_sorted() && backs[0] < backs[49], "{backs:?}");
    assert!(backs.iter().all(|wait| (millis(50)..=seconds(60)).contains(wait)), "{backs:?}");
    // There is a place for the next key.
    let _other = now(enter(&limits, "b"));
    let _waits = waits(enter(&limits, "b"));
    // It has run for long: a task behind another does not wait here.
    tokio::time::advance(seconds(10)).await;
    drop(running);
    tokio::time::advance(seconds(10)).await;
    assert!(back(enter(&limits, "a")) > seconds(1));
}

#[test]
fn a_service_that_is_limited_holds_few_deliveries() {
    let deliveries = |limit| try_limits(vec![limit], 1_000).expect("limits").deliveries("Payments", 1_000);
    assert_eq!(deliveries(Limit::service::<Payments>().at_most(3)), 11);
    assert_eq!(deliveries(Limit::all_services().at_most(100)), 200);
    assert_eq!(deliveries(Limit::service::<Payments>().at_most(5_000)), 1_000);
    assert_eq!(deliveries(per_tenant().at_most(3)), 1_000);
}

#[test]
fn limits_of_nothing_and_to_nothing_are_refused() {
    let problem = |limit| try_limits(vec![limit], 10).expect_err("refused").to_string();
    let unlimited = problem(Limit::service::<Payments>());
    assert!(unlimited.contains("of Payments, all methods: it limits nothing"), "{unlimited}");
    assert!(problem(per_tenant().at_most(0)).contains("`at_most` is 1 or more"));
    for rate in [0.0, -1.0, f64::NAN, f64::INFINITY] {
        assert!(problem(per_tenant().per_second(rate)).contains("above 0"));
    }
    let unknown = problem(Limit::method::<Payments>("refund").at_most(1));
    assert!(unknown.contains("Payments.refund, which does not exist; the methods are charge"), "{unknown}");
    let error = Limits::new(vec![Limit::service::<Payments>().at_most(1)], &[], 10).expect_err("refused");
    assert!(error.to_string().contains("which the worker does not run"), "{error}");
}
