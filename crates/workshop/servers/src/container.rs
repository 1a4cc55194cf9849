//! Containers by name, and the commands that make them.

use std::ffi::OsString;
use std::fs;
use std::hash::{DefaultHasher, Hash, Hasher};
use std::os::unix::fs::MetadataExt;
use std::path::Path;
use std::process::Command;

use crate::error::{Error, Result};
use crate::image::Image;
use crate::instance::{Instance, Ports, create_directory};
use crate::process::Launch;

/// The path of an instance's directory in its container.
pub(crate) const INSIDE: &str = "/partitura";
/// The label with the digest of the command that made a container.
pub(crate) const MADE_BY: &str = "partitura.made-by";
/// The label with the name of the pod to which a container belongs.
pub(crate) const POD: &str = "partitura.pod";

/// A container that exists.
#[derive(Debug, PartialEq, Eq)]
pub(crate) struct Container {
    /// The process on the machine, or virtual machine, of the engine. 0 if it does not run.
    pub(crate) pid: u32,
    pub(crate) started: String,
    pub(crate) made_by: String,
    pub(crate) is_paused: bool,
}

impl Container {
    const FORMAT: &str =
        r#"{{.State.Pid}} {{.State.StartedAt}} {{.State.Paused}} {{index .Config.Labels "partitura.made-by"}}"#;

    /// `None` if no container has this name, or no engine answers.
    pub(crate) fn find(name: &str) -> Option<Self> {
        let mut command = Command::new("docker");
        command.args(["inspect", "--type", "container", "--format", Self::FORMAT, name]);
        let output = command.output().ok().filter(|output| output.status.success())?;
        Self::parse(&String::from_utf8_lossy(&output.stdout))
    }

    fn parse(line: &str) -> Option<Self> {
        let mut words = line.split_whitespace();
        let (pid, started) = (words.next()?.parse().ok()?, words.next()?.to_owned());
        let is_paused = words.next()? == "true";
        Some(Self { pid, started, is_paused, made_by: words.next().unwrap_or_default().to_owned() })
    }

    pub(crate) fn runs(&self) -> bool {
        self.pid != 0
    }
}

/// The vendor's image of the instance's software.
pub(crate) fn image_of(instance: &Instance) -> Image {
    instance.release.kind().software().image(instance)
}

pub(crate) fn name(instance: &Instance) -> String {
    container_name(&instance.name.replace('/', "-"), &instance.directory())
}

/// The name depends on the directory, since another checkout on this machine has instances of the same names.
pub(crate) fn container_name(name: &str, directory: &Path) -> String {
    format!("partitura-{name}-{:08x}", hash(directory.as_os_str()) as u32)
}

pub(crate) fn digest(arguments: &[OsString]) -> String {
    format!("{:016x}", hash(arguments))
}

fn hash(value: impl Hash) -> u64 {
    let mut hasher = DefaultHasher::new();
    value.hash(&mut hasher);
    hasher.finish()
}

/// The arguments of `docker run` for a program of the instance, the server or another: everything but the network.
pub(crate) fn made_of(instance: &Instance, launch: &Launch) -> Result<Vec<OsString>> {
    let directory = instance.directory();
    create_directory(&directory)?;
    // Natively the program runs as our user. Here it runs as the owner of the directory, which is the same user, and
    // works without /proc.
    let owner = fs::metadata(&directory).map_err(Error::file("look at", &directory))?;
    let (user, group) = launch.user.unwrap_or((owner.uid(), owner.gid()));
    // Several programs need a name for their user.
    let users = format!("root:x:0:0::/root:/bin/sh\npartitura:x:{user}:{group}::{INSIDE}:/bin/sh\n");
    let users = instance.write(&format!("passwd-{user}"), &users)?;
    Ok(rendered(&directory, &users, (user, group), launch, &image_of(instance).name))
}

fn rendered(directory: &Path, users: &Path, (user, group): (u32, u32), launch: &Launch, image: &str) -> Vec<OsString> {
    let mount = |from: &Path, to: &str| {
        let mut mount = OsString::from("type=bind,source=");
        mount.push(from);
        mount.push(format!(",target={to}"));
        mount
    };
    let mut arguments: Vec<OsString> = vec!["--user".into(), format!("{user}:{group}").into()];
    arguments.extend([
        "--mount".into(),
        mount(directory, INSIDE),
        "--mount".into(),
        mount(users, "/etc/passwd,readonly"),
    ]);
    // SELinux would hide the mounted directory. The limit is for programs that allocate memory for every file that they
    // may open.
    arguments.extend(["--security-opt", "label=disable", "--ulimit", "nofile=16384:16384"].map(OsString::from));
    arguments.extend(["--workdir", INSIDE].map(OsString::from));
    for (name, value) in &launch.environment {
        let mut variable = OsString::from(format!("{name}="));
        variable.push(value);
        arguments.extend(["--env".into(), variable]);
    }
    arguments.extend(["--entrypoint".into(), launch.program.clone().into(), image.into()]);
    arguments.extend_from_slice(&launch.arguments);
    arguments
}

