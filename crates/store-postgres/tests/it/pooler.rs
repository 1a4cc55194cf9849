//! A pooler that hands out transactions is refused with an error that names it: settings and prepared statements of a
//! session are not the store's own there.

use std::fs;
use std::os::unix::fs::PermissionsExt;
use std::process::{Child, Stdio};
use std::time::Duration;

use partitura_broker::{Error, ErrorKind};
use partitura_store_postgres::{Options, PostgresStore};
use tokio::net::TcpStream;
use tokio::time::timeout;

use crate::support::*;

/// A PgBouncer before the standing server, until it is dropped.
struct Pooler {
    process: Child,
    url: String,
    _directory: tempfile::TempDir,
}

impl Pooler {
    async fn start(settings: &str) -> Self {
        let server = server_url().await;
        let (user, place) = server.split_once("://").and_then(|(_, rest)| rest.split_once('@')).expect("a URL");
        let (user, password) = user.split_once(':').expect("a password");
        let (address, database) = place.split_once('/').expect("a database");
        let (database, (host, port)) =
            (database.split('?').next().expect("a name"), address.split_once(':').expect("a port"));
        let free =
            std::net::TcpListener::bind("127.0.0.1:0").and_then(|free| free.local_addr()).expect("a port").port();
        let configuration = format!(
            "[databases]\n{database} = host={host} port={port} user={user} password={password}\n\
             [pgbouncer]\nlisten_addr = 127.0.0.1\nlisten_port = {free}\nunix_socket_dir =\nauth_type = any\n\
             pool_mode = transaction\n{settings}\n"
        );
        let directory = tempfile::tempdir().expect("a directory");
        let path = directory.path().join("pgbouncer.ini");
        fs::write(&path, configuration).expect("written");
        for (path, mode) in [(directory.path(), 0o755), (&path, 0o644)] {
            fs::set_permissions(path, fs::Permissions::from_mode(mode)).expect("set");
        }
        let process = tokio::task::spawn_blocking(move || {
            let mut command = partitura_servers::pgbouncer(&path, |line| eprintln!("{line}")).expect("a pooler");
            command.stdin(Stdio::null()).stdout(Stdio::null()).stderr(Stdio::null()).spawn().expect("started")
        });
        let process = process.await.expect("no panic");
        let listens = async {
            while TcpStream::connect(("127.0.0.1", free)).await.is_err() {
                tokio::time::sleep(Duration::from_millis(5)).await;
            }
        };
        timeout(LIVENESS, listens).await.expect("it does not listen");
        Self { process, url: server.replace(address, &format!("127.0.0.1:{free}")), _directory: directory }
    }

    async fn refuses(&self) -> Error {
        let options = Options::default().schema(fresh_schema());
        PostgresStore::connect(&self.url, options).await.expect_err("it is refused")
    }
}

impl Drop for Pooler {
    fn drop(&mut self) {
        // It may have ended already.
        let _ = self.process.kill();
        let _ = self.process.wait();
    }
}

#[tokio::test]
async fn a_pooler_in_transaction_mode_is_refused_and_named() {
    // It refuses settings of a session, or takes them and does not pass them on.
    for settings in ["", "ignore_startup_parameters = options,extra_float_digits"] {
        let pooler = Pooler::start(settings).await;
        let refused = pooler.refuses().await;
        assert_eq!(refused.kind(), ErrorKind::Incompatible, "{settings:?}: {refused}");
        assert!(refused.to_string().contains("pooler") && !refused.is_retryable(), "{settings:?}: {refused}");
    }
}
