mod account;
mod authorization;
mod signed_in;
mod user_assertion;

pub use account::Account;
pub use authorization::{AuthorizationCodeFlow, AuthorizationRequest, Prompt};
pub use signed_in::SignedIn;
pub(crate) use signed_in::{account, code, invalid};
pub use user_assertion::UserAssertion;
