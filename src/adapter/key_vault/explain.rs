//! Errors of a vault in plain words.

use std::error::Error as StdError;
use std::fmt;
use std::iter::successors;
use std::time::Duration;

use azure_core::Error as SdkError;
use azure_core::error::ErrorKind;
use azure_core::http::headers::RETRY_AFTER;
use azure_core::http::{RawResponse, StatusCode, Url};
use serde::Deserialize;

use crate::error::{Error, Failure};
use crate::time::format_limit;

/// An operation of a vault, for the words of its errors.
pub(super) struct Operation<'a> {
    vault: &'a Url,
    /// The operation behind "cannot", such as "sign with version 1 of the key 'app'".
    action: String,
    /// The object that 404 denies, such as "version 1 of the key 'app'".
    object: String,
    role: &'static str,
    /// The permission of an access policy, with its kind of object.
    permission: &'static str,
}

impl<'a> Operation<'a> {
    pub(super) fn sign(vault: &'a Url, key: &str, version: &str) -> Self {
        let object = format!("version {version} of the key '{key}'");
        let is_hsm = vault
            .host_str()
            .is_some_and(|host| host.contains(".managedhsm."));
        Self {
            vault,
            action: format!("sign with {object}"),
            object,
            role: match is_hsm {
                true => "Managed HSM Crypto User",
                false => "Key Vault Crypto User",
            },
            permission: "'sign' for keys",
        }
    }

    pub(super) fn list_versions(vault: &'a Url, certificate: &str) -> Self {
        let object = format!("certificate '{certificate}'");
        Self {
            vault,
            action: format!("list the versions of the {object}"),
            object,
            role: "Key Vault Certificate User",
            permission: "'list' for certificates",
        }
    }

    pub(super) fn get_certificate(vault: &'a Url, certificate: &str, version: &str) -> Self {
        let object = format!("version {version} of the certificate '{certificate}'");
        Self {
            vault,
            action: format!("read {object}"),
            object,
            role: "Key Vault Certificate User",
            permission: "'get' for certificates",
        }
    }

    pub(super) fn get_secret(vault: &'a Url, certificate: &str, version: &str) -> Self {
        let object = format!("version {version} of the secret '{certificate}'");
        Self {
            vault,
            action: format!("read {object}, which has the private key of the certificate"),
            object,
            role: "Key Vault Certificate User' or 'Key Vault Secrets User",
            permission: "'get' for secrets",
        }
    }

    /// Returns the error of a vault without the object.
    pub(super) fn not_found(&self) -> Error {
        Error::credential(format!(
            "the Key Vault {} has no {}; check the name, and the vault's URL in the client of the Azure SDK",
            self.vault, self.object
        ))
    }

    /// Returns the error of a response without the expected value.
    ///
    /// A parser's error may quote the value, which may be a private key, so the error has no cause.
    pub(super) fn unreadable(&self) -> Error {
        let failure = Failure::new(format!(
            "the response of the Key Vault {} cannot be read, so this program cannot {}",
            self.vault, self.action
        ));
        Error::Credential(failure.in_callback().into())
    }

    pub(super) fn timed_out(&self, limit: Duration) -> Error {
        timed_out(self.vault, &self.action, limit)
    }

    /// Explains an error of the Azure SDK.
    pub(super) fn failed(&self, error: SdkError) -> Error {
        let Self { vault, action, .. } = self;
        if let ErrorKind::HttpResponse {
            status,
            raw_response,
            ..
        } = error.kind()
        {
            return self.rejected(*status, raw_response.as_deref());
        }
        // The vault's token comes from a client of this crate, whose error says what to do.
        if let Some(ours) = causes(&error).find_map(|cause| cause.downcast_ref::<Error>()) {
            let message = format!("there is no token for the Key Vault {vault}");
            let failure = Failure::new(message).source(Box::new(ours.clone()));
            return Error::Credential(failure.into());
        }
        let has = |text: &str| causes(&error).any(|cause| cause.to_string().contains(text));
        let (message, is_transient) = match error.kind() {
            ErrorKind::Credential => (format!("there is no token for the Key Vault {vault}"), true),
            _ if has("challenge resource") => (
                format!(
                    "the Key Vault {vault} requires a token for another domain than its own, so no token was sent; use the URL of the vault itself, or set verify_challenge_resource to Some(false) in the options of the Azure SDK's client if this address is meant"
                ),
                false,
            ),
            _ if has("non-TLS protected endpoints") => (
                format!("the URL of the Key Vault {vault} is not https, so no token was sent"),
                false,
            ),
            ErrorKind::Connection | ErrorKind::Io if has("invalid peer certificate") => (
                format!(
                    "the TLS certificate of the Key Vault {vault} is not accepted; trust the CA of the vault or of the proxy in the transport of the Azure SDK's client"
                ),
                false,
            ),
            ErrorKind::Connection | ErrorKind::Io => {
                (format!("no response from the Key Vault {vault}"), true)
            }
            _ => (format!("the Key Vault {vault} cannot {action}"), true),
        };
        let failure = Failure::new(message).source(Box::new(error));
        Error::Credential(match is_transient {
            true => failure.in_callback().into(),
            false => failure.into(),
        })
    }

