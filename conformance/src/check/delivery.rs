use std::collections::{HashMap, HashSet};

use partitura_broker::{Partition, partition_of};

use super::members::{Id, Members};
use super::violation::Violation;
use crate::history::{History, Record, Sent, Token};

/// Checks that a delivered message was published to its topic, byte for byte, and is in the partition of its key, by a
/// number of partitions that the topic was declared with.
///
/// # Errors
/// The first other delivery.
pub fn as_published(history: &History) -> Result<(), Violation> {
    let mut published: HashMap<(&str, &str), &Sent> = HashMap::new();
    let mut partitions: HashMap<&str, Vec<u32>> = HashMap::new();
    for entry in history.entries() {
        match &entry.record {
            Record::Topic { topic, partitions: Some(count) } => {
                partitions.entry(topic).or_default().push(*count);
            }
            Record::Publishing { sent, .. } => {
                published.insert((&sent.topic, &sent.id), sent);
            }
            // Messages that were published without the recorder, as the lanes of a handler do, are not judged.
            Record::Delivered(delivered) => {
                let got = &delivered.message;
                let problem = match published.get(&(got.topic.as_str(), got.id.as_str())) {
                    None => Some("was never published there".to_owned()),
                    Some(sent) if *sent != got => Some(format!("was published as {sent:?}")),
                    Some(_) => misplaced(got, delivered.token, &partitions),
                };
                if let Some(problem) = problem {
                    return Err(Violation::new("as_published", format!("{} {problem}", got.id)).at(entry));
                }
            }
            _ => {}
        }
    }
    Ok(())
}

fn misplaced(got: &Sent, token: Token, partitions: &HashMap<&str, Vec<u32>>) -> Option<String> {
    let counts = partitions.get(got.topic.as_str())?;
    let key = got.key.as_ref()?;
    // Checks only keys that were not escaped: their bytes are their text.
    let plain = key.bytes().all(|byte| byte.is_ascii_graphic() && !matches!(byte, b'\\' | b'"' | b'\''));
    let of = |count: &u32| partition_of(key.as_bytes(), *count);
    let wrong = plain && !counts.iter().any(|count| of(count) == Partition(token.partition));
    let expected = counts.last().map(of)?;
    wrong.then(|| format!("came from partition {}, and its key belongs to {expected}", token.partition))
}

/// Checks that every confirmed message was delivered to every durable subscription that its topic had when it was
/// published, unless it was cancelled, or may have been.
///
/// # Errors
/// The number of missing messages, and the first one.
pub fn nothing_lost(history: &History) -> Result<(), Violation> {
    let mut subscriptions: HashMap<&str, Vec<&str>> = HashMap::new();
    let mut promised: HashMap<(u64, &str), (&Sent, Vec<&str>)> = HashMap::new();
    let mut missing: HashMap<(&str, &str, &str), usize> = HashMap::new();
    let mut delivered: HashSet<(String, &str, &str)> = HashSet::new();
    // The entries of its last publishing, and of the answer to its cancellation, if there is one.
    let mut published: HashMap<(&str, &str), usize> = HashMap::new();
    let mut cancelled: HashMap<(u64, &str, &str), usize> = HashMap::new();
    let mut members = Members::default();
    for (at, entry) in history.entries().iter().enumerate() {
        match &entry.record {
            Record::Subscription { topic, subscription } => {
                let known = subscriptions.entry(topic).or_default();
                if !known.contains(&subscription.as_str()) {
                    known.push(subscription);
                }
            }
            Record::Publishing { call, sent } => {
                let to = subscriptions.get(sent.topic.as_str()).cloned().unwrap_or_default();
                published.insert((&sent.topic, &sent.id), at);
                promised.insert((*call, &sent.id), (sent, to));
            }
            Record::Published { call, id, outcome: Ok(_) } => {
                if let Some((sent, to)) = promised.get(&(*call, id.as_str())) {
                    missing.extend(to.iter().map(|subscription| ((*subscription, &*sent.topic, &*sent.id), at)));
                }
            }
            Record::Cancelling { call, topic, id } => {
                cancelled.insert((*call, topic, id), usize::MAX);
            }
            Record::Cancelled { call, topic, id, outcome } => match outcome.as_ref().map_err(String::as_str) {
                Ok(false) | Err("Unsupported" | "NotFound") => drop(cancelled.remove(&(*call, topic, id))),
                // Without an answer it may have been cancelled.
                Ok(true) | Err(_) => drop(cancelled.insert((*call, topic, id), at)),
            },
            Record::Delivered(got) => {
                let member = members.get((entry.process, got.consumer));
                if let Some((subscription, _)) = member.and_then(|member| member.group.as_ref()) {
                    delivered.insert((subscription.clone(), &got.message.topic, &got.message.id));
                }
            }
            _ => members.apply(entry),
        }
    }
    let since =
        |(_, topic, id): &(u64, &str, &str), at: usize| published.get(&(*topic, *id)).is_none_or(|last| *last < at);
    cancelled.retain(|of, at| since(of, *at));
    let cancelled: HashSet<(&str, &str)> = cancelled.into_keys().map(|(_, topic, id)| (topic, id)).collect();
    missing.retain(|(_, topic, id), _| !cancelled.contains(&(*topic, *id)));
    missing.retain(|(subscription, topic, id), _| !delivered.contains(&((*subscription).to_owned(), *topic, *id)));
    let Some(((subscription, topic, id), at)) = missing.iter().min_by_key(|(_, at)| **at) else { return Ok(()) };
    let what =
        format!("{} confirmed messages were not delivered, first {id} of {topic} to {subscription}", missing.len());
    Err(Violation::new("nothing_lost", what).at(&history.entries()[*at]))
}

