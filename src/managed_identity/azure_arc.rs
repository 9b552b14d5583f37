use bytes::Bytes;
use http::header::WWW_AUTHENTICATE;
use http::{Request, Response, StatusCode};
use url::Url;

use super::advice::{not_assigned, says, unknown_resource};
use super::endpoint::{Reach, endpoint};
use super::environment::{HostEnvironment, IDENTITY_ENDPOINT};
use super::request::{Parts, RequestValues};
use super::response::Rejection;
use super::source::SourceKind;
use super::{ManagedIdentity, Resource, UserAssignedId};
use crate::error::{Error, Failure};
use crate::secret::Secret;

mod key_file;

use key_file::KeyFile;

/// The endpoint of the Azure Arc agent, on servers outside of Azure.
pub(super) struct AzureArc {
    pub(super) endpoint: Url,
    environment: HostEnvironment,
}

impl AzureArc {
    pub(super) fn read(environment: &HostEnvironment) -> Result<Self, Error> {
        let name = SourceKind::AzureArc.name();
        Ok(Self {
            endpoint: match environment.is_set(IDENTITY_ENDPOINT) {
                true => endpoint(environment, IDENTITY_ENDPOINT, name, Reach::Loopback)?,
                false => agents_endpoint(),
            },
            environment: environment.clone(),
        })
    }

    /// Builds the first request, or with a key the second one.
    pub(super) fn request(
        &self,
        values: &RequestValues<'_>,
        key: Option<&Secret>,
    ) -> Result<Request<Bytes>, Error> {
        let mut parts = Parts::get(&self.endpoint, API_VERSION, values);
        parts.add_id(values.identity, |id| match id {
            UserAssignedId::Client(_) => "client_id",
            UserAssignedId::Object(_) => "object_id",
            UserAssignedId::Resource(_) => "msi_res_id",
        });
        parts.add_header("metadata", "true");
        if let Some(key) = key {
            let credentials = Secret::from(format!("Basic {}", key.expose()));
            let origin = "the key in the Azure Arc agent's key file";
            parts.add_secret("authorization", &credentials, origin)?;
        }
        parts.build()
    }

    /// Reads the key file of a challenge, and builds the second request.
    ///
    /// `None` for a rejection other than 401. A success without a challenge is an error, because
    /// the agent never responds so.
    pub(super) async fn answer_challenge(
        &self,
        response: &Response<Bytes>,
        values: &RequestValues<'_>,
    ) -> Result<Option<(Request<Bytes>, Secret)>, Error> {
        let status = response.status();
        if status != StatusCode::UNAUTHORIZED {
            return match status.is_success() {
                true => Err(no_challenge(
                    response,
                    "returned a success without a challenge, so another program may listen on the agent's port",
                )),
                false => Ok(None),
            };
        }
        let Some(path) = realm(response) else {
            return Err(no_challenge(
                response,
                "returned 401 without 'WWW-Authenticate: Basic realm={path}'",
            ));
        };
        let key = KeyFile::new(&path, self.environment.key_folder())?;
        let key = key.read().await?;
        Ok(Some((self.request(values, Some(&key))?, key)))
    }

    pub(super) fn advice(
        rejection: &Rejection<'_>,
        identity: &ManagedIdentity,
        resource: &Resource,
    ) -> Option<String> {
        let code = rejection.code.unwrap_or_default();
        Some(match (rejection.status.as_u16(), code) {
            (400, _) if says(rejection, "identity not found") => {
                not_assigned(identity, "this server")
            }
            (400, "invalid_resource") => unknown_resource(resource),
            (401, _) => "the agent rejected the key of its key file, as after a restart of the agent; try again, and look at the agent with 'azcmagent show'".to_owned(),
            (404, _) => "this version of the agent has no such endpoint; update the agent".to_owned(),
            _ => return None,
        })
    }
}

fn no_challenge(response: &Response<Bytes>, why: &str) -> Error {
    let message = format!("the Azure Arc agent {why}; look at the agent with 'azcmagent show'");
    Error::InvalidResponse(Failure::new(message).status(response.status()).into())
}

