//! Pulsar: broker and bookie in one process, from their jars.

use std::path::PathBuf;
use std::time::Duration;

use crate::deployment::Deployment;
use crate::endpoints::{Endpoints, Proxied};
use crate::error::Result;
use crate::image::Image;
use crate::instance::Instance;
use crate::process::Launch;
use crate::software::Software;
use crate::{http, java, tls};

const VERSION: &str = "4.2.4";
const JARS: &str = include_str!("pulsar/pom.xml");
const CONFIGURATION: &str = include_str!("pulsar/standalone.conf");
const MAIN: &str = "org.apache.pulsar.PulsarStandaloneStarter";

/// The key of the tokens, in base64: 32 bytes of a text that says that they protect nothing.
const SECRET: &str = "cGFydGl0dXJhLXRlc3RzLW9uLWxvb3BiYWNrLW9ubHk=";
/// `{"alg":"HS256"}`, `{"sub":"admin"}`, signed with the key. It does not expire.
const TOKEN: &str = "eyJhbGciOiJIUzI1NiJ9.eyJzdWIiOiJhZG1pbiJ9.t0Q_vcZywm0OYtCOIZUG1k2aEHUn_CiUbd6zCyUU7Zs";

/// The internal packages of the JDK that Pulsar uses.
const OPENED: &[&str] = &[
    "java.base/java.io",
    "java.base/java.lang",
    "java.base/java.nio",
    "java.base/java.util.zip",
    "java.base/jdk.internal.misc",
    "java.base/jdk.internal.platform",
    "java.base/sun.net",
    "java.management/sun.management",
    "jdk.management/com.sun.management.internal",
];

pub(crate) struct Pulsar;

impl Software for Pulsar {
    fn install(&self, instance: &Instance) -> Result<()> {
        java::install(instance, VERSION, JARS)
    }

    fn home(&self, instance: &Instance) -> Result<PathBuf> {
        java::home(instance, &instance.release.software(VERSION))
    }

    fn image(&self, instance: &Instance) -> Image {
        Image {
            name: format!("apachepulsar/pulsar:{}", instance.release.version_or(VERSION)),
            home: "/pulsar/lib",
            ports: |ports| vec![ports.main, ports.http, ports.tls, ports.proxied],
        }
    }

    fn prepare(&self, deployment: &Deployment) -> Result<()> {
        let instance = &deployment.instance;
        tls::prepare(instance)?;
        instance.write("log4j2.properties", java::LOGGING)?;
        let configuration = deployment.fill(CONFIGURATION).replace("@SECRET@", SECRET).replace("@TOKEN@", TOKEN);
        instance.write("standalone.conf", &configuration)?;
        Ok(())
    }

    fn launch(&self, deployment: &Deployment) -> Result<Launch> {
        let metadata = "org.apache.pulsar.metadata.bookkeeper";
        let mut options = vec![
            "-Xms128m".to_owned(),
            "-Xmx768m".to_owned(),
            "-XX:MaxDirectMemorySize=512m".to_owned(),
            "-Dlog4j.shutdownHookEnabled=false".to_owned(),
            "-Djava.net.preferIPv4Stack=true".to_owned(),
            "-Dio.netty.tryReflectionSetAccessible=true".to_owned(),
            format!("-Dbookkeeper.metadata.bookie.drivers={metadata}.PulsarMetadataBookieDriver"),
            format!("-Dbookkeeper.metadata.client.drivers={metadata}.PulsarMetadataClientDriver"),
        ];
        options.extend(OPENED.iter().map(|opened| format!("--add-opens={opened}=ALL-UNNAMED")));
        let main = [
            MAIN.into(),
            "--no-functions-worker".into(),
            "--no-stream-storage".into(),
            "--config".into(),
            deployment.inside("standalone.conf").into(),
            "--metadata-dir".into(),
            deployment.inside("data/metadata").into(),
            "--bookkeeper-dir".into(),
            deployment.inside("data/bookkeeper").into(),
            "--bookkeeper-port".into(),
            deployment.instance.ports.inner.to_string().into(),
        ];
        java::launch(deployment, &options, &main)
    }

    fn is_ready(&self, deployment: &Deployment) -> bool {
        // The namespace is made last. The second one sends a message and receives it.
        ["/admin/v2/persistent/public/default", "/admin/v2/brokers/health"]
            .iter()
            .all(|path| http::get(deployment.instance.ports.http, path, "").is_ok())
    }

    fn ready_within(&self) -> Duration {
        Duration::from_secs(300)
    }

    fn endpoints(&self, instance: &Instance) -> Endpoints {
        let ports = &instance.ports;
        Endpoints {
            // The adapter looks for the admin API at its usual port, which is not ours.
            url: format!("pulsar://127.0.0.1:{}?admin=http://127.0.0.1:{}", ports.main, ports.http),
            admin: Some(format!("http://127.0.0.1:{}", ports.http)),
            login: None,
            token: Some(TOKEN.to_owned()),
            tls: Some(tls::endpoint(instance, format!("pulsar+ssl://localhost:{}", ports.tls))),
            proxied: Some(Proxied::new(ports)),
        }
    }

    fn version(&self, instance: &Instance) -> Option<String> {
        java::is_installed(instance, &instance.release.software(VERSION))
            .then(|| instance.release.version_or(VERSION).to_owned())
    }
}
