use axum::http::StatusCode;
use partitura::{Cx, TaskError};

use crate::support::{Browser, deployment};

async fn probed(browser: &Browser) -> [(StatusCode, String); 2] {
    let [health, ready] = [browser.get("/health").await, browser.get("/ready").await];
    [(health.status, health.text), (ready.status, ready.text)]
}

#[tokio::test]
async fn a_process_is_ready_while_its_worker_runs_and_not_while_it_stops_or_after_it_has_fallen() {
    const DOWN: StatusCode = StatusCode::SERVICE_UNAVAILABLE;
    let (partitura, worker) = deployment().await;
    let mut browser = Browser::new(partitura_web::probes(&partitura));
    // Probes come from elsewhere.
    browser.peer = "10.0.0.9:5000";
    assert_eq!(probed(&browser).await.map(|(status, _)| status), [StatusCode::OK; 2]);
    let health = partitura.health();
    assert_eq!((health.starting, health.running, health.stopping, health.failed), (0, 1, 0, 0));

    // A future that was begun and is not polled on stays where it is.
    let mut stopping = Box::pin(worker.stop());
    assert!(futures::poll!(&mut stopping).is_pending());
    let [health, ready] = probed(&browser).await;
    assert_eq!((health.0, ready), (StatusCode::OK, (DOWN, "a worker is stopping\n".to_owned())));
    stopping.await.unwrap();
    assert_eq!(partitura.health().stopping, 0);

    let worker = partitura.worker().workflow::<Idle>().start().await.unwrap();
    assert_eq!(probed(&browser).await.map(|(status, _)| status), [StatusCode::OK; 2]);

    // The worker loses its broker, and cannot go on.
    partitura.close().await.unwrap();
    let fallen = async {
        while partitura.health().is_alive() {
            tokio::time::sleep(std::time::Duration::from_millis(5)).await;
        }
    };
    tokio::time::timeout(std::time::Duration::from_secs(60), fallen).await.expect("it hangs");
    assert_eq!(probed(&browser).await.map(|(status, _)| status), [DOWN; 2]);
    drop(worker);
}

#[derive(Default)]
struct Idle;

#[partitura::workflow]
impl Idle {
    #[run]
    async fn run(_cx: Cx<Self>, _input: ()) -> Result<(), TaskError<partitura::Never>> {
        Ok(())
    }
}
