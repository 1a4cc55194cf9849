use async_nats::jetstream::stream::Config;
use partitura_broker::{Broker, ErrorKind, Ordering, Topology};

use crate::support::{nats, subscription, topic};

const TWO: Ordering = Ordering::ByKey { partitions: 2 };

#[tokio::test]
async fn a_difference_is_refused_and_named() {
    let (broker, topic) = (nats().await, topic("differs"));
    let queue = Topology::new().queue(topic.clone(), TWO).subscription(subscription("s"), [topic.clone()]);
    broker.declare(&queue).await.expect("it is new");
    for (other, text) in [
        (Topology::new().stream(topic.clone(), TWO), "a Stream was asked for, it is a Queue"),
        (Topology::new().queue(topic.clone(), Ordering::Shared), "without order"),
        (Topology::new().queue(topic.clone(), Ordering::ByKey { partitions: 3 }), "3 partitions"),
        (Topology::new().subscription(subscription("t"), [topic.clone()]), "another subscription"),
    ] {
        let error = broker.declare(&other).await.expect_err(text);
        assert_eq!(error.kind(), ErrorKind::Incompatible, "{error}");
        assert!(error.to_string().contains(text), "{error}");
    }
    broker.declare(&queue.verify_only()).await.expect("nothing was changed");
}

#[tokio::test]
async fn a_stream_of_another_program_is_left_alone() {
    let (broker, topic) = (nats().await, topic("theirs"));
    let jetstream = async_nats::jetstream::new(broker.client().await.expect("a connection"));
    let name = format!("partitura_{topic}");
    let config = Config { name: name.clone(), subjects: vec![format!("theirs.{topic}")], ..Config::default() };
    jetstream.create_stream(config).await.expect("a new stream");
    let error = broker.declare(&Topology::new().queue(topic, TWO)).await.expect_err("theirs");
    assert_eq!(error.kind(), ErrorKind::Incompatible);
    assert!(error.to_string().contains("not made by Partitura"), "{error}");
    jetstream.delete_stream(name).await.expect("it is there");
}

#[tokio::test]
async fn a_stream_that_would_drop_messages_is_refused_when_declared_and_when_used() {
    let (broker, topic) = (nats().await, topic("limits"));
    let queue = Topology::new().queue(topic.clone(), TWO).subscription(subscription("s"), [topic.clone()]);
    broker.declare(&queue).await.expect("it is new");
    let jetstream = async_nats::jetstream::new(broker.client().await.expect("a connection"));
    let mut stream = jetstream.get_stream(format!("partitura_{topic}")).await.expect("it was declared");
    let sound = stream.info().await.expect("it is there").config.clone();
    let hour = std::time::Duration::from_secs(3_600);
    for (edited, text) in [
        (Config { max_age: hour, ..sound.clone() }, "age of its stream is 3600s, none is needed"),
        (Config { max_messages: 10, ..sound.clone() }, "messages of its stream is 10 with the discard policy Old"),
    ] {
        jetstream.update_stream(edited).await.expect("an operator may");
        // A broker that does not know the topic yet.
        let other = nats().await;
        for error in [
            other.declare(&queue).await.expect_err(text),
            other
                .consumer(partitura_broker::ConsumerOptions::new(subscription("s"), [topic.clone()]))
                .await
                .expect_err(text),
        ] {
            assert_eq!(error.kind(), ErrorKind::Incompatible);
            assert!(error.to_string().contains(text), "{error}");
        }
    }
    jetstream.update_stream(sound).await.expect("as it was");
    nats().await.declare(&queue).await.expect("nothing drops messages now");
}

#[tokio::test]
async fn names_with_dots_do_not_meet() {
    let (broker, topic) = (nats().await, topic("a"));
    let below = partitura_broker::TopicName::new(format!("{topic}.0")).expect("a valid name");
    let both = Topology::new().queue(topic, TWO).queue(below, TWO);
    broker.declare(&both).await.expect("their subjects do not overlap");
}
