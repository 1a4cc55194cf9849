use std::fmt::Display;
use std::future::Future;
use std::sync::Arc;

use partitura_broker::{Delivery, Message};
use partitura_codec::Codecs;
use serde::de::DeserializeOwned;

use super::Envelope;
use super::publish::JSON;
use crate::headers::CONTENT_TYPE;
use crate::{Batch, Handler, Outcome};

/// The results that a handler may return: `Result<(), E>` with any error that can be shown, or an [`Outcome`], which
/// says more.
pub trait IntoOutcome {
    /// The outcome for the message.
    fn into_outcome(self) -> Outcome;
}

impl<E: Display> IntoOutcome for Result<(), E> {
    /// An error is tried again, as the policy says.
    fn into_outcome(self) -> Outcome {
        match self {
            Ok(()) => Outcome::Done,
            Err(error) => Outcome::retry(error.to_string()),
        }
    }
}

impl IntoOutcome for Outcome {
    fn into_outcome(self) -> Outcome {
        self
    }
}

/// A function that takes messages of type `T`: the payload alone, or its [`Envelope`].
///
/// `A` is the type of its argument, and is inferred: write the type of the argument, as in `|order: Order| …`.
pub trait MessageFn<T, A>: Send + Sync + 'static {
    /// Calls it.
    fn call(&self, envelope: Envelope<T>) -> impl Future<Output = Outcome> + Send;
}

impl<T, F, R> MessageFn<T, T> for F
where
    F: Fn(T) -> R + Send + Sync + 'static,
    R: Future<Output: IntoOutcome> + Send,
    T: Send,
{
    async fn call(&self, envelope: Envelope<T>) -> Outcome {
        self(envelope.into_payload()).await.into_outcome()
    }
}

impl<T, F, R> MessageFn<T, Envelope<T>> for F
where
    F: Fn(Envelope<T>) -> R + Send + Sync + 'static,
    R: Future<Output: IntoOutcome> + Send,
    T: Send,
{
    async fn call(&self, envelope: Envelope<T>) -> Outcome {
        self(envelope).await.into_outcome()
    }
}

/// A typed function as a [`Handler`]: decodes, calls, answers.
///
/// A message that cannot be decoded becomes a dead letter at once.
pub struct TypedHandler<T, A, F> {
    function: F,
    codecs: Arc<Codecs>,
    types: std::marker::PhantomData<fn(T, A)>,
}

impl<T, A, F: MessageFn<T, A>> TypedHandler<T, A, F> {
    /// Wraps a function.
    pub fn new(function: F) -> Self {
        Self { function, codecs: Arc::default(), types: std::marker::PhantomData }
    }

    /// Decodes encoded payloads inside of messages.
    pub(super) fn codecs(self, codecs: Arc<Codecs>) -> Self {
        Self { codecs, ..self }
    }
}

impl<T: DeserializeOwned + Send + 'static, A: 'static, F: MessageFn<T, A>> Handler for TypedHandler<T, A, F> {
    async fn handle(&self, batch: Batch) -> Outcome {
        let attempt = batch.attempt();
        for delivery in batch.into_deliveries() {
            match self.codecs.within(|| decode(&delivery)).0 {
                Ok(payload) => match self.function.call(Envelope::new(payload, delivery, attempt)).await {
                    Outcome::Done => {}
                    other => return other,
                },
                Err(error) => return Outcome::Dead { reason: "undecodable".into(), error: Some(error) },
            }
        }
        Outcome::Done
    }
}

impl<T, A, F> std::fmt::Debug for TypedHandler<T, A, F> {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("TypedHandler").finish_non_exhaustive()
    }
}

fn decode<T: DeserializeOwned>(delivery: &Delivery) -> Result<T, String> {
    let message: &Message = &delivery.message;
    let essence = |text: &str| text.split(';').next().unwrap_or_default().trim().to_ascii_lowercase();
    match message.headers.get_str(CONTENT_TYPE).map(essence) {
        Some(found) if found != JSON && !found.ends_with("+json") => {
            Err(format!("its content-type is {found:?}, {JSON:?} was expected"))
        }
        _ => partitura_codec::decode_slice(&message.payload)
            .map_err(|error| format!("not a {}: {error}", std::any::type_name::<T>())),
    }
}
