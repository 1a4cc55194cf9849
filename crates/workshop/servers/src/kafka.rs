//! Kafka: nodes that are broker and controller in one, from the broker's jars.

use std::ffi::OsString;
use std::path::PathBuf;
use std::time::Duration;

use crate::deployment::Deployment;
use crate::endpoints::{Endpoints, Login, Proxied};
use crate::error::Result;
use crate::image::Image;
use crate::instance::{Instance, Ports};
use crate::process::Launch;
use crate::software::Software;
use crate::{http, java, tls};

const VERSION: &str = "4.4.0";
const JARS: &str = include_str!("kafka/pom.xml");
const CONFIGURATION: &str = include_str!("kafka/server.properties");
/// Any id will do: the nodes differ in their ports.
const CLUSTER: &str = "UGFydGl0dXJhLXRlc3RzLg";

const USER: &str = "partitura";
const PASSWORD: &str = "partitura-secret";

pub(crate) struct Kafka;

impl Kafka {
    fn configuration(deployment: &Deployment) -> String {
        let instance = &deployment.instance;
        let voter = |(id, node): (usize, &Ports)| format!("{id}@127.0.0.1:{}", node.inner);
        let voters = (1..).zip(&instance.nodes).map(voter).collect::<Vec<_>>().join(",");
        let count = instance.nodes.len();
        deployment
            .fill(CONFIGURATION)
            .replace("@VOTERS@", &voters)
            .replace("@REPLICAS@", &count.to_string())
            .replace("@MAJORITY@", &(count / 2 + 1).to_string())
            .replace("@USER@", USER)
            .replace("@PASSWORD@", PASSWORD)
    }

    /// Gives the data directory its identity and the users of SCRAM.
    fn format(deployment: &Deployment) -> Result<()> {
        deployment.instance.report("formatting the data directory");
        let options = ["-Xmx128m", "-XX:TieredStopAtLevel=1"];
        let scram = format!("SCRAM-SHA-256=[name={USER},password={PASSWORD}]");
        let tool = ["kafka.tools.StorageTool", "format", "--ignore-formatted", "--cluster-id", CLUSTER];
        let mut main = tool.map(OsString::from).to_vec();
        main.extend([
            "--config".into(),
            deployment.inside("server.properties").into(),
            "--add-scram".into(),
            scram.into(),
        ]);
        deployment.run(java::launch(deployment, &options, &main)?)
    }
}

impl Software for Kafka {
    fn install(&self, instance: &Instance) -> Result<()> {
        java::install(instance, VERSION, JARS)
    }

    fn home(&self, instance: &Instance) -> Result<PathBuf> {
        java::home(instance, &instance.release.software(VERSION))
    }

    fn image(&self, instance: &Instance) -> Image {
        Image {
            name: format!("apache/kafka:{}", instance.release.version_or(VERSION)),
            home: "/opt/kafka/libs",
            ports: |ports| vec![ports.main, ports.login, ports.tls, ports.proxied],
        }
    }

    fn prepare(&self, deployment: &Deployment) -> Result<()> {
        let instance = &deployment.instance;
        tls::prepare(instance)?;
        instance.write("log4j2.properties", java::LOGGING)?;
        instance.write("server.properties", &Self::configuration(deployment))?;
        if instance.path("data/meta.properties").exists() { Ok(()) } else { Self::format(deployment) }
    }

    fn launch(&self, deployment: &Deployment) -> Result<Launch> {
        let options = ["-Xms128m", "-Xmx512m", "-XX:MaxDirectMemorySize=128m"];
        let main = ["kafka.Kafka".into(), deployment.inside("server.properties").into()];
        java::launch(deployment, &options, &main)
    }

    fn is_ready(&self, deployment: &Deployment) -> bool {
        let instance = &deployment.instance;
        // Kafka listens well before it serves, and logs when it serves. The log is of this start.
        deployment.runtime.log(instance).contains("Kafka Server started") && http::listens(instance.ports.main)
    }

    fn ready_within(&self) -> Duration {
        Duration::from_secs(180)
    }

    fn endpoints(&self, instance: &Instance) -> Endpoints {
        let ports = &instance.ports;
        Endpoints {
            url: format!("kafka://127.0.0.1:{}", ports.main),
            admin: None,
            login: Some(Login {
                url: format!("kafka://127.0.0.1:{}", ports.login),
                user: USER.to_owned(),
                password: PASSWORD.to_owned(),
            }),
            token: None,
            tls: Some(tls::endpoint(instance, format!("kafka://localhost:{}", ports.tls))),
            proxied: Some(Proxied::new(ports)),
        }
    }

    fn version(&self, instance: &Instance) -> Option<String> {
        java::is_installed(instance, &instance.release.software(VERSION))
            .then(|| instance.release.version_or(VERSION).to_owned())
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::kind::Kind;
    use crate::native::Native;

    #[test]
    fn a_node_that_is_alone_keeps_one_replica() {
        let instance = Instance::new(Kind::Kafka, "kafka-render".to_owned(), Ports::from(100));
        let configuration = Kafka::configuration(&Deployment { instance, runtime: &Native });
        for line in
            ["controller.quorum.voters=1@127.0.0.1:106", "default.replication.factor=1", "min.insync.replicas=1"]
        {
            assert!(configuration.lines().any(|found| found == line), "{configuration}");
        }
    }

    #[test]
    fn a_node_of_a_cluster_knows_all_voters_and_waits_for_a_majority() {
        let nodes = [100, 200, 300].map(Ports::from).to_vec();
        let instance = Instance::new(Kind::Kafka, "kafka-render".to_owned(), nodes[1]).in_cluster(2, nodes);
        let configuration = Kafka::configuration(&Deployment { instance, runtime: &Native });
        let voters = "controller.quorum.voters=1@127.0.0.1:106,2@127.0.0.1:206,3@127.0.0.1:306";
        for line in ["node.id=2", voters, "default.replication.factor=3", "min.insync.replicas=2"] {
            assert!(configuration.lines().any(|found| found == line), "{configuration}");
        }
    }
}
