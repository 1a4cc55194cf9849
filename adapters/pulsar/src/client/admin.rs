//! The calls of the admin API that declaring needs. The binary protocol cannot create a partitioned topic.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::Duration;

use partitura_broker::Result;
use reqwest::header::{CONTENT_TYPE, LOCATION};
use reqwest::{Client, Method, Response, StatusCode, Url};
use serde::{Deserialize, Serialize};
use tokio_rustls::rustls::ClientConfig;

use super::identity::Identity;
use crate::error;
use crate::names::FullName;

/// The time limit of a call.
const REQUEST_TIMEOUT: Duration = Duration::from_secs(20);
/// The number of times that a call is sent on from one broker to another.
const REDIRECTS: usize = 5;

/// The HTTP client for the admin API and for issuers of tokens.
pub(crate) fn http_client(tls: &ClientConfig) -> Result<Client> {
    // The HTTP client would leave out the token when it follows a redirection, so `call` does it.
    let builder = Client::builder().timeout(REQUEST_TIMEOUT).redirect(reqwest::redirect::Policy::none());
    builder.use_preconfigured_tls(tls.clone()).build().map_err(|error| error::from_http("connect", error))
}

/// The admin API of a cluster.
#[derive(Debug)]
pub(crate) struct Admin {
    base: Url,
    http: Client,
    identity: Arc<Identity>,
}

/// The metadata of a partitioned topic.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct Partitioned {
    pub(crate) partitions: u32,
    #[serde(default)]
    pub(crate) properties: BTreeMap<String, String>,
}

/// The body of a call.
struct Body {
    content_type: &'static str,
    bytes: Vec<u8>,
}

impl Admin {
    pub(crate) fn new(base: Url, http: Client, identity: Arc<Identity>) -> Self {
        Self { base, http, identity }
    }

    /// The version of the broker that answers.
    pub(crate) async fn version(&self) -> Result<String> {
        let response = self.call("connect", Method::GET, "brokers/version", None).await?;
        accepted("connect", response).await?.text().await.map_err(|error| error::from_http("connect", error))
    }

    /// A setting of the broker that answers; `None` if there is none, or if it may not be read.
    pub(crate) async fn setting(&self, name: &str) -> Result<Option<String>> {
        let response = self.call("connect", Method::GET, "brokers/configuration/runtime", None).await?;
        if response.status().is_client_error() {
            return Ok(None);
        }
        let all: BTreeMap<String, serde_json::Value> =
            accepted("connect", response).await?.json().await.map_err(|error| error::from_http("connect", error))?;
        Ok(all.get(name).and_then(|value| value.as_str().map(str::to_owned)))
    }

    /// A partitioned topic, if there is one.
    pub(crate) async fn partitioned(&self, operation: &'static str, topic: &FullName) -> Result<Option<Partitioned>> {
        let path = format!("{}/partitions", topic.path());
        let response = self.call(operation, Method::GET, &path, None).await?;
        if response.status() == StatusCode::NOT_FOUND {
            return Ok(None);
        }
        let found: Partitioned =
            accepted(operation, response).await?.json().await.map_err(|error| error::from_http(operation, error))?;
        // Older brokers answer 0 for a topic that does not exist.
        Ok(Some(found).filter(|found| found.partitions > 0))
    }

    /// Creates a partitioned topic, unless it exists.
    pub(crate) async fn create(&self, operation: &'static str, topic: &FullName, wanted: &Partitioned) -> Result<()> {
        let path = format!("{}/partitions", topic.path());
        let body = serde_json::to_vec(wanted).unwrap_or_default();
        let body = Body { content_type: "application/vnd.partitioned-topic-metadata+json", bytes: body };
        self.put(operation, &path, Some(body)).await
    }

    /// Whether a single partition has a subscription.
    pub(crate) async fn has_subscription(
        &self,
        operation: &'static str,
        topic: &FullName,
        subscription: &str,
    ) -> Result<bool> {
        let path = format!("{}/subscriptions", topic.path());
        let response = self.call(operation, Method::GET, &path, None).await?;
        if response.status() == StatusCode::NOT_FOUND {
            return Ok(false);
        }
        let all: Vec<String> =
            accepted(operation, response).await?.json().await.map_err(|error| error::from_http(operation, error))?;
        Ok(all.iter().any(|name| name == subscription))
    }

    /// Creates a topic that is not stored, unless it exists.
    pub(crate) async fn create_volatile(&self, operation: &'static str, topic: &FullName) -> Result<()> {
        self.put(operation, &topic.path(), None).await
    }

    /// Deletes a topic, even if it is in use.
    pub(crate) async fn delete(&self, operation: &'static str, topic: &FullName) -> Result<()> {
        let path = format!("{}?force=true", topic.path());
        let response = self.call(operation, Method::DELETE, &path, None).await?;
        if response.status() == StatusCode::NOT_FOUND {
            return Ok(());
        }
        accepted(operation, response).await.map(drop)
    }

    async fn put(&self, operation: &'static str, path: &str, body: Option<Body>) -> Result<()> {
        let response = self.call(operation, Method::PUT, path, body).await?;
        if response.status() == StatusCode::CONFLICT {
            return Ok(());
        }
        accepted(operation, response).await.map(drop)
    }

    async fn call(&self, operation: &'static str, method: Method, path: &str, body: Option<Body>) -> Result<Response> {
        let token = self.identity.token().await?;
        let mut url =
            self.base.join(&format!("/admin/v2/{path}")).map_err(|error| error::unexpected(operation, error))?;
        for _ in 0..REDIRECTS {
            let mut request = self.http.request(method.clone(), url.clone());
            if let Some(token) = &token {
                request = request.bearer_auth(token);
            }
            if let Some(Body { content_type, bytes }) = &body {
                request = request.header(CONTENT_TYPE, *content_type).body(bytes.clone());
            }
            let response = request.send().await.map_err(|error| error::from_http(operation, error))?;
            let elsewhere = response.status().is_redirection().then(|| response.headers().get(LOCATION)).flatten();
            match elsewhere.and_then(|location| location.to_str().ok()).and_then(|location| url.join(location).ok()) {
                Some(location) => url = location,
                None => return Ok(response),
            }
        }
        Err(error::unexpected(operation, "the brokers send an admin call around in a circle"))
    }
}

async fn accepted(operation: &'static str, response: Response) -> Result<Response> {
    let status = response.status();
    if status.is_success() {
        return Ok(response);
    }
    let text = response.text().await.unwrap_or_default();
    let reason = serde_json::from_str::<BTreeMap<String, String>>(&text).ok().and_then(|mut all| all.remove("reason"));
    Err(error::from_status(operation, status, reason.as_deref().unwrap_or(&text)))
}
