use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering::SeqCst};
use std::time::Duration;

use async_trait::async_trait;
use partitura_broker::*;
use partitura_embedded::Embedded;
use partitura_lanes::{DeadLetters, LaneOptions, Outcome, Retry, headers};

use crate::support::{Log, Running, World, text};

fn letters(world: &World) -> DeadLetters {
    DeadLetters::new(world.broker.clone(), world.source.clone()).unwrap()
}

/// Refuses what `refuse` says, and logs the rest.
async fn run(world: &World, log: &Log, refuse: impl Fn(&str) -> bool + Send + Sync + 'static) -> Running {
    let log = log.clone();
    let options = LaneOptions::default().retry(Retry::fixed(Duration::from_secs(1)).max_attempts(3));
    world
        .run(options, move |batch| {
            let text = text(&batch);
            let refused = refuse(&text);
            log.add(text);
            async move { if refused { Outcome::retry("card declined") } else { Outcome::Done } }
        })
        .await
}

#[tokio::test(start_paused = true)]
async fn after_a_dead_letter_the_key_continues() {
    let world = World::new(false).await;
    let log = Log::new();
    world.publish(&["k:5", "k:6"]).await;
    let running = run(&world, &log, |text| text == "k:5").await;
    assert_eq!(log.count(4).await, ["k:5", "k:5", "k:5", "k:6"]);
    running.stop().await;
}

#[tokio::test(start_paused = true)]
async fn a_dead_letter_is_its_message_byte_for_byte_and_says_what_happened() {
    let world = World::new(false).await;
    let payload = (0..=255u8).collect::<Vec<_>>();
    let mut message = world.message("", "");
    (message.key, message.payload) = (Some(vec![0, 255].into()), payload.into());
    message.headers.append("x", "1");
    message.headers.append("x", vec![0xff]);
    message.headers.append("traceparent", "00-1-2-01");
    world.publish_all(vec![message.clone()]).await;
    let log = Log::new();
    let running = run(&world, &log, |_| true).await;
    log.count(3).await;
    running.stop().await;

    let [letter] = &letters(&world).list(10).await.unwrap()[..] else { panic!("one letter") };
    assert_eq!(letter.message, message);
    assert_eq!((letter.reason.as_str(), letter.error.as_deref()), ("gave up after 3 attempts", Some("card declined")));
    assert_eq!((letter.attempts, letter.redriven, letter.subscription.as_str()), (3, 0, "billing"));
    assert_eq!(letter.partition, partition_of(&[0, 255], 4));
    assert!(letter.at.as_millis() > 1_600_000_000_000);
    assert_eq!(letters(&world).list(10).await.unwrap().len(), 1, "to list takes nothing away");

    // The message on the wire, for programs that read the topic without us.
    let dead = world.source.dead_topic().unwrap().unwrap();
    let options = ConsumerOptions::new("admin".parse().unwrap(), [dead]);
    let mut consumer = world.broker.consumer(options).await.unwrap();
    let wire = loop {
        if let Event::Deliveries(mut deliveries) = consumer.next().await.unwrap() {
            break deliveries.remove(0).message;
        }
    };
    assert_eq!((&wire.id, &wire.key, &wire.payload), (&message.id, &message.key, &message.payload));
    assert!(message.headers.iter().zip(wire.headers.iter()).all(|(a, b)| a == b), "the old headers come first");
    let added = wire.headers.iter().skip(3).map(|(name, value)| (name, value.clone())).collect::<Vec<_>>();
    let (at, partition) = (letter.at.as_millis().to_string(), letter.partition.to_string());
    let expected = [
        (headers::DEAD_REASON, "gave up after 3 attempts"),
        (headers::DEAD_ERROR, "card declined"),
        (headers::DEAD_ATTEMPTS, "3"),
        (headers::DEAD_TOPIC, "orders"),
        (headers::DEAD_PARTITION, &partition),
        (headers::DEAD_SUBSCRIPTION, "billing"),
        (headers::DEAD_AT, &at),
        (headers::DEAD_ID, message.id.as_str()),
    ];
    assert_eq!(added, expected.map(|(name, value)| (name, bytes::Bytes::copy_from_slice(value.as_bytes()))));
}

