//! Messages that other programs read, and messages that they wrote.

use futures::StreamExt;
use partitura_broker::{Broker, Ordering};
use pulsar::producer::Message;
use pulsar::{Consumer, SubType, TokioExecutor};

use crate::support::{Place, connect, options, publish, take};

const ONE: Ordering = Ordering::ByKey { partitions: 1 };

#[tokio::test(flavor = "multi_thread")]
async fn the_client_of_the_crate_reads_key_headers_and_payload() {
    let (broker, place) = (connect(options()).await, Place::new("theirs", ONE));
    broker.declare(&place.topology()).await.expect("declared");
    let batch = place.messages(0..3).into_iter().map(|message| message.header("color", "red")).collect();
    publish(&broker, batch).await;
    let client = broker.client().await.expect("a client");
    let mut consumer: Consumer<String, TokioExecutor> = client
        .consumer()
        .with_topic(format!("persistent://public/default/{}-partition-0", place.topic))
        .with_subscription(place.subscription.as_str())
        .with_subscription_type(SubType::Exclusive)
        .build()
        .await
        .expect("a consumer");
    for i in 0..3 {
        let got = consumer.next().await.expect("a message").expect("a message");
        assert_eq!(got.deserialize().expect("text"), format!("payload {i}"));
        assert_eq!(got.key().as_deref(), Some("k"));
        let properties = &got.payload.metadata.properties;
        assert!(properties.iter().any(|property| property.key == "color" && property.value == "red"));
        assert!(properties.iter().any(|p| p.key == "partitura-id" && p.value == format!("m-{i}")));
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn the_message_of_another_program_is_delivered_with_its_place_as_id() {
    let (broker, place) = (connect(options()).await, Place::new("ours", ONE));
    broker.declare(&place.topology()).await.expect("declared");
    let client = broker.client().await.expect("a client");
    let topic = format!("persistent://public/default/{}-partition-0", place.topic);
    let mut producer = client.producer().with_topic(topic).build().await.expect("a producer");
    let message = Message { payload: b"hello".to_vec(), partition_key: Some("k".into()), ..Message::default() };
    producer.send_non_blocking(message).await.expect("sent").await.expect("a receipt");
    let mut consumer = place.join(&broker).await;
    let got = take(&mut *consumer, 1).await.remove(0).message;
    assert_eq!((got.payload.as_ref(), got.key.as_deref()), (&b"hello"[..], Some(&b"k"[..])));
    assert_eq!(got.id.as_str().split(':').count(), 3, "{}", got.id);
}
