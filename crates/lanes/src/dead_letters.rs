use std::num::NonZeroUsize;
use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;
use partitura_broker::{
    Broker, Consumer, ConsumerOptions, Credit, Delivery, Error, ErrorKind, Event, Message, MessageId, Producer,
    ProducerOptions, Result, TopicName,
};
use tokio::time::timeout;

use crate::headers::{MARKER, PARKED};
use crate::subscription_topics::admin;
use crate::{DeadLetter, SubscriptionTopics, core};

/// How long to wait for the letters while another process looks at them.
const READ_TIMEOUT: Duration = Duration::from_secs(30);
/// Number of letters that are looked at in one go.
const REACH: usize = 100_000;

/// The dead letters of a subscription: to look at, to send again, to throw away.
///
/// One user at a time: a second one waits until the first is done.
#[derive(Debug, Clone)]
pub struct DeadLetters {
    broker: Arc<dyn Broker>,
    source: SubscriptionTopics,
    /// Where letters are sent again.
    target: TopicName,
    max_redrives: u32,
}

/// The result of a [redrive](DeadLetters::redrive).
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
#[non_exhaustive]
pub struct Redriven {
    /// Number of letters that are on their way again.
    pub redriven: usize,
    /// Number of chosen letters that have been redriven too often already. They stay where they are.
    pub too_often: usize,
}

impl DeadLetters {
    /// Those of `source`, which has been declared.
    ///
    /// # Errors
    /// [`InvalidArgument`](ErrorKind::InvalidArgument): it is a broadcast, which has none.
    pub fn new(broker: Arc<dyn Broker>, source: SubscriptionTopics) -> Result<Self> {
        if source.subscription().is_none() {
            let message = "a broadcast has no dead letters";
            return Err(Error::new(ErrorKind::InvalidArgument, "dead letters", message).of(source.topic()));
        }
        let target = source.topic().clone();
        Ok(Self { broker, source, target, max_redrives: 3 })
    }

    /// Sends letters to the subscription's parking topic, so that no other subscription of a stream gets them again.
    /// It must have been declared with parking, and its lanes run with parking.
    ///
    /// # Errors
    /// Those of building a name, which always fits.
    pub fn redrive_to_parking(mut self) -> Result<Self> {
        self.target = self.source.parking_topic()?.unwrap_or(self.target);
        Ok(self)
    }

    /// Sets how often a letter may be sent again; 3 by default. It is the guard against endless loops.
    #[must_use]
    pub fn max_redrives(mut self, times: u32) -> Self {
        self.max_redrives = times;
        self
    }

    /// The oldest letters, `limit` at most. They stay where they are.
    ///
    /// # Errors
    /// [`NotFound`](ErrorKind::NotFound): the subscription was not declared. [`Timeout`](ErrorKind::Timeout): another
    /// process has been looking at the letters for 30 s. Those of the connection.
    ///
    /// # Cancel safety
    /// Safe.
    pub async fn list(&self, limit: usize) -> Result<Vec<DeadLetter>> {
        let mut letters = Vec::new();
        let mut reader = Reader::open(self, limit).await?;
        while letters.len() < limit
            && let Some(more) = reader.next().await?
        {
            let room = limit - letters.len();
            letters.extend(more.into_iter().take(room));
        }
        reader.close().await?;
        Ok(letters)
    }

    /// Sends the letters that `choose` wants to their topic again, oldest first, and removes each when that is
    /// confirmed. Those of a key stay in order.
    ///
    /// The messages keep their ids, keys, headers and payloads; the header [`REDRIVEN`](crate::headers::REDRIVEN)
    /// counts. A letter that has been redriven [too often](Self::max_redrives) stays, and is counted in the result.
    ///
    /// # Errors
    /// As [`list`](Self::list), and those of publishing: the letters concerned stay.
    ///
    /// # Cancel safety
    /// A letter may be sent and not be removed; it is sent again by the next redrive, with the same id.
    pub async fn redrive(&self, choose: impl FnMut(&DeadLetter) -> bool) -> Result<Redriven> {
        self.redrive_as(choose, |letter| letter.message.payload.clone()).await
    }

    /// As [`redrive`](Self::redrive), with payloads from `payload` in place of those of the letters: a message that
    /// could not be read, or not be taken, is sent as it should have been. Ids, keys and headers stay.
    ///
    /// # Errors
    /// As [`redrive`](Self::redrive); [`PayloadTooLarge`](ErrorKind::PayloadTooLarge) for a payload that the broker
    /// does not take.
    ///
    /// # Cancel safety
    /// As [`redrive`](Self::redrive). A letter that was sent and not removed has its old payload.
    pub async fn redrive_as(
        &self,
        mut choose: impl FnMut(&DeadLetter) -> bool,
        mut payload: impl FnMut(&DeadLetter) -> Bytes,
    ) -> Result<Redriven> {
        let mut result = Redriven::default();
        let mut reader = Reader::open(self, REACH).await?;
        while let Some(letters) = reader.next().await? {
            let chosen = letters.into_iter().filter(|letter| choose(letter));
            let (again, too_often): (Vec<_>, Vec<_>) = chosen.partition(|letter| letter.redriven < self.max_redrives);
            result.too_often += too_often.len();
            let message = |letter: &DeadLetter| Message { payload: payload(letter), ..self.redriven(letter) };
            let messages = again.iter().map(message).collect();
            let confirmed = reader.producer.publish(messages).await;
            let mut failed = None;
            for (letter, confirmed) in again.iter().zip(confirmed) {
                match confirmed {
                    Ok(_) => {
                        reader.consumer.settle(&[letter.token]);
                        result.redriven += 1;
                    }
                    Err(error) => failed = failed.or(Some(error)),
                }
            }
            if let Some(error) = failed {
                reader.close().await?;
                return Err(error);
            }
        }
        reader.close().await?;
        Ok(result)
    }

