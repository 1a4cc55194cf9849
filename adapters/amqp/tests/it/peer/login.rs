//! The login of a client, by SASL.

use std::io;

use fe2o3_amqp::types::primitives::{Array, Symbol};
use fe2o3_amqp::types::sasl::{SaslCode, SaslInit, SaslMechanisms, SaslOutcome};
use tokio::io::AsyncWriteExt;
use tokio::net::TcpStream;

use super::frames::{self, Layer};
use super::shared::Shared;

pub(super) async fn log_in(shared: &Shared, stream: &mut TcpStream) -> io::Result<()> {
    frames::exchange(stream, frames::SASL).await?;
    let offered = ["PLAIN", "ANONYMOUS", "EXTERNAL"].map(Symbol::from).to_vec();
    let mechanisms = SaslMechanisms { sasl_server_mechanisms: Array::from(offered) };
    stream.write_all(&frames::frame(Layer::Sasl, 0, &mechanisms, &[])).await?;
    let (_, body) = frames::read(stream).await?;
    let init: SaslInit = serde_amqp::from_slice(&body).expect("the beginning of SASL");
    shared.log(format!("login by {}", init.mechanism.0));
    let is_right = init.initial_response.as_ref().is_some_and(|response| **response == b"\0user\0secret"[..]);
    let code = if is_right { SaslCode::Ok } else { SaslCode::Auth };
    let outcome = SaslOutcome { code, additional_data: None };
    stream.write_all(&frames::frame(Layer::Sasl, 0, &outcome, &[])).await?;
    frames::exchange(stream, frames::AMQP).await
}
