use bytes::Bytes;
use http::Request;
use url::Url;

use super::advice::{not_assigned, says};
use super::endpoint::{Reach, endpoint};
use super::environment::{DEFAULT_IDENTITY_CLIENT_ID, HostEnvironment, MSI_ENDPOINT, MSI_SECRET};
use super::request::{Parts, RequestValues};
use super::response::Rejection;
use super::source::SourceKind;
use super::{ManagedIdentity, UserAssignedId};
use crate::error::Error;
use crate::secret::Secret;

/// The endpoint of Azure Machine Learning, in the version that App Service had in 2017.
pub(super) struct AzureMl {
    pub(super) endpoint: Url,
    pub(super) secret: Secret,
    /// The client id of the host's own identity.
    default_client_id: Option<String>,
}

impl AzureMl {
    pub(super) fn read(
        environment: &HostEnvironment,
        identity: &ManagedIdentity,
    ) -> Result<Self, Error> {
        Self::check_id(identity)?;
        let name = SourceKind::AzureMl.name();
        Ok(Self {
            endpoint: endpoint(environment, MSI_ENDPOINT, name, Reach::Local)?,
            secret: Secret::from(environment.required(MSI_SECRET)?),
            default_client_id: environment.text(DEFAULT_IDENTITY_CLIENT_ID)?,
        })
    }

    /// Checks that the endpoint accepts the identity's kind of id.
    pub(super) fn check_id(identity: &ManagedIdentity) -> Result<(), Error> {
        match identity.id() {
            None | Some(UserAssignedId::Client(_)) => Ok(()),
            Some(UserAssignedId::Object(_) | UserAssignedId::Resource(_)) => {
                Err(Error::config(format!(
                    "{identity} cannot be used on Azure Machine Learning, whose endpoint selects by client id; use ManagedIdentity::user_assigned_client_id(..)"
                )))
            }
        }
    }

    pub(super) fn request(&self, values: &RequestValues<'_>) -> Result<Request<Bytes>, Error> {
        let mut parts = Parts::get(&self.endpoint, API_VERSION, values);
        let named = values.identity.id().map(UserAssignedId::value);
        if let Some(id) = named.or(self.default_client_id.as_deref()) {
            parts.add_parameter("clientid", id);
        }
        parts.add_header("metadata", "true");
        parts.add_secret("secret", &self.secret, "the variable MSI_SECRET")?;
        parts.build()
    }

    pub(super) fn advice(rejection: &Rejection<'_>, identity: &ManagedIdentity) -> Option<String> {
        let is_missing = says(rejection, "identity") && says(rejection, "not found")
            || says(rejection, "no ") && says(rejection, "managed identity");
        Some(match rejection.status.as_u16() {
            400 | 404 if is_missing => not_assigned(identity, "this compute"),
            401 | 403 => "the endpoint rejects the value of MSI_SECRET; start the job anew, and do not copy the variable".to_owned(),
            _ => return None,
        })
    }
}

const API_VERSION: &str = "2017-09-01";

#[cfg(test)]
mod tests {
    use super::*;
    use crate::managed_identity::request::tests::{
        RESOURCE, headers, identities, query, with_values,
    };

    #[test]
    fn the_request_has_a_client_id_in_the_spelling_of_2017() {
        let [system, client, object, resource] = identities();
        let environment = |default: Option<&str>| {
            let variables = [
                (MSI_ENDPOINT, "http://127.0.0.1:46808/MSI/auth"),
                (MSI_SECRET, "s3cret"),
            ];
            let default = default.map(|id| (DEFAULT_IDENTITY_CLIENT_ID, id));
            HostEnvironment::from_variables(variables.into_iter().chain(default))
        };
        for (identity, default, id) in [
            (&system, Some("default"), Some(("clientid", "default"))),
            (&system, None, None),
            (&client, Some("default"), Some(("clientid", "client"))),
        ] {
            let source = AzureMl::read(&environment(default), identity).unwrap();
            let request = with_values(identity, |values| source.request(values).unwrap());
            assert_eq!(request.uri().path(), "/MSI/auth");
            let mut expected = vec![("api-version", "2017-09-01"), ("resource", RESOURCE)];
            expected.extend(id);
            let query = query(&request);
            let query: Vec<(&str, &str)> = query.iter().map(|(a, b)| (&**a, &**b)).collect();
            assert_eq!(query, expected);
            assert_eq!(
                headers(&request),
                [("metadata", "true"), ("secret", "s3cret")]
            );
        }
        for identity in [object, resource] {
            let error = AzureMl::read(&environment(None), &identity)
                .err()
                .unwrap()
                .to_string();
            assert!(error.starts_with(&identity.to_string()), "{error}");
            assert!(error.contains("user_assigned_client_id(..)"), "{error}");
        }
    }
}
