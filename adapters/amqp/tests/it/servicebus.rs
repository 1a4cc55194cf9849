//! Sessions as partitions, their locks as claims, and no way to make anything.

use std::time::Duration;

use partitura_broker::{Broker, Clock, ConsumerOptions, ErrorKind, Event, Message, Ordering, TopicName};

use crate::peer::{Peer, Plays, Queue};
use crate::support::*;

/// Makes the things that the page for operators says have to be made.
async fn servicebus() -> Peer {
    let queue = |name: &str, has_sessions| (name.to_owned(), Queue { has_sessions, ..Queue::default() });
    let queues = [
        queue("partitura/topics", true),
        queue("partitura/inbox", true),
        queue("partitura/members", false),
        queue("partitura/orders/Subscriptions/billing", true),
    ];
    Peer::start(Plays::ServiceBus, queues).await
}

#[tokio::test]
async fn the_state_of_a_session_describes_a_topic() {
    let peer = servicebus().await;
    let first = declared(&peer).await;
    within(first.declare(&topology(ORDERED).verify_only())).await.expect("verified");
    let other = connect(&peer).await;
    let partitions = publish(&other, vec![message("a", "key")]).await;
    peer.happens(&format!("publish partitura/orders group {}", partitions[0]), 0).await;
    let refused = within(other.declare(&topology(Ordering::ByKey { partitions: 4 }))).await.expect_err("it has two");
    assert_eq!(refused.kind(), ErrorKind::Incompatible, "{refused}");
    let sets = peer.log().iter().filter(|line| line.contains("set-session-state")).count();
    assert_eq!(sets, 1);
}

#[tokio::test]
async fn a_topic_that_nobody_made_or_declared_is_not_found() {
    let peer = Peer::start(Plays::ServiceBus, []).await;
    let missing = within(connect(&peer).await.declare(&topology(ORDERED))).await.expect_err("nothing is there");
    assert_eq!(missing.kind(), ErrorKind::NotFound);
    let peer = servicebus().await;
    let undeclared = within(producer(&connect(&peer).await).await.publish(vec![message("a", "key")])).await;
    assert_eq!(undeclared[0].as_ref().expect_err("not declared").kind(), ErrorKind::NotFound);
}

#[tokio::test]
async fn a_session_has_one_reader_and_the_next_gets_what_was_not_settled() {
    let peer = servicebus().await;
    let broker = declared(&peer).await;
    let mut first = consumer(&broker).await;
    assigned(first.as_mut(), 2).await;
    publish(&broker, ["a", "b", "c"].map(|id| message(id, "key")).to_vec()).await;
    let got = deliveries(first.as_mut(), 3).await;
    assert_eq!(ids(&got), ["a", "b", "c"]);
    first.settle(&[got[0].token]);
    within(first.flush()).await.expect("flushed");
    peer.happens("renew-session-lock", 0).await;
    let other = connect(&peer).await;
    let mut second = consumer(&other).await;
    peer.happens(": taken", 0).await;
    within(first.close()).await.expect("closed");
    let again = deliveries(second.as_mut(), 2).await;
    assert_eq!(ids(&again), ["b", "c"]);
    assert!(again.iter().all(|delivery| delivery.redelivered));
}

#[tokio::test]
async fn members_see_each_other_and_share_the_sessions() {
    let peer = servicebus().await;
    let (first, second) = (declared(&peer).await, connect(&peer).await);
    let mut one = consumer(&first).await;
    assigned(one.as_mut(), 2).await;
    let mut other = consumer(&second).await;
    within(async { tokio::join!(yields(one.as_mut()), assigned(other.as_mut(), 1)) }).await;
}

/// With some hundred members there is a heartbeat at each look.
#[tokio::test]
async fn members_see_each_other_in_a_queue_that_is_never_quiet_and_look_at_intervals() {
    let peer = servicebus().await;
    peer.keep_busy("partitura/members");
    let first = declared(&peer).await;
    let mut one = consumer(&first).await;
    assigned(one.as_mut(), 2).await;
    within(async {
        while peer.looks().len() < 6 {
            tokio::time::sleep(Duration::from_millis(20)).await;
        }
    })
    .await;
    let looks = peer.looks();
    assert!(looks[5] - looks[0] >= Duration::from_millis(1_500), "{looks:?}");
    let second = connect(&peer).await;
    let mut other = consumer(&second).await;
    within(async { tokio::join!(yields(one.as_mut()), assigned(other.as_mut(), 1)) }).await;
}

