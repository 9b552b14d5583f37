//! The sessions of all browsers, by session id.

use std::collections::HashMap;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use axum::http::header::{COOKIE, SET_COOKIE};
use axum::http::{HeaderMap, HeaderName};
use confidential_client::delegated::{Account, AuthorizationCodeFlow};
use redis::aio::MultiplexedConnection;
use redis::cmd;
use serde::{Deserialize, Serialize};
use uuid::Uuid;

use crate::Result;

/// The sessions of all browsers, in memory or in Redis.
///
/// Sessions stay on the server, because the flow holds a secret and the account gives access to the
/// user's tokens. A real app uses the sessions of its web framework.
#[derive(Clone, Default)]
pub(crate) struct Sessions {
    memory: Arc<Mutex<HashMap<String, Session>>>,
    redis: Option<redis::Client>,
}

#[derive(Clone, Default, Serialize, Deserialize)]
pub(crate) struct Session {
    pub(crate) flow: Option<AuthorizationCodeFlow>,
    pub(crate) account: Option<Account>,
}

impl Sessions {
    pub(crate) fn in_redis(client: redis::Client) -> Self {
        Self {
            redis: Some(client),
            ..Self::default()
        }
    }

    pub(crate) async fn account(&self, headers: &HeaderMap) -> Result<Option<Account>> {
        let Some(id) = cookie(headers) else {
            return Ok(None);
        };
        let session = match self.redis().await? {
            None => self.lock().get(&id).cloned(),
            Some(mut redis) => parse(cmd("GET").arg(key(&id)).query_async(&mut redis).await?)?,
        };
        Ok(session.and_then(|session| session.account))
    }

    /// Removes and returns the session of the browser that sent the headers.
    pub(crate) async fn take(&self, headers: &HeaderMap) -> Result<Session> {
        let Some(id) = cookie(headers) else {
            return Ok(Session::default());
        };
        let session = match self.redis().await? {
            None => self.lock().remove(&id),
            Some(mut redis) => parse(cmd("GETDEL").arg(key(&id)).query_async(&mut redis).await?)?,
        };
        Ok(session.unwrap_or_default())
    }

    /// Stores the session under a new random id and returns the cookie.
    ///
    /// An attacker can neither guess the id nor plant a known id in the browser before the sign-in
    /// (session fixation).
    pub(crate) async fn insert(&self, session: Session) -> Result<[(HeaderName, String); 1]> {
        let id = Uuid::new_v4().to_string();
        let cookie = format!("{COOKIE_NAME}={id}; {COOKIE_ATTRIBUTES}");
        match self.redis().await? {
            None => drop(self.lock().insert(id, session)),
            Some(mut redis) => {
                let mut set = cmd("SET");
                set.arg(key(&id)).arg(serde_json::to_string(&session)?);
                let set = set.arg("EX").arg(LIFETIME_IN_SECONDS);
                set.query_async::<()>(&mut redis).await?;
            }
        }
        Ok([(SET_COOKIE, cookie)])
    }

    /// Opens a connection for one page. A real app keeps a connection.
    async fn redis(&self) -> Result<Option<MultiplexedConnection>> {
        Ok(match &self.redis {
            None => None,
            Some(client) => Some(client.get_multiplexed_async_connection().await?),
        })
    }

    pub(crate) fn lock(&self) -> MutexGuard<'_, HashMap<String, Session>> {
        self.memory.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

fn key(id: &str) -> String {
    format!("web_sign_in:session:{id}")
}

fn parse(json: Option<String>) -> Result<Option<Session>> {
    let session = json.map(|json| serde_json::from_str(&json));
    Ok(session.transpose()?)
}

fn cookie(headers: &HeaderMap) -> Option<String> {
    let cookies = headers.get_all(COOKIE).iter();
    let mut cookies = cookies
        .filter_map(|cookies| cookies.to_str().ok())
        .flat_map(|cookies| cookies.split("; "));
    let id = cookies.find_map(|cookie| cookie.strip_prefix(COOKIE_NAME)?.strip_prefix('='));
    id.map(ToOwned::to_owned)
}

pub(crate) const COOKIE_NAME: &str = "session";
/// `Lax`, because the redirect after a sign-in comes from another site. Over https, add `Secure`.
pub(crate) const COOKIE_ATTRIBUTES: &str = "HttpOnly; SameSite=Lax; Path=/";
const LIFETIME_IN_SECONDS: u32 = 8 * 60 * 60;
