//! Delayed messages and a destination that refuses them.

use std::collections::BTreeMap;
use std::time::{Duration, SystemTime};

use partitura_broker::{Broker, Event, Message, Ordering, Partition, Timestamp, partition_of};
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpStream;
use tokio::time::{Instant, timeout_at};

use crate::support::{Place, connect, endpoints, options, publish};

const PARTITIONS: u32 = 8;
const TERMINATED: Partition = Partition(3);

fn delayed(place: &Place, number: u32, due: Timestamp) -> Message {
    let key = format!("k{}", number % 40);
    Message::new(place.topic.clone(), format!("{key}-{number}"), "").key(key).not_before(due)
}

fn partition(message: &Message) -> Partition {
    partition_of(message.key.as_deref().unwrap_or_default(), PARTITIONS)
}

/// Terminates a partition by the admin API, as an operator does.
async fn terminate(place: &Place) {
    let admin = endpoints().admin.expect("an admin API");
    let host = admin.trim_start_matches("http://").trim_end_matches('/').to_owned();
    let topic = format!("{}-partition-{TERMINATED}", place.topic);
    let request = format!(
        "POST /admin/v2/persistent/public/default/{topic}/terminate HTTP/1.1\r\nHost: {host}\r\nContent-Length: \
         0\r\nConnection: close\r\n\r\n"
    );
    let mut socket = TcpStream::connect(&host).await.expect("the broker is up");
    socket.write_all(request.as_bytes()).await.expect("sent");
    let mut answer = String::new();
    socket.read_to_string(&mut answer).await.expect("an answer");
    assert!(answer.starts_with("HTTP/1.1 20"), "{answer}");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_partition_that_refuses_holds_up_no_other_and_nothing_comes_twice() {
    let (broker, place) =
        (connect(options()).await, Place::new("terminated", Ordering::ByKey { partitions: PARTITIONS }));
    broker.declare(&place.topology()).await.expect("declared");
    let mut consumer = place.join(&broker).await;
    terminate(&place).await;
    let due = Timestamp::from(SystemTime::now()) + Duration::from_secs(3);
    let timers: Vec<Message> = (0..320).map(|number| delayed(&place, number, due)).collect();
    let healthy = timers.iter().filter(|message| partition(message) != TERMINATED).count();
    assert!((200..320).contains(&healthy), "some keys are of the partition that was terminated");
    publish(&broker, timers).await;

    let mut came: BTreeMap<String, u32> = BTreeMap::new();
    let until = Instant::now() + Duration::from_secs(20);
    while let Ok(event) = timeout_at(until, consumer.next()).await {
        let Event::Deliveries(deliveries) = event.expect("an event") else { continue };
        for delivery in deliveries {
            assert_ne!(partition(&delivery.message), TERMINATED);
            *came.entry(delivery.message.id.to_string()).or_default() += 1;
            consumer.settle(&[delivery.token]);
        }
    }
    let copies: u32 = came.values().sum();
    assert_eq!((came.len(), copies as usize), (healthy, healthy), "each of them came, and once");
}
