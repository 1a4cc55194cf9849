//! NATS with JetStream: one port for everything, TLS and credentials where the client offers them.

use std::time::Duration;

use crate::endpoints::{Endpoints, Login};
use crate::error::Result;
use crate::instance::Instance;
use crate::process::Launch;
use crate::software::Software;
use crate::{http, install, tls};

const VERSION: &str = "2.15.2";
const CONFIGURATION: &str = include_str!("nats/server.conf");

const USER: &str = "partitura";
const PASSWORD: &str = "partitura-secret";
/// The user that clients without credentials are. Nobody logs in as it.
const ANONYMOUS_PASSWORD: &str = "nobody-logs-in-with-this";
/// A user's nkey of no worth, and its public part.
const NKEY_SEED: &str = "SUAHAYLSORUXI5LSMEWXIZLTORZS233OFVWG633QMJQWG2ZNN5XGY6PZBM";
const NKEY: &str = "UDJKAVS6MKA4B4LT3N4GKELKQGS2XHQKSZQJQD3ITWRVUOHELU7HTSWV";

pub(crate) struct Nats;

impl Nats {
    fn software() -> String {
        format!("nats-{VERSION}")
    }
}

impl Software for Nats {
    fn install(&self, instance: &Instance) -> Result<()> {
        let module = format!("github.com/nats-io/nats-server/v2@v{VERSION}");
        install::go_program(instance, &Self::software(), "nats-server", &module)
    }

    fn prepare(&self, instance: &Instance) -> Result<()> {
        tls::prepare(instance)?;
        let configuration = instance
            .fill(CONFIGURATION)
            .replace("@USER@", USER)
            .replace("@PASSWORD@", PASSWORD)
            .replace("@ANONYMOUS_PASSWORD@", ANONYMOUS_PASSWORD)
            .replace("@NKEY@", NKEY);
        instance.write("server.conf", &configuration)?;
        Ok(())
    }

    fn launch(&self, instance: &Instance) -> Result<Launch> {
        Ok(Launch {
            program: instance.software(&Self::software()).join("nats-server"),
            arguments: vec!["-c".into(), instance.path("server.conf").into()],
            environment: Vec::new(),
            user: None,
        })
    }

    fn is_ready(&self, instance: &Instance) -> bool {
        http::get(instance.ports.http, "/healthz?js-server-only=true", "").is_ok()
    }

    fn patience(&self) -> Duration {
        Duration::from_secs(60)
    }

    fn endpoints(&self, instance: &Instance) -> Endpoints {
        let url = format!("nats://127.0.0.1:{}", instance.ports.main);
        Endpoints {
            admin: Some(format!("http://127.0.0.1:{}", instance.ports.http)),
            login: Some(Login { url: url.clone(), user: USER.to_owned(), password: PASSWORD.to_owned() }),
            token: Some(NKEY_SEED.to_owned()),
            tls: Some(tls::endpoint(instance, format!("tls://localhost:{}", instance.ports.main))),
            proxied: None,
            url,
        }
    }

    fn version(&self, instance: &Instance) -> Option<String> {
        install::is_executable(&instance.software(&Self::software()).join("nats-server")).then(|| VERSION.to_owned())
    }

    fn stop_signal(&self) -> &'static str {
        // SIGTERM lets it end the same way, and with a status that says failure.
        "INT"
    }
}
