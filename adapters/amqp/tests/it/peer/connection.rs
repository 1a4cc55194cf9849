//! One connection of a client.

use std::collections::HashMap;
use std::io;
use std::sync::Arc;
use std::time::Duration;

use fe2o3_amqp::types::definitions::{self, AmqpError, ErrorCondition, Handle, Role};
use fe2o3_amqp::types::messaging::{Accepted, DeliveryState, Rejected, Source, TargetArchetype};
use fe2o3_amqp::types::performatives::{
    Attach, Begin, Close, Detach, Disposition, End, Flow, Open, Performative, Transfer,
};
use fe2o3_amqp::types::primitives::{Symbol, Value};
use serde::Serialize;
use tokio::io::{AsyncWriteExt, BufReader};
use tokio::net::TcpStream;
use tokio::net::tcp::OwnedWriteHalf;
use tokio::sync::mpsc;
use tokio::time::{Instant, interval_at};

use super::frames::{self, Layer};
use super::login;
use super::nodes::{self, LinkId, Out, Queue, Reader, Stored};
use super::requests::{self, MANAGEMENT};
use super::shared::{Plays, Shared};

/// The interval of heartbeats. Clients ask for one within ten seconds.
const HEARTBEATS: Duration = Duration::from_secs(2);
/// The credit of links that send to the peer.
const CREDIT: u32 = 1_000;

/// A link that sends to the peer.
#[derive(Debug)]
struct Incoming {
    address: Option<String>,
    count: u32,
}

struct Connection {
    shared: Arc<Shared>,
    number: u64,
    writer: OwnedWriteHalf,
    out: mpsc::UnboundedSender<Out>,
    incoming: HashMap<(u16, u32), Incoming>,
    /// The links of answers, by their node.
    answers: HashMap<String, (u16, u32)>,
    /// The next delivery of each channel.
    deliveries: HashMap<u16, u32>,
    /// The messages that are delivered: link and number.
    delivered: HashMap<(u16, u32), (LinkId, u64)>,
    /// The messages that are not confirmed yet.
    unconfirmed: Vec<(u16, u32, DeliveryState)>,
}

/// Serves a client until it goes, or is cut off.
pub(super) async fn serve(shared: Arc<Shared>, mut stream: TcpStream) {
    if login::log_in(&shared, &mut stream).await.is_err() {
        return;
    }
    let (reader, writer) = stream.into_split();
    let mut reader = BufReader::new(reader);
    let (out, mut outgoing) = mpsc::unbounded_channel();
    let number = {
        let mut state = shared.state();
        state.connections += 1;
        state.open.push(out.clone());
        state.connections
    };
    // A task of its own reads, since reading half a frame must not be given up.
    let (give, mut frames) = mpsc::unbounded_channel();
    tokio::spawn(async move {
        while let Ok(frame) = frames::read(&mut reader).await {
            if give.send(frame).is_err() {
                return;
            }
        }
    });
    let mut confirms = shared.confirms.subscribe();
    let mut connection = Connection {
        shared: shared.clone(),
        number,
        writer,
        out,
        incoming: HashMap::new(),
        answers: HashMap::new(),
        deliveries: HashMap::new(),
        delivered: HashMap::new(),
        unconfirmed: Vec::new(),
    };
    let mut heartbeats = interval_at(Instant::now() + HEARTBEATS, HEARTBEATS);
    loop {
        let done = tokio::select! {
            _ = heartbeats.tick() => connection.writer.write_all(&frames::HEARTBEAT).await,
            frame = frames.recv() => match frame {
                Some((channel, body)) => connection.receive(channel, &body).await,
                None => break,
            },
            Some(out) = outgoing.recv() => connection.send_out(out).await,
            Ok(()) = confirms.changed() => connection.confirm().await,
        };
        if done.is_err() {
            break;
        }
    }
    shared.state().nodes.leave(|(of, ..)| *of == number);
    shared.log(format!("connection {number} ends"));
}

impl Connection {
    async fn send(&mut self, channel: u16, body: &impl Serialize, payload: &[u8]) -> io::Result<()> {
        self.writer.write_all(&frames::frame(Layer::Amqp, channel, body, payload)).await
    }

