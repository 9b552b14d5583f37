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

/// The access token that a user's client called an API with: what the API acts on behalf of the user
/// by, with [`acquire_token_on_behalf_of`].
///
/// Cheap to clone. It is not validated here: an API first checks the token that it was called with,
/// as with `resource::TokenValidator`, and the identity provider checks it again. Tokens are
/// cached under its SHA-256, which is computed once, when it is made; the assertion itself is kept
/// by nobody but this value.
///
/// [`acquire_token_on_behalf_of`]: crate::ConfidentialClient::acquire_token_on_behalf_of
#[derive(Clone)]
pub struct UserAssertion(Arc<AssertionParts>);

struct AssertionParts {
    assertion: Secret,
    user: Arc<UserKey>,
    looked_at: OnceLock<UnverifiedClaims>,
}

/// What can be seen of it without its key.
struct UnverifiedClaims {
    fits: Result<(), Error>,
    tenant: Option<Tenant>,
}

#[derive(Default, Deserialize)]
struct AssertionClaims {
    tid: Option<String>,
    idtyp: Option<String>,
    scp: Option<serde_json::Value>,
    roles: Option<serde_json::Value>,
}

impl UserAssertion {
    /// The token alone, without `Bearer` before it. It is looked at when it is used.
    pub fn new(token: impl Into<Secret>) -> Self {
        let assertion = token.into();
        let hash = Sha256::digest(assertion.expose().as_bytes());
        Self(Arc::new(AssertionParts {
            user: Arc::new(UserKey::Assertion(hash.into())),
            assertion,
            looked_at: OnceLock::new(),
        }))
    }

    pub(crate) fn secret(&self) -> &Secret {
        &self.0.assertion
    }

    pub(crate) fn user(&self) -> &Arc<UserKey> {
        &self.0.user
    }

    /// Where the user signed in; unknown where the token cannot be read.
    pub(crate) fn tenant(&self) -> Option<&Tenant> {
        self.looked_at().tenant.as_ref()
    }

    /// Refuses what is plainly no user's token. What cannot be read is the provider's to judge.
    pub(crate) fn check(&self) -> Result<(), Error> {
        self.looked_at().fits.clone()
    }

    fn looked_at(&self) -> &UnverifiedClaims {
        self.0.looked_at.get_or_init(|| {
            let token = self.0.assertion.expose();
            let claims = read(token).unwrap_or_default();
            UnverifiedClaims {
                fits: fits(token, &claims),
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

fn fits(token: &str, claims: &AssertionClaims) -> Result<(), Error> {
    if token.trim().is_empty() {
        return Err(Error::config(
            "the user assertion is empty; give the access token that the API was called with",
        ));
    }
    if token.contains(char::is_whitespace) {
        return Err(Error::config(
            "the user assertion holds white space; give the access token alone, without 'Bearer' before it",
        ));
    }
    let is_of_an_application = match claims.idtyp.as_deref() {
        Some(idtyp) => idtyp == "app",
        None => claims.scp.is_none() && claims.roles.is_some(),
    };
    if is_of_an_application {
        return Err(Error::config(
            "the user assertion is an application's own token, and there is no user to act on behalf of; let the application call the other API by acquire_token_for_client(..)",
        ));
    }
    Ok(())
}

fn read(token: &str) -> Option<AssertionClaims> {
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
    fn what_is_plainly_no_users_is_refused() {
        for (name, claims, fits) in [
            ("a user's", r#"{"scp":"Files.Read","idtyp":"user"}"#, true),
            (
                "a user's with roles",
                r#"{"scp":"Files.Read","roles":["Reader"]}"#,
                true,
            ),
            ("an application's", r#"{"idtyp":"app","roles":[]}"#, false),
            (
                "an application's by its roles",
                r#"{"roles":["Files.Read.All"]}"#,
                false,
            ),
            ("nobody can tell", r#"{"sub":"x"}"#, true),
            ("of another shape", r#"["scp"]"#, true),
        ] {
            let checked = assertion(claims).check();
            assert_eq!(checked.is_ok(), fits, "{name}");
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
    fn the_tenant_is_where_the_user_signed_in() {
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
    fn it_is_known_by_its_hash_and_hidden() {
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
