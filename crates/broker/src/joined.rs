use crate::{SubscriptionName, TopicName};

/// Names the two together, in at most `most` bytes, as no other two are named: for objects of a subscription of a topic
/// that have no place of their own in the broker's naming.
///
/// A subscription's name may contain dots, and so may the topic's. Every part of the subscription but the first
/// therefore begins with an underscore, which no first part does: `a` and `b.c` are `a.b._c`, `a.b` and `c` are
/// `a.b.c`. A name that is too long is cut behind some of the topic's name, and gets a hash that begins with a
/// dash, as no part of the others does.
///
/// ```
/// use partitura_broker::{SubscriptionName, TopicName, joined};
///
/// # fn main() -> Result<(), partitura_broker::InvalidName> {
/// let (orders, billing) = (TopicName::new("orders")?, SubscriptionName::new("billing")?);
/// assert_eq!(joined(&orders, &billing, 180), "orders.billing");
/// assert_eq!(joined(&orders, &SubscriptionName::new("eu.billing")?, 180), "orders.eu._billing");
/// # Ok(()) }
/// ```
///
/// The hash takes 34 bytes; `most` is more.
///
/// Conformance: `name.derived`.
pub fn joined(topic: &TopicName, subscription: &SubscriptionName, most: usize) -> String {
    let whole = format!("{topic}.{}", subscription.as_str().replace('.', "._"));
    if whole.len() <= most {
        return whole;
    }
    let hash = format!(".-{:032x}", fnv1a(&whole));
    let kept = topic.as_str().len().min(most.saturating_sub(hash.len()));
    format!("{}{hash}", &topic.as_str()[..kept])
}

/// Fowler, Noll and Vo's hash of 128 bits, variant 1a: fixed for ever, since names must not change.
fn fnv1a(text: &str) -> u128 {
    const OFFSET: u128 = 0x6c62_272e_07bb_0142_62b8_2175_6295_c58d;
    const PRIME: u128 = 0x0000_0000_0100_0000_0000_0000_0000_013b;
    text.bytes().fold(OFFSET, |hash, byte| (hash ^ u128::from(byte)).wrapping_mul(PRIME))
}

#[cfg(test)]
mod tests {
    use std::collections::HashMap;

    use super::*;
    use crate::MAX_NAME;

    fn name(topic: &str, subscription: &str, most: usize) -> String {
        let topic = TopicName::new(topic).expect("a topic");
        joined(&topic, &SubscriptionName::new(subscription).expect("a subscription"), most)
    }

    /// Every legal name of up to `longest` characters, over an alphabet that has one of each sort.
    fn names(longest: usize) -> Vec<String> {
        let mut all = vec![String::new()];
        let mut last = all.clone();
        for _ in 0..longest {
            last = last.iter().flat_map(|name| "ab._-".chars().map(move |c| format!("{name}{c}"))).collect();
            all.extend(last.iter().cloned());
        }
        all.retain(|name| TopicName::new(name).is_ok());
        all
    }

    #[test]
    fn no_two_pairs_have_the_same_name_however_short_it_must_be() {
        let names = names(4);
        for (most, padding) in [(MAX_NAME, 0), (36, 30)] {
            let (mut seen, padding) = (HashMap::new(), "x".repeat(padding));
            for topic in &names {
                for subscription in &names {
                    let joined = name(&format!("{padding}{topic}"), subscription, most);
                    assert!(joined.len() <= most && TopicName::new(&joined).is_ok(), "{joined}");
                    if let Some(other) = seen.insert(joined, (topic, subscription)) {
                        panic!("{topic} and {subscription} are named like {other:?}");
                    }
                }
            }
        }
    }

    #[test]
    fn the_longest_names_fit_and_differ() {
        let long = |end: char| "n".repeat(MAX_NAME - 1) + &end.to_string();
        let all =
            [name(&long('a'), &long('a'), 100), name(&long('b'), &long('a'), 100), name(&long('a'), &long('b'), 100)];
        assert!(all.iter().all(|name| name.len() <= 100 && TopicName::new(name).is_ok()), "{all:?}");
        assert!(all[0] != all[1] && all[0] != all[2] && all[1] != all[2], "{all:?}");
    }

    #[test]
    fn the_hash_gives_the_reference_values() {
        assert_eq!(fnv1a(""), 0x6c62_272e_07bb_0142_62b8_2175_6295_c58d);
        assert_eq!(fnv1a("a"), 0xd228_cb69_6f1a_8caf_7891_2b70_4e4a_8964);
        assert_eq!(fnv1a("foobar"), 0x343e_1662_793c_64bf_6f0d_3597_ba44_6f18);
    }
}