    async fn receive(&mut self, channel: u16, body: &[u8]) -> io::Result<()> {
        let Some((performative, payload)) = frames::performative(body) else { return Ok(()) };
        match performative {
            Performative::Open(_) => {
                let open = Open {
                    container_id: "peer".to_owned(),
                    hostname: None,
                    max_frame_size: (64 << 20).into(),
                    channel_max: u16::MAX.into(),
                    idle_time_out: None,
                    outgoing_locales: None,
                    incoming_locales: None,
                    offered_capabilities: None,
                    desired_capabilities: None,
                    properties: None,
                };
                self.send(0, &open, &[]).await
            }
            Performative::Begin(begin) => {
                let begin = Begin { remote_channel: Some(channel), next_outgoing_id: 0, ..begin };
                self.send(channel, &begin, &[]).await
            }
            Performative::Attach(attach) => self.attach(channel, attach).await,
            Performative::Flow(flow) => self.flow(channel, &flow),
            Performative::Transfer(transfer) => self.transfer(channel, &transfer, &payload).await,
            Performative::Disposition(disposition) => self.disposition(channel, &disposition),
            Performative::Detach(detach) => {
                self.leave(|link| *link == (channel, detach.handle.0));
                self.send(channel, &Detach { error: None, ..detach }, &[]).await
            }
            Performative::End(_) => {
                self.leave(|(of, _)| *of == channel);
                self.send(channel, &End { error: None }, &[]).await
            }
            Performative::Close(_) => {
                self.send(0, &Close { error: None }, &[]).await?;
                Err(io::ErrorKind::ConnectionAborted.into())
            }
        }
    }

    fn leave(&mut self, is_gone: impl Fn(&(u16, u32)) -> bool) {
        let number = self.number;
        self.incoming.retain(|link, _| !is_gone(link));
        self.delivered.retain(|_, ((_, channel, handle), _)| !is_gone(&(*channel, *handle)));
        let is_gone = |(of, channel, handle): &LinkId| *of == number && is_gone(&(*channel, *handle));
        self.shared.state().nodes.leave(is_gone);
    }

    async fn attach(&mut self, channel: u16, attach: Attach) -> io::Result<()> {
        let handle = attach.handle.0;
        if attach.role == Role::Sender {
            let target = attach.target.clone().map(|target| *target);
            let Some(TargetArchetype::Target(target)) = target else {
                return self.refuse(channel, attach, AmqpError::NotImplemented).await;
            };
            if let Err(condition) = self.admits(target.address.as_deref()) {
                return self.refuse(channel, attach, condition).await;
            }
            self.incoming.insert((channel, handle), Incoming { address: target.address, count: 0 });
            let answer = Attach { role: Role::Receiver, initial_delivery_count: None, ..attach };
            self.send(channel, &answer, &[]).await?;
            return self.grant(channel, handle, 0).await;
        }
        let source = attach.source.clone().map(|source| *source).unwrap_or_default();
        match self.read(channel, handle, &source) {
            Err(condition) => self.refuse(channel, attach, condition).await,
            Ok(()) => {
                let answer = Attach { role: Role::Sender, initial_delivery_count: Some(0), ..attach };
                self.send(channel, &answer, &[]).await
            }
        }
    }

    /// Whether messages may be sent to an address.
    fn admits(&self, address: Option<&str>) -> Result<(), ErrorCondition> {
        let is_anonymous = self.shared.plays == Plays::Solace;
        let Some(address) = address else {
            return if is_anonymous { Ok(()) } else { Err(AmqpError::NotAllowed.into()) };
        };
        let name = address.strip_prefix("queue://").unwrap_or(address);
        let name = name.strip_suffix(MANAGEMENT).unwrap_or(name);
        let below = format!("{name}/Subscriptions/");
        let is_known = |queue: &String| queue == name || queue.starts_with(&below);
        let is_there = name.starts_with("topic://") || self.shared.state().nodes.queues.keys().any(is_known);
        if is_there { Ok(()) } else { Err(AmqpError::NotFound.into()) }
    }

