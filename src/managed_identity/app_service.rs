use bytes::Bytes;
use http::Request;
use url::Url;

use super::advice::{not_assigned, says};
use super::endpoint::{Reach, endpoint};
use super::environment::{HostEnvironment, IDENTITY_ENDPOINT, IDENTITY_HEADER};
use super::request::{Parts, RequestValues};
use super::response::Rejection;
use super::source::SourceKind;
use super::{ManagedIdentity, UserAssignedId};
use crate::error::Error;
use crate::secret::Secret;

/// The endpoint of App Service, Functions and Container Apps.
pub(super) struct AppService {
    pub(super) endpoint: Url,
    pub(super) secret: Secret,
}

impl AppService {
    pub(super) fn read(environment: &HostEnvironment) -> Result<Self, Error> {
        let name = SourceKind::AppService.name();
        Ok(Self {
            endpoint: endpoint(environment, IDENTITY_ENDPOINT, name, Reach::Local)?,
            secret: Secret::from(environment.required(IDENTITY_HEADER)?),
        })
    }

    pub(super) fn request(&self, values: &RequestValues<'_>) -> Result<Request<Bytes>, Error> {
        let mut parts = Parts::get(&self.endpoint, API_VERSION, values);
        parts.add_id(values.identity, |id| match id {
            UserAssignedId::Client(_) => "client_id",
            UserAssignedId::Object(_) => "object_id",
            UserAssignedId::Resource(_) => "mi_res_id",
        });
        parts.add_secret(
            "x-identity-header",
            &self.secret,
            "the variable IDENTITY_HEADER",
        )?;
        parts.build()
    }

    pub(super) fn advice(rejection: &Rejection<'_>, identity: &ManagedIdentity) -> Option<String> {
        let is_missing = ["no ", "unable to load", "not found", "could not find"]
            .iter()
            .any(|phrase| says(rejection, phrase));
        Some(match rejection.status.as_u16() {
            400 | 404 if is_missing && says(rejection, "managed identity") => {
                not_assigned(identity, "this app")
            }
            401 | 403 => "the endpoint rejects the value of IDENTITY_HEADER; restart the app, and do not copy the variable into its settings".to_owned(),
            _ => return None,
        })
    }
}

const API_VERSION: &str = "2019-08-01";

#[cfg(test)]
mod tests {
    use super::*;
    use crate::managed_identity::request::tests::{
        RESOURCE, headers, identities, query, with_values,
    };

    #[test]
    fn the_request_has_the_secret_and_one_id_under_its_name() {
        let environment = HostEnvironment::from_variables([
            (IDENTITY_ENDPOINT, "http://169.254.129.2:8081/msi/token"),
            (IDENTITY_HEADER, "s3cret"),
        ]);
        let ids = [
            None,
            Some(("client_id", "client")),
            Some(("object_id", "object")),
            Some(("mi_res_id", "/resource")),
        ];
        for (identity, id) in identities().iter().zip(ids) {
            let source = AppService::read(&environment).unwrap();
            let request = with_values(identity, |values| source.request(values).unwrap());
            assert_eq!(request.uri().host(), Some("169.254.129.2"));
            assert_eq!(request.uri().path(), "/msi/token");
            let mut expected = vec![("api-version", "2019-08-01"), ("resource", RESOURCE)];
            expected.extend(id);
            let query = query(&request);
            let query: Vec<(&str, &str)> = query.iter().map(|(a, b)| (&**a, &**b)).collect();
            assert_eq!(query, expected);
            assert_eq!(headers(&request), [("x-identity-header", "s3cret")]);
        }
    }
}
