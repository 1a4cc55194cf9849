//! Connections that are allowed, and connections that are refused.

use std::error::Error as _;
use std::sync::Arc;

use partitura_broker::{Broker, Error, ErrorKind, ProducerOptions};

use crate::case::case;
use crate::client::Client;
use crate::stop::ensure;
use crate::{Access, Attempt, Case, CaseResult, Env, Stop};

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
