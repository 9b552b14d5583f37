use super::flow::{SignInFlow, SignInStep};
use super::request::reject_duplicates;
use super::response::{AuthorizationResponse, RedirectTarget};
use crate::testing::aadsts::error::AadstsError;
use crate::testing::directory::consent::Consent;
use crate::testing::directory::tenant::{Directory, accepts_sign_in};

impl SignInFlow<'_> {
    /// Grants the consent of an administrator, who agrees without a page.
    ///
    /// The consent adds the application of another tenant to this tenant, with its roles and its
    /// declared permissions. Entra calls the addition a service principal.
    pub(crate) fn grant_admin_consent(
        &mut self,
        query: &[(String, String)],
        tenant: &str,
    ) -> Result<SignInStep, AadstsError> {
        if self.settings.rules.is_openid() {
            return Err(AadstsError::of_status(http::StatusCode::NOT_FOUND));
        }
        reject_duplicates(query)?;
        let field = |name: &str| {
            let field = query.iter().find(|(known, _)| known == name);
            field.map(|(_, value)| value.as_str())
        };
        let missing = AadstsError::missing_parameter;
        let client_id = field("client_id").ok_or_else(|| missing("client_id"))?;
        let Some(directory) = administered(tenant, client_id, self.directories) else {
            return Err(AadstsError::tenant_not_found("invalid_request", tenant));
        };
        let others = self.directories.iter();
        let known = self
            .directories
            .get(directory)
            .into_iter()
            .chain(others)
            .find_map(|directory| directory.application(client_id));
        let Some(application) = known.cloned() else {
            return Err(AadstsError::application_not_found(client_id, tenant));
        };
        let redirect_uri = field("redirect_uri").ok_or_else(AadstsError::missing_redirect_uri)?;
        if !application.has_redirect_uri(redirect_uri) {
            return Err(AadstsError::unknown_redirect_uri(redirect_uri, client_id));
        }
        let Some(directory) = self.directories.get_mut(directory) else {
            return Err(AadstsError::tenant_not_found("invalid_request", tenant));
        };
        if directory.application(client_id).is_none() {
            directory.register(application.in_another_tenant());
        }
        directory
            .consents
            .extend(Consent::to_declared(&application));
        let target = RedirectTarget {
            issuer: None,
            redirect_uri: redirect_uri.to_owned(),
            state: field("state").map(ToOwned::to_owned),
            is_form_post: false,
        };
        let response = AuthorizationResponse::admin_consent(&target, directory.id);
        Ok(SignInStep::Done(response))
    }
}

/// Returns the index of the administrator's tenant.
///
/// A name for every tenant, such as `organizations`, stands for the first tenant without the
/// application, else for the first tenant.
fn administered(tenant: &str, client_id: &str, directories: &[Directory]) -> Option<usize> {
    let is_new = |directory: &Directory| directory.application(client_id).is_none();
    let accepted = || {
        let directories = directories.iter().enumerate();
        directories.filter(|(_, directory)| accepts_sign_in(tenant, directory))
    };
    let new = accepted().find(|(_, directory)| is_new(directory));
    new.or_else(|| accepted().next()).map(|(index, _)| index)
}
