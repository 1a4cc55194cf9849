//! The identity of the client: a token, which an OAuth 2.0 provider may give out for a while.

use std::path::Path;
use std::sync::{Mutex, PoisonError};
use std::time::{Duration, Instant};

use partitura_broker::{Error, ErrorKind, Result};
use serde::Deserialize;

use crate::error;
use crate::options::{Credentials, OAuth2};

/// Returns the present token.
pub(crate) struct Identity {
    credentials: Option<Credentials>,
    http: reqwest::Client,
    /// The last token of the provider.
    kept: Mutex<Option<KeptToken>>,
}

struct KeptToken {
    token: String,
    /// The time at which to ask for another.
    until: Instant,
}

/// The description of a provider.
#[derive(Deserialize)]
struct Provider {
    token_endpoint: String,
}

/// A provider's key file.
#[derive(Deserialize)]
struct Key {
    client_id: String,
    client_secret: String,
}

#[derive(Deserialize)]
struct Granted {
    access_token: String,
    /// Seconds.
    expires_in: Option<u64>,
}

impl Identity {
    pub(crate) fn new(credentials: Option<Credentials>, http: reqwest::Client) -> Self {
        Self { credentials, http, kept: Mutex::new(None) }
    }

    /// The token; `None` for an anonymous client.
    pub(crate) async fn token(&self) -> Result<Option<String>> {
        match &self.credentials {
            None => Ok(None),
            Some(Credentials::Token(token)) => Ok(Some(token.clone())),
            Some(Credentials::TokenFile(path)) => Ok(Some(read(path).await?.trim().to_owned())),
            Some(Credentials::OAuth2(oauth2)) => self.granted(oauth2).await.map(Some),
        }
    }

    async fn granted(&self, oauth2: &OAuth2) -> Result<String> {
        if let Some(KeptToken { token, until }) = &*self.kept.lock().unwrap_or_else(PoisonError::into_inner)
            && Instant::now() < *until
        {
            return Ok(token.clone());
        }
        let granted = self.ask(oauth2).await?;
        // Another is asked for before this one expires, since clocks may differ and a request takes time.
        let good_for = Duration::from_secs(granted.expires_in.unwrap_or(60)).mul_f32(0.8);
        let kept = KeptToken { token: granted.access_token.clone(), until: Instant::now() + good_for };
        *self.kept.lock().unwrap_or_else(PoisonError::into_inner) = Some(kept);
        Ok(granted.access_token)
    }

    /// The client credentials grant. Source: RFC 6749, section 4.4; OpenID Connect Discovery 1.0, section 4.
    async fn ask(&self, oauth2: &OAuth2) -> Result<Granted> {
        let Key { client_id, client_secret } =
            serde_json::from_str(&read(&oauth2.key_file).await?).map_err(|error| {
                let message = "the key file is no JSON with client_id and client_secret";
                Error::new(ErrorKind::InvalidArgument, "ask for a token", message)
                    .of(oauth2.key_file.display())
                    .because(error)
            })?;
        let provider = format!("{}/.well-known/openid-configuration", oauth2.issuer.trim_end_matches('/'));
        let provider: Provider = self.answer(self.http.get(provider), oauth2).await?;
        let mut form =
            vec![("grant_type", "client_credentials"), ("client_id", &client_id), ("client_secret", &client_secret)];
        form.extend(oauth2.audience.as_deref().map(|audience| ("audience", audience)));
        form.extend(oauth2.scope.as_deref().map(|scope| ("scope", scope)));
        self.answer(self.http.post(provider.token_endpoint).form(&form), oauth2).await
    }

    async fn answer<T: serde::de::DeserializeOwned>(
        &self,
        request: reqwest::RequestBuilder,
        oauth2: &OAuth2,
    ) -> Result<T> {
        const OPERATION: &str = "ask for a token";
        let of_issuer = |error: reqwest::Error| error::from_http(OPERATION, error).of(&oauth2.issuer);
        let response = request.send().await.map_err(of_issuer)?;
        let status = response.status();
        if status.is_client_error() {
            let message = format!("the issuer answered {status}; check the key file, the audience and the scope");
            return Err(Error::new(ErrorKind::Unauthorized, OPERATION, message).of(&oauth2.issuer));
        }
        response.error_for_status().map_err(of_issuer)?.json().await.map_err(of_issuer)
    }
}

async fn read(path: &Path) -> Result<String> {
    let path = path.to_owned();
    let name = path.display().to_string();
    let read = tokio::task::spawn_blocking(move || std::fs::read_to_string(path))
        .await
        .unwrap_or_else(|gone| Err(gone.into()));
    read.map_err(|error| {
        let message = "a file with credentials cannot be read";
        Error::new(ErrorKind::InvalidArgument, "connect", message).of(name).because(error)
    })
}

impl std::fmt::Debug for Identity {
    /// Leaves secrets out.
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Identity").field("credentials", &self.credentials).finish_non_exhaustive()
    }
}
