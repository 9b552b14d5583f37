#![warn(clippy::arithmetic_side_effects, reason = "it parses untrusted input")]

use std::time::{Duration, SystemTime};

use serde_json::{Map, Value};

use super::account::invalid_id_token;
use crate::error::{Error, Escaped};
use crate::jwt::time_claim;

/// The checks of an ID token's claims beyond those of a JWT ([OpenID Connect Core section
/// 3.1.3.7]).
///
/// [OpenID Connect Core section 3.1.3.7]: https://openid.net/specs/openid-connect-core-1_0.html#IDTokenValidation
pub(crate) struct IdTokenRules<'a> {
    pub(crate) client_id: &'a str,
    /// Audiences besides the client ID that the caller trusts.
    pub(crate) trusted_audiences: &'a [String],
    /// The longest time since the user authenticated, if the sign-in set a limit.
    pub(crate) max_age: Option<Duration>,
    pub(crate) now: SystemTime,
    /// Allowed difference between the clocks.
    pub(crate) leeway: Duration,
}

impl IdTokenRules<'_> {
    pub(crate) fn check(&self, claims: &Map<String, Value>) -> Result<(), Error> {
        self.check_audiences(claims)?;
        if let Ok(None) | Err(_) = time_claim(claims, "iat") {
            return Err(invalid_id_token(
                "it has no 'iat' that is a time, and every ID token has one",
            ));
        }
        match self.max_age {
            Some(max_age) => self.check_authentication(claims, max_age),
            None => Ok(()),
        }
    }

    /// Rejects an ID token that is also for an audience that the client does not trust.
    fn check_audiences(&self, claims: &Map<String, Value>) -> Result<(), Error> {
        let Some(Value::Array(audiences)) = claims.get("aud") else {
            return Ok(());
        };
        let is_trusted = |audience: &str| {
            audience == self.client_id || self.trusted_audiences.iter().any(|one| one == audience)
        };
        let audiences = audiences.iter().map(Value::as_str);
        for audience in audiences {
            let audience = audience.unwrap_or("(no text)");
            if !is_trusted(audience) {
                return Err(invalid_id_token(&format!(
                    "it is also for the audience '{}', which is not trusted here; add the audience with id_token_audiences(..) of the client's builder if it is trusted",
                    truncated(audience)
                )));
            }
        }
        Ok(())
    }

    fn check_authentication(
        &self,
        claims: &Map<String, Value>,
        max_age: Duration,
    ) -> Result<(), Error> {
        let Ok(Some(authenticated)) = time_claim(claims, "auth_time") else {
            return Err(invalid_id_token(
                "it has no 'auth_time' that is a time, and the sign-in set max_age(..); at Microsoft Entra ID, add the optional claim auth_time to the ID tokens of the app registration",
            ));
        };
        let seconds = max_age.as_secs();
        match self.now.duration_since(authenticated) {
            Ok(age) if age > max_age.saturating_add(self.leeway) => {
                Err(invalid_id_token(&format!(
                    "the user authenticated {} s ago, and max_age(..) of the sign-in is {seconds} s; start the sign-in again",
                    age.as_secs()
                )))
            }
            Err(ahead) if ahead.duration() > self.leeway => Err(invalid_id_token(
                "its 'auth_time' is in the future; check this machine's clock",
            )),
            Ok(_) | Err(_) => Ok(()),
        }
    }
}

