//! Mutants that settle wrongly, and ignore the credit.

use std::collections::{HashMap, HashSet};
use std::num::NonZeroUsize;
use std::sync::{Mutex, PoisonError};

use async_trait::async_trait;
use partitura_broker::{AckToken, ConsumerOptions, Event, MessageId, Result};

use super::mutant::{Mutant, mutant};
use super::mutation::{HandedOut, Mutation, Own, wrap};

pub(super) const MUTANTS: &[Mutant] = &[
    mutant!(
        "loses_held_while_busy",
        "hold.beyond_timeout",
        "takes back messages that are held when twenty others were settled behind them",
        LosesHeldWhileBusy
    ),
    mutant!("settles_on_delivery", "ack.crash_redelivers", "settles messages when it delivers them", SettlesOnDelivery),
    mutant!("settles_the_batch", "ack.one_of_batch", "settles a whole batch with one message of it", SettlesTheBatch),
    mutant!("settles_up_to", "ack.out_of_order", "settles everything before a settled message, too", SettlesUpTo),
    mutant!("forgets_settlements", "ack.out_of_order", "forgets settlements", ForgetsSettlements),
    mutant!(
        "honours_stale_tokens",
        "ack.stale_epoch",
        "settles a redelivery with the token of an earlier term",
        HonoursStale(Mutex::default())
    ),
    mutant!("settles_the_next", "ack.double", "settles the next message when one is settled twice", SettlesTheNext),
    mutant!("ignores_credit", "flow.credit_bound", "ignores the credit", IgnoresCredit),
    mutant!(
        "ignores_credit_of_bytes",
        "flow.credit_bytes",
        "counts messages against the credit, not bytes",
        IgnoresBytes
    ),
    mutant!(
        "one_credit_for_all_topics",
        "flow.fair_topics",
        "lets the messages of one topic use up the credit of another",
        OneCredit
    ),
    mutant!("hogs", "shared.competing", "takes more of a shared topic than a consumer has asked for", Hogs),
];

#[derive(Debug)]
struct SettlesOnDelivery;

#[async_trait]
impl Mutation for SettlesOnDelivery {
    async fn next(&self, own: &mut Own) -> Result<Event> {
        let event = own.next().await?;
        if let Event::Deliveries(all) = &event {
            own.inner.settle(&crate::client::tokens(all));
        }
        Ok(event)
    }
}

#[derive(Debug)]
struct SettlesTheBatch;

#[async_trait]
impl Mutation for SettlesTheBatch {
    fn settle(&self, own: &mut Own, _tokens: &[AckToken]) {
        let all = super::mutation::tokens(&own.handed_out);
        own.inner.settle(&all);
    }
}

#[derive(Debug)]
struct SettlesUpTo;

#[async_trait]
impl Mutation for SettlesUpTo {
    fn settle(&self, own: &mut Own, tokens: &[AckToken]) {
        let last = own.handed_out.iter().rposition(|delivery| tokens.contains(&delivery.token));
        let all = super::mutation::tokens(&own.handed_out[..last.map_or(0, |last| last + 1)]);
        own.inner.settle(&all);
    }
}

#[derive(Debug)]
struct ForgetsSettlements;

#[async_trait]
impl Mutation for ForgetsSettlements {
    fn settle(&self, _own: &mut Own, _tokens: &[AckToken]) {}
}

#[derive(Debug)]
struct HonoursStale(Mutex<HashMap<AckToken, MessageId>>);

#[async_trait]
impl Mutation for HonoursStale {
    async fn next(&self, own: &mut Own) -> Result<Event> {
        own.map(|all| {
            let mut known = self.0.lock().unwrap_or_else(PoisonError::into_inner);
            known.extend(all.iter().map(|delivery| (delivery.token, delivery.message.id.clone())));
            all
        })
        .await
    }

