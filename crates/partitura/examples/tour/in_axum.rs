//! A web service with its worker in the same process.

use axum::Router;
use axum::body::{Body, to_bytes};
use axum::extract::{Path, State};
use axum::http::{Request, StatusCode};
use axum::routing::{get, post};
use partitura::{Cancelled, Cx, Partitura};
use tower::ServiceExt;

use crate::said::Said;

#[derive(Default)]
struct Pack;

#[partitura::workflow]
impl Pack {
    #[run]
    async fn run(cx: Cx<Self>) -> Result<String, Cancelled> {
        Ok(format!("{} is packed", cx.id()))
    }
}

/// Returns once the order is durable, however long the work takes.
async fn order(State(partitura): State<Partitura>, Path(id): Path<String>) -> StatusCode {
    match partitura.client().workflow::<Pack>(id).start(()).await {
        Ok(()) => StatusCode::ACCEPTED,
        Err(_) => StatusCode::SERVICE_UNAVAILABLE,
    }
}

async fn result(State(partitura): State<Partitura>, Path(id): Path<String>) -> Result<String, StatusCode> {
    partitura.client().workflow::<Pack>(id).result().await.map_err(|_| StatusCode::NOT_FOUND)
}

pub(crate) async fn run(partitura: &Partitura) -> Said {
    let worker = partitura.worker().workflow::<Pack>().start().await?;
    let routes = Router::new().route("/orders/{id}", post(order)).route("/orders/{id}", get(result));
    let app = routes.with_state(partitura.clone()); // .nest("/partitura", partitura_web::page(&partitura))

    // A service would now say: axum::serve(listener, app).await?
    let posted = app.clone().oneshot(Request::post("/orders/order-7").body(Body::empty())?).await?;
    let got = app.oneshot(Request::get("/orders/order-7").body(Body::empty())?).await?;
    worker.stop().await?;
    let text = String::from_utf8(to_bytes(got.into_body(), 1_024).await?.to_vec())?;
    Ok(format!("POST: {}, GET: {text}", posted.status()))
}
