//! One process: it runs the workflow and the service, serves the page, and starts an order.

mod orders;

use std::net::SocketAddr;

use self::orders::{Order, OrderSignal, PaymentsService, Till};

/// Reads a setting from the environment, else takes the value that `partitura new` wrote.
fn setting(name: &str, default: &str) -> String {
    std::env::var(name).unwrap_or_else(|_| default.to_owned())
}

#[tokio::main]
async fn main() -> Result<(), Box<dyn std::error::Error>> {
    let mut connection = partitura::connect(setting("PARTITURA_BROKER", "@BROKER@"));
    let store = setting("PARTITURA_STORE", "@STORE@");
    if !store.is_empty() {
        connection = connection.store(store);
    }
    let partitura = connection.await?;
    let worker = partitura.worker().service(PaymentsService(Till)).workflow::<Order>().start().await?;

    let order = partitura.client().workflow::<Order>("order-1");
    order.start(1_200).await?;
    order.signal(OrderSignal::packed()).await?;
    println!("order-1: {}", order.result().await?);

    let listener = tokio::net::TcpListener::bind(setting("LISTEN", "127.0.0.1:7070")).await?;
    println!("the page: http://{}/", listener.local_addr()?);
    let page = partitura_web::page(&partitura).into_make_service_with_connect_info::<SocketAddr>();
    tokio::select! {
        served = axum::serve(listener, page) => served?,
        _ = tokio::signal::ctrl_c() => {}
    }
    worker.stop().await?;
    Ok(partitura.close().await?)
}