    /// Sends all letters again.
    ///
    /// # Errors
    /// As [`redrive`](Self::redrive).
    ///
    /// # Cancel safety
    /// As [`redrive`](Self::redrive).
    pub async fn redrive_all(&self) -> Result<Redriven> {
        self.redrive(|_| true).await
    }

    /// Sends the letter of the message with this id again.
    ///
    /// # Errors
    /// As [`redrive`](Self::redrive), and [`NotFound`](ErrorKind::NotFound): there is no such letter.
    ///
    /// # Cancel safety
    /// As [`redrive`](Self::redrive).
    pub async fn redrive_one(&self, id: &MessageId) -> Result<Redriven> {
        let result = self.redrive(|letter| letter.id() == id).await?;
        if result == Redriven::default() {
            let message = format!("no dead letter has the id {id}");
            return Err(Error::new(ErrorKind::NotFound, "redrive", message).of(self.source.topic()));
        }
        Ok(result)
    }

    /// Throws away the letters that `choose` wants, and says how many they were. There is no way back.
    ///
    /// # Errors
    /// As [`list`](Self::list).
    ///
    /// # Cancel safety
    /// Some may be gone.
    pub async fn discard(&self, mut choose: impl FnMut(&DeadLetter) -> bool) -> Result<usize> {
        let mut discarded = 0;
        let mut reader = Reader::open(self, REACH).await?;
        while let Some(letters) = reader.next().await? {
            for letter in letters.iter().filter(|letter| choose(letter)) {
                reader.consumer.settle(&[letter.token]);
                discarded += 1;
            }
        }
        reader.close().await?;
        Ok(discarded)
    }

    fn redriven(&self, letter: &DeadLetter) -> Message {
        let mut message = letter.to_redrive();
        if self.target != *self.source.topic() {
            let label = core::unplaced(&message.topic);
            message.headers.insert(PARKED, label);
            message.topic = self.target.clone();
        }
        message
    }
}

/// Reads the letters that are there now: up to a marker that it puts behind them.
#[derive(Debug)]
struct Reader {
    consumer: Box<dyn Consumer>,
    producer: Box<dyn Producer>,
    source: TopicName,
    marker: String,
    over: bool,
}

impl Reader {
    async fn open(letters: &DeadLetters, reach: usize) -> Result<Self> {
        let Some(topic) = letters.source.dead_topic()? else {
            return Err(Error::new(ErrorKind::InvalidArgument, "dead letters", "a broadcast has none"));
        };
        let producer = letters.broker.producer(ProducerOptions::default()).await?;
        // One more for the marker, and some for those that others left behind.
        let credit = Credit {
            messages: NonZeroUsize::MIN.saturating_add(reach).saturating_add(100),
            bytes: NonZeroUsize::new(1 << 31).unwrap_or(NonZeroUsize::MAX),
        };
        let options = ConsumerOptions::new(admin()?, [topic.clone()]).credit(credit);
        let consumer = letters.broker.consumer(options).await?;
        let marker = uuid::Uuid::now_v7().to_string();
        let message = Message::new(topic, format!("marker-{marker}"), "").header(MARKER, marker.clone());
        producer.publish(vec![message]).await.into_iter().try_for_each(|result| result.map(drop))?;
        Ok(Self { consumer, producer, source: letters.source.topic().clone(), marker, over: false })
    }

    /// Some letters; `None`: those were all.
    async fn next(&mut self) -> Result<Option<Vec<DeadLetter>>> {
        while !self.over {
            let Ok(event) = timeout(READ_TIMEOUT, self.consumer.next()).await else {
                let message = format!("another process has been looking at them for {READ_TIMEOUT:?}; try again later");
                return Err(Error::new(ErrorKind::Timeout, "read dead letters", message).of(&self.source));
            };
            match event? {
                Event::Deliveries(deliveries) => {
                    let letters = deliveries.into_iter().filter_map(|delivery| self.read(delivery)).collect::<Vec<_>>();
                    if !letters.is_empty() {
                        return Ok(Some(letters));
                    }
                }
                Event::Revoking { .. } | Event::Lost(_) => {
                    let message = "another process began to look at them; try again";
                    return Err(Error::new(ErrorKind::Timeout, "read dead letters", message).of(&self.source));
                }
                _ => {}
            }
        }
        Ok(None)
    }

    fn read(&mut self, delivery: Delivery) -> Option<DeadLetter> {
        match delivery.message.headers.get_str(MARKER) {
            Some(marker) => {
                self.over |= *marker == self.marker;
                self.consumer.settle(&[delivery.token]);
                None
            }
            None if self.over => None,
            None => Some(DeadLetter::read(delivery.message, &self.source, delivery.token)),
        }
    }

    async fn close(self) -> Result<()> {
        self.consumer.close().await
    }
}
