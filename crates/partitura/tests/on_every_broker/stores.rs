//! The store beside the broker, or in it, keeps what stores promise.

use std::sync::{Arc, Mutex};

use partitura::testing::store;
use tokio::net::{TcpListener, TcpStream};
use tokio::task::AbortHandle;

use crate::stage::Stage;

pub(crate) async fn the_store_passes_the_suite_for_stores(stage: Stage) {
    let report = store::check(stage.store().await).await;
    assert!(report.is_kept(), "{report}");
}

pub(crate) async fn a_write_is_not_guessed_about_though_its_connection_is_cut(stage: Stage) {
    let connections = Connections::default();
    let kept = match stage.store_url() {
        // A store in memory has no connection: nothing is cut.
        None => store::check_cut(stage.store().await, async || {}).await,
        Some(url) => {
            let store = partitura::store(&connections.before(url).await).await.expect("a store");
            store::check_cut(store, async || connections.cut()).await
        }
    };
    kept.expect("the promise");
}

/// The connections that pass through a proxy before the store.
#[derive(Default, Clone)]
struct Connections(Arc<Mutex<Vec<AbortHandle>>>);

impl Connections {
    /// The URL of the proxy.
    async fn before(&self, url: &str) -> String {
        let (_, place) = url.rsplit_once('@').expect("a URL with a user");
        let upstream = place.split_once('/').expect("a URL with a database").0.to_owned();
        let listener = TcpListener::bind("127.0.0.1:0").await.expect("a port");
        let proxied = url.replace(&upstream, &listener.local_addr().expect("its address").to_string());
        let connections = self.clone();
        tokio::spawn(async move {
            while let Ok((mut client, _)) = listener.accept().await {
                let upstream = upstream.clone();
                let passing = tokio::spawn(async move {
                    let mut server = TcpStream::connect(upstream).await?;
                    tokio::io::copy_bidirectional(&mut client, &mut server).await
                });
                connections.0.lock().expect("not poisoned").push(passing.abort_handle());
            }
        });
        proxied
    }

    fn cut(&self) {
        self.0.lock().expect("not poisoned").drain(..).for_each(|connection| connection.abort());
    }
}
