use std::sync::Arc;
use std::time::Duration;

use partitura_broker::{ErrorKind, Message, ProducerOptions};
use partitura_embedded::Embedded;
use partitura_lanes::{Envelope, Messaging, Outcome, Retry};
use serde::{Deserialize, Serialize};
use tokio::sync::{mpsc, oneshot};

#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
struct Order {
    customer: String,
    cents: u64,
}

fn order(customer: &str, cents: u64) -> Order {
    Order { customer: customer.into(), cents }
}

async fn messaging() -> (Arc<Embedded>, Messaging) {
    let broker = Arc::new(Embedded::memory(Default::default()).unwrap());
    (broker.clone(), Messaging::over(broker).await.unwrap())
}

#[tokio::test(start_paused = true)]
async fn a_typed_message_makes_the_round_with_key_headers_and_attempt() {
    let (_, messaging) = messaging().await;
    let orders = messaging.queue::<Order>("orders").partitions(16).subscription("billing").declare().await.unwrap();
    let trace = "00-0af7651916cd43dd8448eb211c80319c-b7ad6b7169203331-01";
    orders.publish(&order("ada", 5)).key("ada").header("traceparent", trace).id("o-1").await.unwrap();
    let (seen, mut seeing) = mpsc::unbounded_channel();
    let (stop, stopped) = oneshot::channel::<()>();
    let processing = orders.subscribe("billing").retry(Retry::fixed(Duration::from_secs(1))).process(
        move |order: Envelope<Order>| {
            let seen = seen.clone();
            async move {
                if order.attempt() == 1 {
                    return Err("once more");
                }
                seen.send(order).map_err(|_| "nobody listens")
            }
        },
    );
    let running = tokio::spawn(processing.run_until(stopped));
    let got = seeing.recv().await.unwrap();
    drop(stop);
    running.await.unwrap().unwrap();
    assert_eq!(got.payload(), &order("ada", 5));
    assert_eq!((got.key_str(), got.id().as_str(), got.attempt()), (Some("ada"), "o-1", 2));
    assert_eq!(got.headers().get_str("traceparent"), Some(trace));
    assert_eq!(got.headers().get_str("content-type"), Some("application/json"));
}

#[tokio::test(start_paused = true)]
async fn what_cannot_be_decoded_is_a_dead_letter_at_once_and_says_why() {
    let (broker, messaging) = messaging().await;
    let orders = messaging.queue::<Order>("orders").subscription("billing").declare().await.unwrap();
    let producer = partitura_broker::Broker::producer(&*broker, ProducerOptions::default()).await.unwrap();
    let raw = |id: &str, kind: &'static str, payload: &'static str| {
        Message::new(orders.name().clone(), id, payload).key("ada").header("content-type", kind)
    };
    let broken = vec![raw("1", "application/json", "{\"customer\": 7}"), raw("2", "text/csv", "ada,5")];
    assert!(producer.publish(broken).await.iter().all(Result::is_ok));
    orders.publish(&order("ada", 5)).key("ada").await.unwrap();
    let (seen, mut seeing) = mpsc::unbounded_channel();
    let processing = orders.subscribe("billing").process(move |order: Order| {
        let _ = seen.send(order.cents);
        async { Ok::<_, String>(()) }
    });
    processing.run_until(async { assert_eq!(seeing.recv().await, Some(5)) }).await.unwrap();
    let letters = orders.dead_letters("billing").unwrap().list(10).await.unwrap();
    let errors = letters.iter().map(|letter| letter.error.as_deref().unwrap()).collect::<Vec<_>>();
    assert!(letters.iter().all(|letter| letter.reason == "undecodable" && letter.attempts == 1), "{letters:?}");
    assert!(errors[0].contains("invalid type: integer `7`, expected a string"), "{errors:?}");
    assert!(errors[1].contains("text/csv"), "{errors:?}");
}

