use super::Endpoints;
use super::kind::EndpointKind;
use super::lookup::Lookup;
use super::metadata::OpenIdProvider;
use crate::authority::Tenant;
use crate::error::{Error, Escaped};
use crate::jwt::Issuer;

/// The issuer that authorization responses must name ([RFC 9207 section 2.4]).
///
/// [RFC 9207 section 2.4]: https://www.rfc-editor.org/rfc/rfc9207#section-2.4
pub(crate) struct ResponseIssuer {
    issuer: Issuer,
    /// Why every response must name the issuer. `None` if a response need not.
    required_by: Option<RequiredBy>,
}

#[derive(Clone, Copy)]
enum RequiredBy {
    /// The metadata announce that every response names the issuer.
    Metadata,
    Fapi2,
}

impl ResponseIssuer {
    /// Checks the `iss` of an authorization response.
    ///
    /// # Errors
    ///
    /// The reason for an error message.
    pub(crate) fn check(&self, named: Option<&str>) -> Result<(), String> {
        match named {
            Some(named) if self.issuer.accepts(named) => Ok(()),
            Some(named) => {
                let named: String = Escaped(named).to_string().chars().take(200).collect();
                Err(format!(
                    "it names another issuer than the issuer of the authority: '{named}' instead of '{}'; start the sign-in again",
                    self.issuer.as_str()
                ))
            }
            None => match self.required_by {
                None => Ok(()),
                Some(RequiredBy::Metadata) => Err(format!(
                    "it names no issuer ('iss'), and the issuer '{}' announces that every response does; start the sign-in again",
                    self.issuer.as_str()
                )),
                Some(RequiredBy::Fapi2) => Err(format!(
                    "it names no issuer ('iss'), and FAPI 2.0 demands that the issuer '{}' does so (Security Profile, section 5.3.3.2)",
                    self.issuer.as_str()
                )),
            },
        }
    }
}

impl Endpoints {
    /// Returns the issuer that authorization responses must name, from the published metadata.
    ///
    /// Sends the discovery requests that are not cached.
    pub(crate) async fn response_issuer(
        &self,
        tenant: Option<&Tenant>,
        lookup: &Lookup<'_>,
    ) -> Result<ResponseIssuer, Error> {
        if let EndpointKind::Provider(provider) = &self.kind {
            let announced = provider.responses_name_issuer(lookup).await?;
            let announced = announced.then_some(RequiredBy::Metadata);
            return Ok(ResponseIssuer {
                issuer: Issuer::new(provider.issuer()),
                required_by: by_profile(provider).or(announced),
            });
        }
        let keys = self.issuer_keys(tenant, lookup).await?.value;
        Ok(ResponseIssuer {
            issuer: keys.issuer.clone(),
            required_by: keys.responses_name_issuer.then_some(RequiredBy::Metadata),
        })
    }

    /// Checks an issuer that an authorization response names, without I/O. Only the issuer of an
    /// OpenID provider is known without metadata.
    ///
    /// # Errors
    ///
    /// The reason for an error message.
    pub(crate) fn check_known_issuer(&self, named: Option<&str>) -> Result<(), String> {
        match &self.kind {
            EndpointKind::Provider(provider) => ResponseIssuer {
                issuer: Issuer::new(provider.issuer()),
                required_by: by_profile(provider),
            }
            .check(named),
            EndpointKind::Tenants { .. } | EndpointKind::Fixed { .. } => Ok(()),
        }
    }

    /// Checks that the published metadata of an OpenID provider do not rule out ID tokens.
    ///
    /// # Errors
    ///
    /// [`Error::Config`] if the metadata rule ID tokens out. The error of a failed discovery.
    pub(crate) async fn check_id_tokens(&self, lookup: &Lookup<'_>) -> Result<(), Error> {
        match &self.kind {
            EndpointKind::Provider(provider) => provider.check_id_tokens(lookup).await,
            EndpointKind::Tenants { .. } | EndpointKind::Fixed { .. } => Ok(()),
        }
    }
}

fn by_profile(provider: &OpenIdProvider) -> Option<RequiredBy> {
    provider.is_fapi2().then_some(RequiredBy::Fapi2)
}

#[cfg(test)]
mod tests {
    use super::*;

    const TENANT: &str = "72f988bf-86f1-41af-91ab-2d7cd011db47";

    /// RFC 9207 section 2.4, with the issuers that the authorities publish.
    #[test]
    fn a_response_of_another_issuer_is_not_accepted() {
        let entra = "https://login.microsoftonline.com";
        let of_tenant = format!("{entra}/{TENANT}/v2.0");
        let template = format!("{entra}/{{tenantid}}/v2.0");
        let other_tenant = format!("{entra}/11111111-86f1-41af-91ab-2d7cd011db47/v2.0");
        let b2c = format!("https://contoso.b2clogin.com/{TENANT}/v2.0/");
        for (published, is_required, named, is_accepted) in [
            (&*of_tenant, false, Some(&*of_tenant), true),
            (&*of_tenant, false, None, true),
            (&*of_tenant, true, None, false),
            (&*of_tenant, false, Some(&*other_tenant), false),
            (&*of_tenant, false, Some(""), false),
            (&*template, false, Some(&*of_tenant), true),
            (&*template, true, Some(&*other_tenant), true),
            (&*template, true, None, false),
            (&*template, false, Some(&*template), false),
            (
                &*template,
                false,
                Some("https://login.microsoftonline.com/contoso/v2.0"),
                false,
            ),
            (&*template, false, Some("https://evil.example/v2.0"), false),
            (&*b2c, false, Some(&*b2c), true),
            (&*b2c, false, Some(b2c.trim_end_matches('/')), false),
            (
                "https://fs.contoso.com/adfs",
                false,
                Some("https://fs.contoso.com/adfs"),
                true,
            ),
            (
                "https://fs.contoso.com/adfs",
                false,
                Some("https://FS.contoso.com/adfs"),
                false,
            ),
            ("https://id.example", true, Some("https://id.example"), true),
            (
                "https://id.example",
                true,
                Some("https://id.example/"),
                false,
            ),
            ("https://id.example", true, None, false),
        ] {
            let issuer = ResponseIssuer {
                issuer: Issuer::new(published),
                required_by: is_required.then_some(RequiredBy::Metadata),
            };
            let outcome = issuer.check(named);
            assert_eq!(outcome.is_ok(), is_accepted, "{published}: {named:?}");
            if let Err(reason) = outcome {
                assert!(reason.contains(published), "{reason}");
                assert!(reason.contains(named.unwrap_or("'iss'")), "{reason}");
            }
        }
    }
}