/// Checks that no message is delivered twice to the same subscription. For cases in which no consumer leaves or dies.
///
/// # Errors
/// The first second delivery.
pub fn each_once(history: &History) -> Result<(), Violation> {
    let mut members = Members::default();
    let mut seen: HashSet<(Option<String>, Id, &str, &str)> = HashSet::new();
    for entry in history.entries() {
        members.apply(entry);
        let Record::Delivered(got) = &entry.record else { continue };
        let id = (entry.process, got.consumer);
        let group =
            members.get(id).and_then(|member| member.group.as_ref()).map(|(subscription, _)| subscription.clone());
        // In a broadcast each listener counts by itself.
        let listener = if group.is_some() { (0, 0) } else { id };
        if !seen.insert((group, listener, &got.message.topic, &got.message.id)) {
            return Err(Violation::new("each_once", format!("{} comes twice", got.message.id)).at(entry));
        }
    }
    Ok(())
}

/// Checks the same for one topic.
///
/// # Errors
/// The first second delivery.
pub fn each_once_of(history: &History, topic: &str) -> Result<(), Violation> {
    let of_topic = |record: &Record| match record {
        Record::Delivered(got) => got.message.topic == topic,
        _ => true,
    };
    let entries = history.entries().iter().filter(|entry| of_topic(&entry.record)).cloned();
    each_once(&History::new(entries.collect()))
}

/// Checks that a redelivery to a subscription is flagged. Messages that were published more than once are left out:
/// their second copy comes for the first time.
///
/// # Errors
/// The first redelivery without a flag.
pub fn flagged(history: &History) -> Result<(), Violation> {
    let mut members = Members::default();
    let mut published: HashMap<(&str, &str), u32> = HashMap::new();
    let mut seen: HashSet<(String, &str, &str)> = HashSet::new();
    for entry in history.entries() {
        if let Record::Publishing { sent, .. } = &entry.record {
            *published.entry((&sent.topic, &sent.id)).or_default() += 1;
        }
    }
    for entry in history.entries() {
        members.apply(entry);
        let Record::Delivered(got) = &entry.record else { continue };
        let member = members.get((entry.process, got.consumer));
        let Some((subscription, _)) = member.and_then(|member| member.group.as_ref()) else { continue };
        let message = (got.message.topic.as_str(), got.message.id.as_str());
        let again = !seen.insert((subscription.clone(), message.0, message.1));
        if again && !got.redelivered && published.get(&message).is_none_or(|count| *count == 1) {
            return Err(Violation::new("flagged", format!("{} comes again without its flag", message.1)).at(entry));
        }
    }
    Ok(())
}

/// The consumer of a delivery, and its subscription, topic and message: a token settles nothing for another consumer.
type Given<'h> = (Id, Due<'h>);

/// A subscription, a topic, and a message of it.
type Due<'h> = (String, &'h str, &'h str);