    fn settle(&self, own: &mut Own, tokens: &[AckToken]) {
        let known = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        let named: HashSet<&MessageId> = tokens.iter().filter_map(|token| known.get(token)).collect();
        let same = own.handed_out.iter().filter(|delivery| named.contains(&delivery.id));
        let all: Vec<AckToken> = same.map(|delivery| delivery.token).collect();
        own.inner.settle(&all);
    }
}

#[derive(Debug)]
struct SettlesTheNext;

#[async_trait]
impl Mutation for SettlesTheNext {
    fn settle(&self, own: &mut Own, tokens: &[AckToken]) {
        for token in tokens {
            let twice = own.tokens.contains(token);
            own.tokens.push(*token);
            let next = own.handed_out.iter().find(|delivery| !own.tokens.contains(&delivery.token));
            let chosen = if twice { next.map_or(*token, |next| next.token) } else { *token };
            own.tokens.push(chosen);
            own.inner.settle(&[chosen]);
        }
    }
}

fn plenty(mut options: ConsumerOptions) -> ConsumerOptions {
    options.credit.messages = NonZeroUsize::MAX;
    options.credit.bytes = NonZeroUsize::MAX;
    options
}

#[derive(Debug)]
struct IgnoresCredit;

#[async_trait]
impl Mutation for IgnoresCredit {
    fn join(&self, options: ConsumerOptions) -> ConsumerOptions {
        plenty(options)
    }
}

#[derive(Debug)]
struct IgnoresBytes;

#[async_trait]
impl Mutation for IgnoresBytes {
    fn join(&self, options: ConsumerOptions) -> ConsumerOptions {
        let messages = options.credit.messages;
        let mut plenty = plenty(options);
        plenty.credit.messages = messages;
        plenty
    }
}

/// Found in a real adapter: the credit was counted over all topics together.
#[derive(Debug)]
struct OneCredit;

#[async_trait]
impl Mutation for OneCredit {
    async fn next(&self, own: &mut Own) -> Result<Event> {
        let held = own.handed_out.len() - own.tokens.len();
        if held >= own.options.credit.messages.get() {
            std::future::pending().await
        }
        own.next().await
    }

    fn settle(&self, own: &mut Own, tokens: &[AckToken]) {
        own.tokens.extend(tokens);
        own.inner.settle(tokens);
    }
}

/// Found in a real adapter, in another form: a message that a competitor could not take was kept from the others.
#[derive(Debug)]
struct Hogs;

#[async_trait]
impl Mutation for Hogs {
    fn join(&self, options: ConsumerOptions) -> ConsumerOptions {
        plenty(options)
    }

    async fn next(&self, own: &mut Own) -> Result<Event> {
        let room = own.options.credit.messages.get() - (own.handed_out.len() - own.tokens.len());
        loop {
            if let Some(Event::Deliveries(mut all)) = own.later.pop_front() {
                if room == 0 {
                    own.later.push_front(Event::Deliveries(all));
                    std::future::pending::<()>().await;
                    continue;
                }
                let rest = all.split_off(room.min(all.len()));
                if !rest.is_empty() {
                    own.later.push_front(Event::Deliveries(rest));
                }
                own.handed_out.extend(all.iter().map(HandedOut::from));
                return Ok(Event::Deliveries(all));
            }
            match own.inner.next().await? {
                Event::Deliveries(all) => own.later.push_back(Event::Deliveries(all)),
                event => return Ok(event),
            }
        }
    }

    fn settle(&self, own: &mut Own, tokens: &[AckToken]) {
        own.tokens.extend(tokens);
        own.inner.settle(tokens);
    }
}

#[derive(Debug)]
struct LosesHeldWhileBusy;

#[async_trait]
impl Mutation for LosesHeldWhileBusy {
    fn settle(&self, own: &mut Own, tokens: &[AckToken]) {
        own.inner.settle(tokens);
        own.tokens.extend(tokens);
        if own.tokens.len() == 20 && own.handed_out.len() > 20 {
            let held = own.handed_out.iter().find(|held| !own.tokens.contains(&held.token));
            own.later.extend(held.map(|held| Event::Lost(vec![held.partition])));
        }
    }
}
