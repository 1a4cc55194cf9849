//! Tokens of an OAuth 2.0 provider.

use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering::SeqCst};

use partitura_broker::{Broker, ErrorKind, Ordering};
use partitura_pulsar::{Credentials, OAuth2, Options, Pulsar};
use tempfile::NamedTempFile;
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpListener;

use crate::support::{Place, endpoints, options};

/// Starts a provider that describes itself, and gives out the broker's own token for the right secret. Returns its
/// URL, and the number of requests for a token.
async fn issuer(token: String) -> (String, Arc<AtomicUsize>) {
    let listener = TcpListener::bind("127.0.0.1:0").await.expect("a port");
    let here = format!("http://{}", listener.local_addr().expect("an address"));
    let (issuer, asked) = (here.clone(), Arc::new(AtomicUsize::new(0)));
    let counted = asked.clone();
    tokio::spawn(async move {
        while let Ok((mut socket, _)) = listener.accept().await {
            let mut request = vec![0; 16_384];
            let read = socket.read(&mut request).await.unwrap_or_default();
            let request = String::from_utf8_lossy(&request[..read]).into_owned();
            let (status, body) = if request.starts_with("GET /.well-known/openid-configuration ") {
                ("200 OK", format!(r#"{{"issuer":"{here}","token_endpoint":"{here}/token"}}"#))
            } else if request.starts_with("POST /token ") && request.contains("client_secret=right") {
                counted.fetch_add(1, SeqCst);
                ("200 OK", format!(r#"{{"access_token":"{token}","token_type":"Bearer","expires_in":3600}}"#))
            } else {
                ("401 Unauthorized", "{}".to_owned())
            };
            let answer = format!(
                "HTTP/1.1 {status}\r\nContent-Type: application/json\r\nContent-Length: {}\r\nConnection: close\r\n\r\n{body}",
                body.len()
            );
            let _ = socket.write_all(answer.as_bytes()).await;
        }
    });
    (issuer, asked)
}

/// A key file, and options that name it. The file lives as long as it is held.
fn with(issuer: &str, secret: &str) -> (NamedTempFile, Options) {
    let key_file = NamedTempFile::new().expect("a temporary file");
    let key = format!(r#"{{"type":"client_credentials","client_id":"we","client_secret":"{secret}"}}"#);
    std::fs::write(&key_file, key).expect("a key file");
    let credentials = OAuth2 {
        issuer: issuer.to_owned(),
        key_file: key_file.path().to_owned(),
        audience: Some("urn:broker".into()),
        scope: None,
    };
    let mut options = options();
    options.credentials = Some(Credentials::OAuth2(credentials));
    (key_file, options)
}

#[tokio::test(flavor = "multi_thread")]
async fn a_token_of_a_provider_is_accepted_and_asked_for_once() {
    let endpoints = tokio::task::spawn_blocking(endpoints).await.expect("not cancelled");
    let (issuer, asked) = issuer(endpoints.token.expect("Pulsar has a token")).await;
    let (_key_file, right) = with(&issuer, "right");
    let broker = Pulsar::connect(&endpoints.url, right).await.expect("a connection");
    let place = Place::new("oauth2", Ordering::Shared);
    broker.declare(&place.topology()).await.expect("declared");
    assert_eq!(asked.load(SeqCst), 1);

    let (_key_file, wrong) = with(&issuer, "wrong");
    let error = Pulsar::connect(&endpoints.url, wrong).await.expect_err("a wrong secret");
    assert_eq!(error.kind(), ErrorKind::Unauthorized, "{error}");
    assert!(!format!("{error:?}").contains("wrong"), "the error shows the secret");
}
