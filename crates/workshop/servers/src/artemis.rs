//! Artemis: one node, from its jars.

use std::path::PathBuf;
use std::time::Duration;

use crate::deployment::Deployment;
use crate::endpoints::{Endpoints, Login};
use crate::error::Result;
use crate::image::Image;
use crate::instance::{Instance, create_directory};
use crate::process::Launch;
use crate::software::Software;
use crate::{http, java, tls};

const VERSION: &str = "2.55.0";
const JARS: &str = include_str!("artemis/pom.xml");
const CONFIGURATION: &str = include_str!("artemis/broker.properties");
const LOGIN: &str = include_str!("artemis/login.config");
/// Starts a broker whose configuration is in `etc/` of the directory in its argument, and whose data is in `data/`.
const MAIN: &str = "org.apache.activemq.artemis.core.server.embedded.Main";

const USER: &str = "partitura";
const PASSWORD: &str = "partitura-secret";

pub(crate) struct Artemis;

impl Software for Artemis {
    fn install(&self, instance: &Instance) -> Result<()> {
        java::install(instance, VERSION, JARS)
    }

    fn home(&self, instance: &Instance) -> Result<PathBuf> {
        java::home(instance, &instance.release.software(VERSION))
    }

    fn image(&self, instance: &Instance) -> Image {
        Image {
            name: format!("apache/artemis:{}", instance.release.version_or(VERSION)),
            home: "/opt/artemis/lib",
            ports: |ports| vec![ports.main, ports.login, ports.tls],
        }
    }

    fn prepare(&self, deployment: &Deployment) -> Result<()> {
        let instance = &deployment.instance;
        tls::prepare(instance)?;
        create_directory(&instance.path("etc"))?;
        instance.write("log4j2.properties", java::LOGGING)?;
        instance.write("etc/broker.properties", &deployment.fill(CONFIGURATION))?;
        instance.write("login.config", &deployment.fill(LOGIN))?;
        instance.write("users.properties", &format!("{USER}={PASSWORD}\n"))?;
        instance.write("roles.properties", &format!("partitura={USER}\n"))?;
        Ok(())
    }

    fn launch(&self, deployment: &Deployment) -> Result<Launch> {
        let login = format!("-Djava.security.auth.login.config={}", deployment.inside("login.config").display());
        let options = ["-Xms64m", "-Xmx384m", "-XX:MaxDirectMemorySize=128m", &login];
        java::launch(deployment, &options, &[MAIN.into(), deployment.directory().into()])
    }

    fn is_ready(&self, deployment: &Deployment) -> bool {
        // The acceptors start last, one after the other.
        let ports = &deployment.instance.ports;
        [ports.main, ports.login, ports.tls].into_iter().all(http::listens)
    }

    fn ready_within(&self) -> Duration {
        Duration::from_secs(120)
    }

    fn endpoints(&self, instance: &Instance) -> Endpoints {
        let ports = &instance.ports;
        let url = |scheme: &str, host: &str, port: u16| format!("{scheme}://{host}:{port}?profile=artemis");
        Endpoints {
            url: url("amqp10", "127.0.0.1", ports.main),
            admin: None,
            login: Some(Login {
                url: url("amqp10", "127.0.0.1", ports.login),
                user: USER.to_owned(),
                password: PASSWORD.to_owned(),
            }),
            token: None,
            tls: Some(tls::endpoint(instance, url("amqps10", "localhost", ports.tls))),
            proxied: None,
        }
    }

    fn version(&self, instance: &Instance) -> Option<String> {
        java::is_installed(instance, &instance.release.software(VERSION))
            .then(|| instance.release.version_or(VERSION).to_owned())
    }
}
