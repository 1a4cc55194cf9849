//! NATS with JetStream: one port for everything; TLS and credentials are used if the client offers them.

use std::path::PathBuf;
use std::time::Duration;

use crate::deployment::Deployment;
use crate::endpoints::{Endpoints, Login};
use crate::error::Result;
use crate::image::Image;
use crate::instance::Instance;
use crate::process::Launch;
use crate::software::Software;
use crate::{http, install, tls};

const VERSION: &str = "2.15.2";
const CONFIGURATION: &str = include_str!("nats/server.conf");
const CLUSTER: &str = include_str!("nats/cluster.conf");

const USER: &str = "partitura";
const PASSWORD: &str = "partitura-secret";
/// The password of the user for clients without credentials. No client logs in with it.
const ANONYMOUS_PASSWORD: &str = "nobody-logs-in-with-this";
/// The nkey of a test user, and its public part.
const NKEY_SEED: &str = "SUAHAYLSORUXI5LSMEWXIZLTORZS233OFVWG633QMJQWG2ZNN5XGY6PZBM";
const NKEY: &str = "UDJKAVS6MKA4B4LT3N4GKELKQGS2XHQKSZQJQD3ITWRVUOHELU7HTSWV";

pub(crate) struct Nats;

impl Nats {
    fn configuration(deployment: &Deployment) -> String {
        let instance = &deployment.instance;
        let routes = instance.nodes.iter().map(|node| format!("\"nats://127.0.0.1:{}\"", node.inner));
        let cluster = CLUSTER.replace("@ROUTES@", &routes.collect::<Vec<_>>().join(", "));
        let template = CONFIGURATION.replace("@CLUSTER@", if instance.nodes.len() > 1 { &cluster } else { "" });
        deployment
            .fill(&template)
            .replace("@USER@", USER)
            .replace("@PASSWORD@", PASSWORD)
            .replace("@ANONYMOUS_PASSWORD@", ANONYMOUS_PASSWORD)
            .replace("@NKEY@", NKEY)
    }
}

impl Software for Nats {
    fn install(&self, instance: &Instance) -> Result<()> {
        let module = format!("github.com/nats-io/nats-server/v2@v{}", instance.release.version_or(VERSION));
        install::go_program(instance, &instance.release.software(VERSION), "nats-server", &module)
    }

    fn home(&self, instance: &Instance) -> Result<PathBuf> {
        Ok(instance.software(&instance.release.software(VERSION)))
    }

    fn image(&self, instance: &Instance) -> Image {
        // The image that contains more than the server: a cluster's pod needs a program that sleeps.
        Image {
            name: format!("nats:{}-alpine", instance.release.version_or(VERSION)),
            home: "/usr/local/bin",
            ports: |ports| vec![ports.main, ports.http],
        }
    }

    fn prepare(&self, deployment: &Deployment) -> Result<()> {
        tls::prepare(&deployment.instance)?;
        deployment.instance.write("server.conf", &Self::configuration(deployment))?;
        Ok(())
    }

    fn launch(&self, deployment: &Deployment) -> Result<Launch> {
        Ok(Launch {
            program: deployment.home()?.join("nats-server"),
            arguments: vec!["-c".into(), deployment.inside("server.conf").into()],
            environment: Vec::new(),
            user: None,
        })
    }

    fn is_ready(&self, deployment: &Deployment) -> bool {
        http::get(deployment.instance.ports.http, "/healthz?js-server-only=true", "").is_ok()
    }

    fn ready_within(&self) -> Duration {
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
        install::is_executable(&instance.software(&instance.release.software(VERSION)).join("nats-server"))
            .then(|| instance.release.version_or(VERSION).to_owned())
    }

    fn stop_signal(&self) -> &'static str {
        // With SIGTERM it would end in the same way, but with a status that means failure.
        "INT"
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::instance::Ports;
    use crate::kind::Kind;
    use crate::native::Native;

    fn instance() -> Instance {
        Instance::new(Kind::Nats, "nats-render".to_owned(), Ports::from(100))
    }

    fn configuration(instance: Instance) -> String {
        Nats::configuration(&Deployment { instance, runtime: &Native })
    }

    #[test]
    fn a_node_that_is_alone_has_no_routes() {
        let configuration = configuration(instance());
        assert!(configuration.contains("listen: \"127.0.0.1:100\""), "{configuration}");
        assert!(!configuration.contains("routes"), "{configuration}");
        assert!(configuration.lines().all(|line| line.starts_with('#') || !line.contains('@')), "{configuration}");
    }

    #[test]
    fn a_node_of_a_cluster_has_a_route_to_each() {
        let nodes = vec![Ports::from(100), Ports::from(200)];
        let configuration = configuration(instance().in_cluster(2, nodes));
        assert!(
            configuration.contains(r#"routes: ["nats://127.0.0.1:106", "nats://127.0.0.1:206"]"#),
            "{configuration}"
        );
        assert!(configuration.contains("server_name: partitura-2"), "{configuration}");
    }
}
