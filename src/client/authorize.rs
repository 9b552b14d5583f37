use http::header::AUTHORIZATION;
use http::{HeaderMap, Method, Request, request};

use super::TokenAcquirer;
use super::proofs::Proof;
use crate::dpop::PROOF;
use crate::error::{Error, Escaped};
use crate::token::{AccessToken, TokenScheme};

/// An outgoing request that [`TokenProvider::authorize`] attaches a token to.
///
/// Implemented for `http::Request`, for `http::request::Parts`, for `http::HeaderMap` and, with the
/// feature `reqwest`, for `reqwest::Request`. Not implemented outside this crate.
///
/// [`TokenProvider::authorize`]: crate::TokenProvider::authorize
pub trait AuthorizeRequest: sealed::OutgoingRequest + Send {}

impl<R: sealed::OutgoingRequest + Send> AuthorizeRequest for R {}

mod sealed {
    use super::{HeaderMap, Target};

    pub trait OutgoingRequest {
        fn headers_mut(&mut self) -> &mut HeaderMap;

        /// Returns the method and the URI. `None` if only the headers are there.
        fn target(&self) -> Option<Target>;
    }
}

use sealed::OutgoingRequest;

/// The method and the URI of a request, which a proof names.
///
/// A copy, because a proof is signed while the request is borrowed by nobody.
#[derive(Debug)]
pub struct Target {
    pub(crate) method: Method,
    pub(crate) uri: String,
}

impl OutgoingRequest for HeaderMap {
    #[inline]
    fn headers_mut(&mut self) -> &mut HeaderMap {
        self
    }

    fn target(&self) -> Option<Target> {
        None
    }
}

impl OutgoingRequest for request::Parts {
    #[inline]
    fn headers_mut(&mut self) -> &mut HeaderMap {
        &mut self.headers
    }

    fn target(&self) -> Option<Target> {
        Some(Target {
            method: self.method.clone(),
            uri: self.uri.to_string(),
        })
    }
}

impl<B> OutgoingRequest for Request<B> {
    #[inline]
    fn headers_mut(&mut self) -> &mut HeaderMap {
        self.headers_mut()
    }

    fn target(&self) -> Option<Target> {
        Some(Target {
            method: self.method().clone(),
            uri: self.uri().to_string(),
        })
    }
}

#[cfg(feature = "reqwest")]
impl OutgoingRequest for reqwest::Request {
    #[inline]
    fn headers_mut(&mut self) -> &mut HeaderMap {
        self.headers_mut()
    }

    fn target(&self) -> Option<Target> {
        Some(Target {
            method: self.method().clone(),
            uri: self.url().to_string(),
        })
    }
}

/// Sets the `Authorization` header of a request for a token that needs no proof. Returns `false`,
/// and leaves the request unchanged, for another token.
#[inline]
pub(super) fn attach_without_proof(
    token: &AccessToken,
    request: &mut impl OutgoingRequest,
) -> bool {
    let is_attachable = matches!(token.scheme(), TokenScheme::Bearer | TokenScheme::MtlsPop);
    if is_attachable {
        let headers = request.headers_mut();
        headers.insert(AUTHORIZATION, token.authorization_header());
    }
    is_attachable
}

/// Attaches a token that needs no proof. Returns the method and the URI for the proof of another
/// token, and leaves the request unchanged.
pub(crate) fn attach_or_target(
    token: &AccessToken,
    request: &mut impl OutgoingRequest,
) -> Result<Option<Target>, Error> {
    if attach_without_proof(token, request) {
        return Ok(None);
    }
    check_attachable(token)?;
    let target = request.target().ok_or_else(|| {
        Error::config(
            "the token is bound to a proof key, and the headers of a request are not enough for a proof; pass the http::Request or its http::request::Parts to authorize(..)",
        )
    })?;
    Ok(Some(target))
}

/// Sets the headers of a request for a token with a proof.
pub(crate) fn attach_with_proof(
    token: &AccessToken,
    proof: Proof,
    request: &mut impl OutgoingRequest,
) {
    let headers = request.headers_mut();
    headers.insert(PROOF, proof.header);
    headers.insert(AUTHORIZATION, token.authorization_header());
}

impl TokenAcquirer {
    /// Sets the `Authorization` header of a request, and the proof of a token that needs one.
    ///
    /// On an error, the request is unchanged.
    pub(super) async fn authorize(
        &self,
        token: &AccessToken,
        request: &mut impl OutgoingRequest,
    ) -> Result<(), Error> {
        if let Some(Target { method, uri }) = attach_or_target(token, request)? {
            let proof = self.prove(token, &method, &uri).await?;
            attach_with_proof(token, proof, request);
        }
        Ok(())
    }

    /// Makes the proof of a request to an API.
    pub(crate) async fn prove(
        &self,
        token: &AccessToken,
        method: &Method,
        uri: &str,
    ) -> Result<Proof, Error> {
        let proofs = self.proofs().ok_or_else(|| {
            Error::config(
                "the access token is bound to a proof key, and this client has none; authorize the request with the client that acquired the token",
            )
        })?;
        proofs.prove(method, uri, Some(token)).await
    }

    /// Stores the nonce of an API's response for the next proofs.
    ///
    /// Returns whether the response rejects a proof and another proof may be accepted.
    pub(super) fn record_nonce(&self, uri: &str, headers: &HeaderMap) -> bool {
        let Some(proofs) = self.proofs() else {
            return false;
        };
        proofs.record(uri, headers)
    }
}

/// Checks that a token is for an `Authorization` header. A token exchange may issue another token.
pub(crate) fn check_attachable(token: &AccessToken) -> Result<(), Error> {
    if token.scheme() != TokenScheme::NotApplicable {
        return Ok(());
    }
    let issued = match token.issued_token_type() {
        Some(issued) => format!(
            " and issued_token_type is {:?}",
            Escaped(issued).to_string()
        ),
        None => String::new(),
    };
    Err(Error::config(format!(
        "the token of the token exchange is not for an API call: its token_type is N_A{issued}; use token.secret() for the purpose of that token, or exchange for TokenTypeIdentifier::ACCESS_TOKEN"
    )))
}