fn truncated(text: &str) -> String {
    Escaped(text).to_string().chars().take(200).collect()
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    const NOW: u64 = 1_800_000_000;
    const HOUR: Duration = Duration::from_secs(3600);

    /// OpenID Connect Core sections 2 and 3.1.3.7.
    #[test]
    fn an_id_token_that_core_rejects_is_rejected() {
        let claims = |aud: Value, iat: Value, auth_time: Value| {
            let mut claims = json!({ "aud": aud, "iat": iat, "auth_time": auth_time });
            let members = claims.as_object_mut().unwrap();
            members.retain(|_, value| *value != json!("absent"));
            claims
        };
        let (aud, iat) = (json!("client"), json!(NOW));
        let absent = json!("absent");
        for (claims, max_age, expected) in [
            (claims(aud.clone(), iat.clone(), absent.clone()), None, None),
            (
                claims(json!(["client"]), iat.clone(), absent.clone()),
                None,
                None,
            ),
            (
                claims(json!(["client", "trusted"]), iat.clone(), absent.clone()),
                None,
                None,
            ),
            (
                claims(json!(["client", "b\n"]), iat.clone(), absent.clone()),
                None,
                Some("audience 'b "),
            ),
            (
                claims(json!(["b", "client"]), iat.clone(), absent.clone()),
                None,
                Some("audience 'b'"),
            ),
            (
                claims(json!(["client", "Client"]), iat.clone(), absent.clone()),
                None,
                Some("'Client'"),
            ),
            (
                claims(json!(["client", 7]), iat.clone(), absent.clone()),
                None,
                Some("no text"),
            ),
            (
                claims(aud.clone(), absent.clone(), absent.clone()),
                None,
                Some("no 'iat'"),
            ),
            (
                claims(aud.clone(), json!("now"), absent.clone()),
                None,
                Some("no 'iat'"),
            ),
            (
                claims(aud.clone(), Value::Null, absent.clone()),
                None,
                Some("no 'iat'"),
            ),
            // Without a limit the claim says nothing.
            (claims(aud.clone(), iat.clone(), json!(0)), None, None),
            (claims(aud.clone(), iat.clone(), json!("then")), None, None),
            (
                claims(aud.clone(), iat.clone(), absent),
                Some(HOUR),
                Some("no 'auth_time'"),
            ),
            (
                claims(aud.clone(), iat.clone(), json!("then")),
                Some(HOUR),
                Some("no 'auth_time'"),
            ),
            (
                claims(aud.clone(), iat.clone(), Value::Null),
                Some(HOUR),
                Some("no 'auth_time'"),
            ),
            (
                claims(aud.clone(), iat.clone(), json!(NOW)),
                Some(HOUR),
                None,
            ),
            (
                claims(aud.clone(), iat.clone(), json!(NOW - 3900)),
                Some(HOUR),
                None,
            ),
            (
                claims(aud.clone(), iat.clone(), json!(NOW - 3901)),
                Some(HOUR),
                Some("3901 s ago"),
            ),
            (
                claims(aud.clone(), iat.clone(), json!(0)),
                Some(HOUR),
                Some("3600 s"),
            ),
            (
                claims(aud.clone(), iat.clone(), json!(NOW - 300)),
                Some(Duration::ZERO),
                None,
            ),
            (
                claims(aud.clone(), iat.clone(), json!(NOW - 301)),
                Some(Duration::ZERO),
                Some("0 s"),
            ),
            (
                claims(aud.clone(), iat.clone(), json!(NOW + 300)),
                Some(HOUR),
                None,
            ),
            (
                claims(aud.clone(), iat.clone(), json!(NOW + 301)),
                Some(HOUR),
                Some("future"),
            ),
            (claims(aud, iat, json!(0)), Some(Duration::MAX), None),
        ] {
            let rules = IdTokenRules {
                client_id: "client",
                trusted_audiences: &["trusted".to_owned()],
                max_age,
                now: SystemTime::UNIX_EPOCH + Duration::from_secs(NOW),
                leeway: Duration::from_secs(300),
            };
            let outcome = rules.check(claims.as_object().unwrap());
            match (outcome, expected) {
                (Ok(()), None) => {}
                (Err(error), Some(text)) => {
                    assert!(error.to_string().contains(text), "{claims}: {error}");
                }
                (outcome, _) => panic!("{claims} {max_age:?}: {outcome:?}"),
            }
        }
    }
}