#[tokio::test(start_paused = true)]
async fn each_subscription_of_a_stream_gets_everything_and_a_listener_what_comes_from_now_on() {
    let (_, messaging) = messaging().await;
    let events = messaging.stream::<u32>("events").partitions(4).subscription("a").subscription("b");
    let events = events.declare().await.unwrap();
    let (seen, mut seeing) = mpsc::unbounded_channel();
    let mut stops = Vec::new();
    let mut tasks = Vec::new();
    for (name, subscriber) in
        [("a", events.subscribe("a")), ("b", events.subscribe("b")), ("listener", events.listen())]
    {
        let seen = seen.clone();
        let processing = subscriber.process(move |n: u32| {
            let _ = seen.send((name, n));
            async { Outcome::Done }
        });
        let (stop, stopped) = oneshot::channel::<()>();
        stops.push(stop);
        tasks.push(tokio::spawn(processing.run_until(stopped)));
    }
    // A listener gets what is published once it listens.
    tokio::time::sleep(Duration::from_secs(1)).await;
    for n in 0..10u32 {
        events.publish(&n).key("k").await.unwrap();
    }
    let mut got = Vec::new();
    while got.len() < 30 {
        got.push(seeing.recv().await.unwrap());
    }
    drop(stops);
    for task in tasks {
        task.await.unwrap().unwrap();
    }
    for name in ["a", "b", "listener"] {
        let of = got.iter().filter(|(who, _)| *who == name).map(|(_, n)| *n);
        assert!(of.eq(0..10), "{name}: {got:?}");
    }
}

#[tokio::test(start_paused = true)]
async fn a_redriven_letter_of_a_stream_reaches_only_its_own_subscription() {
    let (_, messaging) = messaging().await;
    let events = messaging.stream::<u32>("events").partitions(4).subscription("a").subscription("b");
    let events = events.declare().await.unwrap();
    events.publish(&7).key("k").await.unwrap();
    let (dead, mut died) = mpsc::unbounded_channel();
    let refuse = events.subscribe("a").process(move |_: u32| {
        let _ = dead.send(());
        async { Outcome::dead("refused") }
    });
    refuse.run_until(died.recv()).await.unwrap();
    let letters = events.dead_letters("a").unwrap();
    assert_eq!(letters.redrive_all().await.unwrap().redriven, 1);
    let (seen, mut seeing) = mpsc::unbounded_channel();
    let accept = |name: &'static str| {
        let seen = seen.clone();
        move |event: Envelope<u32>| {
            let redriven = event.headers().get_str("partitura-redriven").map(str::to_owned);
            let _ = seen.send((name, *event.payload(), redriven));
            async { Outcome::Done }
        }
    };
    let a = events.subscribe("a").process(accept("a"));
    a.run_until(async { assert_eq!(seeing.recv().await, Some(("a", 7, Some("1".into())))) }).await.unwrap();
    let b = events.subscribe("b").process(accept("b"));
    let quiet = tokio::time::sleep(Duration::from_secs(5));
    b.run_until(quiet).await.unwrap();
    assert_eq!(seeing.recv().await, Some(("b", 7, None)));
    assert!(seeing.try_recv().is_err(), "b got it once");
}

#[tokio::test]
async fn a_delayed_message_is_never_early() {
    let (_, messaging) = messaging().await;
    let orders = messaging.queue::<u32>("orders").subscription("billing").declare().await.unwrap();
    let start = std::time::SystemTime::now();
    orders.publish(&1).key("k").after(Duration::from_millis(60)).await.unwrap();
    let (seen, mut seeing) = mpsc::unbounded_channel();
    let processing = orders.subscribe("billing").process(move |n: u32| {
        let _ = seen.send((n, start.elapsed().unwrap_or_default()));
        async { Outcome::Done }
    });
    let check = async {
        let (n, waited) = seeing.recv().await.unwrap();
        assert!(n == 1 && waited >= Duration::from_millis(60), "{waited:?}");
    };
    processing.run_until(check).await.unwrap();
}

#[tokio::test]
async fn mistakes_are_refused_with_what_to_do() {
    let (_, messaging) = messaging().await;
    let error = messaging.queue::<u32>("orders").declare().await.unwrap_err();
    assert!(error.to_string().contains(".subscription("), "{error}");
    for name in ["a b", "orders.billing.dead", "orders.billing.parking"] {
        let error = messaging.stream::<u32>(name).declare().await.unwrap_err();
        assert_eq!(error.kind(), ErrorKind::InvalidArgument, "{name}");
    }
    let orders = messaging.queue::<u32>("orders").subscription("billing").declare().await.unwrap();
    let missing = orders.subscribe("shipping").process(|_: u32| async { Outcome::Done });
    assert_eq!(missing.run_until(async {}).await.unwrap_err().kind(), ErrorKind::NotFound);
}