#[tokio::test(start_paused = true)]
async fn letters_are_redriven_in_order_and_not_for_ever() {
    let world = World::new(false).await;
    let log = Log::new();
    let texts = ["a:1", "b:1", "a:2", "a:3"];
    world.publish(&texts).await;
    let running = run(&world, &log, |_| true).await;
    log.count(12).await;
    let of_a = |letter: &partitura_lanes::DeadLetter| letter.message.key.as_deref() == Some(b"a");
    for round in 1..=3 {
        running_until_letters(&world, 4).await;
        let result = letters(&world).redrive(of_a).await.unwrap();
        assert_eq!((result.redriven, result.too_often), (3, 0));
        let lines = log.count(12 + round * 9).await;
        let again = &lines[12 + (round - 1) * 9..];
        let expected = ["a:1", "a:2", "a:3"].iter().flat_map(|text| [*text; 3]).collect::<Vec<_>>();
        assert_eq!(again, expected);
    }
    running_until_letters(&world, 4).await;
    let result = letters(&world).redrive_all().await.unwrap();
    assert_eq!((result.redriven, result.too_often), (1, 3), "only b has not been redriven too often");
    log.count(12 + 27 + 3).await;
    running.stop().await;
    let b = letters(&world).list(10).await.unwrap().into_iter().find(|letter| !of_a(letter)).unwrap();
    assert_eq!(letters(&world).redrive_one(b.id()).await.unwrap().redriven, 1);
    let missing = letters(&world).redrive_one(&"nobody".into()).await.unwrap_err();
    assert_eq!(missing.kind(), ErrorKind::NotFound);
    assert_eq!(letters(&world).discard(of_a).await.unwrap(), 3);
    assert!(letters(&world).list(10).await.unwrap().is_empty());
}

/// The last letter is confirmed a little after its last run.
async fn running_until_letters(world: &World, count: usize) {
    while letters(world).list(10).await.unwrap().len() < count {
        tokio::task::yield_now().await;
    }
}

#[tokio::test(start_paused = true)]
async fn while_dead_letters_cannot_be_written_the_source_stays_unsettled() {
    let broken = Arc::new(AtomicBool::new(true));
    let tries = Arc::new(AtomicUsize::new(0));
    let inner = Embedded::memory(Default::default()).unwrap();
    let broker = Arc::new(Failing { inner, broken: broken.clone(), tries: tries.clone() });
    let world = World::over(broker, false).await;
    let log = Log::new();
    world.publish(&["k:1", "k:2"]).await;
    let running = run(&world, &log, |text| text == "k:1").await;
    log.count(3).await;
    while tries.load(SeqCst) < 5 {
        tokio::time::sleep(Duration::from_secs(1)).await;
    }
    running.crash().await;
    assert_eq!(log.lines().len(), 3, "its key waits");
    assert!(letters(&world).list(1).await.unwrap().is_empty());

    let running = run(&world, &log, |text| text == "k:1").await;
    assert_eq!(log.count(6).await[3..], ["k:1", "k:1", "k:1"], "it was not settled");
    broken.store(false, SeqCst);
    assert_eq!(log.count(7).await[6], "k:2");
    running.stop().await;
    assert_eq!(letters(&world).list(10).await.unwrap().len(), 1);
}

/// A broker that cannot write letters while it is broken.
#[derive(Debug)]
struct Failing {
    inner: Embedded,
    broken: Arc<AtomicBool>,
    tries: Arc<AtomicUsize>,
}

#[derive(Debug)]
struct FailingProducer {
    inner: Box<dyn Producer>,
    broken: Arc<AtomicBool>,
    tries: Arc<AtomicUsize>,
}

#[async_trait]
impl Broker for Failing {
    fn capabilities(&self) -> &Capabilities {
        self.inner.capabilities()
    }

    fn clock(&self) -> CorrectedClock {
        self.inner.clock()
    }

    async fn declare(&self, topology: &Topology) -> Result<()> {
        self.inner.declare(topology).await
    }

    async fn producer(&self, options: ProducerOptions) -> Result<Box<dyn Producer>> {
        let inner = self.inner.producer(options).await?;
        Ok(Box::new(FailingProducer { inner, broken: self.broken.clone(), tries: self.tries.clone() }))
    }

    async fn consumer(&self, options: ConsumerOptions) -> Result<Box<dyn Consumer>> {
        self.inner.consumer(options).await
    }

    async fn inbox(&self) -> Result<Box<dyn Inbox>> {
        self.inner.inbox().await
    }

    fn has_subscribers(&self, topic: &TopicName) -> bool {
        self.inner.has_subscribers(topic)
    }

    async fn close(&self) -> Result<()> {
        self.inner.close().await
    }
}

#[async_trait]
impl Producer for FailingProducer {
    async fn publish(&self, batch: Vec<Message>) -> Vec<Result<Receipt>> {
        let letter = |message: &Message| message.headers.get(headers::DEAD_REASON).is_some();
        if self.broken.load(SeqCst) && batch.iter().any(letter) {
            self.tries.fetch_add(1, SeqCst);
            let refuse = |message: &Message| Error::new(ErrorKind::Throttled, "publish", "full").of(&message.topic);
            return batch.iter().map(|message| Err(refuse(message))).collect();
        }
        self.inner.publish(batch).await
    }

    async fn reply(&self, replies: Vec<(InboxAddress, Message)>) -> Result<()> {
        self.inner.reply(replies).await
    }
}
