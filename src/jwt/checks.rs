use std::time::{Duration, SystemTime};

use serde_json::{Map, Value};

use super::claims_set::ClaimsSet;
use super::error::{Compared, ComparedTime, JwtError};
use super::{IssuerKeys, SignedJwt};

/// The expected audience and time of a token.
pub(crate) struct Expected<'a> {
    /// Accepted audiences. One of them is enough.
    pub(crate) audiences: &'a [String],
    pub(crate) now: SystemTime,
    /// Allowed difference between the clocks.
    pub(crate) leeway: Duration,
}

impl SignedJwt<'_> {
    /// Validates an ID token and returns its claims ([OpenID Connect Core section 3.1.3.7]).
    ///
    /// The caller compares the nonce.
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
        self.validate(keys, &expected, false)?;
        let claims = self.decode_claims()?;
        let has_several_audiences = claims
            .get("aud")
            .and_then(Value::as_array)
            .is_some_and(|audiences| audiences.len() > 1);
        let party = match claims.get("azp") {
            None => None,
            Some(party) => Some(party.as_str().ok_or(JwtError::Claim("azp"))?),
        };
        match party {
            Some(party) if party != client_id => Err(JwtError::AuthorizedParty(party.into())),
            None if has_several_audiences => Err(JwtError::Claim("azp")),
            _ => Ok(claims),
        }
    }

    /// Validates a token as an access token and returns its claims.
    ///
    /// The caller checks that the token is not an ID token.
    pub(crate) fn access_token(
        &self,
        keys: &IssuerKeys,
        expected: &Expected<'_>,
    ) -> Result<ClaimsSet, JwtError> {
        self.validate(keys, expected, true)
    }

    fn validate(
        &self,
        keys: &IssuerKeys,
        expected: &Expected<'_>,
        is_access_token: bool,
    ) -> Result<ClaimsSet, JwtError> {
        let key = self.verify(keys)?;
        let claims = self.parse_claims(ClaimsSet::parse)?;
        let iss = string_claim(&claims, "iss")?.ok_or(JwtError::Claim("iss"))?;
        // Elsewhere a claim of this name can be anything.
        let tid = match keys.has_tenants() {
            true => string_claim(&claims, "tid")?,
            false => None,
        };
        keys.check_issuer(iss, tid, key, is_access_token)?;
        expected.check_audience(&claims)?;
        expected.check_times(&claims)?;
        Ok(claims)
    }
}

impl Expected<'_> {
    /// Checks `aud`, which is a string or an array of strings ([RFC 7519 section 4.1.3]).
    ///
    /// [RFC 7519 section 4.1.3]: https://www.rfc-editor.org/rfc/rfc7519#section-4.1.3
    fn check_audience(&self, claims: &ClaimsSet) -> Result<(), JwtError> {
        let claim = claims.get("aud").filter(|claim| claim.has_only_strings());
        let found = claim.ok_or(JwtError::Claim("aud"))?.strings();
        let is_expected =
            |audience: &str| self.audiences.iter().any(|expected| expected == audience);
        if found.clone().any(is_expected) {
            return Ok(());
        }
        match found.clone().any(|audience| GRAPH.contains(&audience)) {
            true => Err(JwtError::ForGraph),
            false => {
                let found: Vec<&str> = found.collect();
                let compared = Compared::new(found.join("', '"), self.audiences);
                Err(JwtError::Audience(compared))
            }
        }
    }

    /// Checks the members of an introspection response ([RFC 7662 section 2.2]).
    ///
    /// The issuer and the expiry are optional there.
    ///
    /// [RFC 7662 section 2.2]: https://www.rfc-editor.org/rfc/rfc7662#section-2.2
    pub(crate) fn check_introspected(
        &self,
        members: &ClaimsSet,
        issuer: Option<&str>,
    ) -> Result<(), JwtError> {
        let iss = string_claim(members, "iss")?;
        if let (Some(iss), Some(issuer)) = (iss, issuer)
            && iss != issuer
        {
            return Err(JwtError::Issuer(Compared::new(iss, [issuer])));
        }
        self.check_audience(members)?;
        self.check_start(members)?;
        match members.time("exp")? {
            Some(end) => self.check_end(end),
            None => Ok(()),
        }
    }

    fn check_times(&self, claims: &ClaimsSet) -> Result<(), JwtError> {
        let end = claims.time("exp")?.ok_or(JwtError::Claim("exp"))?;
        self.check_end(end)?;
        self.check_start(claims)
    }

    fn check_end(&self, end: SystemTime) -> Result<(), JwtError> {
        let last = end.checked_add(self.leeway).ok_or(JwtError::Claim("exp"))?;
        if self.now >= last {
            return Err(JwtError::Expired(self.compared(end)));
        }
        Ok(())
    }

    fn check_start(&self, claims: &ClaimsSet) -> Result<(), JwtError> {
        match claims.time("nbf")? {
            Some(start)
                if start
                    .duration_since(self.now)
                    .is_ok_and(|wait| wait > self.leeway) =>
            {
                Err(JwtError::NotYetValid(self.compared(start)))
            }
            _ => Ok(()),
        }
    }

    fn compared(&self, claim: SystemTime) -> ComparedTime {
        ComparedTime {
            claim,
            now: self.now,
            leeway: self.leeway,
        }
    }
}

/// Returns a claim whose value is a string, or `None` if the claim is absent.
fn string_claim<'a>(
    claims: &'a ClaimsSet,
    name: &'static str,
) -> Result<Option<&'a str>, JwtError> {
    match claims.get(name) {
        None => Ok(None),
        Some(claim) => claim.as_str().map(Some).ok_or(JwtError::Claim(name)),
    }
}

/// Returns a claim of an object whose value is a NumericDate ([RFC 7519 section 2]), or `None` if
/// the claim is absent.
///
/// [RFC 7519 section 2]: https://www.rfc-editor.org/rfc/rfc7519#section-2
pub(crate) fn time_claim(
    claims: &Map<String, Value>,
    name: &'static str,
) -> Result<Option<SystemTime>, JwtError> {
    match claims.get(name) {
        None => Ok(None),
        Some(value) => time(value).map(Some).ok_or(JwtError::Claim(name)),
    }
}

/// Returns the time of a NumericDate.
pub(crate) fn time(value: &Value) -> Option<SystemTime> {
    let since = match (value.as_u64(), value.as_f64()) {
        (Some(seconds), _) => Some(Duration::from_secs(seconds)),
        (None, Some(seconds)) => Duration::try_from_secs_f64(seconds).ok(),
        (None, None) => None,
    };
    since.and_then(|since| SystemTime::UNIX_EPOCH.checked_add(since))
}

/// Application id and resource names of Microsoft Graph.
const GRAPH: [&str; 3] = [
    "00000003-0000-0000-c000-000000000000",
    "https://graph.microsoft.com",
    "https://graph.microsoft.com/",
];
