//! An in-memory identity provider for sign-ins at any kind of authority, with real signatures.

use std::collections::{HashMap, VecDeque};
use std::error::Error as StdError;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex};

use bytes::Bytes;
use confidential_client::delegated::{
    AuthenticationResult, AuthorizationCodeFlow, AuthorizationRequest,
};
use confidential_client::{Authority, Cloud, ConfidentialClient, ConfidentialClientBuilder};
use http::{Request, Response};
use serde_json::{Value, json};

use crate::support::issuer::{RSA, TENANT_ID, encode, header};
use crate::support::log_capture;

pub const ISSUER: &str = "https://id.example.org";
pub const BACK: &str = "https://app.example.org/back";
pub const CLIENT: &str = "web";
pub const FILES: &str = "files.read";
pub const HOME: &str = "adele.72f988bf-86f1-41af-91ab-2d7cd011db47";

/// Returns each kind of authority with its issuer, and whether the default is to send a refresh
/// token again whose fate is unknown.
pub fn kinds() -> [(Authority, String, bool); 5] {
    [
        (
            Authority::entra(Cloud::Public, TENANT_ID),
            format!("https://login.microsoftonline.com/{TENANT_ID}/v2.0"),
            true,
        ),
        (
            Authority::external_id("login.contoso.com", TENANT_ID),
            format!("https://login.contoso.com/{TENANT_ID}/v2.0"),
            true,
        ),
        (
            Authority::b2c("contoso.b2clogin.com", "contoso.com", "B2C_1_in"),
            format!("https://contoso.b2clogin.com/{TENANT_ID}/v2.0/"),
            true,
        ),
        (
            Authority::adfs("fs.contoso.com"),
            "https://fs.contoso.com/adfs".to_owned(),
            true,
        ),
        (Authority::oidc(ISSUER), ISSUER.to_owned(), false),
    ]
}

/// The response to a token request.
pub enum Answer {
    Http(Response<Bytes>),
    Error(Box<dyn StdError + Send + Sync>),
    Hang,
}

impl Answer {
    pub fn json(body: &Value) -> Self {
        Self::Http(Response::new(Bytes::from(body.to_string())))
    }

    pub fn status(status: u16, body: &str) -> Self {
        let response = Response::builder().status(status);
        let body = Bytes::copy_from_slice(body.as_bytes());
        Self::Http(response.body(body).unwrap())
    }
}

#[derive(Clone)]
pub struct OpenId(Arc<State>);

struct State {
    issuer: String,
    metadata: Mutex<Value>,
    keys: Mutex<Vec<Value>>,
    keys_are_down: AtomicBool,
    answers: Mutex<VecDeque<Answer>>,
    forms: Mutex<Vec<HashMap<String, String>>>,
}

impl OpenId {
    pub fn new(issuer: &str) -> Self {
        log_capture::start();
        Self(Arc::new(State {
            issuer: issuer.to_owned(),
            metadata: Mutex::new(json!({
                "issuer": issuer,
                "token_endpoint": format!("{ISSUER}/token"),
                "authorization_endpoint": format!("{ISSUER}/authorize"),
                "token_endpoint_auth_methods_supported": ["client_secret_post"],
                "jwks_uri": "https://keys.example.org/keys",
            })),
            keys: Mutex::new(vec![RSA.jwk.clone()]),
            keys_are_down: AtomicBool::new(false),
            answers: Mutex::default(),
            forms: Mutex::default(),
        }))
    }

    /// Publishes a member of the metadata. `null` is published, too.
    pub fn publish(&self, name: &str, value: impl Into<Value>) {
        self.0.metadata.lock().unwrap()[name] = value.into();
    }

    pub fn publish_keys(&self, keys: &[Value]) {
        *self.0.keys.lock().unwrap() = keys.to_vec();
    }

    /// Lets the endpoint of the keys answer 503.
    pub fn keys_are_down(&self, are_down: bool) {
        self.0.keys_are_down.store(are_down, Ordering::Relaxed);
    }

    pub fn withhold(&self, name: &str) {
        let mut metadata = self.0.metadata.lock().unwrap();
        metadata.as_object_mut().unwrap().remove(name);
    }

    pub fn answer(&self, answer: Answer) {
        self.0.answers.lock().unwrap().push_back(answer);
    }

    /// Returns the forms of the token requests.
    pub fn forms(&self) -> Vec<HashMap<String, String>> {
        self.0.forms.lock().unwrap().clone()
    }

