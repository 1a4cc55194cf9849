//! Postgres as Debian has it, without its service. It refuses to run as root, so then it runs as Debian's `postgres`.

use std::ffi::OsString;
use std::fs;
use std::hash::{DefaultHasher, Hash, Hasher};
use std::os::unix::fs::{PermissionsExt, chown};
use std::os::unix::process::CommandExt;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};
use std::time::Duration;

use crate::endpoints::{Endpoints, Login};
use crate::error::{Error, Result};
use crate::instance::{Instance, create_directory};
use crate::process::Launch;
use crate::software::Software;
use crate::{install, tls};

const CONFIGURATION: &str = include_str!("postgres/postgresql.conf");
const DATABASE: &str = "partitura";
const USER: &str = "partitura";
const PASSWORD: &str = "partitura-secret";

pub(crate) struct Postgres;

impl Software for Postgres {
    fn install(&self, instance: &Instance) -> Result<()> {
        if instance.release.version().is_some() {
            let remedy = "it is the machine's own, whichever that has; leave the version out".to_owned();
            return Err(Error::NoSuchVersion { server: instance.release.to_string(), remedy });
        }
        if binaries().is_some() {
            return Ok(());
        }
        install::debian_package(instance, "postgresql", "postgres")
    }

    fn prepare(&self, instance: &Instance) -> Result<()> {
        let data = data(instance);
        if !data.join("partitura.conf").exists() {
            initialise(instance, &data)?;
        }
        tls::prepare(instance)?;
        give_certificate(instance, &data)?;
        let configuration = data.join("partitura.conf");
        fs::write(&configuration, instance.fill(CONFIGURATION)).map_err(Error::file("write", &configuration))
    }

    fn launch(&self, instance: &Instance) -> Result<Launch> {
        let settings = OsString::from(format!("--config-file={}/partitura.conf", data(instance).display()));
        Ok(Launch {
            program: program(instance, "postgres")?,
            arguments: vec!["-D".into(), data(instance).into(), settings],
            environment: vec![("LC_ALL", "C".into())],
            user: user()?,
        })
    }

    fn is_ready(&self, instance: &Instance) -> bool {
        let Ok(program) = program(instance, "pg_isready") else { return false };
        let port = instance.ports.main.to_string();
        let asked = Command::new(program)
            .args(["--quiet", "--host", "127.0.0.1", "--port", &port, "--timeout", "5"])
            .stdin(Stdio::null())
            .status();
        asked.is_ok_and(|status| status.success())
    }

    fn patience(&self) -> Duration {
        Duration::from_secs(60)
    }

    fn endpoints(&self, instance: &Instance) -> Endpoints {
        let address = format!("127.0.0.1:{}/{DATABASE}", instance.ports.main);
        Endpoints {
            // Without TLS, which would slow down whoever measures.
            url: format!("postgres://{USER}:{PASSWORD}@{address}?sslmode=disable"),
            admin: None,
            login: Some(Login {
                url: format!("postgres://{address}"),
                user: USER.to_owned(),
                password: PASSWORD.to_owned(),
            }),
            token: None,
            // On the same port: the client asks for it.
            tls: Some(tls::endpoint(instance, format!("postgres://localhost:{}/{DATABASE}", instance.ports.main))),
            proxied: None,
        }
    }

    fn version(&self, instance: &Instance) -> Option<String> {
        if instance.release.version().is_some() {
            return None;
        }
        let output = Command::new(binaries()?.join("postgres")).arg("--version").output().ok()?;
        parse_version(&String::from_utf8_lossy(&output.stdout))
    }

    fn stop_signal(&self) -> &'static str {
        // "Fast": it ends its clients' sessions. At SIGTERM it would wait until they have left.
        "INT"
    }

    fn clean(&self, instance: &Instance, wipe: bool) -> Result<()> {
        let data = data(instance);
        if wipe && data.exists() {
            fs::remove_dir_all(&data).map_err(Error::file("remove", &data))?;
        }
        Ok(())
    }
}

/// The newest that is installed: Debian keeps each version's programs in a directory of their own, off the PATH.
fn binaries() -> Option<PathBuf> {
    let versions = fs::read_dir("/usr/lib/postgresql").into_iter().flatten().flatten();
    let newest = versions
        .filter_map(|entry| Some((entry.file_name().to_str()?.parse::<u32>().ok()?, entry.path().join("bin"))))
        .filter(|(_, binaries)| install::is_executable(&binaries.join("postgres")))
        .max();
    newest.map(|(_, binaries)| binaries).or_else(|| Some(install::find("postgres")?.parent()?.to_owned()))
}

