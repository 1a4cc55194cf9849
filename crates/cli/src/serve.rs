//! The page, served by the command.

use std::net::SocketAddr;
use std::sync::Arc;

use partitura::Partitura;
use partitura_web::Page;
use tokio::net::TcpListener;

use crate::args;
use crate::failure::Failure;
use crate::{connect, demo};

/// Serves the page until the process is told to end.
pub(crate) async fn page(partitura: &Partitura, asked: args::Page) -> Result<(), Failure> {
    let token = asked.token.filter(|token| !token.is_empty());
    if !asked.listen.ip().is_loopback() && token.is_none() {
        return Err(Failure::usage(
            "visitors of other machines need a token: set PARTITURA_TOKEN, and put TLS before the page",
        ));
    }
    let page = Page::new(partitura);
    let page = match token {
        Some(token) => page.token(token),
        None => page,
    };
    serve(partitura, page, asked.listen, "").await
}

/// Broker, store, page and a demonstration in one process.
pub(crate) async fn dev(asked: args::Dev) -> Result<(), Failure> {
    let url = asked.data.map_or_else(|| "memory:".to_owned(), |directory| format!("embedded:{}", directory.display()));
    demo::expect_its_fault();
    let partitura = Arc::new(connect::open(&url, None, None, None).await?);
    let worker = demo::worker(&partitura).await?;
    let last = partitura.client().instances().workflow("Checkout").count(100_000).await?;
    let customers = tokio::spawn(demo::customers(partitura.clone(), last.counted as u64 + 1));
    let token = "dev";
    let note = "Orders of a shop are started now and then. Sign in with the token `dev` to act on them.\n\
                To see your own workflows, mount the page in your service: see `partitura new`.";
    serve(&partitura, Page::new(&partitura).title("dev").token(token), asked.listen, note).await?;
    customers.abort();
    worker.stop().await?;
    Ok(partitura.close().await?)
}

async fn serve(partitura: &Partitura, page: Page, listen: SocketAddr, note: &str) -> Result<(), Failure> {
    let listener =
        TcpListener::bind(listen).await.map_err(|error| Failure::failed(format!("listen on {listen}: {error}")))?;
    let at = listener.local_addr().unwrap_or(listen);
    println!("The page: http://{at}/");
    if !note.is_empty() {
        println!("{note}");
    }
    let app = page.router().merge(partitura_web::probes(partitura)).into_make_service_with_connect_info::<SocketAddr>();
    let ended = axum::serve(listener, app);
    tokio::select! {
        ended = ended => ended.map_err(|error| Failure::failed(format!("serve the page: {error}"))),
        _ = tokio::signal::ctrl_c() => Ok(()),
    }
}
