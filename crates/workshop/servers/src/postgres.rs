//! Postgres: natively in Debian's version, without Debian's service. It refuses to run as root, so for root it runs as
//! `postgres`.

use std::ffi::{OsStr, OsString};
use std::fs;
use std::hash::{DefaultHasher, Hash, Hasher};
use std::io::{self, Read, Write};
use std::net::{Ipv4Addr, TcpStream};
use std::os::unix::fs::{PermissionsExt, chown};
use std::path::{Path, PathBuf};
use std::process::Command;
use std::time::Duration;

use crate::deployment::Deployment;
use crate::endpoints::{Endpoints, Login};
use crate::error::{Error, Result};
use crate::image::Image;
use crate::instance::{Instance, create_directory};
use crate::process::Launch;
use crate::software::Software;
use crate::{debian, install, tls};

const CONFIGURATION: &str = include_str!("postgres/postgresql.conf");
const DATABASE: &str = "partitura";
const USER: &str = "partitura";
const PASSWORD: &str = "partitura-secret";
/// Its major version, which is in a path, and the minor one. A container has the version of Debian.
const VERSION: (u32, u32) = (15, 18);
/// The user as whom it runs for root if there is no user `postgres`. In a container the user need not exist outside.
const NOBODY: (u32, u32) = (999, 999);
/// The rule that asks all clients for a password, from any address.
const ACCESS: &str = "host all all all scram-sha-256\n";

pub(crate) struct Postgres;

impl Software for Postgres {
    fn expect_version(&self, instance: &Instance) -> Result<()> {
        if instance.release.version().is_none() {
            return Ok(());
        }
        let remedy = "there is one, the machine's own or that of the image; leave the version out".to_owned();
        Err(Error::NoSuchVersion { server: instance.release.to_string(), remedy })
    }

    fn install(&self, instance: &Instance) -> Result<()> {
        if binaries().is_some() {
            return Ok(());
        }
        debian::install(instance, &["postgresql"], "postgres")
    }

    fn home(&self, instance: &Instance) -> Result<PathBuf> {
        binaries().ok_or_else(|| Error::Missing {
            server: instance.name.clone(),
            program: "postgres",
            remedy: "`cargo xtask brokers up postgres` installs it where it can".to_owned(),
        })
    }

    fn image(&self, _instance: &Instance) -> Image {
        let (major, minor) = VERSION;
        Image {
            name: format!("postgres:{major}.{minor}"),
            home: "/usr/lib/postgresql/15/bin",
            ports: |ports| vec![ports.main],
        }
    }

    fn prepare(&self, deployment: &Deployment) -> Result<()> {
        let instance = &deployment.instance;
        let data = data(instance, &deployment.directory());
        if !data.join("partitura.conf").exists() {
            initialise(deployment, &data)?;
        }
        tls::prepare(instance)?;
        give_certificate(instance, &data)?;
        let seen = deployment.seen(&data).display().to_string();
        let configuration = deployment.fill(CONFIGURATION).replace("@DATA@", &seen);
        for (name, text) in [("partitura.conf", &*configuration), ("partitura_hba.conf", ACCESS)] {
            let path = data.join(name);
            fs::write(&path, text).map_err(Error::file("write", &path))?;
        }
        Ok(())
    }

    fn launch(&self, deployment: &Deployment) -> Result<Launch> {
        let data = deployment.seen(&data(&deployment.instance, &deployment.directory()));
        let settings = OsString::from(format!("--config-file={}/partitura.conf", data.display()));
        let program = deployment.home()?.join("postgres");
        let (arguments, environment) = (vec!["-D".into(), data.into(), settings], vec![("LC_ALL", "C".into())]);
        Ok(Launch { program, arguments, environment, user: user()? })
    }

    fn is_ready(&self, deployment: &Deployment) -> bool {
        asks_for_password(deployment.instance.ports.main).unwrap_or(false)
    }

    fn ready_within(&self) -> Duration {
        Duration::from_secs(60)
    }

