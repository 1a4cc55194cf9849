//! Connections that are allowed, and connections that are refused.

use std::convert::Infallible;
use std::error::Error as _;
use std::sync::Arc;

use partitura_broker::{Broker, Error, ErrorKind, ProducerOptions};

use crate::case::case;
use crate::client::{Client, by_key};
use crate::stop::ensure;
use crate::{Access, Attempt, Case, CaseResult, Env, Right, Stop};

pub(super) const CASES: &[Case] = &[
    case!(
        "auth.refused",
        Three,
        [Access],
        "wrong credentials are Unauthorized at once, right ones work, and nothing shows either",
        refused
    ),
    case!(
        "tls.required",
        Three,
        [Access],
        "by TLS it works with the right authority; with another it is refused, and the error says why",
        tls
    ),
    case!(
        "auth.rights",
        Three,
        [Access, Rights],
        "without the right to declare, to publish or to consume just that is Unauthorized, and others go on",
        rights
    ),
];

fn access(env: &Env) -> Result<&dyn Access, Stop> {
    env.harness.access().ok_or_else(|| "the case tries credentials and does not say that it needs to".into())
}

/// Connects, and uses the connection: where it is made lazily, that is when it is refused.
async fn use_once(env: &Env, attempt: Attempt) -> Result<Result<Arc<dyn Broker>, Error>, Stop> {
    let (access, queue) = (access(env)?, env.orders());
    let using = async {
        let broker = env.recorder.wrap(access.connect(&env.namespace, attempt).await?);
        broker.declare(&queue.topology()).await?;
        let producer = broker.producer(ProducerOptions::default()).await?;
        producer.publish(queue.messages("k", [0])).await.remove(0)?;
        Ok(broker)
    };
    env.within(&format!("an answer to {attempt:?}"), using).await
}

/// The texts of an error and of all its causes, for people and for logs.
fn everything(error: &Error) -> String {
    let (mut text, mut cause) = (format!("{error}\n{error:?}"), error.source());
    while let Some(source) = cause {
        text += &format!("\n{source}\n{source:?}");
        cause = source.source();
    }
    text
}

async fn refused(env: &Env) -> CaseResult {
    let Err(error) = use_once(env, Attempt::WrongPassword).await? else {
        return Err("wrong credentials are accepted".into());
    };
    ensure!(error.kind() == ErrorKind::Unauthorized, "Unauthorized was expected, {:?} came: {error}", error.kind());
    let broker = use_once(env, Attempt::RightPassword).await??;
    let secrets = access(env)?.secrets();
    ensure!(!secrets.is_empty() && !secrets.contains(&String::new()), "the harness names no secrets to look for");
    for secret in &secrets {
        // Which one it is, is not for this message either.
        ensure!(!everything(&error).contains(secret), "the error shows a secret");
        ensure!(!format!("{broker:?}").contains(secret), "the broker's Debug shows a secret");
    }
    Ok(())
}

async fn tls(env: &Env) -> CaseResult {
    const WORDS: &[&str] = &["certificate", "issuer", "authority", "tls", "ssl"];
    let broker = use_once(env, Attempt::Tls).await??;
    let client = Client::new(broker, env.time_limit);
    let mut member = client.join(env.orders().options()).await?;
    client.publish(env.orders().messages("k", [1])).await?;
    member.drain_until(["k-1".to_owned()]).await?;
    let Err(error) = use_once(env, Attempt::TlsWithWrongAuthority).await? else {
        return Err("a certificate that another authority signed is accepted".into());
    };
    let text = everything(&error).to_lowercase();
    ensure!(
        WORDS.iter().any(|word| text.contains(word)),
        "the error does not say that it is about the certificate: {text}"
    );
    Ok(())
}

async fn rights(env: &Env) -> CaseResult {
    let (queue, client) = (env.orders(), env.connect().await?);
    client.declare(&queue.topology()).await?;
    let mut member = client.join(queue.options()).await?;
    for right in access(env)?.rights() {
        let what = format!("a refusal of what needs the right to {right:?}");
        let Err(error) = env.within(&what, use_without(env, *right)).await?;
        let (kind, name) = (error.kind(), format!("{right:?}"));
        ensure!(kind == ErrorKind::Unauthorized, "without {name} Unauthorized was expected, {kind:?} came: {error}");
        client.publish(queue.messages(&name, [0])).await?;
        member.drain_until([format!("{name}-0")]).await?;
    }
    Ok(())
}

/// Connects without a right, and does what needs it until that is refused.
async fn use_without(env: &Env, right: Right) -> Result<Infallible, Error> {
    let access = env.harness.access().ok_or_else(|| Error::new(ErrorKind::Unsupported, "connect", "no access"))?;
    let broker = env.recorder.wrap(access.connect(&env.namespace, Attempt::Without(right)).await?);
    let (queue, other) = (env.orders(), env.queue("others", by_key(1)));
    let publish = async |id| {
        let producer = broker.producer(ProducerOptions::default()).await?;
        producer.publish(queue.messages(id, [0])).await.remove(0)
    };
    match right {
        Right::Declare => loop {
            broker.declare(&other.topology()).await?;
        },
        Right::Publish => loop {
            publish("without-publish").await?;
        },
        Right::Consume => {
            // This it may do.
            publish("without-consume").await?;
            let mut consumer = broker.consumer(queue.options()).await?;
            loop {
                consumer.next().await?;
            }
        }
    }
}
