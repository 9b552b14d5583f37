use bytes::Bytes;
use http::Request;
use url::Url;
use url::form_urlencoded::Serializer;

use super::advice::unknown_resource;
use super::endpoint::{Reach, endpoint};
use super::environment::{HostEnvironment, MSI_ENDPOINT};
use super::request::{Parts, RequestValues};
use super::response::Rejection;
use super::source::SourceKind;
use super::{ManagedIdentity, Resource};
use crate::error::Error;

/// The endpoint of Cloud Shell, whose tokens belong to the signed-in user.
pub(super) struct CloudShell {
    pub(super) endpoint: Url,
}

impl CloudShell {
    pub(super) fn read(
        environment: &HostEnvironment,
        identity: &ManagedIdentity,
    ) -> Result<Self, Error> {
        Self::check_id(identity)?;
        let name = SourceKind::CloudShell.name();
        Ok(Self {
            endpoint: endpoint(environment, MSI_ENDPOINT, name, Reach::Local)?,
        })
    }

    /// Checks that the identity has no id.
    pub(super) fn check_id(identity: &ManagedIdentity) -> Result<(), Error> {
        match identity.id() {
            None => Ok(()),
            // The endpoint would ignore the id and return a token of the signed-in user.
            Some(_) => Err(Error::config(format!(
                "{identity} cannot be used in Cloud Shell (the variable MSI_ENDPOINT is set and MSI_SECRET is not), whose tokens belong to the signed-in user; use ManagedIdentity::system_assigned()"
            ))),
        }
    }

    pub(super) fn request(&self, values: &RequestValues<'_>) -> Result<Request<Bytes>, Error> {
        let mut form = Serializer::new(String::new());
        form.append_pair("resource", values.resource.as_str());
        let mut parts = Parts::post(&self.endpoint, form.finish(), values);
        parts.add_header("content-type", "application/x-www-form-urlencoded");
        parts.add_header("metadata", "true");
        parts.build()
    }

    pub(super) fn advice(rejection: &Rejection<'_>, resource: &Resource) -> Option<String> {
        match rejection.code {
            Some("AudienceNotSupported") => Some(format!(
                "Cloud Shell issues no tokens for '{}'; use a resource that Cloud Shell supports, such as 'https://management.azure.com/', or another credential",
                resource.as_str()
            )),
            Some("invalid_resource") => Some(unknown_resource(resource)),
            _ => None,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::managed_identity::request::tests::{headers, identities, with_values};

    #[test]
    fn the_request_is_a_form_without_an_id() {
        let environment = HostEnvironment::from_variables([(
            MSI_ENDPOINT,
            "http://localhost:50342/oauth2/token",
        )]);
        let [system, others @ ..] = identities();
        let source = CloudShell::read(&environment, &system).unwrap();
        let request = with_values(&system, |values| source.request(values).unwrap());
        assert_eq!(request.method(), http::Method::POST);
        assert_eq!(request.uri(), "http://localhost:50342/oauth2/token");
        assert_eq!(
            &request.body()[..],
            b"resource=https%3A%2F%2Fvault.azure.net"
        );
        let form = "application/x-www-form-urlencoded";
        assert_eq!(
            headers(&request),
            [("content-type", form), ("metadata", "true")]
        );
        for identity in others {
            let error = CloudShell::read(&environment, &identity)
                .err()
                .unwrap()
                .to_string();
            assert!(error.starts_with(&identity.to_string()), "{error}");
            assert!(error.contains("belong to the signed-in user"), "{error}");
        }
    }
}