    /// Explains a response that is an error.
    fn rejected(&self, status: StatusCode, response: Option<&RawResponse>) -> Error {
        let Self {
            vault,
            action,
            object,
            role,
            permission,
        } = self;
        let answer = VaultAnswer::of(response);
        let code = &answer.code;
        let shown = match code.is_empty() {
            true => status.to_string(),
            false => format!("{status} {code}"),
        };
        let has = |word: &str| code.contains(word);
        let message = match u16::from(status) {
            404 => format!(
                "the Key Vault {vault} has no {object} ({shown}); check the name, and the vault's URL in the client of the Azure SDK"
            ),
            403 if has("Disabled") || answer.message.contains("disabled") => format!(
                "the Key Vault {vault} does not {action} ({shown}); enable the version, or use another one"
            ),
            403 if has("Firewall") || has("Connection") => format!(
                "the network settings of the Key Vault {vault} reject this machine ({shown}); allow its address or its network, or use a private endpoint"
            ),
            403 if has("Expired") || has("NotYetValid") => format!(
                "the Key Vault {vault} does not {action} outside the validity of the version ({shown})"
            ),
            403 if has("KeyOperation") => format!(
                "the Key Vault {vault} does not {action} ({shown}); permit the operation for the key"
            ),
            403 => format!(
                "the Key Vault {vault} does not let this identity {action} ({shown}); assign the role '{role}' to the identity, or the permission {permission} in an access policy"
            ),
            401 => format!(
                "the Key Vault {vault} rejects the token of this identity ({shown}); use an identity of the vault's tenant"
            ),
            429 => format!("the Key Vault {vault} gets too many requests ({shown})"),
            500.. => format!("the Key Vault {vault} fails ({shown})"),
            _ => format!("the Key Vault {vault} cannot {action} ({shown})"),
        };
        let mut failure = Failure::new(message).retry_after(answer.retry_after);
        if u16::from(status) == 429 || u16::from(status) >= 500 {
            failure = failure.in_callback();
        }
        if !answer.message.is_empty() {
            failure = failure.source(Box::new(VaultMessage(answer.message)));
        }
        Error::Credential(failure.into())
    }
}

/// Returns the error of an operation that took too long.
pub(super) fn timed_out(vault: &Url, action: &str, limit: Duration) -> Error {
    let failure = Failure::new(format!(
        "the Key Vault {vault} did not {action} within {}; the client of the Azure SDK retries 429 and 5xx by default, and RetryOptions::none() in its options shows the vault's answer",
        format_limit(limit)
    ));
    Error::Credential(failure.in_callback().into())
}

fn causes<'a>(error: &'a SdkError) -> impl Iterator<Item = &'a (dyn StdError + 'static)> {
    let first: &'a (dyn StdError + 'static) = error;
    successors(Some(first), |error| (**error).source())
}

/// The parts of a vault's error response that the message shows.
#[derive(Default)]
struct VaultAnswer {
    /// The most specific error code.
    code: String,
    message: String,
    retry_after: Option<Duration>,
}

#[derive(Deserialize)]
struct VaultErrorBody {
    error: VaultErrorObject,
}

#[derive(Deserialize)]
struct VaultErrorObject {
    code: Option<String>,
    message: Option<String>,
    #[serde(alias = "innerError")]
    innererror: Option<VaultInnerError>,
}

#[derive(Deserialize)]
struct VaultInnerError {
    code: Option<String>,
}

impl VaultAnswer {
    fn of(response: Option<&RawResponse>) -> Self {
        let Some(response) = response else {
            return Self::default();
        };
        let seconds = response.headers().get_optional_str(&RETRY_AFTER);
        let seconds = seconds.and_then(|seconds| seconds.trim().parse().ok());
        let retry_after = seconds.map(|seconds| Duration::from_secs(seconds).min(LONGEST_WAIT));
        let body: Option<VaultErrorBody> = serde_json::from_slice(response.body()).ok();
        let Some(VaultErrorBody { error }) = body else {
            return Self {
                retry_after,
                ..Self::default()
            };
        };
        let is_word = |code: &String| {
            !code.is_empty() && code.bytes().all(|byte| byte.is_ascii_alphanumeric())
        };
        let inner = error.innererror.and_then(|inner| inner.code);
        let code = inner.filter(is_word).or(error.code);
        Self {
            code: code.filter(is_word).unwrap_or_default(),
            message: error
                .message
                .unwrap_or_default()
                .chars()
                .take(LONGEST_MESSAGE)
                .collect(),
            retry_after,
        }
    }
}

/// The vault's own words, as the cause of an error.
#[derive(Debug)]
struct VaultMessage(String);

impl fmt::Display for VaultMessage {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

impl StdError for VaultMessage {}

/// Longest part of the vault's message, in characters.
const LONGEST_MESSAGE: usize = 500;
/// The longest wait that the vault can ask for.
const LONGEST_WAIT: Duration = Duration::from_secs(5 * 60);
