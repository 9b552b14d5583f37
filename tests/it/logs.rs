//! What a subscriber sees: enough to notice trouble by, and nothing secret.

use std::io::Write;
use std::sync::{Arc, Mutex};

use confidential_client::Certificate;
use confidential_client::testing::{Application, LocalAuthority};
use tracing_subscriber::fmt::MakeWriter;

use crate::support::{CLIENT_ID, PEM, Provider, SCOPE, SECRET, TENANT, client_of};

/// Everything that is logged at TRACE in this thread, as text.
#[derive(Clone, Default)]
struct Log(Arc<Mutex<Vec<u8>>>);

impl Log {
    fn start(&self) -> tracing::subscriber::DefaultGuard {
        let subscriber = tracing_subscriber::fmt()
            .with_max_level(tracing::Level::TRACE)
            .with_writer(self.clone())
            .finish();
        tracing::subscriber::set_default(subscriber)
    }

    fn text(&self) -> String {
        String::from_utf8(self.0.lock().unwrap().clone()).unwrap()
    }
}

impl Write for Log {
    fn write(&mut self, bytes: &[u8]) -> std::io::Result<usize> {
        self.0.lock().unwrap().write(bytes)
    }

    fn flush(&mut self) -> std::io::Result<()> {
        Ok(())
    }
}

impl MakeWriter<'_> for Log {
    type Writer = Self;

    fn make_writer(&self) -> Self {
        self.clone()
    }
}

#[test]
fn a_secret_that_looks_like_its_id_is_warned_about() {
    let warned = |secret: &str| {
        let log = Log::default();
        let _guard = log.start();
        let provider = Provider::open();
        let builder = confidential_client::ConfidentialClient::builder(CLIENT_ID).tenant(TENANT);
        builder
            .client_secret(secret)
            .transport(provider.transport())
            .build()
            .unwrap();
        let text = log.text();
        assert!(!text.contains(secret), "{text}");
        text.contains("probably the secret's id")
    };
    assert!(warned("b9d4b5ec-5c2e-4ef5-9c3b-0a6d1f8f7a21"));
    assert!(!warned(SECRET));
}

#[tokio::test]
async fn a_failed_request_is_logged_once_and_nothing_secret_is() {
    let log = Log::default();
    let _guard = log.start();
    let local = LocalAuthority::start().await.unwrap();
    let certificate = Certificate::from_pem(&*PEM).unwrap();
    let application = Application::new(CLIENT_ID)
        .secret(SECRET)
        .certificate(&certificate);
    local.register(TENANT, application);

    let by_secret = client_of(&local).client_secret(SECRET).build().unwrap();
    let token = by_secret.acquire_token_for_client(SCOPE).await.unwrap();
    let by_certificate = client_of(&local).certificate(certificate).build().unwrap();
    by_certificate
        .acquire_token_for_client(SCOPE)
        .await
        .unwrap();
    let wrong = client_of(&local)
        .client_secret("wrong-s3cret")
        .build()
        .unwrap();
    let error = wrong.acquire_token_for_client(SCOPE).await.unwrap_err();
    wrong.acquire_token_for_client(SCOPE).await.unwrap_err();

    let text = log.text();
    let assertion = local.token_requests()[1]
        .field("client_assertion")
        .unwrap()
        .to_owned();
    for hidden in [SECRET, "wrong-s3cret", token.secret(), &assertion, SCOPE] {
        assert!(!text.contains(hidden), "{hidden} is in {text}");
    }
    assert_eq!(text.matches("a token request failed").count(), 1, "{text}");
    assert!(text.contains("still_served=false"), "{text}");
    assert!(text.contains("AADSTS7000215"), "{text}");
    assert!(text.contains(error.correlation_id().unwrap()), "{text}");
}
