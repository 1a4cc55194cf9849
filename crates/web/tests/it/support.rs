//! A deployment to look at, and a browser without a screen.

use std::net::SocketAddr;
use std::sync::Arc;
use std::time::Duration;

use axum::Router;
use axum::body::{Body, to_bytes};
use axum::extract::ConnectInfo;
use axum::http::{HeaderMap, Request, StatusCode};
use futures::StreamExt;
use partitura::{Cancelled, Cx, Partitura, RunningWorker, Store, TaskError, days};
use partitura_web::Page;
use serde::{Deserialize, Serialize};
use tower::ServiceExt;

/// Far longer than anything here takes; only a hang reaches it.
const LIVENESS: Duration = Duration::from_secs(60);

#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, thiserror::Error)]
pub(crate) enum Oops {
    #[error("no: {0}")]
    No(String),
    #[error("a task failed: {0}")]
    Task(String),
    #[error(transparent)]
    Cancelled(#[from] Cancelled),
}

impl<E: std::fmt::Display> From<TaskError<E>> for Oops {
    fn from(error: TaskError<E>) -> Self {
        Self::Task(error.to_string())
    }
}

#[partitura::service]
pub(crate) trait Text {
    async fn dot(&self, text: String) -> String;
    async fn refuse(&self, text: String) -> Result<String, Oops>;
}

struct Dots;

impl Text for Dots {
    async fn dot(&self, text: String) -> String {
        format!("{text}.")
    }

    async fn refuse(&self, text: String) -> Result<String, Oops> {
        Err(Oops::No(text))
    }
}

/// Nobody runs it.
#[partitura::service]
pub(crate) trait Nobody {
    async fn comes(&self) -> String;
}

/// Calls a task, then waits for a signal.
#[derive(Default)]
pub(crate) struct Hold {
    go: bool,
}

#[partitura::workflow]
impl Hold {
    #[run]
    async fn run(cx: Cx<Self>, text: String) -> Result<String, Oops> {
        let text = cx.service::<TextStub>().dot(text).await?;
        partitura::select! {
            gone = cx.until(|hold: &Self| hold.go) => gone?,
            slept = cx.sleep(days(3)) => slept?,
        }
        Ok(text)
    }

    #[signal]
    fn go(&mut self) {
        self.go = true;
    }
}

/// Runs a child, beside a task that nobody runs.
#[derive(Default)]
pub(crate) struct Parent;

#[partitura::workflow]
impl Parent {
    #[run]
    async fn run(cx: Cx<Self>, text: String) -> Result<String, Oops> {
        let child = cx.child::<Hold>(format!("{} child", cx.id())).run(text);
        let (held, _) = partitura::join!(child, cx.service::<NobodyStub>().comes());
        held.map_err(|error| Oops::No(error.to_string()))
    }
}

/// Has a fault.
#[derive(Default)]
pub(crate) struct Broken;

#[partitura::workflow]
impl Broken {
    #[run]
    async fn run(_cx: Cx<Self>, text: String) -> Result<String, Oops> {
        panic!("there is no room for {text}")
    }
}

/// Fails after a task has failed.
#[derive(Default)]
pub(crate) struct Refused;

#[partitura::workflow]
impl Refused {
    #[run]
    async fn run(cx: Cx<Self>, text: String) -> Result<String, Oops> {
        let retry = partitura::Retry::exponential().initial(Duration::from_millis(1)).max_attempts(2);
        Ok(cx.service::<TextStub>().refuse(text).retry(retry).retry_errors().await?)
    }
}

/// Records two events for each round.
#[derive(Default)]
pub(crate) struct Long;

#[partitura::workflow]
impl Long {
    #[run]
    async fn run(cx: Cx<Self>, rounds: u32) -> Result<u32, Oops> {
        let all = (0..rounds).map(|round| cx.step(format!("round {round}"), async move { Ok::<_, Oops>(round) }));
        let done = partitura::join_all(all).await;
        Ok(u32::try_from(done.len()).unwrap_or(0))
    }
}

pub(crate) async fn deployment() -> (Partitura, RunningWorker) {
    deployment_with(None).await
}

/// With another store than that of the broker.
pub(crate) async fn deployment_with(store: Option<Arc<dyn Store>>) -> (Partitura, RunningWorker) {
    let partitura = partitura::connect("memory:").with(|settings| match store {
        Some(store) => settings.store(store),
        None => settings,
    });
    let partitura = partitura.await.expect("a broker");
    let worker = partitura.worker().build_id("b-7").service(TextService(Dots));
    let worker = worker.workflow::<Hold>().workflow::<Parent>().workflow::<Broken>().workflow::<Refused>();
    let worker = worker.workflow::<Long>().start().await.expect("a worker");
    (partitura, worker)
}

/// The response.
pub(crate) struct Answer {
    pub(crate) status: StatusCode,
    pub(crate) headers: HeaderMap,
    pub(crate) text: String,
}

/// Asks a router, as a browser on this machine does.
#[derive(Clone)]
pub(crate) struct Browser {
    router: Router,
    pub(crate) peer: &'static str,
    pub(crate) headers: Vec<(&'static str, String)>,
}

impl Browser {
    pub(crate) fn new(router: Router) -> Self {
        Self { router, peer: "127.0.0.1:5000", headers: vec![("host", "localhost:7070".to_owned())] }
    }

