use std::sync::atomic::{AtomicU32, Ordering};
use std::time::{Duration, SystemTime, UNIX_EPOCH};

use bytes::Bytes;
use partitura_broker::{ErrorKind, Expect, Put, Result};
use partitura_engine::Store;
use partitura_servers::{Kind, Server};
use partitura_store_postgres::{Options, PostgresStore};

/// Far longer than any test takes; only a hang reaches it.
pub(crate) const LIVENESS: Duration = Duration::from_secs(60);

pub(crate) const SPACE: &str = "test";

/// The standing server, which other tests use at the same time.
pub(crate) async fn server_url() -> String {
    let up = tokio::task::spawn_blocking(|| {
        let server = Server::new(Kind::Postgres);
        server.up().map(|()| server.url())
    });
    up.await.expect("no panic").expect("a Postgres")
}

/// A schema that no other test uses.
pub(crate) fn fresh_schema() -> String {
    static NUMBER: AtomicU32 = AtomicU32::new(0);
    let now = SystemTime::now().duration_since(UNIX_EPOCH).expect("after 1970").as_micros();
    format!("test_{now:x}_{:x}_{:x}", std::process::id(), NUMBER.fetch_add(1, Ordering::Relaxed))
}

pub(crate) async fn open(url: &str, schema: &str) -> Result<PostgresStore> {
    PostgresStore::connect(url, Options::default().schema(schema)).await
}

/// A store of the test's own.
pub(crate) async fn fresh() -> PostgresStore {
    open(&server_url().await, &fresh_schema()).await.expect("a store")
}

pub(crate) fn put(key: impl AsRef<[u8]>, expect: Expect, value: Option<&str>) -> Put {
    let key = Bytes::copy_from_slice(key.as_ref());
    Put { space: SPACE, key, expect, value: value.map(|value| Bytes::copy_from_slice(value.as_bytes())) }
}

pub(crate) async fn kinds(store: &dyn Store, groups: Vec<Vec<Put>>) -> Vec<Option<ErrorKind>> {
    store.write(groups).await.into_iter().map(|result| result.err().map(|error| error.kind())).collect()
}

/// One group.
pub(crate) async fn write(store: &dyn Store, group: Vec<Put>) -> Result<()> {
    store.write(vec![group]).await.pop().expect("one result per group")
}
