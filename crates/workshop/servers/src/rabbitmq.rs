//! RabbitMQ in Debian's version, without Debian's service: a node with a name, a cookie, data and an epmd of its own.

use std::ffi::OsString;
use std::path::{Path, PathBuf};
use std::time::Duration;

use crate::deployment::Deployment;
use crate::endpoints::{Endpoints, Login};
use crate::error::{Error, Result};
use crate::image::Image;
use crate::instance::Instance;
use crate::process::{Launch, Process};
use crate::software::Software;
use crate::{debian, http, install, suite, tls};

const CONFIGURATION: &str = include_str!("rabbitmq/rabbitmq.conf");
const DEFINITIONS: &str = include_str!("rabbitmq/definitions.json");
const PLUGINS: &str = "[rabbitmq_management,rabbitmq_consistent_hash_exchange].\n";

/// Not the script on the PATH, which changes the user and stays as the node's parent.
const PROGRAM: &str = "rabbitmq-server";
const DEBIAN: &str = "/usr/lib/rabbitmq/bin";
/// A container has the version of Debian.
const VERSION: &str = "3.10.8";

/// The releases of Debian, and their versions that this machine may not have.
const SUITES: &[(&str, &str)] = &[("4.0.", "trixie"), ("4.3.", "forky")];

const USER: &str = "partitura";
const PASSWORD: &str = "partitura-secret";
/// guest:guest
const AS_GUEST: &str = "Authorization: Basic Z3Vlc3Q6Z3Vlc3Q=";

pub(crate) struct Rabbitmq;

impl Rabbitmq {
    fn unpack(instance: &Instance, version: &str) -> Result<()> {
        let (_, suite) = SUITES.iter().find(|(series, _)| version.starts_with(series)).ok_or_else(|| {
            let known = SUITES.iter().map(|(series, suite)| format!("{series}x (Debian's {suite})"));
            let known = known.collect::<Vec<_>>().join(" and ");
            let remedy = format!("besides the machine's own there are {known}");
            Error::NoSuchVersion { server: instance.release.to_string(), remedy }
        })?;
        suite::unpack(instance, &instance.release.name(), suite, &format!("rabbitmq-server={version}-*"))
    }

    fn environment(deployment: &Deployment) -> Vec<(&'static str, OsString)> {
        let (instance, ports) = (&deployment.instance, &deployment.instance.ports);
        // Erlang takes no dot before the host.
        let node = instance.name.replace('.', "_");
        vec![
            // The cookie is made here.
            ("HOME", deployment.directory().into()),
            ("RABBITMQ_CONF_ENV_FILE", "/dev/null".into()),
            ("RABBITMQ_NODENAME", format!("partitura-{node}@localhost").into()),
            ("RABBITMQ_MNESIA_BASE", deployment.inside("data").into()),
            ("RABBITMQ_LOG_BASE", deployment.inside("logs").into()),
            ("RABBITMQ_CONFIG_FILE", deployment.inside("rabbitmq.conf").into()),
            // These files do not exist: without this line, those of the machine or the image would be used too.
            ("RABBITMQ_CONFIG_FILES", deployment.inside("conf.d/*.conf").into()),
            ("RABBITMQ_ENABLED_PLUGINS_FILE", deployment.inside("enabled_plugins").into()),
            ("RABBITMQ_DIST_PORT", ports.inner.to_string().into()),
            ("ERL_EPMD_ADDRESS", "127.0.0.1".into()),
            ("ERL_EPMD_PORT", (ports.inner + 1).to_string().into()),
            // The second setting is the time after which a message that expired while its next queue was still starting
            // is moved again. Its default is 3 min.
            (
                "RABBITMQ_SERVER_ADDITIONAL_ERL_ARGS",
                "-kernel inet_dist_use_interface {127,0,0,1} -rabbit dead_letter_worker_publisher_confirm_timeout 3000"
                    .into(),
            ),
            // With this the script becomes the node by exec, so that its process is the broker's, and a signal reaches
            // it.
            ("RUNNING_UNDER_SYSTEMD", "true".into()),
        ]
    }
}

impl Software for Rabbitmq {
    fn install(&self, instance: &Instance) -> Result<()> {
        if let Some(version) = instance.release.version() {
            return Self::unpack(instance, version);
        }
        if install::is_executable(&Path::new(DEBIAN).join(PROGRAM)) {
            return Ok(());
        }
        debian::install(instance, &["rabbitmq-server"], "rabbitmq-server")
    }

    fn home(&self, _instance: &Instance) -> Result<PathBuf> {
        Ok(DEBIAN.into())
    }

    fn image(&self, instance: &Instance) -> Image {
        Image {
            name: format!("rabbitmq:{}-management", instance.release.version_or(VERSION)),
            home: "/opt/rabbitmq/sbin",
            ports: |ports| vec![ports.main, ports.http, ports.tls],
        }
    }

