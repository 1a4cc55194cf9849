use partitura_broker::{Broker, ErrorKind};
use partitura_nats::{Auth, Nats, Options};

use crate::support::server;

#[tokio::test]
async fn an_nkey_is_accepted_and_another_is_not() {
    let server = server().await;
    let mut options = Options::default();
    options.auth = server.endpoints().token.map(Auth::Seed);
    Nats::connect(&server.url(), options).await.expect("its public part is known to the server");
    let mut options = Options::default();
    options.auth = Some(Auth::Token("nobody's".into()));
    let error = Nats::connect(&server.url(), options).await.expect_err("no user has this token");
    assert_eq!(error.kind(), ErrorKind::Unauthorized);
    assert!(!format!("{error:?}").contains("nobody's"), "{error:?}");
}

#[tokio::test]
async fn a_certificate_that_is_not_trusted_is_final_and_says_so() {
    let tls = server().await.endpoints().tls.expect("the server speaks TLS");
    let right = format!("{}?ca={}", tls.url, tls.authority.display());
    Nats::connect(&right, Options::default()).await.expect("the authority is right");
    let wrong = format!("{}?ca={}", tls.url, tls.stranger.display());
    let error = Nats::connect(&wrong, Options::default()).await.expect_err("the authority is wrong");
    assert_eq!(error.kind(), ErrorKind::Unauthorized, "{error}");
    assert!(error.to_string().contains("certificate"), "{error}");
}

#[tokio::test]
async fn one_server_of_several_is_enough() {
    let url = server().await.url();
    let host = url.trim_start_matches("nats://");
    let broker = Nats::connect(&format!("nats://127.0.0.1:1,{host}"), Options::default()).await;
    assert!(broker.expect("the second is there").capabilities().broker.starts_with("nats 2."));
    let error = Nats::connect("nats://127.0.0.1:1", Options::default()).await.expect_err("no server is there");
    assert_eq!(error.kind(), ErrorKind::Disconnected);
}
