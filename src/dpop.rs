//! Proofs of possession by DPoP ([RFC 9449]): making a proof and checking a proof.
//!
//! The code does no I/O and reads no clock. `now` is an argument.
//!
//! # Making a proof
//!
//! 1. [`PublicJwk::of_key`] makes the JSON Web Key of a public key, once for each key.
//!    [`PublicJwk::thumbprint`] names the key.
//! 2. [`ProofHeader::new`] serializes the header, once for each key.
//! 3. [`TargetUri::of`] normalizes the URI of a request, and [`TokenHash`] hashes the token.
//! 4. [`ProofHeader::unsigned`] returns the [`UnsignedJwt`] to sign. The value of the header
//!    [`PROOF`] is [`UnsignedJwt::signed`].
//!
//! # Checking a proof
//!
//! 1. [`proof_of`] returns the only proof in the headers of a request.
//! 2. [`ExpectedProof::check`] does every other check of [RFC 9449 section 4.3], and returns a
//!    [`CheckedProof`].
//! 3. The caller rejects a proof whose [`CheckedProof::replay_key`] was seen before, until
//!    [`CheckedProof::valid_until`].
//!
//! [`TokenHash`]: crate::token::TokenHash
//! [`UnsignedJwt`]: crate::jwt::UnsignedJwt
//! [`UnsignedJwt::signed`]: crate::jwt::UnsignedJwt::signed
//! [RFC 9449]: https://www.rfc-editor.org/rfc/rfc9449
//! [RFC 9449 section 4.3]: https://www.rfc-editor.org/rfc/rfc9449#section-4.3
#![warn(clippy::arithmetic_side_effects, reason = "the input is untrusted")]

use http::HeaderName;

mod check;
mod error;
mod header;
mod jwk;
mod target_uri;

pub(crate) use check::{CheckedProof, ExpectedProof, proof_of};
pub(crate) use error::ProofError;
pub(crate) use header::{ProofClaims, ProofHeader};
pub(crate) use jwk::PublicJwk;
pub(crate) use target_uri::TargetUri;

/// The header that carries a proof ([RFC 9449 section 4.1]).
///
/// [RFC 9449 section 4.1]: https://www.rfc-editor.org/rfc/rfc9449#section-4.1
pub(crate) const PROOF: HeaderName = HeaderName::from_static("dpop");
/// The header of a response that carries a nonce ([RFC 9449 section 8]).
///
/// [RFC 9449 section 8]: https://www.rfc-editor.org/rfc/rfc9449#section-8
pub(crate) const NONCE: HeaderName = HeaderName::from_static("dpop-nonce");
/// The value of `typ` in the header of a proof.
const PROOF_TYPE: &str = "dpop+jwt";

#[cfg(test)]
mod tests;
