use super::error::AadstsError;

/// Errors about authorization requests and authorization codes.
impl AadstsError {
    pub(crate) fn missing_parameter(name: &str) -> Self {
        Self::bad_request(
            "invalid_request",
            900144,
            format!("The request body must contain the following parameter: '{name}'."),
        )
    }

    pub(crate) fn duplicate_parameter(name: &str) -> Self {
        Self::bad_request(
            "invalid_request",
            9000411,
            format!("The request is not properly formatted. The parameter '{name}' is duplicated."),
        )
    }

    pub(crate) fn missing_redirect_uri() -> Self {
        Self::bad_request("invalid_request", 900971, "No reply address provided.")
    }

    pub(crate) fn unknown_redirect_uri(uri: &str, client_id: &str) -> Self {
        Self::bad_request(
            "invalid_request",
            50011,
            format!(
                "The redirect URI '{uri}' specified in the request does not match the redirect URIs configured for the application '{client_id}'. Make sure the redirect URI sent in the request matches one added to your application in the Azure portal. Navigate to https://aka.ms/redirectUriMismatchError to learn more about how to fix this."
            ),
        )
    }

    /// Builds the response to a redirect URI without TLS, in words of this server.
    pub(crate) fn insecure_redirect_uri(uri: &str) -> Self {
        Self::bad_request(
            "invalid_request",
            50011,
            format!("The redirect URI '{uri}' is not https (FAPI 2.0)."),
        )
    }

    /// Builds the response to an unknown, used or expired reference, in words of this server.
    pub(crate) fn unknown_request_uri() -> Self {
        Self::bad_request(
            "invalid_request_uri",
            9002313,
            "The request_uri is not known to this client's authority, was used before, or has expired.",
        )
    }

    /// Builds the response to a pushed request for another client, in words of this server.
    pub(crate) fn other_client_pushed() -> Self {
        Self::bad_request(
            "invalid_request",
            9002313,
            "The client_id of the pushed request is not the client of the credential.",
        )
    }

    /// Builds the response to an authorization request with its parameters in the URL, in words of
    /// this server.
    pub(crate) fn request_not_pushed() -> Self {
        Self::bad_request(
            "invalid_request",
            9002313,
            "This authority requires pushed authorization requests (RFC 9126).",
        )
    }

    pub(crate) fn unsupported_response_type(requested: &str) -> Self {
        Self::bad_request(
            "unsupported_response_type",
            700054,
            format!("response_type '{requested}' is not enabled for the application."),
        )
    }

    pub(crate) fn unsupported_response_mode() -> Self {
        Self::bad_request(
            "invalid_request",
            70007,
            "The response mode is not supported. This authority supports query and form_post.",
        )
    }

    pub(crate) fn unsupported_prompt() -> Self {
        Self::bad_request("invalid_request", 90023, "Unsupported 'prompt' value.")
    }

    /// Builds the response to a `plain` challenge, in words of this server. Entra accepts `plain`.
    pub(crate) fn unsupported_challenge_method() -> Self {
        Self::bad_request(
            "invalid_request",
            9002313,
            "The code_challenge_method must be S256: this authority does not accept 'plain'.",
        )
    }

    pub(crate) fn invalid_challenge_size() -> Self {
        Self::bad_request(
            "invalid_request",
            501491,
            "Invalid size of Code_Challenge parameter.",
        )
    }

    pub(crate) fn unpublished_scope(client_id: &str, scope: &str, resource: &str) -> Self {
        Self::bad_request(
            "invalid_client",
            650053,
            format!(
                "The application '{client_id}' asked for scope '{scope}' that doesn't exist on the resource '{resource}'. Contact the app vendor."
            ),
        )
    }

    pub(crate) fn login_required() -> Self {
        Self::bad_request(
            "login_required",
            50058,
            "A silent sign-in request was sent but no user is signed in.",
        )
    }

    /// Builds the response to `prompt=none` without consent.
    pub(crate) fn silent_consent_required(client_id: &str) -> Self {
        Self {
            error: "consent_required",
            suberror: None,
            ..Self::consent_required(client_id)
        }
    }

    pub(crate) fn consent_declined() -> Self {
        Self::bad_request(
            "access_denied",
            65004,
            "User declined to consent to access the app.",
        )
    }

    /// Builds the response to a form that was sent before or never shown.
    pub(crate) fn unknown_sign_in_page() -> Self {
        Self::bad_request(
            "invalid_request",
            165000,
            "Invalid Request: The request tokens do not match the user context. Do not copy the user context values (cookies; form fields; headers) between different requests or user sessions; always maintain the ALL of the supplied values across a complete single user flow.",
        )
    }

    pub(crate) fn code_redeemed() -> Self {
        Self::bad_request(
            "invalid_grant",
            54005,
            "OAuth2 Authorization code was already redeemed, please retry with a new valid code or use an existing refresh token.",
        )
    }

    /// Builds the response to a redirect URI that differs from the authorization request's.
    ///
    /// The code is Entra's. Entra's `error` is unknown, so this is the one of RFC 6749.
    pub(crate) fn different_redirect_uri(presented: &str, requested: &str) -> Self {
        Self::bad_request(
            "invalid_grant",
            500112,
            format!(
                "The reply address '{presented}' does not match the reply address '{requested}' provided when requesting Authorization code."
            ),
        )
    }

    pub(crate) fn wrong_verifier() -> Self {
        Self::bad_request(
            "invalid_grant",
            501481,
            "The Code_Verifier does not match the code_challenge supplied in the authorization request.",
        )
    }
}