    fn endpoints(&self, instance: &Instance) -> Endpoints {
        let address = format!("127.0.0.1:{}/{DATABASE}", instance.ports.main);
        Endpoints {
            // Without TLS, which would slow down measurements.
            url: format!("postgres://{USER}:{PASSWORD}@{address}?sslmode=disable"),
            admin: None,
            login: Some(Login {
                url: format!("postgres://{address}"),
                user: USER.to_owned(),
                password: PASSWORD.to_owned(),
            }),
            token: None,
            // The same port: the client asks for TLS.
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
        // A "fast" shutdown, which ends the sessions of clients. With SIGTERM it would wait until they have left.
        "INT"
    }

    fn clean(&self, instance: &Instance, wipe: bool) -> Result<()> {
        let data = data(instance, &instance.directory());
        if wipe && data.exists() {
            fs::remove_dir_all(&data).map_err(Error::file("remove", &data))?;
        }
        Ok(())
    }
}

/// The newest installed version: Debian keeps the programs of each version in a directory of their own, outside of the
/// PATH.
fn binaries() -> Option<PathBuf> {
    let versions = fs::read_dir("/usr/lib/postgresql").into_iter().flatten().flatten();
    let newest = versions
        .filter_map(|entry| Some((entry.file_name().to_str()?.parse::<u32>().ok()?, entry.path().join("bin"))))
        .filter(|(_, binaries)| install::is_executable(&binaries.join("postgres")))
        .max();
    newest.map(|(_, binaries)| binaries).or_else(|| Some(install::find("postgres")?.parent()?.to_owned()))
}

/// Whether the server asks a client for a password. While it starts it refuses every client.
fn asks_for_password(port: u16) -> io::Result<bool> {
    let time_limit = Duration::from_secs(5);
    let mut stream = TcpStream::connect_timeout(&(Ipv4Addr::LOCALHOST, port).into(), time_limit)?;
    stream.set_read_timeout(Some(time_limit))?;
    stream.set_write_timeout(Some(time_limit))?;
    stream.write_all(&introduction())?;
    let mut answer = [0];
    stream.read_exact(&mut answer)?;
    // An error would begin with an E.
    Ok(answer == *b"R")
}

/// A StartupMessage of version 3.0 of the protocol: its length, the version, names and values.
fn introduction() -> Vec<u8> {
    let body = format!("user\0{USER}\0database\0{DATABASE}\0\0");
    let length = 8 + u32::try_from(body.len()).unwrap_or_default();
    [&length.to_be_bytes(), &196_608_u32.to_be_bytes(), body.as_bytes()].concat()
}

/// `postgres (PostgreSQL) 15.18 (Debian …)`
fn parse_version(line: &str) -> Option<String> {
    line.split_whitespace().nth(2).map(str::to_owned)
}

/// The user and group as whom it runs; `None` for our own, if we are not root.
pub(crate) fn user() -> Result<Option<(u32, u32)>> {
    if !debian::is_root() {
        return Ok(None);
    }
    let users = Path::new("/etc/passwd");
    let text = fs::read_to_string(users).map_err(Error::file("read", users))?;
    Ok(Some(parse_user(&text, "postgres").unwrap_or(NOBODY)))
}

fn parse_user(passwd: &str, name: &str) -> Option<(u32, u32)> {
    let line = passwd.lines().find(|line| line.split(':').next() == Some(name))?;
    let mut fields = line.split(':').skip(2);
    Some((fields.next()?.parse().ok()?, fields.next()?.parse().ok()?))
}

/// The data directory. It is in the instance's directory, unless the other user may not enter that, for example below
/// root's home. Then it is in the system's directory for temporary files, named after the path where it should be. For
/// a container it is always in the instance's directory.
fn data(instance: &Instance, seen: &Path) -> PathBuf {
    let data = instance.path("data");
    let may_enter = |path: &Path| fs::metadata(path).is_ok_and(|metadata| metadata.permissions().mode() & 0o001 != 0);
    let reachable = seen.ancestors().filter(|path| path.exists()).all(may_enter);
    if !debian::is_root() || reachable {
        return data;
    }
    let mut hasher = DefaultHasher::new();
    data.hash(&mut hasher);
    std::env::temp_dir().join(format!("partitura-{:016x}", hasher.finish()))
}

/// Copies the certificate and its key to where only the server may read them, as Postgres demands.
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
fn initialise(deployment: &Deployment, data: &Path) -> Result<()> {
    deployment.instance.report("making a new cluster");
    if data.exists() {
        fs::remove_dir_all(data).map_err(Error::file("remove", data))?;
    }
    create_directory(data)?;
    let user = user()?;
    if let Some((user, group)) = user {
        chown(data, Some(user), Some(group)).map_err(Error::file("give away", data))?;
    }
    // Outside of the directory, which must be empty; readable for the user that runs initdb.
    let password = data.with_extension("password");
    fs::write(&password, PASSWORD).map_err(Error::file("write", &password))?;
    let pwfile = format!("--pwfile={}", deployment.seen(&password).display());
    let initdb = deployment.home()?.join("initdb");
    let options = ["--username", USER, "--auth=scram-sha-256", &pwfile, "--encoding=UTF8", "--locale=C", "-D"];
    run(deployment, &initdb, &options, deployment.seen(data).as_os_str(), user)?;
    fs::remove_file(&password).map_err(Error::file("remove", &password))?;
    create_database(deployment, data, user)
}

/// Runs the program itself, alone on the data, so that it needs no port and no password.
fn create_database(deployment: &Deployment, data: &Path, user: Option<(u32, u32)>) -> Result<()> {
    let statement = data.with_extension("sql");
    fs::write(&statement, format!("CREATE DATABASE {DATABASE}\n")).map_err(Error::file("write", &statement))?;
    let script = format!(
        "exec {} --single -j -D {} postgres < {}",
        deployment.home()?.join("postgres").display(),
        deployment.seen(data).display(),
        deployment.seen(&statement).display()
    );
    run(deployment, Path::new("sh"), &["-c"], OsStr::new(&script), user)?;
    fs::remove_file(&statement).map_err(Error::file("remove", &statement))
}

/// Runs a tool of Postgres to its end.
fn run(
    deployment: &Deployment,
    program: &Path,
    options: &[&str],
    last: &OsStr,
    user: Option<(u32, u32)>,
) -> Result<()> {
    let mut arguments: Vec<OsString> = options.iter().map(OsString::from).collect();
    arguments.push(last.to_owned());
    let (program, environment) = (program.to_owned(), vec![("LC_ALL", "C".into())]);
    deployment.run(Launch { program, arguments, environment, user })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_introduction_says_how_long_it_is_and_who_comes() {
        let introduction = introduction();
        assert_eq!(introduction[..8], [0, 0, 0, 43, 0, 3, 0, 0]);
        assert_eq!(introduction.len(), 43);
        assert_eq!(introduction[8..], *b"user\0partitura\0database\0partitura\0\0");
    }

    #[test]
    fn a_user_is_found_by_name() {
        let users = "root:x:0:0:root:/root:/bin/sh\npostgres:x:104:112::/var/lib:/bin/sh\n";
        assert_eq!(parse_user(users, "postgres"), Some((104, 112)));
        assert_eq!(parse_user(users, "post"), None);
    }
}
