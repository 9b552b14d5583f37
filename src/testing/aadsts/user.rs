use super::AadstsError;

/// Refusals of what is asked for in a user's name.
impl AadstsError {
    fn invalid_grant(code: u64, text: impl Into<String>) -> Self {
        Self::bad_request("invalid_grant", code, text)
    }

    pub(crate) fn consent_required(client_id: &str) -> Self {
        Self {
            suberror: Some("consent_required"),
            ..Self::invalid_grant(
                65001,
                format!(
                    "The user or administrator has not consented to use the application with ID '{client_id}'. Send an interactive authorization request for this user and resource."
                ),
            )
        }
    }

    pub(crate) fn multiple_resources() -> Self {
        Self::bad_request(
            "invalid_scope",
            28000,
            "Provided value for the input parameter scope is not valid because it contains more than one resource.",
        )
    }

    pub(crate) fn user_not_found(name: &str, tenant: &str) -> Self {
        Self::invalid_grant(
            50034,
            format!(
                "The user account {name} does not exist in the {tenant} directory. To sign into this application, the account must be added to the directory."
            ),
        )
    }

    /// A code or a refresh token that was never issued.
    pub(crate) fn malformed_grant() -> Self {
        Self::invalid_grant(9002313, "Invalid request. Request is malformed or invalid.")
    }

    /// A code or a refresh token that another client was issued.
    pub(crate) fn issued_to_other_client(field: &str) -> Self {
        Self::invalid_grant(
            70000,
            format!("The provided value for the '{field}' parameter is not valid."),
        )
    }

    pub(crate) fn expired_grant() -> Self {
        Self::invalid_grant(
            70008,
            "The provided authorization code or refresh token has expired due to inactivity. Send a new interactive authorization request for this user and resource.",
        )
    }

    pub(crate) fn sessions_revoked() -> Self {
        Self::invalid_grant(
            50173,
            "The provided grant has expired due to it being revoked, a fresh auth token is needed. The user might have changed or reset their password.",
        )
    }

    pub(crate) fn malformed_user_assertion() -> Self {
        Self::bad_request(
            "invalid_request",
            50027,
            "JWT token is invalid or malformed.",
        )
    }

    pub(crate) fn unverified_user_assertion(reason: &str) -> Self {
        Self::invalid_grant(
            50013,
            format!("Assertion failed signature validation. [Reason - {reason}]"),
        )
    }

    pub(crate) fn user_assertion_for_other_audience(audience: &str, client_id: &str) -> Self {
        Self::invalid_grant(
            500131,
            format!(
                "Assertion audience does not match the Client app presenting the assertion. The audience in the assertion was '{audience}' and the expected audience is '{client_id}' or one of the Application Uris of this application with App ID '{client_id}'. The downstream client must request a token for the expected audience (the application that made the OBO request) and this application should use that token as the assertion."
            ),
        )
    }

    pub(crate) fn expired_user_assertion(now: &str, exp: &str) -> Self {
        Self::invalid_grant(
            500133,
            format!(
                "Assertion is not within its valid time range. Ensure that the access token is not expired before using it for user assertion, or request a new token. Current time: {now}, expiry time of assertion {exp}."
            ),
        )
    }

    /// The code is Entra's; its `error` is not known here.
    pub(crate) fn application_token_as_user_assertion(client_id: &str) -> Self {
        Self::invalid_grant(
            7000114,
            format!(
                "Application '{client_id}' is not allowed to make application on-behalf-of calls."
            ),
        )
    }

    /// The code is Entra's; its `error` is not known here.
    pub(crate) fn id_token_as_user_assertion() -> Self {
        Self::invalid_grant(
            240002,
            "Input id_token cannot be used as 'urn:ietf:params:oauth:grant-type:jwt-bearer' grant.",
        )
    }

    pub(crate) fn of_user_code(code: u64, client_id: &str) -> Option<Self> {
        let claims = Some(
            r#"{"access_token":{"capolids":{"essential":true,"values":["b1a5f5a0-6a5c-4bb1-9d1e-0a0d5c6a7a01"]}}}"#,
        );
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
                claims,
                ..Self::invalid_grant(50076, multi_factor("use"))
            },
            // As Microsoft's own example of an on-behalf-of request that is refused.
            50079 => Self {
                claims,
                ..Self::bad_request("interaction_required", 50079, multi_factor("enroll in"))
            },
            _ => return None,
        })
    }
}
