use bytes::Bytes;
use http::Request;
use url::Url;

use super::advice::{not_assigned, says, unknown_resource};
use super::endpoint::{Reach, endpoint};
use super::environment::{HostEnvironment, POD_IDENTITY_AUTHORITY_HOST};
use super::request::{Parts, RequestValues};
use super::response::Rejection;
use super::{ManagedIdentity, Resource, UserAssignedId};
use crate::error::Error;

/// The instance metadata service of virtual machines, scale sets, AKS nodes and container groups.
pub(super) struct Imds {
    pub(super) endpoint: Url,
}

impl Imds {
    pub(super) fn read(environment: &HostEnvironment) -> Result<Self, Error> {
        let name = POD_IDENTITY_AUTHORITY_HOST;
        let mut endpoint = match environment.is_set(name) {
            true => endpoint(environment, name, "IMDS", Reach::Local)?,
            false => base(),
        };
        let path = format!("{}{PATH}", endpoint.path().trim_end_matches('/'));
        endpoint.set_path(&path);
        Ok(Self { endpoint })
    }

    pub(super) fn request(&self, values: &RequestValues<'_>) -> Result<Request<Bytes>, Error> {
        let mut parts = Parts::get(&self.endpoint, API_VERSION, values);
        parts.add_id(values.identity, |id| match id {
            UserAssignedId::Client(_) => "client_id",
            UserAssignedId::Object(_) => "object_id",
            UserAssignedId::Resource(_) => "msi_res_id",
        });
        parts.add_header("metadata", "true");
        parts.build()
    }

    /// Builds a request that IMDS rejects with 400, and other servers with another status.
    pub(super) fn probe(&self) -> Result<Request<Bytes>, Error> {
        let request = Request::get(self.endpoint.as_str()).body(Bytes::new());
        request.map_err(|error| Error::config(format!("IMDS cannot be probed: {error}")))
    }

    pub(super) fn advice(
        rejection: &Rejection<'_>,
        identity: &ManagedIdentity,
        resource: &Resource,
    ) -> Option<String> {
        let code = rejection.code.unwrap_or_default();
        Some(match (rejection.status.as_u16(), code) {
            (400, _) if says(rejection, "identity not found") => {
                not_assigned(identity, "this machine")
            }
            // Two identities are assigned, and the request names none.
            (400, _) if says(rejection, "multiple user assigned identities") => "several user-assigned identities are assigned to this machine; name one of them by its client id, object id or resource id".to_owned(),
            (400, "invalid_resource") => unknown_resource(resource),
            (400, "bad_request_102") => "something between this process and IMDS removes the header 'Metadata'; connect to 169.254.169.254 directly".to_owned(),
            (401, _) => "IMDS does not recognise this machine as the source of the request; connect to 169.254.169.254 directly, from the machine's own network".to_owned(),
            (403, _) => "a proxy, a firewall or a network policy rejects requests to IMDS; allow 169.254.169.254 for this process".to_owned(),
            (404, _) => "the token endpoint is missing, as while the identity is being assigned, or on a machine outside of Azure; wait for the assignment, or use another credential outside of Azure".to_owned(),
            (410, _) => "IMDS is being updated, which takes up to 70 seconds; try again later".to_owned(),
            _ => return None,
        })
    }
}

/// Returns the address of IMDS, which is the same on every machine in Azure.
fn base() -> Url {
    #[expect(clippy::expect_used, reason = "a constant")]
    Url::parse("http://169.254.169.254/").expect("a constant URL")
}

/// The version that MSAL uses.
const API_VERSION: &str = "2018-02-01";
const PATH: &str = "/metadata/identity/oauth2/token";

#[cfg(test)]
mod tests {
    use super::*;
    use crate::managed_identity::request::tests::{
        RESOURCE, headers, identities, query, with_values,
    };

    fn imds(host: Option<&str>) -> Result<Imds, Error> {
        let variables = host.map(|host| (POD_IDENTITY_AUTHORITY_HOST, host));
        Imds::read(&HostEnvironment::from_variables(variables))
    }

    #[test]
    fn the_request_has_one_id_under_its_name() {
        let ids = [
            None,
            Some(("client_id", "client")),
            Some(("object_id", "object")),
            Some(("msi_res_id", "/resource")),
        ];
        for (identity, id) in identities().iter().zip(ids) {
            let request = with_values(identity, |values| {
                imds(None).unwrap().request(values).unwrap()
            });
            let uri = request.uri();
            assert_eq!(uri.host(), Some("169.254.169.254"));
            assert_eq!(uri.scheme_str(), Some("http"));
            assert_eq!(uri.path(), "/metadata/identity/oauth2/token");
            let mut expected = vec![("api-version", "2018-02-01"), ("resource", RESOURCE)];
            expected.extend(id);
            let query = query(&request);
            let query: Vec<(&str, &str)> = query.iter().map(|(a, b)| (&**a, &**b)).collect();
            assert_eq!(query, expected);
            assert_eq!(headers(&request), [("metadata", "true")]);
        }
    }

    #[test]
    fn a_variable_replaces_the_address() {
        for (host, expected) in [
            (
                "http://127.0.0.1:81",
                "http://127.0.0.1:81/metadata/identity/oauth2/token",
            ),
            (
                "http://127.0.0.1:81/",
                "http://127.0.0.1:81/metadata/identity/oauth2/token",
            ),
            (
                "http://nmi/proxy/",
                "http://nmi/proxy/metadata/identity/oauth2/token",
            ),
        ] {
            assert_eq!(imds(Some(host)).unwrap().endpoint.as_str(), expected);
        }
        let error = imds(Some("http://imds.example")).err().unwrap().to_string();
        assert!(
            error.contains("AZURE_POD_IDENTITY_AUTHORITY_HOST of IMDS"),
            "{error}"
        );
    }

    #[test]
    fn the_probe_lacks_the_header_that_imds_requires() {
        let probe = imds(None).unwrap().probe().unwrap();
        assert!(probe.headers().is_empty());
        assert_eq!(probe.uri().path(), "/metadata/identity/oauth2/token");
    }
}
