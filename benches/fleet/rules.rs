//! The crate's rules for one token and one failure, in seconds. `check` compares the rules with
//! the crate.

use std::sync::atomic::{AtomicU64, Ordering};
use std::time::{Duration, SystemTime};

use bytes::Bytes;
use confidential_client::{ConfidentialClient, RetryPolicy, TokenRequest};
use http::{Request, Response};

type Result<T> = std::result::Result<T, Box<dyn std::error::Error + Send + Sync>>;

/// The times of a token.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Token {
    pub(crate) refresh_on: f64,
    /// The time from which the token is not returned.
    pub(crate) end: f64,
    pub(crate) lifetime: f64,
}

impl Token {
    /// Computes the times of a token as `AccessToken::refresh_on` documents. `jitter` is from 0 to
    /// 1.
    pub(crate) fn new(now: f64, lifetime: f64, jitter: f64) -> Self {
        Self {
            refresh_on: now + refresh_after(lifetime, jitter),
            end: now + lifetime - MARGIN.min(lifetime / 10.0),
            lifetime,
        }
    }

    pub(crate) fn issued(&self) -> f64 {
        self.end + MARGIN.min(self.lifetime / 10.0) - self.lifetime
    }
}

/// Returns the seconds after which a refresh is due.
pub(crate) fn refresh_after(lifetime: f64, jitter: f64) -> f64 {
    let half = lifetime / 2.0;
    let refresh = match lifetime >= 2.0 * HOUR {
        true => half,
        false => (lifetime - 300.0).max(half),
    };
    refresh - jitter * f64::min(300.0, lifetime / 10.0).min(refresh / 2.0)
}

/// Compares the rules with tokens and errors of the crate.
pub(crate) fn check() -> Result<()> {
    let runtime = tokio::runtime::Builder::new_current_thread()
        .enable_time()
        .build()?;
    runtime.block_on(async {
        for lifetime in [600, 3600, 4500, 5399, 7199, 7200, 86_400] {
            let client = client(200, move || {
                format!(r#"{{"token_type":"Bearer","expires_in":{lifetime},"access_token":"t"}}"#)
            })?;
            for tenant in 0..50 {
                let before = SystemTime::now();
                let request = TokenRequest::new(SCOPE).tenant(format!("t{tenant}.example.org"));
                let token = client.acquire_token_for_client(&request).await?;
                let after = token.refresh_on().duration_since(before)?.as_secs_f64();
                let lifetime = f64::from(lifetime);
                let expected =
                    refresh_after(lifetime, 1.0) - 1.0..=refresh_after(lifetime, 0.0) + 1.0;
                if !expected.contains(&after) {
                    return Err(
                        format!("{lifetime} s: due after {after} s, not {expected:?}").into(),
                    );
                }
            }
        }
        let sent = &*Box::leak(Box::new(AtomicU64::new(0)));
        let client = client(429, move || {
            sent.fetch_add(1, Ordering::Relaxed);
            String::new()
        })?;
        for _ in 0..3 {
            let error = client.acquire_token_for_client(SCOPE).await.err();
            let wait = error.and_then(|error| error.retry_after());
            if wait.is_none_or(|wait| wait < Duration::from_secs(55)) {
                return Err(format!("Retry-After of 60 s became {wait:?}").into());
            }
        }
        match sent.load(Ordering::Relaxed) {
            1 => Ok(()),
            sent => Err(format!("{sent} requests during a Retry-After").into()),
        }
    })
}

fn client(
    status: u16,
    body: impl Fn() -> String + Send + Sync + 'static,
) -> Result<ConfidentialClient> {
    Ok(
        ConfidentialClient::builder("11111111-2222-3333-4444-555555555555")
            .tenant("contoso.onmicrosoft.com")
            .client_secret("s3cret")
            .retry(RetryPolicy::none())
            .transport(move |_: Request<Bytes>| {
                let response = Response::builder()
                    .status(status)
                    .header("retry-after", "60")
                    .body(Bytes::from(body()));
                async { Ok(response?) }
            })
            .build()?,
    )
}

const SCOPE: &str = "https://graph.microsoft.com/.default";
/// The time before the expiry during which a token is not returned.
const MARGIN: f64 = 10.0;
pub(crate) const HOUR: f64 = 3600.0;
