use serde_json::{Map, Value};

use super::client::AuthenticatedClient;
use super::issuer::TokenIssuer;
use super::jwt::ReceivedJwt;
use crate::testing::provider::lock;
use crate::time::unix_seconds;

/// An access token of this authority that a client presents, to exchange or to introspect.
pub(crate) struct ReceivedToken {
    pub(crate) claims: Map<String, Value>,
}

impl ReceivedToken {
    /// Checks a token: the signature or the record of an opaque token, the issuer, the expiry and
    /// the revocation. Returns the reason for a rejection.
    pub(crate) fn check(
        token: &str,
        client: &AuthenticatedClient<'_>,
        issuer: &TokenIssuer<'_>,
    ) -> Result<Self, &'static str> {
        let issued = lock(issuer.issued);
        let claims = match issued.claims_of(token) {
            Some(claims) => claims.clone(),
            None => {
                let jwt = ReceivedJwt::<Map<String, Value>>::parse(token);
                let jwt = jwt.ok_or("it is unknown")?;
                match issuer.verifies(&jwt) {
                    true => jwt.claims,
                    false => return Err("its signature is invalid"),
                }
            }
        };
        let received = Self { claims };
        let directory = client.directory;
        let issuers = [
            directory.issuer(issuer.base),
            format!("{}/{}/", issuer.base, directory.id),
        ];
        let exp = received.claims.get("exp").and_then(Value::as_u64);
        match () {
            () if !received
                .text("iss")
                .is_some_and(|iss| issuers.iter().any(|own| own == iss)) =>
            {
                Err("it was issued in another tenant")
            }
            () if exp.is_none_or(|exp| exp <= unix_seconds(issuer.now)) => Err("it is expired"),
            () if issued.is_revoked(token) => Err("it was revoked"),
            () if received.client_id().is_none() => Err("it is no access token"),
            () => Ok(received),
        }
    }

    pub(crate) fn text(&self, name: &str) -> Option<&str> {
        self.claims.get(name)?.as_str()
    }

    /// Returns the client that the token was issued to.
    pub(crate) fn client_id(&self) -> Option<&str> {
        self.text("azp").or_else(|| self.text("appid"))
    }

    /// Returns whether the client is the API that the token is for.
    pub(crate) fn is_for(&self, client: &AuthenticatedClient<'_>) -> bool {
        let audience = self.text("aud");
        audience.is_some_and(|audience| client.application.is_resource(audience))
    }
}
