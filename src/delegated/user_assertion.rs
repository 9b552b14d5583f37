use std::fmt;
use std::sync::{Arc, OnceLock};

use base64::Engine;
use base64::prelude::BASE64_URL_SAFE_NO_PAD;
use serde::Deserialize;
use sha2::{Digest, Sha256};

use crate::authority::Tenant;
use crate::error::Error;
use crate::secret::Secret;
use crate::token::UserKey;

/// The access token that an API received from a user's client, for [`acquire_token_on_behalf_of`].
///
/// A `UserAssertion` is cheap to clone. The client does not validate the token. The API must
/// validate the token first, for example with [`TokenValidator`](crate::resource::TokenValidator).
/// The identity provider validates the token again.
///
/// The cache key of the user's tokens is the SHA-256 of the assertion, computed once by
/// [`new`](Self::new). The cache does not store the assertion.
///
/// [`acquire_token_on_behalf_of`]: crate::ConfidentialClient::acquire_token_on_behalf_of
#[doc(alias = "OnBehalfOf")]
#[doc(alias = "OnBehalfOfCredential")]
#[doc(alias = "AcquireTokenOnBehalfOf")]
#[doc(alias = "user_assertion")]
#[derive(Clone)]
pub struct UserAssertion(Arc<AssertionParts>);

/// The assertion, with the cache key and the lazily parsed claims.
struct AssertionParts {
    assertion: Secret,
    user: Arc<UserKey>,
    unverified: OnceLock<UnverifiedClaims>,
}

/// The facts that the client reads from the assertion without verifying the signature.
struct UnverifiedClaims {
    check: Result<(), Error>,
    tenant: Option<Tenant>,
}

/// The claims that the client reads from the assertion.
#[derive(Default, Deserialize)]
struct UserTokenClaims {
    tid: Option<String>,
    idtyp: Option<String>,
    scp: Option<serde_json::Value>,
    /// The scopes of an OpenID provider.
    scope: Option<serde_json::Value>,
    roles: Option<serde_json::Value>,
}

impl UserAssertion {
    /// Creates an assertion from the token without the prefix `Bearer`.
    ///
    /// The token is checked when a call uses the assertion.
    pub fn new(token: impl Into<Secret>) -> Self {
        let assertion = token.into();
        let hash = Sha256::digest(assertion.expose().as_bytes());
        Self(Arc::new(AssertionParts {
            user: Arc::new(UserKey::Assertion(hash.into())),
            assertion,
            unverified: OnceLock::new(),
        }))
    }

    pub(crate) fn secret(&self) -> &Secret {
        &self.0.assertion
    }

    pub(crate) fn user(&self) -> &Arc<UserKey> {
        &self.0.user
    }

    /// Returns the tenant of the user's sign-in, or `None` if the token cannot be parsed.
    pub(crate) fn tenant(&self) -> Option<&Tenant> {
        self.unverified_claims().tenant.as_ref()
    }

    /// Rejects an application token and text that is no token.
    ///
    /// The identity provider judges a token that cannot be parsed.
    pub(crate) fn check(&self) -> Result<(), Error> {
        self.unverified_claims().check.clone()
    }

    fn unverified_claims(&self) -> &UnverifiedClaims {
        self.0.unverified.get_or_init(|| {
            let token = self.0.assertion.expose();
            let claims = parse_claims(token).unwrap_or_default();
            UnverifiedClaims {
                check: check(token, &claims),
                tenant: claims.tid.and_then(|tid| Tenant::parse(&tid).ok()),
            }
        })
    }
}

impl fmt::Debug for UserAssertion {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("UserAssertion([redacted])")
    }
}

/// Returns `true` if the text contains white space, even outside ASCII.
fn has_white_space(text: &str) -> bool {
    // Without an early exit, so that the compiler can vectorise the loop.
    let has_ascii = text.bytes().fold(false, |has, byte| {
        has | matches!(byte, b'\t'..=b'\r' | b' ')
    });
    has_ascii || (!text.is_ascii() && text.contains(char::is_whitespace))
}

