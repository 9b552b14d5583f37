mod account;
mod authentication_result;
mod authorization_code_flow;
mod authorization_request;
mod user_assertion;

pub use account::Account;
pub(crate) use account::invalid_id_token;
pub use authentication_result::AuthenticationResult;
pub use authorization_code_flow::AuthorizationCodeFlow;
pub use authorization_request::{AuthorizationRequest, Prompt};
pub use user_assertion::UserAssertion;
