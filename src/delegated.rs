//! Values for delegated access: a web API or web app that acts for a signed-in user.

mod account;
pub(crate) mod admin_consent;
mod authentication_result;
mod authorization_code_flow;
mod authorization_request;
pub(crate) mod redirect;
mod user_assertion;

pub use account::Account;
pub(crate) use account::invalid_id_token;
pub use admin_consent::AdminConsent;
pub use authentication_result::AuthenticationResult;
pub use authorization_code_flow::AuthorizationCodeFlow;
pub use authorization_request::{AuthorizationRequest, Prompt};
pub use user_assertion::UserAssertion;
