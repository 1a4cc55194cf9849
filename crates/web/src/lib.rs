//! Partitura's page: what workflows do and wait for, to be mounted in a service of yours.
//!
//! ```no_run
//! # async fn example() -> Result<(), Box<dyn std::error::Error>> {
//! use std::net::SocketAddr;
//!
//! let partitura = partitura::connect("embedded:./data").await?;
//! let app = axum::Router::new().nest("/partitura", partitura_web::page(&partitura));
//!
//! let listener = tokio::net::TcpListener::bind("127.0.0.1:8080").await?;
//! axum::serve(listener, app.into_make_service_with_connect_info::<SocketAddr>()).await?;
//! # Ok(()) }
//! ```
//!
//! It is rendered on the server, and works without JavaScript. It reads the store directly, so that it shows everything
//! also while all workers are down.
//!
//! * **Who may see it.** Only visitors on this machine, and they may only look, unless a [token](Page::token) or
//!   [your own decision](Page::authorize) allows more. The page learns the visitor's address from
//!   `into_make_service_with_connect_info`; without it, and behind a proxy, nobody counts as local.
//! * **Actions** need a token of their form, so that no other site can cause them, and each leaves a record in
//!   `tracing` with the target `partitura::audit`: who, what, which instance, why, with which outcome.
//! * **Payloads** are shown as text. The content security policy forbids all scripts and styles but the page's own
//!   files.
//! * **Bounds.** Every page reads a bounded number of rows, and gives up after ten seconds.

mod access;
mod actions;
mod assets;
mod context;
mod download;
mod error;
mod history;
mod instance;
mod instances;
mod letters;
mod live;
mod overview;
mod pauses;
mod probes;
mod remembered;
mod security;
mod shell;
mod sign_in;
mod timeline;
mod topics;
mod view;

use std::sync::Arc;

use axum::Router;
use axum::http::request::Parts;
use axum::routing::{get, post};
use partitura_admin::Admin;
use partitura_engine::Partitura;

pub use self::access::Access;
use self::access::Guard;
use self::context::Shared;
pub use self::probes::probes;

/// The page, for visitors on this machine, who may look and not act: to be nested in a router of yours.
///
/// [`Page`] has settings.
///
/// # Panics
/// When the operating system has no random numbers.
pub fn page(partitura: &Partitura) -> Router {
    Page::new(partitura).router()
}

/// The page with settings.
///
/// ```no_run
/// # fn example(partitura: &partitura::Partitura) -> axum::Router {
/// use partitura_web::{Access, Page};
///
/// Page::new(partitura)
///     .title("Shop, production")
///     .authorize(|request| match request.headers.get("x-user") {
///         Some(user) => Access::Act { who: user.to_str().unwrap_or("unknown").to_owned() },
///         None => Access::Denied,
///     })
///     .router()
/// # }
/// ```
#[derive(Debug, Clone)]
#[must_use = "nothing is served before its router is mounted"]
pub struct Page {
    admin: Admin,
    guard: Guard,
    title: String,
}

impl Page {
    /// For visitors on this machine, who may look and not act.
    pub fn new(partitura: &Partitura) -> Self {
        let title = partitura.broker().capabilities().broker.to_string();
        Self { admin: Admin::new(partitura), guard: Guard::default(), title }
    }

    /// Says which deployment this is, on every page. The name of the broker unless set.
    pub fn title(mut self, title: impl Into<String>) -> Self {
        self.title = title.into();
        self
    }

    /// A visitor who has this token may look and act, from anywhere: it is sent as `Authorization: Bearer …`, or typed
    /// in at `sign-in`. An empty token is none. Serve the page through TLS then.
    pub fn token(mut self, token: impl Into<String>) -> Self {
        let token = token.into();
        self.guard.token = (!token.is_empty()).then(|| token.into());
        self
    }

    /// Decides about every request, in place of the token and of the rule for visitors on this machine.
    pub fn authorize(mut self, decide: impl Fn(&Parts) -> Access + Send + Sync + 'static) -> Self {
        self.guard.authorize = Some(Arc::new(decide));
        self
    }

    /// The router, to be nested.
    ///
    /// # Panics
    /// When the operating system has no random numbers.
    pub fn router(self) -> Router {
        let shared = Shared::new(self.admin, self.guard, self.title);
        let guarded = Router::new()
            .route("/", get(overview::show))
            .route("/instances", get(instances::show))
            .route("/instances/{workflow}/{id}", get(instance::show))
            .route("/instances/{workflow}/{id}/history.json", get(instance::download))
            .route("/instances/{workflow}/{id}/{action}", post(actions::act))
            .route("/dead-letters", get(letters::all))
            .route("/dead-letters/{kind}/{name}", get(letters::one))
            .route("/dead-letters/{kind}/{name}/{action}", post(letters::act))
            .route("/topics", get(topics::show))
            .route("/pauses/pause", post(pauses::begin))
            .route("/pauses/resume", post(pauses::end))
            .route("/live", get(live::stream))
            .fallback(error::nothing_there)
            .layer(axum::middleware::from_fn_with_state(shared.clone(), security::guard));
        Router::new()
            .merge(guarded)
            .route("/sign-in", get(sign_in::show).post(sign_in::sign_in))
            .route("/sign-out", post(sign_in::sign_out))
            .route("/assets/{name}", get(assets::serve))
            .layer(axum::middleware::from_fn_with_state(shared.clone(), security::harden))
            .with_state(shared)
    }
}
