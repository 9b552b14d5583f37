use serde_json::{Map, Value};

use super::parameters::{ParameterLocation, Parameters};
use crate::error::Error;

/// Claims that the caller adds to a client assertion ([RFC 7523 section 3]).
///
/// [RFC 7523 section 3]: https://www.rfc-editor.org/rfc/rfc7523#section-3
#[derive(Clone, Debug, Default)]
pub(crate) struct AssertionClaimSet(Map<String, Value>);

impl AssertionClaimSet {
    /// Parses a JSON object.
    ///
    /// # Errors
    ///
    /// [`Error::Config`] for another JSON value, and for a claim that the client sets.
    pub(crate) fn parse(json: &str) -> Result<Self, Error> {
        let Ok(claims) = serde_json::from_str::<Map<String, Value>>(json) else {
            return Err(Error::config(
                "the claims of the client assertion are not a JSON object; pass an object such as {\"client_region\":\"westeurope\"}",
            ));
        };
        match RESERVED.iter().find(|name| claims.contains_key(**name)) {
            Some(name) => Err(Error::config(format!(
                "the claim '{name}' of the client assertion is reserved, because the client sets the claim; remove it"
            ))),
            None => Ok(Self(claims)),
        }
    }

    /// Returns the claims of a cache key.
    pub(crate) fn of(parameters: &Parameters) -> Self {
        let claims = parameters.of(ParameterLocation::AssertionClaim);
        let claims = claims.filter_map(|(name, json)| {
            let value = serde_json::from_str(json).ok()?;
            Some((name.to_owned(), value))
        });
        Self(claims.collect())
    }

    /// Returns the JSON object, or `None` without claims.
    pub(crate) fn to_json(&self) -> Option<String> {
        (!self.0.is_empty()).then(|| serde_json::to_string(&self.0).unwrap_or_default())
    }

    /// Returns the name and the JSON of each claim.
    pub(crate) fn into_pairs(self) -> impl Iterator<Item = (String, String)> {
        let claims = self.0.into_iter();
        claims.map(|(name, value)| (name, value.to_string()))
    }

    /// Returns the claims as members of a JSON object.
    pub(crate) fn members(&self) -> &Map<String, Value> {
        &self.0
    }
}

/// The claims that the client sets.
const RESERVED: [&str; 7] = ["aud", "iss", "sub", "jti", "exp", "nbf", "iat"];

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_claim_of_the_client_and_other_json_are_rejected() {
        for (json, expected) in [
            (r#"{"a":1,"b":{"c":[null]}}"#, Ok(2)),
            ("{}", Ok(0)),
            (r#"{"AUD":"x"}"#, Ok(1)),
            (r#"{"aud":"x"}"#, Err("'aud'")),
            (r#"{"a":1,"iss":"x"}"#, Err("'iss'")),
            (r#"{"sub":"x"}"#, Err("'sub'")),
            (r#"{"jti":"x"}"#, Err("'jti'")),
            (r#"{"exp":null}"#, Err("'exp'")),
            (r#"{"nbf":1}"#, Err("'nbf'")),
            (r#"{"iat":1}"#, Err("'iat'")),
            ("[]", Err("not a JSON object")),
            ("eyJ9", Err("not a JSON object")),
            ("", Err("not a JSON object")),
        ] {
            match (AssertionClaimSet::parse(json), expected) {
                (Ok(claims), Ok(members)) => assert_eq!(claims.0.len(), members, "{json}"),
                (Err(error), Err(text)) => {
                    assert!(error.to_string().contains(text), "{error}");
                }
                (result, _) => panic!("{json}: {result:?}"),
            }
        }
    }

    #[test]
    fn the_key_ignores_the_order_and_the_white_space_of_the_claims() {
        let key = |json: &str| {
            let mut parameters = Parameters::default();
            let claims = AssertionClaimSet::parse(json).unwrap();
            parameters.set(ParameterLocation::AssertionClaim, claims.into_pairs());
            parameters
        };
        let claims = r#"{"a":"1","b":{"d":[2],"c":null}}"#;
        assert!(key(claims) == key(r#"{ "b": {"c": null, "d": [ 2 ]}, "a": "1" }"#));
        assert!(key(claims) != key(r#"{"a":1,"b":{"d":[2],"c":null}}"#));
        assert!(key("{}") == Parameters::default());
        assert_eq!(
            Value::from(AssertionClaimSet::of(&key(claims)).0),
            serde_json::from_str::<Value>(claims).unwrap()
        );
    }
}