    /// Returns how often each form had this value in this field.
    pub fn presented(&self, field: &str, value: &str) -> usize {
        let forms = self.forms();
        forms
            .iter()
            .filter(|form| form.get(field).is_some_and(|sent| sent == value))
            .count()
    }

    pub fn builder(&self, authority: Authority) -> ConfidentialClientBuilder {
        self.without_credential(authority).client_secret("s3cret")
    }

    pub fn without_credential(&self, authority: Authority) -> ConfidentialClientBuilder {
        let state = Arc::clone(&self.0);
        ConfidentialClient::builder(CLIENT)
            .authority(authority)
            .transport(move |request: Request<Bytes>| {
                let state = Arc::clone(&state);
                async move { state.respond(&request).await }
            })
    }

    pub fn client(&self, authority: Authority) -> ConfidentialClient {
        self.builder(authority).build().unwrap()
    }

    /// Returns the claims of an ID token of Adele's.
    pub fn claims(&self) -> Value {
        let now = jsonwebtoken::get_current_timestamp();
        json!({
            "iss": self.0.issuer, "aud": CLIENT, "sub": "adele", "oid": "adele", "tid": TENANT_ID,
            "iat": now, "exp": now + 3600, "preferred_username": "adele@contoso.com",
        })
    }

    /// Signs in with these claims and the flow's nonce. The first refresh token is `refresh-1`.
    pub async fn sign_in_with(
        &self,
        client: &ConfidentialClient,
        request: &AuthorizationRequest,
        mut claims: Value,
    ) -> Result<AuthenticationResult, confidential_client::Error> {
        let (_, flow) = client.authorization_request_url(request).await?;
        claims["nonce"] = nonce_of(&flow).into();
        let mut body = tokens(1);
        body["id_token"] = id_token(&claims).into();
        body["client_info"] = client_info(HOME).into();
        self.answer(Answer::json(&body));
        let query = format!("code=c&state={}", flow.state());
        client
            .acquire_token_by_authorization_code(flow, query)
            .await
    }

    pub async fn sign_in(&self, client: &ConfidentialClient) -> AuthenticationResult {
        let request = AuthorizationRequest::new(BACK, FILES);
        let signed_in = self.sign_in_with(client, &request, self.claims());
        signed_in.await.unwrap()
    }
}

impl State {
    async fn respond(
        &self,
        request: &Request<Bytes>,
    ) -> Result<Response<Bytes>, Box<dyn StdError + Send + Sync>> {
        let path = request.uri().path();
        if path.ends_with("/.well-known/openid-configuration") {
            let metadata = self.metadata.lock().unwrap().to_string();
            return Ok(Response::new(metadata.into()));
        }
        if path == "/keys" && self.keys_are_down.load(Ordering::Relaxed) {
            let response = Response::builder().status(503);
            return Ok(response.body(Bytes::new()).unwrap());
        }
        if path == "/keys" {
            let keys = json!({ "keys": *self.keys.lock().unwrap() }).to_string();
            return Ok(Response::new(keys.into()));
        }
        let form = url::form_urlencoded::parse(request.body()).into_owned();
        let number = {
            let mut forms = self.forms.lock().unwrap();
            forms.push(form.collect());
            forms.len()
        };
        let answer = self.answers.lock().unwrap().pop_front();
        match answer.unwrap_or_else(|| Answer::json(&tokens(number))) {
            Answer::Http(response) => Ok(response),
            Answer::Error(error) => Err(error),
            Answer::Hang => std::future::pending().await,
        }
    }
}

/// Returns a success with the token `token-{number}` and the refresh token `refresh-{number}`.
pub fn tokens(number: usize) -> Value {
    json!({
        "token_type": "Bearer", "expires_in": 3600,
        "access_token": format!("token-{number}"),
        "refresh_token": format!("refresh-{number}"),
    })
}

pub fn id_token(claims: &Value) -> String {
    RSA.sign(&header(), claims)
}

pub fn client_info(home_account_id: &str) -> String {
    let (uid, utid) = home_account_id.split_once('.').unwrap();
    encode(json!({ "uid": uid, "utid": utid }).to_string())
}

pub fn nonce_of(flow: &AuthorizationCodeFlow) -> String {
    let flow = serde_json::to_value(flow).unwrap();
    flow["nonce"].as_str().unwrap().to_owned()
}
