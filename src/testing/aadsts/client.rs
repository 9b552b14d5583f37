use super::error::AadstsError;

/// Errors about the tenant, the application, its credential and its scopes.
impl AadstsError {
    pub(crate) fn tenant_not_found(error: &'static str, tenant: &str) -> Self {
        Self::bad_request(
            error,
            90002,
            format!(
                "Tenant '{tenant}' not found. Check to make sure you have the correct tenant ID and are signing into the correct cloud. Check with your subscription administrator, this may happen if there are no active subscriptions for the tenant."
            ),
        )
    }

    pub(crate) fn application_not_found(client_id: &str, tenant: &str) -> Self {
        Self::bad_request(
            "unauthorized_client",
            700016,
            format!(
                "Application with identifier '{client_id}' was not found in the directory '{tenant}'. This can happen if the application has not been installed by the administrator of the tenant or consented to by any user in the tenant. You may have sent your authentication request to the wrong tenant."
            ),
        )
    }

    pub(crate) fn wrong_secret(client_id: &str) -> Self {
        Self::invalid_client(
            7000215,
            format!(
                "Invalid client secret provided. Ensure the secret being sent in the request is the client secret value, not the client secret ID, for a secret added to app '{client_id}'."
            ),
        )
    }

    pub(crate) fn expired_secret(client_id: &str) -> Self {
        Self::invalid_client(
            7000222,
            format!(
                "The provided client secret keys for app '{client_id}' are expired. Visit the Azure portal to create new keys for your app: https://aka.ms/NewClientSecret, or consider using certificate credentials for added security: https://aka.ms/certCreds."
            ),
        )
    }

    pub(crate) fn missing_credential() -> Self {
        Self::invalid_client(
            7000216,
            "'client_assertion', 'client_secret' or 'request' is required for the 'client_credentials' grant type.",
        )
    }

    /// Builds the response to a missing credential in the grants for users.
    pub(crate) fn missing_credential_for_user_grant() -> Self {
        Self::invalid_client(
            7000218,
            "The request body must contain the following parameter: 'client_assertion' or 'client_secret'.",
        )
    }

    /// Builds the response to a token request without a key, in words of this server.
    pub(crate) fn unbound_token() -> Self {
        Self::without_code(
            "invalid_request",
            "The token request has neither a DPoP proof nor a client certificate (FAPI 2.0).",
        )
    }

    /// Builds the response to a secret under FAPI 2.0, in words of this server.
    pub(crate) fn assertion_required() -> Self {
        Self::invalid_client(
            7000218,
            "The client must authenticate with a 'client_assertion' (FAPI 2.0).",
        )
    }

    pub(crate) fn unregistered_certificate(reason: &str, thumbprint: &str) -> Self {
        Self::invalid_client(
            700027,
            format!(
                "The certificate with identifier used to sign the client assertion is not registered on application. [Reason - {reason}, Thumbprint of key used by client: '{thumbprint}']."
            ),
        )
    }

    /// Builds the response to a connection without a client certificate, in words of this server.
    pub(crate) fn no_client_certificate() -> Self {
        Self::invalid_client(
            7000216,
            "The TLS connection has no client certificate, which is required for this application.",
        )
    }

    /// Builds the response to an application without access to Entra's preview.
    pub(crate) fn preview_not_enabled(client_id: &str) -> Self {
        Self::bad_request(
            "unauthorized_client",
            51000,
            format!("The feature 'mtls_pop' is disabled for the application '{client_id}'."),
        )
    }

    /// Builds the response to a client certificate of TLS, in words of this server.
    pub(crate) fn unregistered_client_certificate(thumbprint: &str) -> Self {
        Self::invalid_client(
            700027,
            format!(
                "The client certificate of the TLS connection is not registered on application. [x5t#S256: '{thumbprint}']."
            ),
        )
    }

    pub(crate) fn malformed_assertion(reason: &str) -> Self {
        Self::invalid_client(50027, format!("JWT token is invalid or malformed{reason}."))
    }

    pub(crate) fn invalid_assertion_signature() -> Self {
        Self::invalid_client(7000274, "The assertion has an invalid signature.")
    }

    /// Builds the response to a token that matches no federated credential by this claim.
    pub(crate) fn no_matching_federated_credential(
        code: u64,
        claim: &str,
        presented: &str,
    ) -> Self {
        Self::invalid_client(
            code,
            format!(
                "No matching federated identity record found for presented assertion {claim} '{presented}'. Check your federated identity credential Subject, Audience and Issuer against the presented assertion."
            ),
        )
    }

    pub(crate) fn certificate_not_valid_now() -> Self {
        Self::invalid_client(
            1000502,
            "The provided certificate is not within its specified validity period.",
        )
    }

    pub(crate) fn assertion_not_valid_now(now: &str, nbf: &str, exp: &str) -> Self {
        Self::invalid_client(
            700024,
            format!(
                "Client assertion is not within its valid time range. Current time: {now}, assertion valid from {nbf}, expiry time of assertion {exp}."
            ),
        )
    }

    pub(crate) fn scope_without_default(scope: &str) -> Self {
        Self::bad_request(
            "invalid_scope",
            1002012,
            format!(
                "The provided value for scope {scope} is not valid. Client credential flows must have a scope value with /.default suffixed to the resource identifier (application ID URI)."
            ),
        )
    }

    pub(crate) fn invalid_scope(scope: &str, reason: &str) -> Self {
        let text = format!("The provided value for scope {scope} is not valid. {reason}");
        Self::bad_request("invalid_scope", 70011, text)
    }

    pub(crate) fn resource_not_found(resource: &str, tenant: &str) -> Self {
        Self::bad_request(
            "invalid_resource",
            500011,
            format!(
                "The resource principal named {resource} was not found in the tenant named {tenant}. This can happen if the application has not been installed by the administrator of the tenant or consented to by any user in the tenant. You might have sent your authentication request to the wrong tenant."
            ),
        )
    }

    pub(crate) fn unknown_instance() -> Self {
        Self::bad_request("invalid_instance", 50049, "Unknown or invalid instance.")
    }
}
