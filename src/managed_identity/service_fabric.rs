use std::fmt;

use bytes::Bytes;
use http::Request;
use url::Url;

use super::advice::{not_assigned, says};
use super::endpoint::{Reach, endpoint};
use super::environment::{
    HostEnvironment, IDENTITY_ENDPOINT, IDENTITY_HEADER, IDENTITY_SERVER_THUMBPRINT,
};
use super::request::{Parts, RequestValues};
use super::response::Rejection;
use super::source::SourceKind;
use super::{ManagedIdentity, UserAssignedId};
use crate::error::Error;
use crate::secret::Secret;

/// The endpoint of a Service Fabric cluster, whose certificate is self-signed.
pub(super) struct ServiceFabric {
    pub(super) endpoint: Url,
    pub(super) secret: Secret,
    pub(super) thumbprint: Thumbprint,
}

impl ServiceFabric {
    pub(super) fn read(
        environment: &HostEnvironment,
        identity: &ManagedIdentity,
    ) -> Result<Self, Error> {
        Self::check_id(identity)?;
        let name = SourceKind::ServiceFabric.name();
        let thumbprint = environment.required(IDENTITY_SERVER_THUMBPRINT)?;
        Ok(Self {
            endpoint: endpoint(environment, IDENTITY_ENDPOINT, name, Reach::Https)?,
            secret: Secret::from(environment.required(IDENTITY_HEADER)?),
            thumbprint: Thumbprint::parse(&thumbprint)?,
        })
    }

    /// Checks that the endpoint accepts the identity's kind of id.
    pub(super) fn check_id(identity: &ManagedIdentity) -> Result<(), Error> {
        match identity.id() {
            None | Some(UserAssignedId::Object(_)) => Ok(()),
            Some(UserAssignedId::Client(_) | UserAssignedId::Resource(_)) => {
                Err(Error::config(format!(
                    "{identity} cannot be used on Service Fabric, whose endpoint selects by object (principal) id; use ManagedIdentity::user_assigned_object_id(..), or ManagedIdentity::system_assigned() for the identity of the application manifest"
                )))
            }
        }
    }

    pub(super) fn request(&self, values: &RequestValues<'_>) -> Result<Request<Bytes>, Error> {
        let mut parts = Parts::get(&self.endpoint, API_VERSION, values);
        parts.add_id(values.identity, |_| "principalId");
        for (name, value) in values.revocation.iter().flat_map(|it| it.parameters()) {
            parts.add_parameter(name, &value);
        }
        parts.add_secret("secret", &self.secret, "the variable IDENTITY_HEADER")?;
        parts.build()
    }

    pub(super) fn advice(rejection: &Rejection<'_>, identity: &ManagedIdentity) -> Option<String> {
        Some(match rejection.code.unwrap_or_default() {
            "ManagedIdentityNotFound" => not_assigned(
                identity,
                "this application, whose identities are those of its manifest",
            ),
            "SecretHeaderNotFound" => "something between this process and the endpoint removes the header 'secret'; connect to IDENTITY_ENDPOINT directly".to_owned(),
            "ArgumentNullOrEmpty" if says(rejection, "resource") => "the request has no resource; set a scope".to_owned(),
            "InvalidApiVersion" => format!("the Service Fabric runtime does not know the version {API_VERSION} of its endpoint; update the runtime of the cluster"),
            _ => return None,
        })
    }
}

/// The SHA-1 of a certificate in DER.
#[derive(Clone, Copy, PartialEq, Eq)]
pub(super) struct Thumbprint(pub(super) [u8; 20]);

impl Thumbprint {
    /// Reads hexadecimal digits in any case, also with the colons and spaces of certificate tools.
    fn parse(text: &str) -> Result<Self, Error> {
        let invalid = |reason: String| {
            Err(Error::config(format!(
                "the variable {IDENTITY_SERVER_THUMBPRINT} {text:?} cannot be used: {reason}; restore the value of the host"
            )))
        };
        let is_separator = |c: &char| matches!(c, ':' | ' ' | '\u{200e}');
        let digits: Vec<u8> = match text
            .chars()
            .filter(|c| !is_separator(c))
            .map(|c| c.to_digit(16).and_then(|digit| u8::try_from(digit).ok()))
            .collect::<Option<_>>()
        {
            Some(digits) => digits,
            None => {
                return invalid("it has a character that is no hexadecimal digit".to_owned());
            }
        };
        let (pairs, rest) = digits.as_chunks();
        let bytes: Vec<u8> = pairs.iter().map(|[high, low]| high << 4 | low).collect();
        match (bytes.try_into(), rest) {
            (Ok(bytes), []) => Ok(Self(bytes)),
            _ => invalid(format!(
                "a SHA-1 thumbprint has 40 hexadecimal digits, and this value has {}",
                digits.len()
            )),
        }
    }
}

impl fmt::Display for Thumbprint {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.0.iter().try_for_each(|byte| write!(f, "{byte:02X}"))
    }
}

impl fmt::Debug for Thumbprint {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt::Display::fmt(self, f)
    }
}

const API_VERSION: &str = "2020-05-01";