#[tokio::test]
async fn a_subscription_of_another_kind_is_refused_for_good() {
    let queue = |name: &str, has_sessions| (name.to_owned(), Queue { has_sessions, ..Queue::default() });
    let queues = [
        queue("partitura/topics", true),
        queue("partitura/members", false),
        queue("partitura/orders/Subscriptions/billing", false),
    ];
    let peer = Peer::start(Plays::ServiceBus, queues).await;
    let broker = declared(&peer).await;
    let mut consumer = consumer(&broker).await;
    let refused = within(consumer.next()).await.expect_err("it has no sessions");
    assert_eq!(refused.kind(), ErrorKind::Incompatible, "{refused}");
}

#[tokio::test]
async fn an_owner_that_loses_its_locks_is_told_and_claims_again() {
    let peer = servicebus().await;
    let broker = declared(&peer).await;
    let mut consumer = consumer(&broker).await;
    assigned(consumer.as_mut(), 2).await;
    publish(&broker, vec![message("a", "key")]).await;
    assert!(!deliveries(consumer.as_mut(), 1).await[0].redelivered);
    peer.lose_locks();
    within(async { while !matches!(event(consumer.as_mut()).await, Event::Lost(_)) {} }).await;
    let again = deliveries(consumer.as_mut(), 1).await;
    assert_eq!((ids(&again), again[0].redelivered), (vec!["a"], true));
}

#[tokio::test]
async fn a_delayed_message_is_scheduled_by_the_broker() {
    let peer = servicebus().await;
    let broker = declared(&peer).await;
    let due = broker.clock().now() + Duration::from_secs(3_600);
    publish(&broker, vec![message("late", "key").not_before(due)]).await;
    peer.happens("x-opt-scheduled-enqueue-time", 0).await;
    assert!(peer.log().iter().any(|line| line.contains(&due.as_millis().to_string())), "{:#?}", peer.log());
}

#[tokio::test]
async fn a_message_that_comes_before_its_moment_is_held_back() {
    let peer = servicebus().await;
    let broker = declared(&peer).await;
    let mut consumer = consumer(&broker).await;
    // This peer schedules nothing, as if its clock were ahead.
    let due = broker.clock().now() + LATER;
    publish(&broker, vec![message("early", "key").not_before(due)]).await;
    assert_eq!(ids(&deliveries(consumer.as_mut(), 1).await), ["early"]);
    assert!(broker.clock().now() >= due);
}

#[tokio::test]
async fn a_reply_goes_to_the_session_of_its_inbox() {
    let peer = servicebus().await;
    let broker = declared(&peer).await;
    let (mut inbox, _other) =
        (within(broker.inbox()).await.expect("an inbox"), within(broker.inbox()).await.expect("another"));
    let reply = Message::new(TopicName::new("inbox").expect("a name"), "id", "answer");
    within(producer(&broker).await.reply(vec![(inbox.address().clone(), reply)])).await.expect("sent");
    assert_eq!(within(inbox.next()).await.expect("a reply").payload, "answer");
    // Otherwise those to an inbox that is gone would stay.
    let reply = peer.log().into_iter().find(|line| line.starts_with("publish partitura/inbox")).expect("a reply");
    assert!(reply.ends_with(" ttl 60000"), "{reply}");
}

#[tokio::test]
async fn a_listener_is_refused_since_clients_cannot_make_subscriptions() {
    let peer = servicebus().await;
    let broker = declared(&peer).await;
    let mut listener = match within(broker.consumer(ConsumerOptions::broadcast(orders()))).await {
        Err(refused) => return assert_eq!(refused.kind(), ErrorKind::Unsupported, "{refused}"),
        Ok(listener) => listener,
    };
    let refused = within(listener.next()).await.expect_err("there is nothing to listen to");
    assert_eq!(refused.kind(), ErrorKind::Unsupported, "{refused}");
}
