//! The conformance suite on a real Postgres, with every hook. Unlike the other adapters here, it contains the hooks
//! themselves, so that they can be copied.

use std::io;
use std::net::SocketAddr;
use std::sync::Arc;

use partitura_broker::{Broker, Error, ErrorKind, Result, TopicName};
use partitura_conformance::{Access, Attempt, Freeze, Harness, Network, Operator, Processes, Restart, Right};
use partitura_servers::{Kind, Server};
use partitura_template::{Options, Template};
use sqlx::Executor;
use tokio::sync::OnceCell;

partitura_conformance::main!(OnPostgres);

/// A password that no user has.
const WRONG: &str = "not-the-password";
/// The password of users who lack a right.
const PASSWORD: &str = "partitura-secret";

/// A server of this suite's own, which it may kill.
#[derive(Debug)]
struct OnPostgres;

fn server() -> Server {
    Server::private(Kind::Postgres, "template", 25432)
}

async fn connect(url: &str) -> Result<Arc<dyn Broker>> {
    static UP: OnceCell<()> = OnceCell::const_new();
    let up = UP.get_or_try_init(|| on_a_thread(|| server().up())).await;
    up.map_err(|error| Error::new(ErrorKind::Disconnected, "start Postgres", error.to_string()))?;
    Ok(Arc::new(Template::connect(url, Options::default()).await?))
}

#[async_trait::async_trait]
impl Harness for OnPostgres {
    fn broker(&self) -> &str {
        "template"
    }

    async fn connect(&self, _namespace: &str) -> Result<Arc<dyn Broker>> {
        connect(&server().url()).await
    }

    fn parallelism(&self) -> usize {
        // Signing in takes processor time, without optimization even more. The server has 200 connections.
        6
    }

    fn processes(&self) -> Option<&dyn Processes> {
        Some(self)
    }

    fn restart(&self) -> Option<&dyn Restart> {
        Some(self)
    }

    fn freeze(&self) -> Option<&dyn Freeze> {
        Some(self)
    }

    fn network(&self) -> Option<&dyn Network> {
        Some(self)
    }

    fn access(&self) -> Option<&dyn Access> {
        Some(self)
    }

    fn operator(&self) -> Option<&dyn Operator> {
        Some(self)
    }
}

impl Processes for OnPostgres {}

#[async_trait::async_trait]
impl Restart for OnPostgres {
    async fn kill(&self) -> io::Result<()> {
        on_a_thread(|| server().kill()).await
    }

    async fn start(&self) -> io::Result<()> {
        on_a_thread(|| server().start()).await
    }
}

#[async_trait::async_trait]
impl Freeze for OnPostgres {
    async fn freeze(&self) -> io::Result<()> {
        on_a_thread(|| server().freeze()).await
    }

    async fn thaw(&self) -> io::Result<()> {
        on_a_thread(|| server().thaw()).await
    }
}

#[async_trait::async_trait]
impl Network for OnPostgres {
    fn upstream(&self) -> SocketAddr {
        let url = server().endpoints().login.expect("the server checks passwords").url;
        let address = url.trim_start_matches("postgres://").split('/').next();
        address.and_then(|address| address.parse().ok()).expect("an address of this machine")
    }

    async fn connect(&self, _namespace: &str, proxy: SocketAddr) -> Result<Arc<dyn Broker>> {
        connect(&server().url().replace(&self.upstream().to_string(), &proxy.to_string())).await
    }
}

#[async_trait::async_trait]
impl Access for OnPostgres {
    async fn connect(&self, _namespace: &str, attempt: Attempt) -> Result<Arc<dyn Broker>> {
        let endpoints = server().endpoints();
        let (login, tls) = endpoints.login.zip(endpoints.tls).expect("the server checks passwords and speaks TLS");
        let by_tls = |authority: &std::path::Path| {
            let url = tls.url.replace("://", &format!("://{}:{}@", login.user, login.password));
            format!("{url}?sslmode=verify-full&sslrootcert={}", authority.display())
        };
        let url = match attempt {
            Attempt::RightPassword => endpoints.url,
            Attempt::WrongPassword => endpoints.url.replace(&self.secrets()[0], WRONG),
            Attempt::Tls => by_tls(&tls.authority),
            Attempt::TlsWithWrongAuthority => by_tls(&tls.stranger),
            Attempt::Without(right) => {
                let user = user_without(right).await;
                let user = user.map_err(|error| Error::new(ErrorKind::Unsupported, "connect", error.to_string()))?;
                login.url.replace("://", &format!("://{user}:{PASSWORD}@"))
            }
        };
        connect(&url).await
    }

    fn rights(&self) -> &[Right] {
        &[Right::Declare, Right::Publish, Right::Consume]
    }

    fn secrets(&self) -> Vec<String> {
        let password = server().endpoints().login.map(|login| login.password);
        password.into_iter().chain([WRONG.to_owned()]).collect()
    }
}

#[async_trait::async_trait]
impl Operator for OnPostgres {
    async fn delete_topic(&self, topic: &TopicName) -> io::Result<()> {
        let mut tables = tables().await?;
        for delete in ["DELETE FROM line WHERE topic = $1", "DELETE FROM topic WHERE name = $1"] {
            let delete = sqlx::query(delete).bind(topic.as_str()).execute(&mut tables);
            delete.await.map_err(io::Error::other)?;
        }
        Ok(())
    }

    fn counts_messages(&self) -> bool {
        true
    }

    async fn count_messages(&self, topic: &TopicName) -> io::Result<u64> {
        let count = "SELECT count(*) FROM message JOIN line ON line = line.id WHERE topic = $1";
        let count = sqlx::query_scalar(count).bind(topic.as_str()).fetch_one(&mut tables().await?).await;
        count.map(i64::unsigned_abs).map_err(io::Error::other)
    }
}

/// A user who has all rights on the tables but one.
async fn user_without(right: Right) -> sqlx::Result<String> {
    let user = format!("without_{right:?}").to_lowercase();
    let missing = match right {
        Right::Declare => "INSERT ON topic",
        Right::Publish => "INSERT ON message",
        Right::Consume => "UPDATE ON message",
    };
    let mut tables = tables().await.map_err(sqlx::Error::Io)?;
    let statements = format!(
        "DO $$ BEGIN CREATE ROLE {user} LOGIN PASSWORD '{PASSWORD}'; EXCEPTION WHEN duplicate_object THEN END $$;
         GRANT USAGE ON SCHEMA partitura_template TO {user};
         GRANT ALL ON ALL TABLES IN SCHEMA partitura_template TO {user};
         GRANT ALL ON ALL SEQUENCES IN SCHEMA partitura_template TO {user};
         REVOKE {missing} FROM {user}"
    );
    tables.execute(&*statements).await?;
    Ok(user)
}

/// A connection with the tables on its search path.
async fn tables() -> io::Result<sqlx::PgConnection> {
    let template = Template::connect(&server().url(), Options::default()).await.map_err(io::Error::other)?;
    template.client().await.map_err(io::Error::other)
}

async fn on_a_thread<T: Send + 'static>(
    task: impl FnOnce() -> partitura_servers::Result<T> + Send + 'static,
) -> io::Result<T> {
    tokio::task::spawn_blocking(task).await.map_err(io::Error::other)?.map_err(io::Error::other)
}
