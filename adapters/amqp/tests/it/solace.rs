//! Queues that an operator made, with one consumer each, and temporary endpoints.

use std::time::Duration;

use partitura_amqp::{Amqp, Options, solace_commands};
use partitura_broker::{Broker, Clock, ConsumerOptions, ErrorKind, InboxAddress, Message, Ordering, TopicName};

use crate::peer::{Peer, Plays, Queue};
use crate::support::*;

/// The queues that the commands for operators make.
async fn solace() -> Peer {
    let script = solace_commands(&topology(ORDERED));
    let mut queues = Vec::<(String, Queue)>::new();
    for line in script.lines() {
        let value = |name: &str| {
            let (_, rest) = line.split_once(&format!("\"{name}\":"))?;
            Some(rest.split([',', '}']).next()?.trim_matches('"').to_owned())
        };
        if let Some(name) = value("queueName") {
            let max_bind = value("maxBindCount").map(|most| most.parse().expect("a number"));
            queues.push((name, Queue { max_bind, ..Queue::default() }));
        }
        if let (Some(topic), Some((_, queue))) = (value("subscriptionTopic"), queues.last_mut()) {
            queue.topics.push(topic);
        }
    }
    assert_eq!(queues.len(), 4, "{script}");
    Peer::start(Plays::Solace, queues).await
}

#[tokio::test]
async fn a_topic_is_described_once_and_another_client_learns_it() {
    let peer = solace().await;
    let first = declared(&peer).await;
    within(first.declare(&topology(ORDERED).verify_only())).await.expect("verified");
    assert_eq!(peer.backlog("partitura/orders/topic"), 1);
    let other = connect(&peer).await;
    let partitions = publish(&other, vec![message("a", "key")]).await;
    peer.happens(&format!("publish topic://partitura/t/orders/{}", partitions[0]), 0).await;
    let refused = within(other.declare(&topology(Ordering::ByKey { partitions: 4 }))).await.expect_err("it has two");
    assert_eq!(refused.kind(), ErrorKind::Incompatible, "{refused}");
}

#[tokio::test]
async fn a_queue_that_the_operator_did_not_make_is_named() {
    let peer = Peer::start(Plays::Solace, [("partitura/orders/due".to_owned(), Queue::default())]).await;
    let missing = within(connect(&peer).await.declare(&topology(ORDERED))).await.expect_err("there is no such queue");
    assert_eq!(missing.kind(), ErrorKind::NotFound);
    assert!(missing.to_string().contains("partitura/orders/topic"), "{missing}");
}

#[tokio::test]
async fn each_partition_has_one_owner_and_members_share_them() {
    let peer = solace().await;
    let (first, second) = (declared(&peer).await, connect(&peer).await);
    let mut one = consumer(&first).await;
    assigned(one.as_mut(), 2).await;
    let mut other = consumer(&second).await;
    within(async { tokio::join!(yields(one.as_mut()), assigned(other.as_mut(), 1)) }).await;
    let log = peer.log();
    assert!(log.iter().any(|line| line.contains("orders/billing") && line.ends_with("taken")), "{log:#?}");
}

#[tokio::test]
async fn what_an_owner_did_not_settle_comes_again_in_order_and_flagged() {
    let peer = solace().await;
    let broker = declared(&peer).await;
    let mut first = consumer(&broker).await;
    publish(&broker, ["a", "b", "c"].map(|id| message(id, "key")).to_vec()).await;
    let got = deliveries(first.as_mut(), 3).await;
    assert_eq!(ids(&got), ["a", "b", "c"]);
    assert!(got.iter().all(|delivery| !delivery.redelivered));
    first.settle(&[got[1].token]);
    within(first.flush()).await.expect("flushed");
    peer.happens("publish topic://partitura/sync", 0).await;
    drop(first);
    let mut next = consumer(&broker).await;
    let again = deliveries(next.as_mut(), 2).await;
    assert_eq!(ids(&again), ["a", "c"]);
    assert!(again.iter().all(|delivery| delivery.redelivered));
}

#[tokio::test]
async fn a_cut_connection_is_built_again() {
    let peer = solace().await;
    let broker = declared(&peer).await;
    let mut consumer = consumer(&broker).await;
    assigned(consumer.as_mut(), 2).await;
    peer.cut();
    let producer = producer(&broker).await;
    within(async {
        while producer.publish(vec![message("a", "key")]).await.into_iter().any(|receipt| receipt.is_err()) {}
    })
    .await;
    assert_eq!(ids(&deliveries(consumer.as_mut(), 1).await), ["a"]);
}

