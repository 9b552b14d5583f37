//! Random calls for applications and users: each receives a token of the requested subject.

use std::sync::{Arc, LazyLock, Mutex};
use std::time::Duration;

use base64::Engine;
use base64::prelude::BASE64_URL_SAFE_NO_PAD;
use bytes::Bytes;
use confidential_client::delegated::{Account, AuthorizationRequest, UserAssertion};
use confidential_client::testing::ManualClock;
use confidential_client::{
    AccessToken, CacheOptions, ConfidentialClient, Error, RetryPolicy, TokenRequest,
};
use http::{Request, Response};
use jsonwebtoken::{Algorithm, EncodingKey, Header, encode};
use proptest::collection::vec;
use proptest::prelude::*;
use rsa::pkcs8::DecodePrivateKey;
use rsa::traits::PublicKeyParts;
use serde_json::{Value, json};

use crate::support::{CLIENT_ID, PEM, SECRET};

/// The principal of a call. An account and an assertion may have the same user name.
#[derive(Clone, Copy, Debug)]
enum Who {
    Application,
    OnBehalfOf(usize),
    Account(usize),
}

#[derive(Clone, Debug)]
enum Step {
    SignIn(usize),
    SignOut(usize),
    Acquire {
        who: Who,
        tenant: Option<usize>,
        scope: usize,
        forced: bool,
    },
    /// An API rejects the last token.
    Invalidate,
    Time(u64),
}

const TENANTS: [&str; 3] = ["a.example", "b.example", "A.example"];
const SCOPES: [&str; 4] = [
    "api://x/.default",
    "api://x/.default openid",
    "api://y/.default",
    "api://X/.default",
];
const USERS: usize = 3;
const TID: &str = "72f988bf-86f1-41af-91ab-2d7cd011db47";

fn who() -> impl Strategy<Value = Who> {
    prop_oneof![
        Just(Who::Application),
        (0..USERS).prop_map(Who::OnBehalfOf),
        (0..USERS).prop_map(Who::Account),
    ]
}

fn step() -> impl Strategy<Value = Step> {
    let tenant = prop::option::of(0..TENANTS.len());
    let acquire = (who(), tenant, 0..SCOPES.len(), prop::bool::weighted(0.2));
    prop_oneof![
        2 => (0..USERS).prop_map(Step::SignIn),
        1 => (0..USERS).prop_map(Step::SignOut),
        12 => acquire.prop_map(|(who, tenant, scope, forced)| Step::Acquire {
            who, tenant, scope, forced,
        }),
        1 => Just(Step::Invalidate),
        2 => (0_u64..4000).prop_map(Step::Time),
    ]
}

proptest! {
    #[test]
    fn no_caller_gets_the_token_of_another_principal(steps in vec(step(), 1..40), entries in 1..20_usize) {
        let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build();
        runtime.unwrap().block_on(run(steps, entries));
    }
}

async fn run(steps: Vec<Step>, entries: usize) {
    let clock = ManualClock::new();
    let provider = Provider::default();
    let client = ConfidentialClient::builder(CLIENT_ID)
        .tenant(TENANTS[0])
        .client_secret(SECRET)
        .retry(RetryPolicy::none())
        .cache(CacheOptions::default().max_entries(entries))
        .clock(clock.clone())
        .transport(move |request: Request<Bytes>| {
            let answer = provider.answer(&request);
            async move { Ok(answer) }
        })
        .build()
        .unwrap();
    let mut accounts: [Option<Account>; USERS] = Default::default();
    let mut last: Option<AccessToken> = None;
    for step in steps {
        match step {
            Step::SignIn(user) => accounts[user] = Some(sign_in(&client, user).await),
            Step::SignOut(user) => {
                if let Some(account) = &accounts[user] {
                    client.remove_account(account).await.unwrap();
                    let error = client.acquire_token_silent(account, SCOPES[0]).await;
                    assert!(matches!(error, Err(Error::InteractionRequired(_))));
                }
            }
            Step::Acquire {
                who,
                tenant,
                scope,
                forced,
            } => {
                let mut request = TokenRequest::new(SCOPES[scope]);
                if let Some(tenant) = tenant {
                    request = request.tenant(TENANTS[tenant]);
                }
                if forced {
                    request = request.force_refresh();
                }
                let tenant = TENANTS[tenant.unwrap_or(0)].to_lowercase();
                let resource = SCOPES[scope].replace(" openid", "");
                let outcome = match who {
                    // An application requests `/.default` of a resource only.
                    Who::Application if scope == 1 => continue,
                    Who::Application => client.acquire_token_for_client(&request).await,
                    Who::OnBehalfOf(user) => {
                        let assertion = UserAssertion::new(format!("user-{user}"));
                        client
                            .acquire_token_on_behalf_of(&assertion, &request)
                            .await
                    }
                    Who::Account(user) => match &accounts[user] {
                        Some(account) => client.acquire_token_silent(account, &request).await,
                        None => continue,
                    },
                };
                match (outcome, who) {
                    (Ok(token), _) => {
                        let expected = format!("{who:?} {tenant} {resource} #");
                        assert!(
                            token.secret().starts_with(&encoded(&expected)),
                            "{expected}"
                        );
                        last = Some(token);
                    }
                    // The account signed out, or the session was evicted.
                    (Err(Error::InteractionRequired(_)), Who::Account(_)) => {}
                    (Err(error), _) => panic!("{error:?}"),
                }
            }
            Step::Invalidate => {
                if let Some(token) = &last {
                    client.invalidate(token);
                }
            }
            Step::Time(seconds) => clock.advance(Duration::from_secs(seconds)),
        }
    }
}

