use http::StatusCode;
use serde_json::{Value, json};

use super::host_kind::HostKind;
use crate::testing::aadsts::error::AadstsError;

/// The reasons why an endpoint rejects a token request.
#[derive(Debug)]
pub(crate) enum HostRejection {
    /// A header is missing or has another value.
    NoHeader(&'static str),
    WrongSecret,
    /// The version of the request, and the accepted versions.
    ApiVersion(Option<String>, &'static [&'static str]),
    NoResource,
    /// A parameter that is repeated, unknown or one too many, in words.
    Parameter(String),
    IdentityNotFound,
    SeveralIdentities,
    /// Entra rejects the request of the endpoint.
    Entra(AadstsError),
    /// A scripted status.
    Status(StatusCode),
}

/// A rejection as an endpoint writes it.
pub(crate) struct HostError {
    pub(crate) status: StatusCode,
    code: &'static str,
    text: String,
}

impl HostRejection {
    /// Words the rejection as the endpoint of `kind` does.
    ///
    /// The words of Azure are unknown for a wrong secret, for a wrong version except Service
    /// Fabric's, and for a wrong parameter, which have words of this server.
    pub(crate) fn to_error(&self, kind: HostKind) -> HostError {
        match kind {
            HostKind::ServiceFabric => self.to_fabric_error(),
            HostKind::AppService | HostKind::AzureMl => self.to_app_service_error(),
            HostKind::CloudShell => self.to_cloud_shell_error(),
            HostKind::Imds | HostKind::AzureArc => self.to_imds_error(),
        }
    }

    fn to_imds_error(&self) -> HostError {
        let bad_request = |code, text: &str| HostError::new(StatusCode::BAD_REQUEST, code, text);
        match self {
            Self::NoHeader(_) => {
                bad_request("bad_request_102", "Required metadata header not specified")
            }
            Self::NoResource => bad_request(
                "invalid_request",
                "Required audience parameter not specified",
            ),
            Self::IdentityNotFound => bad_request("invalid_request", "Identity not found"),
            Self::SeveralIdentities => bad_request(
                "invalid_request",
                "Multiple user assigned identities exist, please specify the clientId / resourceId of the identity in the token request",
            ),
            Self::Status(StatusCode::BAD_REQUEST) => Self::IdentityNotFound.to_imds_error(),
            _ => self.to_common_error("invalid_request"),
        }
    }

    fn to_app_service_error(&self) -> HostError {
        let bad_request = |text: &str| HostError::new(StatusCode::BAD_REQUEST, "", text);
        match self {
            Self::IdentityNotFound | Self::Status(StatusCode::BAD_REQUEST) => bad_request(
                "No Managed Identity found for specified ClientId/ResourceId/PrincipalId.",
            ),
            Self::SeveralIdentities => bad_request(
                "Unable to load the proper Managed Identity. Several are assigned, and the request names none.",
            ),
            _ => self.to_common_error(""),
        }
    }

    fn to_fabric_error(&self) -> HostError {
        let bad_request = |code, text: &str| HostError::new(StatusCode::BAD_REQUEST, code, text);
        match self {
            Self::NoHeader(_) => bad_request(
                "SecretHeaderNotFound",
                "Secret is not found in the request headers.",
            ),
            Self::NoResource => bad_request(
                "ArgumentNullOrEmpty",
                "The parameter 'resource' should not be null or empty string.",
            ),
            Self::ApiVersion(version, versions) => bad_request(
                "InvalidApiVersion",
                &format!(
                    "The api-version '{}' is not supported. Supported version is '{}'.",
                    version.as_deref().unwrap_or_default(),
                    versions.join("', '")
                ),
            ),
            Self::IdentityNotFound | Self::SeveralIdentities => HostError::new(
                StatusCode::NOT_FOUND,
                "ManagedIdentityNotFound",
                "The specified managed identity is not found or not assigned to the application.",
            ),
            Self::Status(StatusCode::BAD_REQUEST | StatusCode::NOT_FOUND) => HostError {
                status: self.status(),
                ..Self::IdentityNotFound.to_fabric_error()
            },
            _ => self.to_common_error("InternalServerError"),
        }
    }

    fn to_cloud_shell_error(&self) -> HostError {
        match self {
            Self::Entra(AadstsError { code: 500011, .. }) => HostError::new(
                StatusCode::BAD_REQUEST,
                "AudienceNotSupported",
                "The audience is not supported by the token endpoint of Cloud Shell.",
            ),
            _ => self.to_imds_error(),
        }
    }

    /// Words a rejection that all endpoints word alike. `code` is the code of a rejection without
    /// one of its own.
    fn to_common_error(&self, code: &'static str) -> HostError {
        let text = match self {
            Self::NoHeader(name) => format!("The request has no header '{name}'."),
            Self::WrongSecret => "The secret of the request is wrong.".to_owned(),
            Self::ApiVersion(version, versions) => format!(
                "The api-version '{}' is not supported. The supported versions are '{}'.",
                version.as_deref().unwrap_or_default(),
                versions.join("', '")
            ),
            Self::NoResource => "The request has no parameter 'resource'.".to_owned(),
            Self::Parameter(text) => text.clone(),
            Self::IdentityNotFound | Self::SeveralIdentities => "Identity not found".to_owned(),
            Self::Entra(error) => {
                let text = format!("AADSTS{}: {}", error.code, error.text);
                return HostError::new(self.status(), error.error, &text);
            }
            Self::Status(status) => {
                let (code, text) = match status.as_u16() {
                    404 => ("not_found", "The endpoint is not found."),
                    410 => ("gone", "The endpoint is being updated."),
                    429 => ("too_many_requests", "Too many requests."),
                    500..=599 => ("server_error", "The endpoint failed."),
                    _ => (code, "The endpoint rejects the request."),
                };
                return HostError::new(*status, code, text);
            }
        };
        HostError::new(self.status(), code, &text)
    }

    fn status(&self) -> StatusCode {
        match self {
            Self::Status(status) => *status,
            Self::Entra(error) => error.status,
            Self::WrongSecret => StatusCode::UNAUTHORIZED,
            _ => StatusCode::BAD_REQUEST,
        }
    }
}

impl HostError {
    fn new(status: StatusCode, code: &'static str, text: &str) -> Self {
        Self {
            status,
            code,
            text: text.to_owned(),
        }
    }

    /// Writes the body in the form of the endpoint of `kind`.
    pub(crate) fn body(&self, kind: HostKind, correlation_id: &str) -> Value {
        let Self { status, code, text } = self;
        match kind {
            HostKind::Imds | HostKind::AzureArc => {
                json!({ "error": code, "error_description": text })
            }
            HostKind::AppService | HostKind::AzureMl => json!({
                "statusCode": status.as_u16(),
                "message": text,
                "correlationId": correlation_id,
            }),
            HostKind::ServiceFabric => json!({
                "error": { "correlationId": correlation_id, "code": code, "message": text },
            }),
            HostKind::CloudShell => json!({ "error": { "code": code, "message": text } }),
        }
    }
}
