use std::io;
use std::net::SocketAddr;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use base64::Engine;
use base64::prelude::BASE64_URL_SAFE_NO_PAD;
use confidential_client::Certificate;
use jsonwebtoken::{Algorithm, DecodingKey, Validation, decode, decode_header};
use serde::Deserialize;
use serde_json::json;
use tokio::io::AsyncReadExt;
use tokio::net::{TcpListener, TcpStream};
use tokio::time::{sleep, timeout};

use crate::Result;
use crate::fault::{Fault, outage};
use crate::findings::Findings;
use crate::http::{self, Reply, Request};
use crate::key::{Key, Token};
use crate::ledger::{Ledger, Outcome};
use crate::now;
use crate::random::Random;

/// An identity provider on loopback that fails at random, and records token requests in a ledger.
///
/// Unlike `testing::LocalAuthority`, the authority stores no request, so that the memory of the
/// process is the client's.
pub struct Authority {
    base: String,
    state: Mutex<State>,
    findings: Arc<Findings>,
}

struct State {
    random: Random,
    ledger: Ledger,
    certificates: Vec<Registered>,
    /// Thumbprint of the certificate behind the last complete response.
    answered: String,
    tokens: u64,
    faults: [u64; Fault::MIX.len()],
    /// Requests of clients other than the observed client.
    visits: u64,
}

struct Registered {
    /// SHA-256.
    thumbprint: String,
    key: DecodingKey,
}

/// A received token request, with the fault drawn for the response.
struct ReceivedRequest {
    key: Key,
    is_visit: bool,
    fault: Option<Fault>,
}

impl Authority {
    /// Serves on a separate thread and runtime, which the client cannot block.
    pub fn start(seed: u64, findings: Arc<Findings>) -> Result<Arc<Self>> {
        let listener = std::net::TcpListener::bind(("127.0.0.1", 0))?;
        listener.set_nonblocking(true)?;
        let address: SocketAddr = listener.local_addr()?;
        let authority = Arc::new(Self {
            base: format!("http://{address}"),
            state: Mutex::new(State {
                random: Random::new(seed, u64::MAX),
                ledger: Ledger::new(),
                certificates: Vec::new(),
                answered: String::new(),
                tokens: 0,
                faults: Default::default(),
                visits: 0,
            }),
            findings,
        });
        let runtime = tokio::runtime::Builder::new_current_thread()
            .enable_all()
            .build()?;
        let serving = Arc::clone(&authority);
        std::thread::spawn(move || runtime.block_on(serving.serve(listener)));
        Ok(authority)
    }

    pub fn base(&self) -> &str {
        &self.base
    }

    pub fn register(&self, pem: &str) -> Result<()> {
        let registered = Registered {
            thumbprint: Certificate::from_pem(pem)?.thumbprint_sha256(),
            key: DecodingKey::from_rsa_pem(pem.as_bytes())?,
        };
        self.lock().certificates.push(registered);
        Ok(())
    }

    /// Accepts only the certificate registered last.
    pub fn retire_old_certificates(&self) {
        let certificates = &mut self.lock().certificates;
        let old = certificates.len().saturating_sub(1);
        certificates.drain(..old);
    }

    /// Returns whether a client received a token for the certificate registered last.
    pub fn has_answered_to_the_newest(&self) -> bool {
        let state = self.lock();
        let newest = state.certificates.last();
        newest.is_some_and(|newest| newest.thumbprint == state.answered)
    }

    pub fn with_ledger<T>(&self, look: impl FnOnce(&mut Ledger) -> T) -> T {
        look(&mut self.lock().ledger)
    }

    pub fn faults(&self) -> [u64; Fault::MIX.len()] {
        self.lock().faults
    }

    pub fn visits(&self) -> u64 {
        self.lock().visits
    }

    async fn serve(self: Arc<Self>, listener: std::net::TcpListener) -> io::Result<()> {
        let listener = TcpListener::from_std(listener)?;
        loop {
            let (stream, _) = listener.accept().await?;
            let authority = Arc::clone(&self);
            // The client may have closed the connection.
            tokio::spawn(async move { authority.converse(stream).await });
        }
    }

    async fn converse(&self, mut stream: TcpStream) -> io::Result<()> {
        let mut buffer = Vec::new();
        while let Some(request) = http::read(&mut stream, &mut buffer).await? {
            let Some(received) = self.receive(&request) else {
                self.findings
                    .add("an unreadable token request", || request.path.clone());
                return Ok(());
            };
            if received.fault == Some(Fault::Delayed) {
                let delay = self.lock().random.millis(50..1500);
                sleep(delay).await;
            }
            let reply = self.answer(&request, &received);
            if received.fault == Some(Fault::Stalled) {
                // Waits until the client closes the connection.
                let _ = timeout(STALL, stream.read(&mut [0])).await;
                return Ok(());
            }
            let Some(reply) = reply else { return Ok(()) };
            if !http::write(&mut stream, &reply).await? {
                return Ok(());
            }
        }
        Ok(())
    }