async fn sign_in(client: &ConfidentialClient, user: usize) -> Account {
    let request = AuthorizationRequest::new("https://app.example.org/back", SCOPES[0]);
    let (_, flow) = client.authorization_request_url(&request).await.unwrap();
    let nonce = serde_json::to_value(&flow).unwrap()["nonce"].clone();
    let code = format!("user-{user}.{}", nonce.as_str().unwrap());
    let back = format!("?state={}&code={code}", flow.state());
    let signed_in = client.acquire_token_by_authorization_code(flow, back);
    let signed_in = signed_in.await.unwrap();
    let expected = format!("{:?} {} {} #", Who::Account(user), TENANTS[0], SCOPES[0]);
    assert!(
        signed_in
            .access_token()
            .secret()
            .starts_with(&encoded(&expected))
    );
    signed_in.account().clone()
}

/// A provider that writes the principal of the request into each token.
#[derive(Clone, Default)]
struct Provider(Arc<Mutex<u64>>);

impl Provider {
    fn answer(&self, request: &Request<Bytes>) -> Response<Bytes> {
        let path = request.uri().path();
        let base = "https://login.microsoftonline.com";
        let body = if path.ends_with("openid-configuration") {
            json!({ "issuer": format!("{base}/{TID}/v2.0"), "jwks_uri": format!("{base}/keys") })
        } else if path == "/keys" {
            json!({ "keys": [*JWK] })
        } else {
            self.token(request)
        };
        Response::new(body.to_string().into())
    }

    fn token(&self, request: &Request<Bytes>) -> Value {
        let form: Vec<(String, String)> = url::form_urlencoded::parse(request.body())
            .into_owned()
            .collect();
        let field = |name: &str| {
            let field = form.iter().find(|(key, _)| key == name);
            field.map(|(_, value)| value.as_str())
        };
        let number = |text: &str| -> usize { text.trim_start_matches("user-").parse().unwrap() };
        let mut id_token = None;
        let who = match field("grant_type").unwrap() {
            "client_credentials" => Who::Application,
            "refresh_token" => match field("refresh_token").unwrap().split_once('|').unwrap() {
                ("account", user) => Who::Account(number(user)),
                (_, user) => Who::OnBehalfOf(number(user)),
            },
            "authorization_code" => {
                let (user, nonce) = field("code").unwrap().split_once('.').unwrap();
                id_token = Some(self::id_token(user, nonce));
                Who::Account(number(user))
            }
            _ => Who::OnBehalfOf(number(field("assertion").unwrap())),
        };
        let refresh_token = match who {
            Who::Application => None,
            Who::OnBehalfOf(user) => Some(format!("assertion|user-{user}")),
            Who::Account(user) => Some(format!("account|user-{user}")),
        };
        let tenant = request
            .uri()
            .path()
            .split('/')
            .nth(1)
            .unwrap()
            .to_lowercase();
        let scope = field("scope").unwrap().split(' ').next().unwrap();
        let mut count = self.0.lock().unwrap();
        *count += 1;
        json!({
            "token_type": "Bearer",
            "expires_in": 3600,
            "access_token": format!("{}{}", encoded(&format!("{who:?} {tenant} {scope} #")), *count),
            "refresh_token": refresh_token,
            "id_token": id_token,
        })
    }
}

/// Encodes text of a length that base64 does not pad, so that the result is a prefix of the token.
fn encoded(text: &str) -> String {
    BASE64_URL_SAFE_NO_PAD.encode(format!("{text:<90}"))
}

fn id_token(user: &str, nonce: &str) -> String {
    let now = std::time::SystemTime::now();
    let now = now.duration_since(std::time::UNIX_EPOCH).unwrap().as_secs();
    let claims = json!({
        "iss": format!("https://login.microsoftonline.com/{TID}/v2.0"),
        "aud": CLIENT_ID, "sub": user, "oid": user, "tid": TID, "nonce": nonce,
        // The clock of a test advances by days at most.
        "iat": now, "nbf": now - 300, "exp": now + 10_000_000,
    });
    let key = EncodingKey::from_rsa_pem(key().as_bytes()).unwrap();
    encode(&Header::new(Algorithm::RS256), &claims, &key).unwrap()
}

/// Returns the private key from the file with a certificate and a key.
fn key() -> &'static str {
    let start = PEM.find("-----BEGIN PRIVATE KEY-----").unwrap();
    let end = "-----END PRIVATE KEY-----";
    let key = &PEM[start..];
    &key[..key.find(end).unwrap() + end.len()]
}

static JWK: LazyLock<Value> = LazyLock::new(|| {
    let key = rsa::RsaPrivateKey::from_pkcs8_pem(key()).unwrap();
    let number = |number: &rsa::BigUint| BASE64_URL_SAFE_NO_PAD.encode(number.to_bytes_be());
    json!({ "kty": "RSA", "use": "sig", "n": number(key.n()), "e": number(key.e()) })
});
