use std::num::NonZeroUsize;
use std::time::Duration;

use partitura_broker::{Broker, ConsumerOptions, Credit, Delivery, ErrorKind, Event, Message, Ordering, Topology};

use crate::support::{ids, join, message, nats, publish, subscription, take, topic};

const ONE: Ordering = Ordering::ByKey { partitions: 1 };

#[tokio::test]
async fn an_owner_that_vanishes_in_its_own_replay_leaves_the_order_whole() {
    let (broker, topic) = (nats().await, topic("replay"));
    let queue = Topology::new().queue(topic.clone(), ONE).subscription(subscription("s"), [topic.clone()]);
    broker.declare(&queue).await.expect("it is new");
    publish(&broker, (0..200).map(|n| message(&topic, n)).collect()).await;
    // Owners come and vanish, some of them in the middle of their replay.
    for life in 0..20 {
        let mut consumer = join(&broker, "s", &topic).await;
        let wait = std::time::Duration::from_millis(150 + 5 * life);
        let _vanishes = tokio::time::timeout(wait, take(&mut consumer, 200)).await;
    }
    let got = take(&mut join(&broker, "s", &topic).await, 200).await;
    let expected: Vec<String> = (0..200).map(|n| format!("id-{n}")).collect();
    assert_eq!(ids(&got), expected);
}

#[tokio::test]
async fn a_listener_to_everything_does_not_disturb_an_owner() {
    let (broker, topic) = (nats().await, topic("listener"));
    let queue = Topology::new().queue(topic.clone(), ONE).subscription(subscription("s"), [topic.clone()]);
    broker.declare(&queue).await.expect("it is new");
    let mut owner = join(&broker, "s", &topic).await;
    while !matches!(owner.next().await.expect("the server is up"), Event::Assigned(_)) {}
    let curious = broker.client().await.expect("a connection").subscribe("partitura.>").await.expect("a subscription");
    publish(&broker, (0..10).map(|n| message(&topic, n)).collect()).await;
    assert_eq!(take(&mut owner, 10).await.len(), 10);
    drop(owner);
    // Consumers deliver to other subjects than those of topics: the next owner is not kept out.
    let again = take(&mut join(&broker, "s", &topic).await, 10).await;
    assert!(again.iter().all(|delivery| delivery.redelivered));
    drop(curious);
}

#[tokio::test]
async fn an_owner_learns_at_once_that_its_consumer_was_deleted() {
    let (broker, topic) = (nats().await, topic("deleted"));
    let queue = Topology::new().queue(topic.clone(), ONE).subscription(subscription("s"), [topic.clone()]);
    broker.declare(&queue).await.expect("it is new");
    let mut owner = join(&broker, "s", &topic).await;
    while !matches!(owner.next().await.expect("the server is up"), Event::Assigned(_)) {}
    let jetstream = async_nats::jetstream::new(broker.client().await.expect("a connection"));
    let stream = jetstream.get_stream(format!("partitura_{topic}")).await.expect("it was declared");
    stream.delete_consumer("s+0").await.expect("it is there");
    // Without its notice, missing heartbeats would show the deletion after 20 s.
    let lost = tokio::time::timeout(Duration::from_secs(5), owner.next()).await.expect("in time");
    assert!(matches!(lost, Ok(Event::Lost(_))), "{lost:?}");
    let error = owner.next().await.expect_err("there is nothing to claim any more");
    assert_eq!(error.kind(), ErrorKind::NotFound);
}

#[tokio::test]
async fn a_topic_that_is_deleted_and_declared_again_delivers_all_that_is_confirmed_from_then_on() {
    let (broker, topic) = (nats().await, topic("again"));
    let queue = Topology::new().queue(topic.clone(), ONE).subscription(subscription("s"), [topic.clone()]);
    broker.declare(&queue).await.expect("it is new");
    publish(&broker, (0..100).map(|n| message(&topic, n)).collect()).await;
    let mut consumer = join(&broker, "s", &topic).await;
    let held = take(&mut consumer, 60).await;
    consumer.settle(&held[..40].iter().map(|held| held.token).collect::<Vec<_>>());
    let jetstream = async_nats::jetstream::new(broker.client().await.expect("a connection"));
    jetstream.delete_stream(format!("partitura_{topic}")).await.expect("it was declared");
    broker.declare(&queue).await.expect("its name is free");
    publish(&broker, (100..200).map(|n| message(&topic, n)).collect()).await;
    let mut got = Vec::new();
    let reading = async {
        while got.len() < 100 {
            match consumer.next().await {
                Ok(Event::Deliveries(new)) => {
                    // Its tokens are void if they are of the topic that was deleted.
                    consumer.settle(&new.iter().map(|new| new.token).collect::<Vec<_>>());
                    let number =
                        |new: &Delivery| new.message.id.as_str().trim_start_matches("id-").parse().expect("a number");
                    got.extend(new.iter().map(number).filter(|number: &usize| *number >= 100));
                }
                Ok(_) => {}
                // Between the two there was nothing to consume.
                Err(error) => {
                    assert_eq!(error.kind(), ErrorKind::NotFound);
                    consumer = join(&broker, "s", &topic).await;
                }
            }
        }
    };
    tokio::time::timeout(Duration::from_secs(60), reading).await.expect("all of them come");
    assert_eq!(got, (100..200).collect::<Vec<_>>());
}

#[tokio::test]
async fn messages_in_advance_are_bounded_in_bytes() {
    const SIZE: usize = 512 << 10;
    let (broker, topic) = (nats().await, topic("large"));
    let two = Ordering::ByKey { partitions: 2 };
    let queue = Topology::new().queue(topic.clone(), two).subscription(subscription("s"), [topic.clone()]);
    broker.declare(&queue).await.expect("it is new");
    let large = |n: usize| Message::new(topic.clone(), format!("id-{n}"), vec![0; SIZE]).key(format!("k{n}"));
    for chunk in 0..8 {
        publish(&broker, (0..12).map(|n| large(chunk * 12 + n)).collect()).await;
    }
    let credit = Credit { bytes: NonZeroUsize::new(8 << 20).expect("more than nothing"), ..Credit::default() };
    let options = ConsumerOptions::new(subscription("s"), [topic.clone()]).credit(credit);
    let mut consumer = broker.consumer(options).await.expect("it is declared");
    let mut held = take(&mut consumer, 14).await;
    let jetstream = async_nats::jetstream::new(broker.client().await.expect("a connection"));
    let stream = jetstream.get_stream(format!("partitura_{topic}")).await.expect("it was declared");
    let mut out = 0;
    for partition in 0..2 {
        let info = stream.consumer_info(format!("s+{partition}")).await.expect("it is there");
        out += info.num_ack_pending * SIZE;
    }
    assert!(out <= 2 * credit.bytes.get(), "{out} bytes are on their way or here");
    // All messages come.
    let mut came = 0;
    loop {
        came += held.len();
        consumer.settle(&held.iter().map(|held| held.token).collect::<Vec<_>>());
        if came == 96 {
            break;
        }
        held = take(&mut consumer, 1).await;
    }
}
