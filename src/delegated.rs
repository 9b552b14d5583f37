//! Values for delegated access, where a web API or web app acts for a signed-in user.
//!
//! ```
//! # use bytes::Bytes;
//! # use http::{Request, Response};
//! use confidential_client::ConfidentialClient;
//! use confidential_client::delegated::UserAssertion;
//!
//! # #[tokio::main(flavor = "current_thread")]
//! # async fn main() -> Result<(), Box<dyn std::error::Error>> {
//! let client = ConfidentialClient::builder("11111111-2222-3333-4444-555555555555")
//!     .tenant("contoso.onmicrosoft.com")
//!     .client_secret("the secret's value")
//! #   .transport(|_: Request<Bytes>| async {
//! #       let body = r#"{"token_type":"Bearer","expires_in":3599,"access_token":"abc"}"#;
//! #       Ok(Response::new(Bytes::from(body)))
//! #   })
//!     .build()?;
//!
//! // An API received this token from a user's client, and calls another API for the same user.
//! # let received_token = "opaque";
//! let user = UserAssertion::new(received_token);
//! let token = client
//!     .acquire_token_on_behalf_of(&user, "https://graph.microsoft.com/User.Read")
//!     .await?;
//! # assert_eq!(token.secret(), "abc");
//! # Ok(())
//! # }
//! ```
//!
//! | task | call | values |
//! |---|---|---|
//! | call another API for the user of an API call | [`acquire_token_on_behalf_of`] | [`UserAssertion`] |
//! | send a user to the sign-in page | [`authorization_request_url`] | [`AuthorizationRequest`], [`Prompt`], [`AuthorizationCodeFlow`] |
//! | finish the sign-in | [`acquire_token_by_authorization_code`][by-code] | [`AuthenticationResult`] |
//! | finish a sign-in without an ID token | [`acquire_access_token_by_authorization_code`][access-by-code] | [`AccessToken`](crate::AccessToken) |
//! | get another token for a signed-in user | [`acquire_token_silent`] | [`Account`] |
//! | get a new ID token of a signed-in user | [`acquire_id_token_silent`] | [`AuthenticationResult`], [`IdTokenClaims`] |
//! | sign a user out | [`remove_account`], [`end_session_url`] | [`Account`], [`EndSessionRequest`] |
//! | exchange a token at an OpenID provider | [`exchange_token`] | [`TokenExchange`], [`TokenTypeIdentifier`] |
//! | act for a user after the user's call | [`start_long_running_on_behalf_of`] | [`SessionKey`] |
//! | act as a user of an agent identity | [`acquire_token_by_user_fic`] | [`UserIdentifier`] |
//! | move from another library | [`import_refresh_token`] | [`Account`] |
//! | ask an administrator for consent | [`admin_consent_url`] | [`AdminConsent`] |
//!
//! [`acquire_token_on_behalf_of`]: crate::ConfidentialClient::acquire_token_on_behalf_of
//! [`authorization_request_url`]: crate::ConfidentialClient::authorization_request_url
//! [by-code]: crate::ConfidentialClient::acquire_token_by_authorization_code
//! [access-by-code]: crate::ConfidentialClient::acquire_access_token_by_authorization_code
//! [`acquire_token_silent`]: crate::ConfidentialClient::acquire_token_silent
//! [`acquire_id_token_silent`]: crate::ConfidentialClient::acquire_id_token_silent
//! [`end_session_url`]: crate::ConfidentialClient::end_session_url
//! [`start_long_running_on_behalf_of`]: crate::ConfidentialClient::start_long_running_on_behalf_of
//! [`exchange_token`]: crate::ConfidentialClient::exchange_token
//! [`import_refresh_token`]: crate::ConfidentialClient::import_refresh_token
//! [`remove_account`]: crate::ConfidentialClient::remove_account
//! [`acquire_token_by_user_fic`]: crate::AgentIdentity::acquire_token_by_user_fic
//! [`admin_consent_url`]: crate::ConfidentialClient::admin_consent_url

mod account;
pub(crate) mod admin_consent;
mod authentication_result;
mod authorization_code_flow;
mod authorization_request;
mod end_session;
mod id_token;
mod id_token_claims;
mod identity;
pub(crate) mod redirect;
mod session_key;
mod token_exchange;
mod token_type_identifier;
mod user_assertion;
mod user_identifier;

pub use account::Account;
pub(crate) use account::invalid_id_token;
pub use admin_consent::AdminConsent;
pub use authentication_result::AuthenticationResult;
pub use authorization_code_flow::AuthorizationCodeFlow;
pub(crate) use authorization_code_flow::{SignInResponse, invalid_response};
pub use authorization_request::{AuthorizationRequest, Prompt};
pub use end_session::EndSessionRequest;
pub(crate) use id_token::IdTokenRules;
pub use id_token_claims::IdTokenClaims;
pub(crate) use identity::UserIdentity;
pub(crate) use session_key::Fingerprint;
pub use session_key::SessionKey;
pub use token_exchange::TokenExchange;
pub use token_type_identifier::TokenTypeIdentifier;
pub use user_assertion::UserAssertion;
pub use user_identifier::UserIdentifier;