    /// Lets a link read, or says why not.
    fn read(&mut self, channel: u16, handle: u32, source: &Source) -> Result<(), ErrorCondition> {
        let address = source.address.clone().ok_or(AmqpError::InvalidField)?;
        if let Some(node) = address.strip_suffix(MANAGEMENT) {
            self.admits(Some(node))?;
            self.answers.insert(address, (channel, handle));
            return Ok(());
        }
        let session =
            source.filter.as_ref().and_then(|filter| match filter.get(&Symbol::from("com.microsoft:session-filter")) {
                Some(Value::String(session)) => Some(session.clone()),
                _ => None,
            });
        let name = address.strip_prefix("queue://").unwrap_or(&address).to_owned();
        let link = (self.number, channel, handle);
        let mut state = self.shared.state();
        if let Some(topic) = name.strip_prefix("topic://") {
            let topics = vec![topic.to_owned()];
            state
                .nodes
                .queues
                .insert(format!("{name}#{link:?}"), Queue { topics, is_temporary: true, ..Queue::default() });
        }
        let name = if name.starts_with("topic://") { format!("{name}#{link:?}") } else { name };
        let queue = state.nodes.queues.get_mut(&name).ok_or(AmqpError::NotFound)?;
        if queue.has_sessions != session.is_some() {
            return Err(AmqpError::NotAllowed.into());
        }
        let has_room = queue.has_room(session.as_deref());
        let shown = session.as_ref().map(|session| format!(" session {session}")).unwrap_or_default();
        if has_room {
            queue.readers.push(Reader { link, session, credit: 0, sent: 0, out: self.out.clone() });
        }
        drop(state);
        self.shared.log(format!("read {address}{shown}: {}", if has_room { "yes" } else { "taken" }));
        match (has_room, self.shared.plays) {
            (true, _) => Ok(()),
            (false, Plays::Solace) => Err(AmqpError::ResourceLimitExceeded.into()),
            (false, Plays::ServiceBus) => {
                Err(ErrorCondition::Custom(Symbol::from("com.microsoft:session-cannot-be-locked")))
            }
        }
    }

    /// Refuses a link: it is attached without a terminus, and ended with the reason.
    async fn refuse(&mut self, channel: u16, attach: Attach, condition: impl Into<ErrorCondition>) -> io::Result<()> {
        let handle = attach.handle.clone();
        let is_sender = attach.role == Role::Sender;
        let answer = Attach {
            role: if is_sender { Role::Receiver } else { Role::Sender },
            source: if is_sender { attach.source } else { None },
            target: if is_sender { None } else { attach.target },
            initial_delivery_count: (!is_sender).then_some(0),
            ..attach
        };
        self.send(channel, &answer, &[]).await?;
        let error = definitions::Error::new(condition, "refused".to_owned(), None);
        self.send(channel, &Detach { handle, closed: true, error: Some(error) }, &[]).await
    }

    async fn grant(&mut self, channel: u16, handle: u32, count: u32) -> io::Result<()> {
        let flow = Flow {
            next_incoming_id: Some(0),
            incoming_window: u32::MAX / 2,
            next_outgoing_id: 0,
            outgoing_window: u32::MAX / 2,
            handle: Some(Handle(handle)),
            delivery_count: Some(count),
            link_credit: Some(CREDIT),
            available: None,
            drain: false,
            echo: false,
            properties: None,
        };
        self.send(channel, &flow, &[]).await
    }

    fn flow(&mut self, channel: u16, flow: &Flow) -> io::Result<()> {
        let (Some(handle), Some(credit)) = (&flow.handle, flow.link_credit) else { return Ok(()) };
        let link = (self.number, channel, handle.0);
        let mut state = self.shared.state();
        if let Some(queue) = state.nodes.read_by(link) {
            for reader in queue.readers.iter_mut().filter(|reader| reader.link == link) {
                // The client counts from the messages that it had got then. Others are under way.
                reader.credit = (flow.delivery_count.unwrap_or(0) + credit).saturating_sub(reader.sent);
            }
            queue.pump();
        }
        Ok(())
    }

