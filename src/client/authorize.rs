use http::header::AUTHORIZATION;
use http::{HeaderMap, Method, Request, request};

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
        fn target(&self) -> Option<Target<'_>>;
    }
}

use sealed::OutgoingRequest;

/// The method and the URI of a request, which a proof names.
#[allow(dead_code, reason = "proofs are not made yet")]
#[derive(Debug)]
pub struct Target<'a> {
    pub(crate) method: &'a Method,
    pub(crate) uri: String,
}

impl OutgoingRequest for HeaderMap {
    #[inline]
    fn headers_mut(&mut self) -> &mut HeaderMap {
        self
    }

    fn target(&self) -> Option<Target<'_>> {
        None
    }
}

impl OutgoingRequest for request::Parts {
    #[inline]
    fn headers_mut(&mut self) -> &mut HeaderMap {
        &mut self.headers
    }

    fn target(&self) -> Option<Target<'_>> {
        Some(Target {
            method: &self.method,
            uri: self.uri.to_string(),
        })
    }
}

impl<B> OutgoingRequest for Request<B> {
    #[inline]
    fn headers_mut(&mut self) -> &mut HeaderMap {
        self.headers_mut()
    }

    fn target(&self) -> Option<Target<'_>> {
        Some(Target {
            method: self.method(),
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

    fn target(&self) -> Option<Target<'_>> {
        Some(Target {
            method: self.method(),
            uri: self.url().to_string(),
        })
    }
}

/// Sets the `Authorization` header of a request. On an error, the request is unchanged.
pub(super) fn attach(token: &AccessToken, request: &mut impl OutgoingRequest) -> Result<(), Error> {
    match token.scheme() {
        TokenScheme::Bearer | TokenScheme::MtlsPop => {
            let headers = request.headers_mut();
            headers.insert(AUTHORIZATION, token.authorization_header());
            Ok(())
        }
        TokenScheme::NotApplicable => Err(not_attachable(token)),
        TokenScheme::Dpop => {
            let target = request.target();
            let _target = target.ok_or_else(|| {
                Error::config(
                    "the token is bound to a proof key, and the headers of a request are not enough for a proof; pass the http::Request or its http::request::Parts to authorize(..)",
                )
            })?;
            Err(Error::config("proofs are not made yet"))
        }
    }
}

/// Returns the error for a token that is not for an `Authorization` header.
fn not_attachable(token: &AccessToken) -> Error {
    let issued = match token.issued_token_type() {
        Some(issued) => format!(
            " and issued_token_type is {:?}",
            Escaped(issued).to_string()
        ),
        None => String::new(),
    };
    Error::config(format!(
        "the token of the token exchange is not for an API call: its token_type is N_A{issued}; use token.secret() for the purpose of that token, or exchange for TokenTypeIdentifier::ACCESS_TOKEN"
    ))
}
