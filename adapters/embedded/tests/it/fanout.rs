use partitura_broker::{Broker, ConsumerOptions, ErrorKind, Event, InboxAddress, Message, Ordering, Topology};

use crate::support::*;

#[tokio::test]
async fn each_subscription_of_a_stream_gets_everything() {
    let topology = Topology::new()
        .stream(topic("q"), by_key(4))
        .subscription(subscription("s"), [topic("q")])
        .subscription(subscription("t"), [topic("q")]);
    let directory = tempfile::tempdir().unwrap();
    let broker = file(&directory, &topology).await;
    publish(&broker, (0..50).map(|i| message("k", i)).collect()).await;
    let mut first = broker.consumer(options()).await.unwrap();
    let deliveries = receive(&mut first, 50).await;
    first.settle(&tokens(&deliveries));
    first.flush().await.unwrap();
    broker.close().await.unwrap();
    let broker = file(&directory, &topology).await;
    let mut second = broker.consumer(ConsumerOptions::new(subscription("t"), [topic("q")])).await.unwrap();
    assert_eq!(texts(&receive(&mut second, 50).await), numbers(0..50));
    nothing(&mut broker.consumer(options()).await.unwrap()).await;
}

#[tokio::test]
async fn listeners_get_everything_from_now_on_and_nobody_keeps_it() {
    let directory = tempfile::tempdir().unwrap();
    let broker = file(&directory, &Topology::new().stream(topic("q"), by_key(4))).await;
    publish(&broker, vec![message("k", "before")]).await;
    let mut listeners = Vec::new();
    for _ in 0..3 {
        listeners.push(broker.consumer(ConsumerOptions::broadcast(topic("q"))).await.unwrap());
    }
    publish(&broker, (0..20).map(|i| message("k", i)).collect()).await;
    for listener in &mut listeners {
        let Event::Assigned(all) = news(listener).await else { panic!() };
        assert_eq!(all.len(), 4);
        let deliveries = receive(listener, 20).await;
        assert_eq!(texts(&deliveries), numbers(0..20));
        listener.settle(&tokens(&deliveries));
    }
    broker.close().await.unwrap();
    let broker = file(&directory, &Topology::new()).await;
    nothing(&mut broker.consumer(ConsumerOptions::broadcast(topic("q"))).await.unwrap()).await;
}

#[tokio::test]
async fn listeners_hear_what_a_durable_subscription_keeps() {
    let topology = Topology::new().stream(topic("q"), Ordering::Shared).subscription(subscription("s"), [topic("q")]);
    let broker = memory(&topology).await;
    let mut listener = broker.consumer(ConsumerOptions::broadcast(topic("q"))).await.unwrap();
    publish(&broker, vec![message("k", "a")]).await;
    assert_eq!(texts(&receive(&mut listener, 1).await), ["a"]);
    assert_eq!(texts(&receive(&mut broker.consumer(options()).await.unwrap(), 1).await), ["a"]);
}

#[tokio::test]
async fn a_queue_cannot_be_broadcast() {
    let broker = memory(&queue(by_key(1))).await;
    let error = broker.consumer(ConsumerOptions::broadcast(topic("q"))).await.unwrap_err();
    assert_eq!(error.kind(), ErrorKind::InvalidArgument);
}

#[tokio::test]
async fn competitors_share_the_work_and_a_stalled_one_holds_only_its_own() {
    let broker = memory(&queue(Ordering::Shared)).await;
    let mut stalled = broker.consumer(options().credit(credit(10))).await.unwrap();
    let mut busy = broker.consumer(options().credit(credit(10))).await.unwrap();
    publish(&broker, (0..100).map(|i| message("k", i)).collect()).await;
    let held = receive(&mut stalled, 10).await;
    let mut done = 0;
    while done < 90 {
        let deliveries = receive_at_least(&mut busy, 1).await;
        done += deliveries.len();
        busy.settle(&tokens(&deliveries));
    }
    drop(stalled);
    let deliveries = receive(&mut busy, 10).await;
    assert_eq!(texts(&deliveries), texts(&held));
    assert!(deliveries.iter().all(|delivery| delivery.redelivered));
}

#[tokio::test]
async fn every_waiting_competitor_is_woken() {
    let broker = memory(&queue(Ordering::Shared)).await;
    let mut consumers = Vec::new();
    for _ in 0..10 {
        consumers.push(broker.consumer(options()).await.unwrap());
    }
    let waiting: Vec<_> = consumers
        .into_iter()
        .map(|mut consumer| {
            tokio::spawn(async move {
                let deliveries = receive(&mut consumer, 1).await;
                consumer.settle(&tokens(&deliveries));
                text(&deliveries[0])
            })
        })
        .collect();
    tokio::task::yield_now().await;
    publish(&broker, (0..10).map(|i| message("k", i)).collect()).await;
    let mut seen = Vec::new();
    for one in waiting {
        seen.push(one.await.unwrap().parse::<u32>().unwrap());
    }
    seen.sort_unstable();
    assert_eq!(seen, (0..10).collect::<Vec<_>>());
}

#[tokio::test]
async fn an_inbox_receives_replies_and_is_gone_when_dropped() {
    let broker = memory(&Topology::new()).await;
    let producer = producer(&broker).await;
    let mut inbox = broker.inbox().await.unwrap();
    let other = broker.inbox().await.unwrap();
    assert_ne!(inbox.address(), other.address());
    let address = InboxAddress::new(inbox.address().as_str());
    let gone = other.address().clone();
    drop(other);
    let reply = Message::new(topic("any"), "id", "answer").header("h", "v");
    producer.reply(vec![(gone, reply.clone()), (address, reply.clone())]).await.unwrap();
    assert_eq!(inbox.next().await.unwrap(), reply);
}