/// Rejects an application token and text that is no token.
fn check(token: &str, claims: &UserTokenClaims) -> Result<(), Error> {
    if token.trim().is_empty() {
        return Err(Error::config(
            "the user assertion is empty; pass the access token that the API received",
        ));
    }
    if has_white_space(token) {
        return Err(Error::config(
            "the user assertion contains white space; pass the access token alone, without 'Bearer' before the token",
        ));
    }
    let is_application_token = match claims.idtyp.as_deref() {
        Some(idtyp) => idtyp == "app",
        None => claims.scp.is_none() && claims.scope.is_none() && claims.roles.is_some(),
    };
    if is_application_token {
        return Err(Error::config(
            "the user assertion is an application token, which has no user; to call the other API as an application, use acquire_token_for_client(..)",
        ));
    }
    Ok(())
}

/// Decodes the payload of a JWT. Returns `None` for any other token.
fn parse_claims(token: &str) -> Option<UserTokenClaims> {
    let payload = token.split('.').nth(1)?;
    let json = BASE64_URL_SAFE_NO_PAD.decode(payload).ok()?;
    serde_json::from_slice(&json).ok()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn assertion(claims: &str) -> UserAssertion {
        let claims = BASE64_URL_SAFE_NO_PAD.encode(claims);
        UserAssertion::new(format!("eyJhbGciOiJSUzI1NiJ9.{claims}.c2ln"))
    }

    #[test]
    fn application_tokens_and_text_that_is_no_token_are_rejected() {
        for (name, claims, is_accepted) in [
            ("a user's", r#"{"scp":"Files.Read","idtyp":"user"}"#, true),
            (
                "a user's with roles",
                r#"{"scp":"Files.Read","roles":["Reader"]}"#,
                true,
            ),
            (
                "a user's with roles, of an OpenID provider",
                r#"{"sub":"adele","scope":"files.read","roles":["Reader"]}"#,
                true,
            ),
            ("an application's", r#"{"idtyp":"app","roles":[]}"#, false),
            (
                "an application's by its roles",
                r#"{"roles":["Files.Read.All"]}"#,
                false,
            ),
            ("neither scopes nor roles", r#"{"sub":"x"}"#, true),
            ("claims that are no object", r#"["scp"]"#, true),
        ] {
            let checked = assertion(claims).check();
            assert_eq!(checked.is_ok(), is_accepted, "{name}");
            if let Err(error) = checked {
                assert!(
                    error.to_string().contains("acquire_token_for_client"),
                    "{error}"
                );
            }
        }
        UserAssertion::new("opaque").check().unwrap();
        for (token, text) in [
            ("", "is empty"),
            (" \n", "is empty"),
            ("Bearer eyJ", "without 'Bearer'"),
            ("eyJ\n", "white space"),
        ] {
            let error = UserAssertion::new(token).check().unwrap_err();
            assert!(error.to_string().contains(text), "{token:?}: {error}");
        }
    }

    #[test]
    fn every_white_space_is_found() {
        for character in '\0'..=char::MAX {
            let text = format!("a{character}b");
            let found = has_white_space(&text);
            assert_eq!(found, character.is_whitespace(), "{character:?}");
        }
    }

    #[test]
    fn the_tenant_is_the_tenant_of_the_sign_in() {
        let tid = assertion(r#"{"scp":"x","tid":"72f988bf-86f1-41af-91ab-2d7cd011db47"}"#);
        assert_eq!(
            tid.tenant().unwrap().as_str(),
            "72f988bf-86f1-41af-91ab-2d7cd011db47"
        );
        assert!(
            assertion(r#"{"scp":"x","tid":"../evil"}"#)
                .tenant()
                .is_none()
        );
    }

    #[test]
    fn the_key_is_the_hash_and_debug_hides_the_token() {
        let one = UserAssertion::new("abc");
        assert_eq!(one.user(), UserAssertion::new("abc").user());
        assert_ne!(one.user(), UserAssertion::new("abd").user());
        // The example of FIPS 180-2.
        let UserKey::Assertion(hash) = &**one.user() else {
            panic!()
        };
        assert_eq!(hash[..4], [0xba, 0x78, 0x16, 0xbf]);
        assert!(!format!("{one:?}{:?}", one.user()).contains("abc"));
    }
}