/// A network of its own, through which the ports of these nodes are reached.
///
/// Its host is called `localhost`, since a server may name itself, and its data, by the address of its host, as
/// Pulsar's bookie does. The other address of the container may change with each start.
pub(crate) fn network(image: &Image, nodes: &[Ports]) -> Vec<OsString> {
    let ports = nodes.iter().flat_map(image.ports);
    let publish = |port| ["--publish".into(), format!("127.0.0.1:{port}:{port}").into()];
    ["--hostname", "localhost"].map(OsString::from).into_iter().chain(ports.flat_map(publish)).collect()
}

/// The container that keeps the network of a cluster's nodes, each of which may die and be made again.
pub(crate) fn pod_of(instance: &Instance) -> Vec<OsString> {
    let image = image_of(instance);
    let mut arguments = network(&image, &instance.nodes);
    arguments.extend(["--entrypoint", "sleep", &image.name, "2147483647"].map(OsString::from));
    arguments
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::kind::Kind;

    fn words(arguments: &[OsString]) -> String {
        arguments.iter().map(|argument| argument.to_string_lossy()).collect::<Vec<_>>().join(" ")
    }

    #[test]
    fn a_command_mounts_the_directory_and_passes_over_the_entry_point() {
        let launch = Launch {
            program: "/bin/serve".into(),
            arguments: vec!["-c".into(), "/partitura/conf".into()],
            environment: vec![("HOME", "/partitura".into())],
            user: None,
        };
        let arguments = rendered(Path::new("/t/a b"), Path::new("/t/a b/passwd-5"), (5, 6), &launch, "serve:1");
        assert_eq!(
            words(&arguments),
            "--user 5:6 --mount type=bind,source=/t/a b,target=/partitura \
             --mount type=bind,source=/t/a b/passwd-5,target=/etc/passwd,readonly \
             --security-opt label=disable --ulimit nofile=16384:16384 --workdir /partitura --env HOME=/partitura \
             --entrypoint /bin/serve serve:1 -c /partitura/conf"
        );
    }

    #[test]
    fn ports_are_published_on_the_loopback_interface_and_as_they_are() {
        for kind in Kind::all() {
            let ports = Ports::standing(kind);
            let instance = Instance::new(kind, format!("{kind}-ports"), ports);
            let published = network(&image_of(&instance), &[ports]);
            assert!(words(&published).contains(&format!("--publish 127.0.0.1:{0}:{0}", ports.main)), "{published:?}");
            assert!(!words(&published).contains(&ports.advertised.to_string()), "that is the proxy's: {published:?}");
        }
    }

    #[test]
    fn the_pod_of_a_cluster_publishes_the_ports_of_all_nodes() {
        let nodes = [100, 200, 300].map(Ports::from).to_vec();
        let instance = Instance::new(Kind::Kafka, "kafka-cluster/1".to_owned(), nodes[0]).in_cluster(1, nodes);
        let pod = words(&pod_of(&instance));
        for port in [100, 104, 200, 304] {
            assert!(pod.contains(&format!("127.0.0.1:{port}:{port}")), "{pod}");
        }
        assert!(pod.ends_with("2147483647"), "{pod}");
    }

    #[test]
    fn a_container_is_read_from_what_the_engine_says() {
        let container = Container::parse("42 2026-11-27T03:04:05.678Z false 0011\n").expect("well formed");
        assert_eq!((container.pid, &*container.started, &*container.made_by), (42, "2026-11-27T03:04:05.678Z", "0011"));
        assert!(container.runs());
        assert!(!Container::parse("0 2026-11-27T03:04:05Z true \n").expect("it has no label").runs());
        assert_eq!(Container::parse(""), None);
    }

    #[test]
    fn instances_of_two_checkouts_have_containers_of_their_own() {
        let [one, other] = ["/a/nats", "/b/nats"].map(|directory| container_name("nats", Path::new(directory)));
        assert_ne!(one, other);
        assert!(one.starts_with("partitura-nats-"), "{one}");
    }
}