#[tokio::test]
async fn a_delayed_message_waits_in_the_queue_of_the_topic_and_is_not_early() {
    let peer = solace().await;
    let broker = declared(&peer).await;
    let mut consumer = consumer(&broker).await;
    let before = peer.log().len();
    let due = broker.clock().now() + LATER;
    publish(&broker, vec![message("late", "key").not_before(due), message("soon", "key")]).await;
    peer.happens("publish queue://partitura/orders/due", before).await;
    assert_eq!(ids(&deliveries(consumer.as_mut(), 2).await), ["soon", "late"]);
    assert!(broker.clock().now() >= due);
    peer.happens("settle", before).await;
}

#[tokio::test]
async fn a_forwarder_holds_no_more_bytes_than_it_may_and_sends_the_others_back() {
    const SIZE: usize = 128 << 10;
    let peer = solace().await;
    let broker = declared(&peer).await;
    let due = broker.clock().now() + Duration::from_secs(3_600);
    peer.fill("partitura/orders/due", 800, SIZE, i64::try_from(due.as_millis()).expect("a moment"));
    let _consumer = consumer(&broker).await;
    // It has as many as it may hold.
    peer.happens("publish queue://partitura/orders/due", 0).await;
    let most = peer.most_out("partitura/orders/due");
    assert!((256..=512).contains(&most), "{most} messages of {SIZE} bytes");
}

/// One that waited for half a minute would let due messages wait as long.
#[tokio::test]
async fn a_forwarder_that_waits_for_its_turn_asks_again_soon() {
    let peer = solace().await;
    let (first, second) = (declared(&peer).await, connect(&peer).await);
    let mut one = consumer(&first).await;
    assigned(one.as_mut(), 2).await;
    let mut from = peer.happens("read queue://partitura/orders/due: yes", 0).await;
    let _other = consumer(&second).await;
    let began = tokio::time::Instant::now();
    for _ in 0..7 {
        from = peer.happens("read queue://partitura/orders/due: taken", from).await;
    }
    assert!(began.elapsed() < Duration::from_secs(30), "{:?}", began.elapsed());
}

/// Otherwise the next forwarder publishes them again, and does not know it.
#[tokio::test]
async fn a_consumer_that_goes_settles_the_due_messages_that_it_is_publishing() {
    let peer = solace().await;
    let (broker, publishing) = (declared(&peer).await, connect(&peer).await);
    let consumer = consumer(&broker).await;
    let due = publishing.clock().now() + LATER;
    publish(&publishing, vec![message("late", "key").not_before(due)]).await;
    let before = peer.log().len();
    peer.confirm(false);
    peer.happens("publish topic://partitura/t/orders", before).await;
    drop(consumer);
    peer.confirm(true);
    within(async {
        while peer.backlog("partitura/orders/due") > 0 {
            tokio::time::sleep(Duration::from_millis(5)).await;
        }
    })
    .await;
}

#[tokio::test]
async fn a_listener_gets_everything_of_a_stream_from_now_on() {
    let peer = solace().await;
    let broker = declared(&peer).await;
    let mut listener = within(broker.consumer(ConsumerOptions::broadcast(orders()))).await.expect("a listener");
    publish(&broker, vec![message("a", "one"), message("b", "two"), message("c", "three")]).await;
    let mut got = ids(&deliveries(listener.as_mut(), 3).await).into_iter().map(str::to_owned).collect::<Vec<_>>();
    got.sort_unstable();
    assert_eq!(got, ["a", "b", "c"]);
}

#[tokio::test]
async fn a_reply_reaches_its_inbox_and_no_other_address() {
    let peer = solace().await;
    let broker = declared(&peer).await;
    let mut inbox = within(broker.inbox()).await.expect("an inbox");
    let reply = || Message::new(TopicName::new("inbox").expect("a name"), "id", "answer");
    let forged = InboxAddress::new("topic://partitura/t/orders/0".to_owned());
    let before = peer.log().len();
    let replies = vec![(forged, reply()), (inbox.address().clone(), reply())];
    within(producer(&broker).await.reply(replies)).await.expect("sent");
    assert_eq!(within(inbox.next()).await.expect("a reply").payload, "answer");
    assert!(!peer.log()[before..].iter().any(|line| line.contains("partitura/t/orders")), "{:#?}", peer.log());
}

#[tokio::test]
async fn a_wrong_password_is_told_from_a_broker_that_is_away() {
    let peer = solace().await;
    let url = peer.url().replace("secret", "wrong");
    let refused = within(Amqp::connect(&url, Options::default())).await.expect_err("refused");
    assert_eq!(refused.kind(), ErrorKind::Unauthorized, "{refused}");
    assert_eq!(peer.log(), ["login by PLAIN"]);
}
