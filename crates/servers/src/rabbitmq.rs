//! RabbitMQ as Debian has it, without its service: a node with a name, a cookie, data and an epmd of its own.

use std::ffi::OsString;
use std::path::{Path, PathBuf};
use std::process::Command;
use std::time::Duration;

use crate::endpoints::{Endpoints, Login};
use crate::error::Result;
use crate::image::Image;
use crate::instance::Instance;
use crate::process::Launch;
use crate::software::Software;
use crate::{http, install, tls};

const CONFIGURATION: &str = include_str!("rabbitmq/rabbitmq.conf");
const DEFINITIONS: &str = include_str!("rabbitmq/definitions.json");
const PLUGINS: &str = "[rabbitmq_management,rabbitmq_consistent_hash_exchange].\n";

/// Not the one on the PATH, which changes the user and stays in front of the node.
const PROGRAM: &str = "rabbitmq-server";
const DEBIAN: &str = "/usr/lib/rabbitmq/bin";
/// In a container it is the version that Debian has.
const VERSION: &str = "3.10.8";

const USER: &str = "partitura";
const PASSWORD: &str = "partitura-secret";
/// guest:guest
const AS_GUEST: &str = "Authorization: Basic Z3Vlc3Q6Z3Vlc3Q=";

pub(crate) struct Rabbitmq;

impl Rabbitmq {
    fn environment(instance: &Instance) -> Vec<(&'static str, OsString)> {
        let ports = &instance.ports;
        vec![
            // The cookie is made here.
            ("HOME", instance.runtime.directory(instance).into()),
            ("RABBITMQ_CONF_ENV_FILE", "/dev/null".into()),
            ("RABBITMQ_NODENAME", format!("partitura-{}@localhost", instance.name).into()),
            ("RABBITMQ_MNESIA_BASE", instance.inside("data").into()),
            ("RABBITMQ_LOG_BASE", instance.inside("logs").into()),
            ("RABBITMQ_CONFIG_FILE", instance.inside("rabbitmq.conf").into()),
            // There are none: without this, those of the machine or the image would count too.
            ("RABBITMQ_CONFIG_FILES", instance.inside("conf.d/*.conf").into()),
            ("RABBITMQ_ENABLED_PLUGINS_FILE", instance.inside("enabled_plugins").into()),
            ("RABBITMQ_DIST_PORT", ports.inner.to_string().into()),
            ("ERL_EPMD_ADDRESS", "127.0.0.1".into()),
            ("ERL_EPMD_PORT", (ports.inner + 1).to_string().into()),
            // The second one: how soon a message that expired while its next queue was still starting is moved again, which
            // is 3 min otherwise.
            (
                "RABBITMQ_SERVER_ADDITIONAL_ERL_ARGS",
                "-kernel inet_dist_use_interface {127,0,0,1} -rabbit dead_letter_worker_publisher_confirm_timeout 3000"
                    .into(),
            ),
            // So the script becomes the node by exec: its process is the broker's, and a signal reaches it.
            ("RUNNING_UNDER_SYSTEMD", "true".into()),
        ]
    }
}

impl Software for Rabbitmq {
    fn install(&self, instance: &Instance) -> Result<()> {
        if install::is_executable(&Path::new(DEBIAN).join(PROGRAM)) {
            return Ok(());
        }
        install::debian_package(instance, "rabbitmq-server", "rabbitmq-server")
    }

    fn home(&self, _instance: &Instance) -> Result<PathBuf> {
        Ok(DEBIAN.into())
    }

    fn image(&self, _instance: &Instance) -> Image {
        Image {
            name: format!("rabbitmq:{VERSION}-management"),
            home: "/opt/rabbitmq/sbin",
            ports: |ports| vec![ports.main, ports.http, ports.tls],
        }
    }

    fn prepare(&self, instance: &Instance) -> Result<()> {
        tls::prepare(instance)?;
        instance.write("rabbitmq.conf", &instance.fill(CONFIGURATION))?;
        instance.write("definitions.json", &DEFINITIONS.replace("@USER@", USER).replace("@PASSWORD@", PASSWORD))?;
        instance.write("enabled_plugins", PLUGINS)?;
        Ok(())
    }

    fn launch(&self, instance: &Instance) -> Result<Launch> {
        let program = instance.home()?.join(PROGRAM);
        Ok(Launch { program, arguments: Vec::new(), environment: Self::environment(instance), user: None })
    }

    fn is_ready(&self, instance: &Instance) -> bool {
        let check = |port| format!("/api/health/checks/port-listener/{port}");
        [instance.ports.main, instance.ports.tls]
            .into_iter()
            .all(|port| http::get(instance.ports.http, &check(port), AS_GUEST).is_ok())
    }

    fn patience(&self) -> Duration {
        Duration::from_secs(120)
    }

    fn endpoints(&self, instance: &Instance) -> Endpoints {
        let ports = &instance.ports;
        Endpoints {
            url: format!("amqp://guest:guest@127.0.0.1:{}", ports.main),
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

    fn version(&self, instance: &Instance) -> Option<String> {
        let running = http::get(instance.ports.http, "/api/overview", AS_GUEST).ok();
        running.and_then(|overview| running_version(&overview)).or_else(installed_version)
    }

    fn clean(&self, instance: &Instance, _wipe: bool) -> Result<()> {
        // Its epmd outlives the node on purpose, and serves nobody else. That there is none is no failure.
        if let Some(epmd) = install::find("epmd").filter(|_| http::listens(instance.ports.inner + 1)) {
            let mut command = Command::new(epmd);
            command.env("ERL_EPMD_PORT", (instance.ports.inner + 1).to_string()).arg("-kill");
            install::run(instance, command)?;
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

    #[test]
    fn the_configuration_leaves_no_place_unfilled() {
        let instance = Instance::new(Kind::Rabbitmq, "rabbitmq-render".to_owned(), Ports::from(17672));
        let filled = instance.fill(CONFIGURATION);
        assert!(filled.contains("listeners.tcp.1 = 127.0.0.1:17672\n"), "{filled}");
        assert!(!filled.lines().any(|line| !line.starts_with('#') && line.contains('@')), "{filled}");
    }

    #[test]
    fn the_running_version_is_read_from_the_overview() {
        assert_eq!(running_version(r#"{"rabbitmq_version":"3.10.8","x":1}"#).as_deref(), Some("3.10.8"));
        assert_eq!(running_version("{}"), None);
    }
}
