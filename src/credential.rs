use std::fmt;
use std::sync::Arc;
use std::time::SystemTime;

use crate::assertion;
use crate::certificate::Certificate;
use crate::error::{Error, Failure};
use crate::request::Proof;
use crate::secret::Secret;

mod assertion_provider;

pub use assertion_provider::{
    AssertionContext, ClientAssertionFuture, ClientAssertionProvider, FederatedTokenFile,
};

/// What the client proves its identity with.
#[derive(Clone)]
pub(crate) enum Credential {
    Secret(Secret),
    Certificate(Certificate),
    Assertion(Arc<dyn ClientAssertionProvider>),
}

impl Credential {
    /// Checks what can be known before the network.
    pub(crate) fn check(&self, now: SystemTime) -> Result<(), Error> {
        match self {
            Self::Secret(secret) => check_secret(secret.expose()),
            Self::Certificate(certificate) => certificate.check_validity(now),
            Self::Assertion(_) => Ok(()),
        }
    }

    /// A proof for one request.
    pub(crate) async fn prove(
        &self,
        context: AssertionContext,
        now: SystemTime,
    ) -> Result<Proof, Error> {
        match self {
            Self::Secret(secret) => Ok(Proof::Secret(secret.clone())),
            Self::Certificate(certificate) => sign(certificate.clone(), context, now).await,
            Self::Assertion(provider) => provided(&**provider, context).await,
        }
    }
}

/// Signing costs a fraction of a millisecond of computing, which is done where it keeps no other
/// task waiting.
async fn sign(
    certificate: Certificate,
    context: AssertionContext,
    now: SystemTime,
) -> Result<Proof, Error> {
    certificate.check_validity(now)?;
    let signing = tokio::task::spawn_blocking(move || {
        let (client_id, audience) = (context.client_id(), context.token_endpoint());
        assertion::client_assertion(&certificate, client_id, audience, now)
    });
    match signing.await {
        Ok(assertion) => assertion.map(Proof::Assertion),
        Err(error) => Err(assertion::failed(error)),
    }
}

async fn provided(
    provider: &dyn ClientAssertionProvider,
    context: AssertionContext,
) -> Result<Proof, Error> {
    match provider.client_assertion(context).await {
        Ok(assertion) if assertion.trim().is_empty() => Err(Error::credential(format!(
            "the {} is empty",
            provider.describe()
        ))),
        Ok(assertion) => Ok(Proof::Assertion(Secret::from(assertion.trim()))),
        Err(source) => Err(Error::Credential(
            Failure::new("no client assertion could be had")
                .source(source)
                .into(),
        )),
    }
}

/// Which kind it is, and nothing else.
impl fmt::Debug for Credential {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Secret(_) => f.write_str("client secret"),
            Self::Certificate(certificate) => certificate.fmt(f),
            Self::Assertion(provider) => f.write_str(&provider.describe()),
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