#[cfg(test)]
mod tests {
    use super::*;
    use crate::managed_identity::request::Revocation;
    use crate::managed_identity::request::tests::{
        RESOURCE, headers, identities, query, with_values,
    };
    use crate::token::TokenHash;

    const PRINT: &str = "00112233445566778899AABBCCDDEEFF00112233";

    fn read(identity: &ManagedIdentity, thumbprint: &str) -> Result<ServiceFabric, Error> {
        let environment = HostEnvironment::from_variables([
            (
                IDENTITY_ENDPOINT,
                "https://localhost:2377/metadata/identity/oauth2/token",
            ),
            (IDENTITY_HEADER, "s3cret"),
            (IDENTITY_SERVER_THUMBPRINT, thumbprint),
        ]);
        ServiceFabric::read(&environment, identity)
    }

    #[test]
    fn the_request_has_the_secret_and_an_object_id_as_principal_id() {
        let [system, client, object, resource] = identities();
        for (identity, id) in [(system, None), (object, Some(("principalId", "object")))] {
            let source = read(&identity, PRINT).unwrap();
            let request = with_values(&identity, |values| source.request(values).unwrap());
            let mut expected = vec![("api-version", "2020-05-01"), ("resource", RESOURCE)];
            expected.extend(id);
            let query = query(&request);
            let query: Vec<(&str, &str)> = query.iter().map(|(a, b)| (&**a, &**b)).collect();
            assert_eq!(query, expected);
            assert_eq!(headers(&request), [("secret", "s3cret")]);
        }
        for identity in [client, resource] {
            let error = read(&identity, PRINT).err().unwrap();
            assert!(matches!(error, Error::Config(_)), "{error:?}");
            assert!(
                error.to_string().starts_with(&identity.to_string()),
                "{error}"
            );
            assert!(
                error.to_string().contains("user_assigned_object_id(..)"),
                "{error}"
            );
        }
    }

    #[test]
    fn a_revocation_sends_the_capabilities_and_the_hash_of_the_rejected_token() {
        let identity = ManagedIdentity::system_assigned();
        let source = read(&identity, PRINT).unwrap();
        let capabilities = ["cp1".to_owned(), "cp2".to_owned()];
        for (capabilities, rejected_token, expected) in [
            (&capabilities[..], None, vec![("xms_cc", "cp1,cp2")]),
            (
                &capabilities[..1],
                Some(TokenHash::of("abc")),
                vec![
                    ("xms_cc", "cp1"),
                    // The vector of FIPS 180-4.
                    (
                        "token_sha256_to_refresh",
                        "ba7816bf8f01cfea414140de5dae2223b00361a396177a9cb410ff61f20015ad",
                    ),
                ],
            ),
            (&[], None, vec![]),
        ] {
            let request = with_values(&identity, |values| {
                let revocation = Some(Revocation {
                    capabilities,
                    rejected_token,
                });
                source
                    .request(&RequestValues {
                        revocation,
                        ..*values
                    })
                    .unwrap()
            });
            let query = query(&request);
            let query: Vec<(&str, &str)> = query.iter().map(|(a, b)| (&**a, &**b)).collect();
            assert_eq!(query[2..], expected);
        }
    }

    #[test]
    fn a_thumbprint_is_read_as_certificate_tools_write_it() {
        let expected = Thumbprint::parse(PRINT).unwrap();
        assert_eq!(expected.0[..3], [0x00, 0x11, 0x22]);
        assert_eq!(expected.to_string(), PRINT);
        let colons: Vec<&str> = (0..20)
            .map(|at| PRINT.get(2 * at..2 * at + 2).unwrap())
            .collect();
        for text in [
            PRINT.to_lowercase(),
            colons.join(":"),
            colons.join(" "),
            format!("\u{200e}{PRINT}"),
        ] {
            assert_eq!(Thumbprint::parse(&text).unwrap(), expected, "{text}");
        }
        for (text, reason) in [
            (PRINT.strip_prefix("0").unwrap(), "this value has 39"),
            (PRINT.strip_prefix("00").unwrap(), "this value has 38"),
            (&format!("{PRINT}0"), "this value has 41"),
            (&PRINT.repeat(2), "this value has 80"),
            ("thumbprint", "no hexadecimal digit"),
        ] {
            let error = Thumbprint::parse(text).unwrap_err().to_string();
            assert!(
                error.starts_with("the variable IDENTITY_SERVER_THUMBPRINT"),
                "{error}"
            );
            assert!(error.contains(reason), "{error}");
        }
    }

    #[test]
    fn an_endpoint_without_tls_is_rejected() {
        let environment = HostEnvironment::from_variables([
            (IDENTITY_ENDPOINT, "http://localhost:2377/token"),
            (IDENTITY_HEADER, "s3cret"),
            (IDENTITY_SERVER_THUMBPRINT, PRINT),
        ]);
        let identity = ManagedIdentity::system_assigned();
        let error = ServiceFabric::read(&environment, &identity).err().unwrap();
        assert!(
            error.to_string().contains("the scheme must be https"),
            "{error}"
        );
    }
}
