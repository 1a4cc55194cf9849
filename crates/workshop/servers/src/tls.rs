//! Certificates of our own, made once for each instance.

use std::path::PathBuf;

use crate::debian;
use crate::endpoints::Tls;
use crate::error::Result;
use crate::install::{Tool, find};
use crate::instance::{Instance, create_directory};

const SERVER_NAMES: &str = "subjectAltName=DNS:localhost,IP:127.0.0.1\nextendedKeyUsage=serverAuth\n";

/// `tls/` of an instance: `ca.crt`, `server.key`, `server.crt`, `server.pem` (the latter two and the CA in one file),
/// and `stranger.crt`, a CA that signed nothing.
pub(crate) fn prepare(instance: &Instance) -> Result<()> {
    let directory = instance.path("tls");
    if directory.join("server.pem").exists() {
        return Ok(());
    }
    create_directory(&directory)?;
    if find("openssl").is_none() {
        debian::install(instance, &["openssl"], "openssl")?;
    }
    let openssl = Tool { program: "openssl", remedy: "install OpenSSL (`apt-get install openssl`)" };
    let run = |arguments: &str| {
        let mut command = openssl.command(instance)?;
        command.current_dir(&directory).args(arguments.split(' '));
        openssl.run(instance, command)
    };
    for name in ["ca", "stranger"] {
        run(&format!(
            "req -x509 -newkey rsa:2048 -nodes -days 3650 -subj /CN=partitura-{name} -keyout {name}.key -out {name}.crt"
        ))?;
    }
    run("req -newkey rsa:2048 -nodes -subj /CN=localhost -keyout server.key -out server.csr")?;
    instance.write("tls/names", SERVER_NAMES)?;
    run("x509 -req -in server.csr -CA ca.crt -CAkey ca.key -CAcreateserial -days 3650 -extfile names -out server.crt")?;
    let mut all = String::new();
    for part in ["server.key", "server.crt", "ca.crt"] {
        let path = directory.join(part);
        all += &std::fs::read_to_string(&path).map_err(crate::Error::file("read", &path))?;
    }
    instance.write("tls/server.pem", &all)?;
    Ok(())
}

pub(crate) fn endpoint(instance: &Instance, url: String) -> Tls {
    let path = |name: &str| -> PathBuf { instance.path("tls").join(name) };
    Tls { url, authority: path("ca.crt"), stranger: path("stranger.crt") }
}
