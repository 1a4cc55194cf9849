//! Messages that are sent once, whatever happens meanwhile.

use std::sync::atomic::{AtomicBool, Ordering};

use async_trait::async_trait;
use partitura_broker::{Broker, InboxAddress, ProducerOptions, Receipt, Topology};
use partitura_embedded::{Embedded, Options};

use std::time::Duration;

use super::unsent::RESENT;
use super::*;
use crate::storage::store::BrokerStore;

/// Notes what is sent, and is slow once if it is asked to.
#[derive(Debug)]
struct Watched {
    inner: Box<dyn Producer>,
    notes: Arc<Notes>,
}

#[derive(Debug, Default)]
struct Notes {
    sent: Mutex<Vec<String>>,
    is_slow: AtomicBool,
    reached: Notify,
    opened: Notify,
}

impl Notes {
    fn sent(&self) -> Vec<String> {
        self.sent.lock().unwrap_or_else(PoisonError::into_inner).clone()
    }
}

#[async_trait]
impl Producer for Watched {
    async fn publish(&self, batch: Vec<Message>) -> Vec<Result<Receipt>> {
        let ids = batch.iter().map(|message| match message.headers.get(RESENT) {
            Some(_) => format!("{} again", message.id),
            None => message.id.as_str().to_owned(),
        });
        self.notes.sent.lock().unwrap_or_else(PoisonError::into_inner).extend(ids);
        if self.notes.is_slow.swap(false, Ordering::SeqCst) {
            self.notes.reached.notify_one();
            self.notes.opened.notified().await;
        }
        self.inner.publish(batch).await
    }

    async fn reply(&self, replies: Vec<(InboxAddress, Message)>) -> Result<()> {
        self.inner.reply(replies).await
    }
}

const PARTITION: Partition = Partition(0);

async fn outbox() -> (Outbox, Arc<Notes>) {
    let broker: Arc<dyn Broker> = Arc::new(Embedded::memory(Options::default()).expect("a broker in memory"));
    broker.declare(&Topology::new().stream(topic(), partitura_broker::Ordering::Shared)).await.expect("declared");
    let store = Arc::new(BrokerStore::new(broker.clone()).expect("the embedded broker keeps state"));
    let (inner, notes) = (broker.producer(ProducerOptions::default()).await.expect("a producer"), Arc::default());
    let producer = Box::new(Watched { inner, notes: Arc::clone(&notes) });
    (Outbox::new("W", topic(), Namespace::default(), store, producer), notes)
}

fn topic() -> TopicName {
    TopicName::new("t").expect("a name")
}

/// Keeps what an earlier owner has set aside of a row, as if it had been lost before it told the instance.
async fn set_aside(outbox: &Outbox, row: &Row, message: &Message) {
    let aside = Aside { reason: "not allowed".into(), messages: vec![Kept::from_message(message)] };
    let (key, value) = (outbox.aside_of(&row.key).expect("a turn"), Some(wire::encode(&aside)));
    write(outbox, Put { space: REFUSED, key, expect: Expect::Any, value }).await;
}

/// A turn with one message of the same name.
fn turn(outbox: &Outbox, number: u32) -> (Row, Put, Message) {
    let run = Bytes::from_static(b"W\0i\0run\0");
    let history = [&run[..], &number.to_be_bytes()].concat().into();
    let message = Message::new(topic(), number.to_string(), "x").key("i");
    let (row, put) = outbox.row(PARTITION, &run, Some(&history), std::slice::from_ref(&message)).expect("a message");
    (row, put, message)
}

async fn write(outbox: &Outbox, put: Put) {
    outbox.store().write(vec![vec![put]]).await.pop().expect("a result").expect("written");
}

#[tokio::test(start_paused = true)]
async fn a_partition_that_comes_back_while_a_message_is_sent_has_it_sent_once() {
    let (outbox, notes) = outbox().await;
    let (row, put, message) = turn(&outbox, 1);
    write(&outbox, put).await;
    notes.is_slow.store(true, Ordering::SeqCst);
    let sending = async {
        let under_way = outbox.begin(PARTITION, 0).expect("ours");
        outbox.send(row, vec![message], &under_way).await;
    };
    let comes_back = async {
        notes.reached.notified().await;
        outbox.released(PARTITION);
        let opens = async {
            tokio::time::sleep(Duration::from_secs(1)).await;
            notes.opened.notify_one();
        };
        let (recovered, ()) = tokio::join!(outbox.recover(PARTITION), opens);
        recovered.expect("read");
    };
    tokio::join!(sending, comes_back);
    assert_eq!(notes.sent(), ["1"]);
}

