use super::error::AadstsError;

/// Errors of the grants for users.
impl AadstsError {
    pub(crate) fn invalid_grant(code: u64, text: impl Into<String>) -> Self {
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

    /// Builds the response to an unknown code or refresh token.
    pub(crate) fn malformed_grant() -> Self {
        Self::invalid_grant(9002313, "Invalid request. Request is malformed or invalid.")
    }

    /// Builds the response to a code or a refresh token issued to another client.
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

    /// Builds the response to an application's token in the place of a user's.
    ///
    /// The code is Entra's. Entra's `error` for the code is unknown.
    pub(crate) fn application_token_as_user_assertion(client_id: &str) -> Self {
        Self::invalid_grant(
            7000114,
            format!(
                "Application '{client_id}' is not allowed to make application on-behalf-of calls."
            ),
        )
    }

    /// Builds the response to an exchange token of another application, in words of this server.
    pub(crate) fn foreign_exchange_token(client_id: &str) -> Self {
        Self::without_code(
            "invalid_client",
            format!(
                "The user federated identity credential is not a token of the agent identity '{client_id}' for api://AzureADTokenExchange."
            ),
        )
    }

    /// Builds the response to an application that is no agent identity, in words of this server.
    pub(crate) fn not_an_agent_identity(client_id: &str) -> Self {
        Self::without_code(
            "unauthorized_client",
            format!(
                "The application '{client_id}' is not an agent identity, and cannot use the grant 'user_fic'."
            ),
        )
    }

    /// Builds the response to a user who was not created for the agent, in words of this server.
    pub(crate) fn user_of_other_agent(client_id: &str) -> Self {
        Self::without_code(
            "invalid_grant",
            format!("The user is not a user of the agent identity '{client_id}'."),
        )
    }

    /// Builds the response to an ID token in the place of an access token.
    ///
    /// The code is Entra's. Entra's `error` for the code is unknown.
    pub(crate) fn id_token_as_user_assertion() -> Self {
        Self::invalid_grant(
            240002,
            "Input id_token cannot be used as 'urn:ietf:params:oauth:grant-type:jwt-bearer' grant.",
        )
    }
}