    async fn transfer(&mut self, channel: u16, transfer: &Transfer, payload: &[u8]) -> io::Result<()> {
        let handle = transfer.handle.0;
        let Some(link) = self.incoming.get_mut(&(channel, handle)) else { return Ok(()) };
        link.count += 1;
        let (count, address) = (link.count, link.address.clone());
        let message = nodes::decode(payload);
        let to = message.properties.as_ref().and_then(|properties| properties.to.clone());
        let address = address.or(to).unwrap_or_default();
        let state = if address.ends_with(MANAGEMENT) {
            self.answer(&address, &message).await?;
            DeliveryState::Accepted(Accepted {})
        } else {
            let group = message.properties.as_ref().and_then(|properties| properties.group_id.clone());
            let annotations =
                message.message_annotations.as_ref().map(|found| format!(" {:?}", found.0)).unwrap_or_default();
            let shown = group.map(|group| format!(" group {group}")).unwrap_or_default();
            let ttl = message.header.as_ref().and_then(|header| header.ttl);
            let ttl = ttl.map(|ttl| format!(" ttl {ttl}")).unwrap_or_default();
            let is_stored = self.shared.state().nodes.store(&address, message);
            self.shared.log(format!("publish {address}{shown}{annotations}{ttl}"));
            let error = definitions::Error::new(AmqpError::NotFound, "no such node".to_owned(), None);
            if is_stored {
                DeliveryState::Accepted(Accepted {})
            } else {
                DeliveryState::Rejected(Rejected { error: Some(error) })
            }
        };
        if transfer.settled != Some(true) {
            self.unconfirmed.push((channel, transfer.delivery_id.unwrap_or_default(), state));
        }
        self.confirm().await?;
        self.grant(channel, handle, count).await
    }

    async fn confirm(&mut self) -> io::Result<()> {
        if !*self.shared.confirms.borrow() {
            return Ok(());
        }
        for (channel, first, state) in std::mem::take(&mut self.unconfirmed) {
            let (role, settled, state) = (Role::Receiver, true, Some(state));
            let disposition = Disposition { role, first, last: None, settled, state, batchable: false };
            self.send(channel, &disposition, &[]).await?;
        }
        Ok(())
    }

    fn disposition(&mut self, channel: u16, disposition: &Disposition) -> io::Result<()> {
        for delivery in disposition.first..=disposition.last.unwrap_or(disposition.first) {
            let Some((link, id)) = self.delivered.remove(&(channel, delivery)) else { continue };
            let mut state = self.shared.state();
            let Some(queue) = state.nodes.read_by(link) else { continue };
            let is_accepted = matches!(disposition.state, Some(DeliveryState::Accepted(_)));
            if is_accepted && queue.settle(id) {
                drop(state);
                self.shared.log(format!("settle {id}"));
            }
        }
        Ok(())
    }

    async fn send_out(&mut self, out: Out) -> io::Result<()> {
        match out {
            Out::Deliver { channel, handle, id, message } => {
                let delivery = self.deliveries.entry(channel).or_default();
                let number = *delivery;
                *delivery += 1;
                self.delivered.insert((channel, number), ((self.number, channel, handle), id));
                self.deliver(channel, handle, number, &message).await
            }
            Out::Detach { channel, handle, condition } => {
                let condition = ErrorCondition::Custom(Symbol::from(condition));
                let error = Some(definitions::Error::new(condition, "taken away".to_owned(), None));
                self.send(channel, &Detach { handle: Handle(handle), closed: true, error }, &[]).await
            }
            Out::Cut => Err(io::ErrorKind::ConnectionReset.into()),
        }
    }

    async fn deliver(&mut self, channel: u16, handle: u32, number: u32, message: &[u8]) -> io::Result<()> {
        let transfer = Transfer {
            handle: Handle(handle),
            delivery_id: Some(number),
            delivery_tag: Some(number.to_be_bytes().to_vec().into()),
            message_format: Some(0),
            settled: Some(false),
            more: false,
            rcv_settle_mode: None,
            state: None,
            resume: false,
            aborted: false,
            batchable: false,
        };
        self.send(channel, &transfer, message).await
    }

    /// Answers a request about a node.
    async fn answer(&mut self, address: &str, request: &Stored) -> io::Result<()> {
        let Some((channel, handle)) = self.answers.get(address).copied() else { return Ok(()) };
        let answer = nodes::encode(&requests::answer(&self.shared, self.number, address, request));
        let number = self.deliveries.entry(channel).or_default();
        let delivery = *number;
        *number += 1;
        self.deliver(channel, handle, delivery, &answer).await
    }
}