    pub(crate) fn on(partitura: &Partitura) -> Self {
        Self::new(partitura_web::page(partitura))
    }

    /// With the token in its session.
    pub(crate) async fn signed_in(partitura: &Partitura) -> Self {
        let mut browser = Self::new(Page::new(partitura).token("secret").router());
        let answer = browser.post("/sign-in", &[("token", "secret")]).await;
        assert_eq!(answer.status, StatusCode::SEE_OTHER, "{}", answer.text);
        let cookie = answer.headers["set-cookie"].to_str().expect("text");
        browser.headers.push(("cookie", cookie.split(';').next().unwrap_or_default().to_owned()));
        browser
    }

    pub(crate) async fn get(&self, path: &str) -> Answer {
        self.send(Request::get(path), Body::empty()).await
    }

    pub(crate) async fn post(&self, path: &str, form: &[(&str, &str)]) -> Answer {
        let encode = |text: &str| text.bytes().map(|byte| format!("%{byte:02X}")).collect::<String>();
        let form: Vec<String> = form.iter().map(|(name, value)| format!("{name}={}", encode(value))).collect();
        let request = Request::post(path).header("content-type", "application/x-www-form-urlencoded");
        self.send(request, Body::from(form.join("&"))).await
    }

    async fn answer(&self, mut request: axum::http::request::Builder, body: Body) -> axum::response::Response {
        for (name, value) in &self.headers {
            request = request.header(*name, value);
        }
        let peer: SocketAddr = self.peer.parse().expect("an address");
        let request = request.extension(ConnectInfo(peer)).body(body).expect("a request");
        let answer = tokio::time::timeout(LIVENESS, self.router.clone().oneshot(request)).await.expect("it hangs");
        answer.expect("never fails")
    }

    async fn send(&self, request: axum::http::request::Builder, body: Body) -> Answer {
        let (parts, body) = self.answer(request, body).await.into_parts();
        let body = to_bytes(body, 64 << 20).await.expect("a body");
        let text = String::from_utf8(body.to_vec()).expect("text");
        Answer { status: parts.status, headers: parts.headers, text }
    }

    /// Reads a stream until its first event.
    pub(crate) async fn first_event(&self, path: &str) -> String {
        let mut chunks = self.answer(Request::get(path), Body::empty()).await.into_body().into_data_stream();
        let chunk = tokio::time::timeout(LIVENESS, chunks.next()).await.expect("it hangs");
        String::from_utf8_lossy(&chunk.expect("an event").expect("a chunk")).into_owned()
    }

    /// Asks until the page has a text.
    pub(crate) async fn until(&self, path: &str, wanted: &str) -> Answer {
        let asking = async {
            loop {
                let answer = self.get(path).await;
                if answer.text.contains(wanted) {
                    return answer;
                }
                tokio::time::sleep(Duration::from_millis(20)).await;
            }
        };
        let found = tokio::time::timeout(LIVENESS, asking).await;
        found.unwrap_or_else(|_| panic!("{path} never says {wanted:?}"))
    }

    /// Gives the token of the forms of a page.
    pub(crate) async fn csrf(&self, path: &str) -> String {
        let text = self.get(path).await.text;
        let (_, behind) = text.split_once(r#"name="csrf" value=""#).expect("a form");
        behind.split('"').next().unwrap_or_default().to_owned()
    }
}