/// Returns the path in `WWW-Authenticate: Basic realm=path`.
///
/// The agent writes the path without quotation marks, which the grammar of a challenge
/// ([RFC 9110 section 11.4]) does not allow.
///
/// [RFC 9110 section 11.4]: https://www.rfc-editor.org/rfc/rfc9110#section-11.4
fn realm(response: &Response<Bytes>) -> Option<String> {
    let headers = response.headers().get_all(WWW_AUTHENTICATE).iter();
    let mut challenges = headers.filter_map(|value| {
        let (scheme, parameters) = value.to_str().ok()?.trim().split_once(' ')?;
        let (name, path) = parameters.trim_start().split_once('=')?;
        let is_realm = name.trim_end().eq_ignore_ascii_case("realm");
        let path = path.trim();
        let inside = path
            .strip_prefix('"')
            .and_then(|path| path.strip_suffix('"'));
        let path = inside.unwrap_or(path);
        let is_challenge = scheme.eq_ignore_ascii_case("Basic") && is_realm && !path.is_empty();
        is_challenge.then(|| path.to_owned())
    });
    challenges.next()
}

/// Returns the address of the agent where no variable gives one.
fn agents_endpoint() -> Url {
    #[expect(clippy::expect_used, reason = "a constant")]
    Url::parse("http://127.0.0.1:40342/metadata/identity/oauth2/token").expect("a constant URL")
}

const API_VERSION: &str = "2020-06-01";

#[cfg(test)]
mod tests {
    use super::*;
    use crate::managed_identity::request::tests::{
        RESOURCE, headers, identities, query, with_values,
    };

    #[test]
    fn the_requests_have_one_id_and_the_second_one_the_key() {
        let source = AzureArc::read(&HostEnvironment::from_fn(|_| None)).unwrap();
        let ids = [
            None,
            Some(("client_id", "client")),
            Some(("object_id", "object")),
            Some(("msi_res_id", "/resource")),
        ];
        let key = Secret::from("s3cret");
        for (identity, id) in identities().iter().zip(ids) {
            for (key, authorization) in [
                (None, None),
                (Some(&key), Some(("authorization", "Basic s3cret"))),
            ] {
                let request = with_values(identity, |values| source.request(values, key).unwrap());
                let uri = request.uri().to_string();
                assert!(uri.starts_with("http://127.0.0.1:40342/metadata/identity/oauth2/token?"));
                let mut expected = vec![("api-version", "2020-06-01"), ("resource", RESOURCE)];
                expected.extend(id);
                let query = query(&request);
                let query: Vec<(&str, &str)> = query.iter().map(|(a, b)| (&**a, &**b)).collect();
                assert_eq!(query, expected);
                let mut expected = vec![("metadata", "true")];
                expected.extend(authorization);
                assert_eq!(headers(&request), expected);
            }
        }
    }

    #[test]
    fn a_realm_is_read_with_and_without_quotation_marks() {
        for (headers, expected) in [
            (
                &["Basic realm=/var/opt/azcmagent/tokens/a.key"][..],
                Some("/var/opt/azcmagent/tokens/a.key"),
            ),
            (&["basic Realm=\"/a b.key\""], Some("/a b.key")),
            (
                &["Basic realm=C:\\ProgramData\\AzureConnectedMachineAgent\\Tokens\\a.key"],
                Some("C:\\ProgramData\\AzureConnectedMachineAgent\\Tokens\\a.key"),
            ),
            (
                &["Bearer realm=/b.key", "Basic realm=/a.key"],
                Some("/a.key"),
            ),
            (&["Digest realm=/a.key"], None),
            (&["Basic realm="], None),
            (&["Basic realm=\"\""], None),
            (&["Basic path=/a.key"], None),
            (&["Basic"], None),
            (&[], None),
        ] {
            let mut response = Response::new(Bytes::new());
            for value in headers {
                response
                    .headers_mut()
                    .append(WWW_AUTHENTICATE, value.parse().unwrap());
            }
            assert_eq!(realm(&response).as_deref(), expected, "{headers:?}");
        }
    }

    #[tokio::test]
    async fn only_a_401_is_a_challenge() {
        let source = AzureArc::read(&HostEnvironment::from_fn(|_| None)).unwrap();
        let identity = ManagedIdentity::system_assigned();
        let resource = Resource::of_scopes(RESOURCE).unwrap();
        let values = RequestValues {
            identity: &identity,
            resource: &resource,
            correlation_id: "our-id",
            revocation: None,
        };
        for (status, expected) in [
            (200, Some("a success without a challenge")),
            (401, Some("401 without 'WWW-Authenticate")),
            (400, None),
            (500, None),
        ] {
            let response = Response::builder()
                .status(status)
                .body(Bytes::new())
                .unwrap();
            match (source.answer_challenge(&response, &values).await, expected) {
                (Ok(None), None) => {}
                (Err(error @ Error::InvalidResponse(_)), Some(text)) => {
                    assert!(error.to_string().contains(text), "{error}");
                    assert_eq!(error.status().unwrap().as_u16(), status);
                }
                (other, _) => panic!("{status}: {:?}", other.map(|_| ())),
            }
        }
    }
}