    /// Records the request in the ledger and draws a fault.
    fn receive(&self, request: &Request) -> Option<ReceivedRequest> {
        let key = Key::parse(request.tenant()?, request.field("scope")?)?;
        let is_visit = request.field("client_id") == Some(VISITOR);
        let mut state = self.lock();
        let now = now();
        let drawn = Fault::draw(&mut state.random);
        let fault = outage(now).map(|(_, fault)| fault).or(drawn);
        if is_visit {
            state.visits += 1;
        } else {
            let flight = (key, request.id.as_str(), request.field("claims").is_some());
            state.ledger.arrive(flight, now, &self.findings);
        }
        if let Some(fault) = fault {
            state.faults[fault.index()] += 1;
        }
        Some(ReceivedRequest {
            key,
            is_visit,
            fault,
        })
    }

    /// Returns the response and records the outcome in the ledger. `None` closes the connection.
    fn answer(&self, request: &Request, received: &ReceivedRequest) -> Option<Reply> {
        let mut state = self.lock();
        let state = &mut *state;
        let refused = !state.accepts(request, &self.base);
        if let (false, None, Some(thumbprint)) = (refused, received.fault, thumbprint(request)) {
            state.answered = thumbprint;
        }
        let fault = match received.fault {
            // A rejection holds no token to cut.
            Some(Fault::DroppedInBody | Fault::Truncated | Fault::Delayed) if refused => None,
            fault => fault,
        };
        let lifetime = received.key.lifetime(&mut state.random);
        let outcome = match fault.and_then(Fault::failure) {
            Some(failure) => Outcome::Failed(failure),
            None if refused => Outcome::Refused,
            None => Outcome::Token { lifetime },
        };
        if !received.is_visit {
            state.ledger.leave(received.key, outcome, now());
        }
        let error = |status, error: &str| Reply::json(status, &json!({ "error": error }));
        let told_to_wait = |status| error(status, "temporarily_unavailable").retry_after(1);
        match fault {
            Some(Fault::Unavailable) => return Some(error(503, "temporarily_unavailable")),
            Some(Fault::UnavailableForASecond) => return Some(told_to_wait(503)),
            Some(Fault::Throttled) => return Some(told_to_wait(429)),
            Some(Fault::ServerError) => return Some(error(500, "server_error")),
            Some(Fault::Dropped | Fault::Stalled) => return None,
            Some(Fault::Page) => return Some(Reply::page("<html>Sign in to the Wi-Fi</html>")),
            _ if refused => return Some(error(401, "invalid_client")),
            Some(Fault::DroppedInBody | Fault::Truncated | Fault::Delayed) | None => {}
        }
        state.tokens += 1;
        let token = Token {
            key: received.key,
            number: state.tokens,
            lifetime,
            end: now() + lifetime,
        };
        let reply = Reply::json(
            200,
            &json!({
                "token_type": "Bearer",
                "expires_in": lifetime.as_secs(),
                "access_token": token.to_text(),
            }),
        );
        Some(match fault {
            Some(Fault::DroppedInBody) => reply.dropped_in_body(),
            Some(Fault::Truncated) => reply.truncated(),
            _ => reply,
        })
    }

    fn lock(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl State {
    /// Checks the client assertion as Entra does: thumbprint, signature, issuer and audience.
    fn accepts(&self, request: &Request, base: &str) -> bool {
        if request.field("client_id") == Some(VISITOR) {
            return request.field("client_secret") == Some(VISITORS_SECRET);
        }
        let Some(assertion) = request.field("client_assertion") else {
            return false;
        };
        let thumbprint = thumbprint(request).unwrap_or_default();
        let mut known = self.certificates.iter();
        let Some(registered) = known.find(|known| known.thumbprint == thumbprint) else {
            return false;
        };
        let mut validation = Validation::new(Algorithm::PS256);
        validation.set_audience(&[format!("{base}{}", request.path)]);
        validation.set_issuer(&[CLIENT_ID]);
        decode::<Claims>(assertion, &registered.key, &validation).is_ok()
    }
}

/// Returns the thumbprint of the certificate that signed the assertion.
fn thumbprint(request: &Request) -> Option<String> {
    let header = decode_header(request.field("client_assertion")?).ok()?;
    let bytes = BASE64_URL_SAFE_NO_PAD.decode(header.x5t_s256?).ok()?;
    Some(bytes.iter().map(|byte| format!("{byte:02X}")).collect())
}

/// No claims, since the decoder checks all that matter.
#[derive(Clone, Deserialize)]
struct Claims {}

pub const CLIENT_ID: &str = "11111111-2222-3333-4444-555555555555";
/// Client id of short-lived clients.
pub const VISITOR: &str = "66666666-7777-8888-9999-000000000000";
pub const VISITORS_SECRET: &str = "s3cret";
/// Longer than the deadline of any client.
const STALL: Duration = Duration::from_secs(60);