fn program(instance: &Instance, name: &'static str) -> Result<PathBuf> {
    binaries().map(|binaries| binaries.join(name)).ok_or_else(|| Error::Missing {
        server: instance.name.clone(),
        program: name,
        remedy: "`cargo xtask brokers up postgres` installs it where it can".to_owned(),
    })
}

/// `postgres (PostgreSQL) 15.18 (Debian …)`
fn parse_version(line: &str) -> Option<String> {
    line.split_whitespace().nth(2).map(str::to_owned)
}

/// User and group as whom it runs: nobody else if we are not root.
fn user() -> Result<Option<(u32, u32)>> {
    if !install::is_root() {
        return Ok(None);
    }
    let users = Path::new("/etc/passwd");
    let text = fs::read_to_string(users).map_err(Error::file("read", users))?;
    Ok(parse_user(&text, "postgres"))
}

fn parse_user(passwd: &str, name: &str) -> Option<(u32, u32)> {
    let line = passwd.lines().find(|line| line.split(':').next() == Some(name))?;
    let mut fields = line.split(':').skip(2);
    Some((fields.next()?.parse().ok()?, fields.next()?.parse().ok()?))
}

/// In the instance's directory, unless that lies where the other user may not go, as below root's home. Then it is in
/// the system's directory for temporary files, by the name of where it should be.
fn data(instance: &Instance) -> PathBuf {
    let data = instance.path("data");
    let may_enter = |path: &Path| fs::metadata(path).is_ok_and(|metadata| metadata.permissions().mode() & 0o001 != 0);
    let reachable = instance.directory().ancestors().filter(|path| path.exists()).all(may_enter);
    if !install::is_root() || reachable {
        return data;
    }
    let mut hasher = DefaultHasher::new();
    data.hash(&mut hasher);
    std::env::temp_dir().join(format!("partitura-{:016x}", hasher.finish()))
}

/// Puts the certificate and its key where the server may read them, and nobody else, which it insists on.
fn give_certificate(instance: &Instance, data: &Path) -> Result<()> {
    let user = user()?;
    for name in ["server.crt", "server.key"] {
        let (from, to) = (instance.path("tls").join(name), data.join(name));
        fs::copy(&from, &to).map_err(Error::file("copy", &from))?;
        fs::set_permissions(&to, fs::Permissions::from_mode(0o600)).map_err(Error::file("protect", &to))?;
        if let Some((user, group)) = user {
            chown(&to, Some(user), Some(group)).map_err(Error::file("give away", &to))?;
        }
    }
    Ok(())
}

/// Makes the cluster and the database.
fn initialise(instance: &Instance, data: &Path) -> Result<()> {
    instance.report("making a new cluster");
    if data.exists() {
        fs::remove_dir_all(data).map_err(Error::file("remove", data))?;
    }
    create_directory(data)?;
    let user = user()?;
    if let Some((user, group)) = user {
        chown(data, Some(user), Some(group)).map_err(Error::file("give away", data))?;
    }
    // Outside the directory, which must be empty; readable for whoever runs initdb.
    let password = data.with_extension("password");
    fs::write(&password, PASSWORD).map_err(Error::file("write", &password))?;
    let run = |name, arguments: &[&str]| {
        let mut command = Command::new(program(instance, name)?);
        command.args(arguments).arg(data).current_dir("/").env("LC_ALL", "C");
        if let Some((user, group)) = user {
            command.uid(user).gid(group);
        }
        install::run(instance, command)
    };
    let pwfile = format!("--pwfile={}", password.display());
    run("initdb", &["--username", USER, "--auth=scram-sha-256", &pwfile, "--encoding=UTF8", "--locale=C", "-D"])?;
    fs::remove_file(&password).map_err(Error::file("remove", &password))?;
    create_database(instance, data, user)
}

/// By the program itself, alone on the data: no port, no password.
fn create_database(instance: &Instance, data: &Path, user: Option<(u32, u32)>) -> Result<()> {
    let statement = data.with_extension("sql");
    fs::write(&statement, format!("CREATE DATABASE {DATABASE}\n")).map_err(Error::file("write", &statement))?;
    let script = format!(
        "exec {} --single -j -D {} postgres < {}",
        program(instance, "postgres")?.display(),
        data.display(),
        statement.display()
    );
    let mut command = Command::new("sh");
    command.args(["-c", &script]).current_dir("/");
    if let Some((user, group)) = user {
        command.uid(user).gid(group);
    }
    install::run(instance, command)?;
    fs::remove_file(&statement).map_err(Error::file("remove", &statement))
}