#[tokio::test(start_paused = true)]
async fn a_message_that_an_earlier_owner_may_have_sent_is_marked() {
    let (outbox, notes) = outbox().await;
    let (row, put, message) = turn(&outbox, 1);
    write(&outbox, put).await;
    let under_way = outbox.begin(PARTITION, 0).expect("ours");
    outbox.send(row, vec![message], &under_way).await;
    let (_, put, _) = turn(&outbox, 2);
    write(&outbox, put).await;
    outbox.recover(PARTITION).await.expect("read");
    assert_eq!(notes.sent(), ["1", "2 again"]);
}

#[tokio::test(start_paused = true)]
async fn a_row_that_is_written_while_its_partition_goes_and_comes_back_is_sent_once() {
    let (outbox, notes) = outbox().await;
    let (row, put, message) = turn(&outbox, 1);
    let under_way = outbox.begin(PARTITION, 0).expect("ours");
    write(&outbox, put).await;
    let comes_back = async {
        outbox.released(PARTITION);
        outbox.recover(PARTITION).await.expect("read");
    };
    let answered = async {
        tokio::time::sleep(Duration::from_secs(1)).await;
        outbox.send(row, vec![message], &under_way).await;
        drop(under_way);
    };
    tokio::join!(comes_back, answered);
    assert_eq!(notes.sent(), ["1 again"]);
    assert_eq!(outbox.begin(PARTITION, 0).expect_err("an earlier term").kind(), ErrorKind::Fenced);
}

#[tokio::test(start_paused = true)]
async fn doubts_about_many_attempts_are_one_and_what_was_written_is_sent_once() {
    let (outbox, notes) = outbox().await;
    let under_way = outbox.begin(PARTITION, 0).expect("ours");
    for number in 0..1_000 {
        let (row, put, _) = turn(&outbox, number);
        if number == 7 {
            write(&outbox, put).await;
        }
        outbox.doubt(row, &under_way);
    }
    assert_eq!(outbox.state().doubts.len(), 1);
    assert!(outbox.is_in_doubt(PARTITION, "i"));
    outbox.recover_late(PARTITION, "i", 0).await.expect("read");
    outbox.is_certain(PARTITION, "i");
    assert!(!outbox.is_in_doubt(PARTITION, "i"));
    outbox.recover_late(PARTITION, "i", 0).await.expect("read");
    assert_eq!(notes.sent(), ["7 again"]);
}

#[tokio::test(start_paused = true)]
async fn a_refused_message_that_the_next_owner_sends_is_not_set_aside_any_more() {
    let (outbox, notes) = outbox().await;
    for (number, waits) in [(1, false), (2, true)] {
        let (row, put, message) = turn(&outbox, number);
        write(&outbox, put).await;
        set_aside(&outbox, &row, &message).await;
        match waits {
            false => outbox.recover(PARTITION).await.expect("read"),
            true => outbox.send_later(row.sender, 0, row.key, Unsent { again: vec![message], ..Unsent::default() }),
        }
        while !outbox.state().queues.is_empty() {
            tokio::task::yield_now().await;
        }
        outbox.flush().await;
    }
    let key = InstanceKey::new("W", "i");
    assert!(outbox.send_set_aside(&key, |_| true).await.expect("read").is_none());
    assert_eq!(notes.sent(), ["1 again", "2"]);
}

#[tokio::test(start_paused = true)]
async fn what_is_being_sent_again_is_not_left_to_the_next_owner() {
    let (outbox, notes) = outbox().await;
    let (row, put, message) = turn(&outbox, 1);
    write(&outbox, put).await;
    notes.is_slow.store(true, Ordering::SeqCst);
    let key = row.key.clone();
    outbox.send_later(row.sender, 0, row.key, Unsent { again: vec![message], ..Unsent::default() });
    notes.reached.notified().await;
    let opens = async {
        tokio::time::sleep(Duration::from_secs(1)).await;
        notes.opened.notify_one();
    };
    tokio::join!(outbox.come_to_rest(&[PARTITION]), opens);
    outbox.released(PARTITION);
    assert_eq!(outbox.store().get(OUTBOX, key).await.expect("read"), None);
    assert_eq!(notes.sent(), ["1"]);
}
