//! Signals without a handler: kept by name until a receiver takes them, first come, first served.

use std::collections::{BTreeMap, VecDeque};
use std::task::{Poll, Waker};

use super::model::{ChannelState, Filter, Receiver, ReceiverState, replace_waker};
use super::{Core, State};
use crate::{Cancelled, Payload};

impl Core {
    /// Gives a signal to the first waiting receiver that wants it, or keeps it.
    pub(crate) fn deliver(&self, channel: &str, payload: Payload) {
        self.offer(channel, payload, VecDeque::push_back);
    }

    fn offer(&self, channel: &str, payload: Payload, keep: fn(&mut VecDeque<Payload>, Payload)) {
        let waiting: Vec<(u64, Option<Filter>)> = match self.lock().channels.get(channel) {
            Some(channel) => channel.waiting().collect(),
            None => Vec::new(),
        };
        let taker = waiting.iter().find(|(_, filter)| filter.as_ref().is_none_or(|wants| wants(&payload)));
        let mut guard = self.lock();
        let state = &mut *guard;
        let channel = state.channels.entry(channel.to_owned()).or_default();
        let Some(receiver) = taker.and_then(|(ticket, _)| channel.receivers.get_mut(ticket)) else {
            keep(&mut channel.kept, payload);
            return;
        };
        let before = std::mem::replace(&mut receiver.state, ReceiverState::Delivered(payload));
        if let ReceiverState::Waiting(waker) = before {
            state.awaited -= 1;
            drop(guard);
            waker.wake();
        }
    }

    /// Takes a kept signal, or begins to wait under a new ticket.
    pub(crate) fn receive(
        &self,
        channel: &str,
        filter: Option<&Filter>,
        waker: &Waker,
    ) -> Result<Result<Payload, Cancelled>, u64> {
        if let Some(payload) = self.take_kept(channel, filter) {
            return Ok(Ok(payload));
        }
        let mut state = self.enter();
        if state.take_cancellation() {
            state.progress += 1;
            return Ok(Err(Cancelled));
        }
        let ticket = state.ticket();
        let (filter, shielded) = (filter.cloned(), state.is_shielded());
        let receiver = Receiver { filter, shielded, state: ReceiverState::Waiting(waker.clone()) };
        state.channels.entry(channel.to_owned()).or_default().receivers.insert(ticket, receiver);
        state.awaited += 1;
        Err(ticket)
    }

    fn take_kept(&self, channel: &str, filter: Option<&Filter>) -> Option<Payload> {
        let mut kept = {
            let mut state = self.enter();
            let channel = state.channels.get_mut(channel)?;
            match filter {
                None => {
                    let taken = channel.kept.pop_front();
                    state.progress += u64::from(taken.is_some());
                    return taken;
                }
                Some(_) => std::mem::take(&mut channel.kept),
            }
        };
        let wanted = kept.iter().position(|payload| filter.is_none_or(|wants| wants(payload)));
        let taken = wanted.and_then(|index| kept.remove(index));
        let mut state = self.enter();
        state.progress += u64::from(taken.is_some());
        if let Some(channel) = state.channels.get_mut(channel) {
            channel.kept = kept;
        }
        taken
    }

    /// Whether a waiting receiver was served.
    pub(crate) fn poll_receiver(&self, channel: &str, ticket: u64, waker: &Waker) -> Poll<Result<Payload, Cancelled>> {
        let mut guard = self.enter();
        let state = &mut *guard;
        let shielded_now = state.is_shielded();
        let Some(channel) = state.channels.get_mut(channel) else { return Poll::Pending };
        if let Some(Receiver { state: ReceiverState::Waiting(known), shielded, .. }) =
            channel.receivers.get_mut(&ticket)
            && (shielded_now || !std::mem::take(&mut state.cancellation_waits))
        {
            *shielded = shielded_now;
            let replaced = replace_waker(known, waker);
            drop(guard);
            drop(replaced);
            return Poll::Pending;
        }
        let served = channel.receivers.remove(&ticket);
        state.awaited -=
            usize::from(served.as_ref().is_some_and(|receiver| matches!(receiver.state, ReceiverState::Waiting(_))));
        state.progress += 1;
        drop(guard);
        match served.map(|receiver| receiver.state) {
            Some(ReceiverState::Delivered(payload)) => Poll::Ready(Ok(payload)),
            _ => Poll::Ready(Err(Cancelled)),
        }
    }

    /// A receiver is dropped; what was delivered to it goes to the next one.
    pub(crate) fn leave(&self, channel: &str, ticket: u64) {
        let mut state = self.lock();
        let closing = state.closing;
        let Some(left) = state.channels.get_mut(channel).and_then(|channel| channel.receivers.remove(&ticket)) else {
            return;
        };
        state.awaited -= usize::from(matches!(left.state, ReceiverState::Waiting(_)));
        drop(state);
        if let ReceiverState::Delivered(payload) = left.state
            && !closing
            && !std::thread::panicking()
        {
            self.offer(channel, payload, VecDeque::push_front);
        }
    }
}

impl ChannelState {
    /// The waiting receivers up to the first that takes everything.
    fn waiting(&self) -> impl Iterator<Item = (u64, Option<Filter>)> + '_ {
        let waits = |receiver: &Receiver| matches!(receiver.state, ReceiverState::Waiting(_));
        let takes_everything = move |receiver: &Receiver| waits(receiver) && receiver.filter.is_none();
        let last = self.receivers.iter().find(|(_, receiver)| takes_everything(receiver));
        let last = last.map_or(u64::MAX, |(ticket, _)| *ticket);
        self.receivers
            .range(..=last)
            .filter(move |(_, receiver)| waits(receiver))
            .map(|(ticket, receiver)| (*ticket, receiver.filter.clone()))
    }
}

impl State {
    /// Takes the signals that no code has received, by channel and oldest first.
    pub(crate) fn take_signals(&mut self) -> BTreeMap<String, Vec<Payload>> {
        let unread = |(name, channel): (String, ChannelState)| {
            let delivered = channel.receivers.into_values().filter_map(|receiver| match receiver.state {
                ReceiverState::Delivered(payload) => Some(payload),
                ReceiverState::Waiting(_) | ReceiverState::Cancelled => None,
            });
            let signals: Vec<Payload> = delivered.chain(channel.kept).collect();
            (!signals.is_empty()).then_some((name, signals))
        };
        std::mem::take(&mut self.channels).into_iter().filter_map(unread).collect()
    }

    /// The channels on which somebody waits.
    pub(crate) fn awaited_channels(&self) -> Vec<String> {
        let awaited = self.channels.iter().filter(|(_, channel)| channel.waiting().next().is_some());
        let mut names: Vec<String> = awaited.map(|(name, _)| name.clone()).collect();
        names.sort();
        names
    }

    /// Resolves all waiting receivers that are not shielded with `Cancelled`.
    pub(crate) fn cancel_receivers(&mut self) -> Vec<Waker> {
        let mut wakers = BTreeMap::new();
        for channel in self.channels.values_mut() {
            for (ticket, receiver) in channel.receivers.iter_mut().filter(|(_, receiver)| !receiver.shielded) {
                match std::mem::replace(&mut receiver.state, ReceiverState::Cancelled) {
                    ReceiverState::Waiting(waker) => drop(wakers.insert(*ticket, waker)),
                    other => receiver.state = other,
                }
            }
        }
        self.awaited -= wakers.len();
        wakers.into_values().collect()
    }
}
