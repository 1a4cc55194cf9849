//! The answers to an orchestrator of containers.

use std::time::Duration;

use axum::Router;
use axum::extract::State;
use axum::http::StatusCode;
use axum::routing::get;
use partitura_broker::ErrorKind;
use partitura_engine::Partitura;

/// How long the store may take to answer.
const ANSWER: Duration = Duration::from_secs(2);

/// The probes of an orchestrator of containers, for everybody who can reach them: to be merged into a router of yours.
///
/// * `/health` is 503 once a worker of the process has ended by itself: the process is to be started anew.
/// * `/ready` is 503 while a worker starts or stops, and while the store does not answer within two seconds.
///
/// Otherwise they are 200. The text of the answer says why.
///
/// ```no_run
/// # fn example(partitura: &partitura::Partitura) -> axum::Router {
/// axum::Router::new().merge(partitura_web::probes(partitura)).nest("/partitura", partitura_web::page(partitura))
/// # }
/// ```
pub fn probes(partitura: &Partitura) -> Router {
    Router::new().route("/health", get(health)).route("/ready", get(ready)).with_state(partitura.clone())
}

async fn health(State(partitura): State<Partitura>) -> (StatusCode, &'static str) {
    match partitura.health().is_alive() {
        true => (StatusCode::OK, "ok\n"),
        false => (StatusCode::SERVICE_UNAVAILABLE, "a worker has ended by itself; its log says why\n"),
    }
}

async fn ready(State(partitura): State<Partitura>) -> (StatusCode, &'static str) {
    let health = partitura.health();
    let unready = match () {
        () if !health.is_alive() => "a worker has ended by itself; its log says why\n",
        () if health.starting > 0 => "a worker is starting\n",
        () if health.stopping > 0 => "a worker is stopping\n",
        () => match tokio::time::timeout(ANSWER, partitura.served()).await {
            Ok(Ok(_)) => return (StatusCode::OK, "ok\n"),
            // There is none: workers of services need none.
            Ok(Err(error)) if error.kind() == ErrorKind::Unsupported => return (StatusCode::OK, "ok\n"),
            Ok(Err(_)) => "the store cannot be read\n",
            Err(_) => "the store does not answer\n",
        },
    };
    (StatusCode::SERVICE_UNAVAILABLE, unready)
}
