use http::StatusCode;

mod authorization;
mod user;

/// A refusal in Entra's words.
#[derive(Debug)]
pub(crate) struct AadstsError {
    pub(crate) status: StatusCode,
    pub(crate) error: &'static str,
    pub(crate) code: u64,
    pub(crate) suberror: Option<&'static str>,
    pub(crate) claims: Option<&'static str>,
    pub(crate) text: String,
}

impl AadstsError {
    /// 400, what most refusals are sent with.
    pub(crate) fn bad_request(error: &'static str, code: u64, text: impl Into<String>) -> Self {
        Self {
            status: StatusCode::BAD_REQUEST,
            error,
            code,
            suberror: None,
            claims: None,
            text: text.into(),
        }
    }

    /// 401 `invalid_client`: the credential was refused.
    pub(crate) fn invalid_client(code: u64, text: impl Into<String>) -> Self {
        Self {
            status: StatusCode::UNAUTHORIZED,
            ..Self::bad_request("invalid_client", code, text)
        }
    }

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

    /// As [`missing_credential`](Self::no_credential), where the grant is a user's.
    pub(crate) fn missing_credential_for_user_grant() -> Self {
        Self::invalid_client(
            7000218,
            "The request body must contain the following parameter: 'client_assertion' or 'client_secret'.",
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

    pub(crate) fn malformed_assertion(why: &str) -> Self {
        Self::invalid_client(50027, format!("JWT token is invalid or malformed{why}."))
    }

    pub(crate) fn invalid_assertion_signature() -> Self {
        Self::invalid_client(7000274, "The assertion has an invalid signature.")
    }

    /// `what` of a token issued elsewhere is that of no federated credential.
    pub(crate) fn no_matching_federated_credential(code: u64, what: &str, presented: &str) -> Self {
        Self::invalid_client(
            code,
            format!(
                "No matching federated identity record found for presented assertion {what} '{presented}'. Check your federated identity credential Subject, Audience and Issuer against the presented assertion."
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

    pub(crate) fn invalid_scope(scope: &str, why: &str) -> Self {
        let text = format!("The provided value for scope {scope} is not valid. {why}");
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

    /// The refusal that a code stands for, for a script.
    pub(crate) fn of_code(code: u64, client_id: &str, tenant: &str, scope: &str) -> Self {
        match code {
            7000215 => Self::wrong_secret(client_id),
            7000216 => Self::missing_credential(),
            7000218 => Self::missing_credential_for_user_grant(),
            7000222 => Self::expired_secret(client_id),
            700016 => Self::application_not_found(client_id, tenant),
            90002 => Self::tenant_not_found("invalid_request", tenant),
            700027 => Self::unregistered_certificate("The key was not found.", "0"),
            700024 => Self::assertion_not_valid_now("now", "an hour ago", "half an hour ago"),
            1000502 => Self::certificate_not_valid_now(),
            7000214 | 7000277 => Self::invalid_client(
                code,
                "The certificate used to sign the assertion is revoked.",
            ),
            7000274 => Self::invalid_assertion_signature(),
            700211 => Self::no_matching_federated_credential(code, "issuer", "another"),
            700212 => Self::no_matching_federated_credential(code, "audience", "another"),
            700213 => Self::no_matching_federated_credential(code, "subject", "another"),
            1002012 => Self::scope_without_default(scope),
            70011 => Self::invalid_scope(scope, "The scope is not valid."),
            500011 => Self::resource_not_found(scope, tenant),
            50049 => Self::unknown_instance(),
            53003 => Self {
                suberror: Some("message_only"),
                claims: Some(
                    r#"{"access_token":{"capolids":{"essential":true,"values":["b1a5f5a0-6a5c-4bb1-9d1e-0a0d5c6a7a01"]}}}"#,
                ),
                ..Self::bad_request(
                    "invalid_grant",
                    53003,
                    "Access has been blocked by Conditional Access policies. The access policy does not allow token issuance.",
                )
            },
            90033 => Self::of_status(StatusCode::SERVICE_UNAVAILABLE),
            90055 => Self::of_status(StatusCode::TOO_MANY_REQUESTS),
            code => Self::of_user_code(code, client_id).unwrap_or_else(|| {
                Self::bad_request("invalid_request", code, "The request is not valid.")
            }),
        }
    }

    /// What fits a status for which a script gave no body.
    pub(crate) fn of_status(status: StatusCode) -> Self {
        let (error, code, text) = match status.as_u16() {
            401 => ("invalid_client", 7000215, "Invalid client secret provided."),
            429 => (
                "temporarily_unavailable",
                90055,
                "TenantThrottlingError - There are too many incoming requests.",
            ),
            503 => (
                "temporarily_unavailable",
                90033,
                "A transient error has occurred. Please try again.",
            ),
            500..=599 => ("server_error", 90014, "An unexpected error occurred."),
            _ => ("invalid_request", 9002313, "The request is malformed."),
        };
        Self {
            status,
            ..Self::bad_request(error, code, text)
        }
    }
}
