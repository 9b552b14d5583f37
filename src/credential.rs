use std::fmt;
use std::time::SystemTime;

use crate::assertion;
use crate::certificate::Certificate;
use crate::error::{Error, Failure};
use crate::request::Proof;
use crate::secret::Secret;

/// What the client proves its identity with.
#[derive(Clone)]
pub(crate) enum Credential {
    Secret(Secret),
    Certificate(Certificate),
}

impl Credential {
    /// Checks what can be known before the network.
    pub(crate) fn check(&self, now: SystemTime) -> Result<(), Error> {
        match self {
            Self::Secret(secret) => check_secret(secret.expose()),
            Self::Certificate(certificate) => certificate.check_validity(now),
        }
    }

    /// A proof for one request. Signing costs a fraction of a millisecond of computing, which is
    /// done where it keeps no other task waiting.
    pub(crate) async fn prove(
        &self,
        client_id: &str,
        audience: &str,
        now: SystemTime,
    ) -> Result<Proof, Error> {
        let certificate = match self {
            Self::Secret(secret) => return Ok(Proof::Secret(secret.clone())),
            Self::Certificate(certificate) => certificate.clone(),
        };
        certificate.check_validity(now)?;
        let client_id = client_id.to_owned();
        let audience = audience.to_owned();
        let signing = tokio::task::spawn_blocking(move || {
            assertion::client_assertion(&certificate, &client_id, &audience, now)
        });
        match signing.await {
            Ok(assertion) => assertion.map(Proof::Assertion),
            Err(error) => Err(Error::Credential(
                Failure::new("the assertion could not be signed")
                    .source(Box::new(error))
                    .into(),
            )),
        }
    }
}

/// Which kind it is, and nothing else.
impl fmt::Debug for Credential {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Secret(_) => f.write_str("client secret"),
            Self::Certificate(certificate) => certificate.fmt(f),
        }
    }
}

fn check_secret(secret: &str) -> Result<(), Error> {
    if secret.trim().is_empty() {
        return Err(Error::config(
            "the client secret is empty; was its environment variable or file set?",
        ));
    }
    if secret.trim() != secret {
        return Err(Error::config(
            "the client secret begins or ends with white space; a file usually ends in a newline, so trim what was read from it",
        ));
    }
    let invisible = |c: char| c.is_control() || matches!(c, '\u{200b}'..='\u{200f}' | '\u{feff}');
    if secret.contains(invisible) {
        return Err(Error::config(
            "the client secret holds a character that cannot be seen, such as a line break or a byte order mark; copy it anew",
        ));
    }
    Ok(())
}