    fn prepare(&self, deployment: &Deployment) -> Result<()> {
        let instance = &deployment.instance;
        tls::prepare(instance)?;
        let hold = instance.hold.map(|hold| format!("consumer_timeout = {}\n", hold.as_millis())).unwrap_or_default();
        instance.write("rabbitmq.conf", &(deployment.fill(CONFIGURATION) + &hold))?;
        instance.write("definitions.json", &DEFINITIONS.replace("@USER@", USER).replace("@PASSWORD@", PASSWORD))?;
        instance.write("enabled_plugins", PLUGINS)?;
        Ok(())
    }

    fn launch(&self, deployment: &Deployment) -> Result<Launch> {
        let program = deployment.home()?.join(PROGRAM);
        Ok(Launch { program, arguments: Vec::new(), environment: Self::environment(deployment), user: None })
    }

    fn is_ready(&self, deployment: &Deployment) -> bool {
        let check = |port| format!("/api/health/checks/port-listener/{port}");
        let ports = &deployment.instance.ports;
        [ports.main, ports.tls].into_iter().all(|port| http::get(ports.http, &check(port), AS_GUEST).is_ok())
    }

    fn ready_within(&self) -> Duration {
        Duration::from_secs(120)
    }

    fn endpoints(&self, instance: &Instance) -> Endpoints {
        let ports = &instance.ports;
        let hold = instance.hold.map(|hold| format!("?hold={}", hold.as_secs())).unwrap_or_default();
        Endpoints {
            url: format!("amqp://guest:guest@127.0.0.1:{}{hold}", ports.main),
            admin: Some(format!("http://127.0.0.1:{}", ports.http)),
            login: Some(Login {
                url: format!("amqp://127.0.0.1:{}", ports.main),
                user: USER.to_owned(),
                password: PASSWORD.to_owned(),
            }),
            token: None,
            tls: Some(tls::endpoint(instance, format!("amqps://localhost:{}", ports.tls))),
            proxied: None,
        }
    }

    fn operator(&self) -> &'static str {
        AS_GUEST
    }

    fn version(&self, instance: &Instance) -> Option<String> {
        // While this node does not run, another node may answer on the same port.
        let running =
            Process::find(instance).and_then(|_| http::get(instance.ports.http, "/api/overview", AS_GUEST).ok());
        running.and_then(|overview| running_version(&overview)).or_else(|| match instance.release.version() {
            Some(version) => instance.software(&instance.release.name()).exists().then(|| version.to_owned()),
            None => installed_version(),
        })
    }

    fn natively(&self, instance: &Instance, launch: Launch) -> Result<Launch> {
        match instance.release.version() {
            Some(_) => suite::within(instance, &instance.release.name(), launch),
            None => Ok(launch),
        }
    }

    fn clean(&self, instance: &Instance, _wipe: bool) -> Result<()> {
        // Its epmd outlives the node on purpose.
        if http::listens(instance.ports.inner + 1) {
            let environment = vec![("ERL_EPMD_PORT", (instance.ports.inner + 1).to_string().into())];
            let launch = Launch { program: "epmd".into(), arguments: vec!["-kill".into()], environment, user: None };
            // epmd refuses to stop while a node of another version, which is up meanwhile, uses it too.
            if let Err(refusal) = install::run(instance, self.natively(instance, launch)?.command()) {
                instance.report(&format!("leaves its epmd: {refusal}"));
            }
        }
        Ok(())
    }
}

fn running_version(overview: &str) -> Option<String> {
    let overview: serde_json::Value = serde_json::from_str(overview).ok()?;
    Some(overview.get("rabbitmq_version")?.as_str()?.to_owned())
}

/// From the name of the directory in which a release lives.
fn installed_version() -> Option<String> {
    let entries = std::fs::read_dir("/usr/lib/rabbitmq/lib").ok()?.flatten();
    entries.filter_map(|entry| Some(entry.file_name().to_str()?.strip_prefix("rabbitmq_server-")?.to_owned())).max()
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::instance::Ports;
    use crate::kind::Kind;
    use crate::native::Native;

    #[test]
    fn the_configuration_leaves_no_place_unfilled() {
        let instance = Instance::new(Kind::Rabbitmq, "rabbitmq-render".to_owned(), Ports::from(17672));
        let filled = Deployment { instance, runtime: &Native }.fill(CONFIGURATION);
        assert!(filled.contains("listeners.tcp.1 = 127.0.0.1:17672\n"), "{filled}");
        assert!(!filled.lines().any(|line| !line.starts_with('#') && line.contains('@')), "{filled}");
    }

    #[test]
    fn the_running_version_is_read_from_the_overview() {
        assert_eq!(running_version(r#"{"rabbitmq_version":"3.10.8","x":1}"#).as_deref(), Some("3.10.8"));
        assert_eq!(running_version("{}"), None);
    }
}