/// Checks that a delivery which a consumer settled in its term and flushed, or which a transaction committed, does not
/// come again. A message that was published several times under its id is settled when it was settled as often.
///
/// # Errors
/// The first delivery of a settled message.
pub fn settled_stays_settled(history: &History) -> Result<(), Violation> {
    let mut members = Members::default();
    let mut of_token: HashMap<(u32, Token), Given<'_>> = HashMap::new();
    let mut pending: HashMap<Id, Vec<Token>> = HashMap::new();
    let mut settled: HashMap<Due<'_>, HashSet<(u32, Token)>> = HashMap::new();
    let mut published: HashMap<(&str, &str), usize> = HashMap::new();
    for entry in history.entries() {
        members.apply(entry);
        let id = |consumer: &u32| (entry.process, *consumer);
        match &entry.record {
            Record::Publishing { sent, .. } => *published.entry((&sent.topic, &sent.id)).or_default() += 1,
            Record::Settling { consumer, token } => pending.entry(id(consumer)).or_default().push(*token),
            Record::Flushed { consumer } => {
                let id = id(consumer);
                let owned = |token: &Token| {
                    let ordered = members.get(id).is_some_and(|member| member.ordered);
                    let term = members.term(id, token.partition).is_some_and(|term| term.epoch == token.epoch);
                    !ordered || (term && members.other_owner(id, token.partition, entry.at).is_none())
                };
                let tokens = pending.remove(&id).unwrap_or_default().into_iter().filter(owned);
                for token in tokens.map(|token| (entry.process, token)) {
                    if let Some((_, message)) = of_token.get(&token).filter(|(to, _)| *to == id) {
                        settled.entry(message.clone()).or_default().insert(token);
                    }
                }
            }
            Record::Committed { token } => {
                let token = (entry.process, *token);
                if let Some((_, message)) = of_token.get(&token) {
                    settled.entry(message.clone()).or_default().insert(token);
                }
            }
            Record::Delivered(got) => {
                let member = members.get(id(&got.consumer));
                let Some((subscription, _)) = member.and_then(|member| member.group.as_ref()) else { continue };
                let message = (subscription.clone(), got.message.topic.as_str(), got.message.id.as_str());
                let copies = published.get(&(message.1, message.2)).copied().unwrap_or_default();
                if settled.get(&message).is_some_and(|settled| settled.len() >= copies) {
                    let what = format!("{} comes although it was settled", message.2);
                    return Err(Violation::new("settled_stays_settled", what).at(entry));
                }
                of_token.insert((entry.process, got.token), (id(&got.consumer), message));
            }
            _ => {}
        }
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::check::testing::Script;

    fn term() -> Script {
        Script::queue(4)
            .publish(&["k-1", "k-2"])
            .join(0)
            .assigned(0, 0, 1)
            .assigned(0, 1, 1)
            .assigned(0, 2, 1)
            .assigned(0, 3, 1)
    }

    #[test]
    fn what_arrives_as_it_was_published_passes() {
        assert_eq!(as_published(&term().deliver(0, "k-1", 1).done()), Ok(()));
    }

    #[test]
    fn what_was_never_published_or_changed_on_the_way_is_found() {
        assert!(as_published(&term().deliver(0, "k-3", 1).done()).unwrap_err().what.contains("never published"));
        let changed = Sent { digest: 2, ..term().sent("k-1") };
        assert!(as_published(&term().deliver_as(0, changed, 1, false).done()).is_err());
        let elsewhere = Sent { topic: "p".into(), ..term().sent("k-1") };
        assert!(as_published(&term().deliver_as(0, elsewhere, 1, false).done()).is_err());
    }

    #[test]
    fn a_message_in_the_wrong_partition_is_found() {
        let Partition(right) = partition_of(b"k", 4);
        let token = Token { consumer: 0, partition: (right + 1) % 4, epoch: 1, slot: 0 };
        let message = term().sent("k-1");
        let delivered = crate::history::Delivered { consumer: 0, message, redelivered: false, token };
        let found = as_published(&term().then(Record::Delivered(delivered)).done()).unwrap_err();
        assert!(found.what.contains("its key belongs to"), "{found}");
    }

    #[test]
    fn after_partitions_were_added_a_message_may_be_where_its_key_belonged_before() {
        let key = |key: &&&str| partition_of(key.as_bytes(), 4) != partition_of(key.as_bytes(), 6);
        let moved = ["k", "j", "l", "m", "n"].iter().find(key).expect("one of them moves");
        let id = format!("{moved}-1");
        let delivered = |partition| {
            let grown = Record::Topic { topic: "q".into(), partitions: Some(6) };
            let script = term().then(grown).publish(&[&id]);
            let token = Token { consumer: 0, partition, epoch: 1, slot: 0 };
            let message = script.sent(&id);
            let delivered = crate::history::Delivered { consumer: 0, message, redelivered: false, token };
            as_published(&script.then(Record::Delivered(delivered)).done())
        };
        let (Partition(before), Partition(after)) =
            (partition_of(moved.as_bytes(), 4), partition_of(moved.as_bytes(), 6));
        assert_eq!((delivered(before), delivered(after)), (Ok(()), Ok(())));
        let other = (0..6).find(|other| *other != before && *other != after).expect("there are six");
        assert!(delivered(other).is_err());
    }

    #[test]
    fn a_confirmed_message_that_never_came_is_lost_and_an_unconfirmed_one_is_not() {
        let all = term().deliver(0, "k-1", 1).deliver(0, "k-2", 1);
        let unknown = all.sent("k-3");
        assert_eq!(nothing_lost(&all.publish_as(unknown, false).done()), Ok(()));
        let found = nothing_lost(&term().deliver(0, "k-2", 1).done()).unwrap_err();
        assert!(found.what.contains("1 confirmed messages were not delivered, first k-1"), "{found}");
    }

    #[test]
    fn what_was_cancelled_is_not_lost_and_what_could_not_be_is() {
        let (topic, id) = ("q".to_owned(), "k-1".to_owned());
        let asked = || term().then(Record::Cancelling { call: 9, topic: topic.clone(), id: id.clone() });
        let answered = |outcome| {
            let (topic, id) = (topic.clone(), id.clone());
            asked().then(Record::Cancelled { call: 9, topic, id, outcome }).deliver(0, "k-2", 1)
        };
        assert_eq!(nothing_lost(&answered(Ok(true)).done()), Ok(()));
        assert_eq!(nothing_lost(&answered(Err("OutcomeUnknown".to_owned())).done()), Ok(()));
        assert_eq!(nothing_lost(&asked().deliver(0, "k-2", 1).done()), Ok(()));
        assert!(nothing_lost(&answered(Ok(false)).done()).is_err());
        assert!(nothing_lost(&answered(Ok(true)).publish(&["k-1"]).done()).is_err(), "a new one");
    }

    #[test]
    fn each_subscription_is_promised_every_message() {
        let second = Record::Subscription { topic: "q".into(), subscription: "t".into() };
        let history =
            Script::queue(1).then(second).publish(&["k-1"]).join(0).assigned(0, 0, 1).deliver(0, "k-1", 1).done();
        assert!(nothing_lost(&history).unwrap_err().what.contains("to t"));
    }

    #[test]
    fn a_second_delivery_is_found_and_has_to_be_flagged() {
        let again = term().deliver(0, "k-1", 1).deliver_again(0, "k-1", 1).done();
        assert!(each_once(&again).is_err());
        assert_eq!(flagged(&again), Ok(()));
        assert!(flagged(&term().deliver(0, "k-1", 1).deliver(0, "k-1", 1).done()).is_err());
        assert_eq!(each_once(&term().deliver(0, "k-1", 1).deliver(0, "k-2", 1).done()), Ok(()));
    }

    #[test]
    fn what_is_settled_and_flushed_in_its_term_must_not_come_again() {
        let settled = || term().deliver(0, "k-1", 1).settle(0, "k-1");
        let successor = |script: Script| {
            script.leave(0).join(1).assigned(1, 0, 2).assigned(1, 1, 2).assigned(1, 2, 2).assigned(1, 3, 2)
        };
        assert!(settled_stays_settled(&successor(settled().flushed(0)).deliver_again(1, "k-1", 2).done()).is_err());
        assert_eq!(settled_stays_settled(&successor(settled()).deliver_again(1, "k-1", 2).done()), Ok(()));
    }

    #[test]
    fn what_was_published_twice_and_settled_once_may_come_again() {
        let twice = || term().publish(&["k-1"]).deliver(0, "k-1", 1).settle(0, "k-1").flushed(0).deliver(0, "k-1", 1);
        assert_eq!(settled_stays_settled(&twice().done()), Ok(()));
        let thrice = twice().settle(0, "k-1").flushed(0).deliver(0, "k-1", 1);
        assert!(settled_stays_settled(&thrice.done()).is_err());
    }

    #[test]
    fn a_token_settles_nothing_in_the_hands_of_another_consumer() {
        let Partition(partition) = partition_of(b"k", 4);
        let stolen = Token { consumer: 0, partition, epoch: 1, slot: 1 };
        let script = term().deliver(0, "k-1", 1).leave(0).join(1).assigned(1, partition, 1);
        let settling = Record::Settling { consumer: 1, token: stolen };
        let history = script.then(settling).flushed(1).deliver_again(1, "k-1", 1).done();
        assert_eq!(settled_stays_settled(&history), Ok(()));
    }

    #[test]
    fn what_is_settled_after_the_term_may_come_again() {
        let Partition(partition) = partition_of(b"k", 4);
        let late = term().deliver(0, "k-1", 1).lost(0, partition).settle(0, "k-1").flushed(0).join(1);
        let again = late.assigned(1, partition, 2).deliver_again(1, "k-1", 2).done();
        assert_eq!(settled_stays_settled(&again), Ok(()));
    }
}
