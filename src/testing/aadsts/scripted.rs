use http::StatusCode;

use super::error::AadstsError;

/// Errors that a test scripts by code.
impl AadstsError {
    /// Builds the error of a scripted AADSTS code.
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
                claims: Some(CLAIMS),
                ..Self::bad_request(
                    "invalid_grant",
                    code,
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

    fn of_user_code(code: u64, client_id: &str) -> Option<Self> {
        let multi_factor = |word: &str| {
            format!(
                "Due to a configuration change made by your administrator, or because you moved to a new location, you must {word} multi-factor authentication to access the resource."
            )
        };
        Some(match code {
            65001 => Self::consent_required(client_id),
            28000 => Self::multiple_resources(),
            50034 => Self::user_not_found("user", "tenant"),
            9002313 => Self::malformed_grant(),
            70000 => Self::issued_to_other_client("refresh_token"),
            70008 => Self::expired_grant(),
            54005 => Self::code_redeemed(),
            501481 => Self::wrong_verifier(),
            50173 => Self::sessions_revoked(),
            50013 => Self::unverified_user_assertion("The key was not found."),
            500131 => Self::user_assertion_for_other_audience("another", client_id),
            500133 => Self::expired_user_assertion("now", "an hour ago"),
            7000114 => Self::application_token_as_user_assertion(client_id),
            240002 => Self::id_token_as_user_assertion(),
            50076 => Self {
                suberror: Some("basic_action"),
                claims: Some(CLAIMS),
                ..Self::invalid_grant(50076, multi_factor("use"))
            },
            // Microsoft's example of a rejected on-behalf-of request.
            50079 => Self {
                claims: Some(CLAIMS),
                ..Self::bad_request("interaction_required", 50079, multi_factor("enroll in"))
            },
            _ => return None,
        })
    }
}

/// Claims that a client must satisfy: an authentication context of Conditional Access.
const CLAIMS: &str = r#"{"access_token":{"capolids":{"essential":true,"values":["b1a5f5a0-6a5c-4bb1-9d1e-0a0d5c6a7a01"]}}}"#;
