use std::time::{Duration, SystemTime};

use serde_json::{Map, Value};

use super::error::JwtError;
use super::{IssuerKeys, SignedJwt};

/// What a token has to say of itself.
pub(crate) struct Expected<'a> {
    /// Any of them.
    pub(crate) audiences: &'a [String],
    pub(crate) now: SystemTime,
    /// How far the clocks may be apart.
    pub(crate) leeway: Duration,
}

impl SignedJwt<'_> {
    /// Verifies and checks an ID token ([OpenID Connect Core section 3.1.3.7]), and gives its
    /// claims. The nonce is left to the caller, who knows it.
    ///
    /// [OpenID Connect Core section 3.1.3.7]: https://openid.net/specs/openid-connect-core-1_0.html#IDTokenValidation
    pub(crate) fn id_token(
        &self,
        keys: &IssuerKeys,
        client_id: &str,
        now: SystemTime,
        leeway: Duration,
    ) -> Result<Map<String, Value>, JwtError> {
        if self.is_access_token() {
            return Err(JwtError::Type("at+jwt".into()));
        }
        let expected = Expected {
            audiences: &[client_id.to_owned()],
            now,
            leeway,
        };
        let claims = self.checked(keys, &expected, false)?;
        let is_for_others = claims
            .get("aud")
            .and_then(Value::as_array)
            .is_some_and(|audiences| audiences.len() > 1);
        match text(&claims, "azp")? {
            Some(party) if party != client_id => Err(JwtError::AuthorizedParty(party.into())),
            None if is_for_others => Err(JwtError::Claim("azp")),
            _ => Ok(claims),
        }
    }

    /// Verifies and checks an access token, and gives its claims; that it is one is left to the
    /// caller.
    pub(crate) fn access_token(
        &self,
        keys: &IssuerKeys,
        expected: &Expected<'_>,
    ) -> Result<Map<String, Value>, JwtError> {
        self.checked(keys, expected, true)
    }

    fn checked(
        &self,
        keys: &IssuerKeys,
        expected: &Expected<'_>,
        is_access_token: bool,
    ) -> Result<Map<String, Value>, JwtError> {
        let key = self.verify(keys)?;
        let claims = self.claims()?;
        let issuer = text(&claims, "iss")?.ok_or(JwtError::Claim("iss"))?;
        keys.check(issuer, text(&claims, "tid")?, key, is_access_token)?;
        expected.check_audience(&claims)?;
        expected.check_times(&claims)?;
        Ok(claims)
    }
}

impl Expected<'_> {
    /// `aud`, one or several ([RFC 7519 section 4.1.3]).
    ///
    /// [RFC 7519 section 4.1.3]: https://www.rfc-editor.org/rfc/rfc7519#section-4.1.3
    fn check_audience(&self, claims: &Map<String, Value>) -> Result<(), JwtError> {
        let found: Vec<&str> = match claims.get("aud") {
            Some(Value::String(audience)) => vec![audience],
            Some(Value::Array(audiences)) => audiences
                .iter()
                .map(Value::as_str)
                .collect::<Option<_>>()
                .ok_or(JwtError::Claim("aud"))?,
            _ => return Err(JwtError::Claim("aud")),
        };
        let is_ours = |audience: &&str| self.audiences.iter().any(|own| own == audience);
        if found.iter().any(is_ours) {
            return Ok(());
        }
        match found.iter().any(|audience| GRAPH.contains(audience)) {
            true => Err(JwtError::ForGraph),
            false => Err(JwtError::Audience(found.join("', '").into())),
        }
    }

    fn check_times(&self, claims: &Map<String, Value>) -> Result<(), JwtError> {
        let end = time(claims, "exp")?.ok_or(JwtError::Claim("exp"))?;
        let last = end.checked_add(self.leeway).ok_or(JwtError::Claim("exp"))?;
        if self.now >= last {
            return Err(JwtError::Expired);
        }
        let start = time(claims, "nbf")?;
        match start.and_then(|start| start.duration_since(self.now).ok()) {
            Some(wait) if wait > self.leeway => Err(JwtError::NotYetValid),
            _ => Ok(()),
        }
    }
}

/// A claim that is text, if it is there.
pub(crate) fn text<'a>(
    claims: &'a Map<String, Value>,
    name: &'static str,
) -> Result<Option<&'a str>, JwtError> {
    match claims.get(name) {
        None => Ok(None),
        Some(Value::String(text)) => Ok(Some(text)),
        Some(_) => Err(JwtError::Claim(name)),
    }
}

/// A claim that is a time ([RFC 7519 section 2], NumericDate), if it is there.
///
/// [RFC 7519 section 2]: https://www.rfc-editor.org/rfc/rfc7519#section-2
pub(crate) fn time(
    claims: &Map<String, Value>,
    name: &'static str,
) -> Result<Option<SystemTime>, JwtError> {
    let Some(value) = claims.get(name) else {
        return Ok(None);
    };
    let since = match (value.as_u64(), value.as_f64()) {
        (Some(seconds), _) => Some(Duration::from_secs(seconds)),
        (None, Some(seconds)) => Duration::try_from_secs_f64(seconds).ok(),
        (None, None) => None,
    };
    let time = since.and_then(|since| SystemTime::UNIX_EPOCH.checked_add(since));
    time.map(Some).ok_or(JwtError::Claim(name))
}

/// Microsoft Graph, by its id and its names.
const GRAPH: [&str; 3] = [
    "00000003-0000-0000-c000-000000000000",
    "https://graph.microsoft.com",
    "https://graph.microsoft.com/",
];
