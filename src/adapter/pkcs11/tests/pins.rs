use std::sync::{Arc, Mutex};

use cryptoki::error::RvError;
use tokio::task::JoinSet;

use super::super::sessions::TokenPin;
use super::double::{Double, LONG, PIN, SHORT, sign};
use crate::credential::{CredentialFuture, CredentialSource};
use crate::secret::Secret;

/// A source of PINs that counts its calls.
#[derive(Clone)]
struct PinSource(Arc<Mutex<(&'static str, usize)>>);

impl PinSource {
    fn new(pin: &'static str) -> Self {
        Self(Arc::new(Mutex::new((pin, 0))))
    }

    fn set(&self, pin: &'static str) {
        self.0.lock().unwrap().0 = pin;
    }

    fn calls(&self) -> usize {
        self.0.lock().unwrap().1
    }

    fn token_pin(&self) -> TokenPin {
        TokenPin::Source(Arc::new(self.clone()))
    }
}

impl CredentialSource<Secret> for PinSource {
    fn credential(&self) -> CredentialFuture<'_, Secret> {
        let mut state = self.0.lock().unwrap();
        state.1 += 1;
        let pin = Secret::from(state.0);
        Box::pin(async move { Ok(pin) })
    }
}

#[tokio::test]
async fn a_wrong_pin_is_tried_once_by_all_callers_and_the_next_pin_works() {
    for code in [
        RvError::PinIncorrect,
        RvError::PinInvalid,
        RvError::PinLenRange,
    ] {
        let double = Double::default();
        double.state().login_error = Some(code);
        let pin = PinSource::new("9999");
        let token = double.token_with(pin.token_pin(), 8, LONG);
        let mut callers = JoinSet::new();
        for _ in 0..64 {
            let token = token.clone();
            callers.spawn(async move { sign(&token).await.unwrap_err().to_string() });
        }
        for error in callers.join_all().await {
            assert!(
                error.starts_with("the token 'daemon' rejected the PIN"),
                "{error}"
            );
        }
        assert_eq!(double.state().logins.len(), 1);
        // A key of the same token, made apart, knows the PIN as wrong, too.
        double.state().login_error = None;
        assert!(sign(&token).await.is_err());
        assert_eq!(double.state().logins.len(), 1);

        pin.set(PIN);
        sign(&token).await.unwrap();
        assert_eq!(double.state().logins.len(), 2);
        // No session is left open by the failures, but the keeper and one for signatures.
        assert_eq!(double.state().open.len(), 2);
    }
}

#[tokio::test]
async fn a_pin_is_read_for_a_login_alone() {
    let double = Double::default();
    let pin = PinSource::new(PIN);
    let token = double.token_with(pin.token_pin(), 8, LONG);
    for _ in 0..3 {
        sign(&token).await.unwrap();
    }
    assert_eq!((pin.calls(), double.state().logins.len()), (1, 1));
    // The handle is invalid after another part of the program has logged out and in.
    double.log_out();
    double.state().is_logged_in = true;
    sign(&token).await.unwrap();
    assert_eq!((pin.calls(), double.state().logins.len()), (1, 1));
    double.log_out();
    sign(&token).await.unwrap();
    assert_eq!((pin.calls(), double.state().logins.len()), (2, 2));
}

#[tokio::test]
async fn a_locked_pin_is_not_tried() {
    let double = Double::default();
    double.state().login_error = Some(RvError::PinLocked);
    let token = double.token();
    let error = sign(&token).await.unwrap_err().to_string();
    assert!(
        error.starts_with("the PIN of the token 'daemon' is locked"),
        "{error}"
    );
    assert_eq!(double.state().logins.len(), 1);
    // The token says so before a login.
    double.state().tokens[0].1.is_pin_locked = true;
    let error = sign(&token).await.unwrap_err();
    assert!(error.to_string().contains("is locked") && !error.is_transient());
    assert_eq!(double.state().logins.len(), 1);
    // The security officer has unlocked the PIN.
    double.state().tokens[0].1.is_pin_locked = false;
    double.state().login_error = None;
    sign(&token).await.unwrap();
}

#[tokio::test]
async fn a_login_that_somebody_has_made_is_a_success() {
    let double = Double::default();
    let token = double.token();
    double.state().login_error = Some(RvError::UserAlreadyLoggedIn);
    let error = sign(&token).await.unwrap_err().to_string();
    // The double shows no keys before the login.
    assert!(error.contains("has no private key 'signing'"), "{error}");
}

#[tokio::test]
async fn a_missing_pin_and_a_failing_source_have_messages_of_their_own() {
    let double = Double::default();
    let error = sign(&double.token_with(TokenPin::None, 8, LONG))
        .await
        .unwrap_err();
    assert_eq!(
        error.to_string(),
        "the token 'daemon' needs a PIN; set the PIN with pin(..) or pin_source(..)"
    );
    let source = || async { Err::<Secret, _>("the vault is sealed".into()) };
    let pin = TokenPin::Source(Arc::new(source));
    let error = sign(&double.token_with(pin, 8, LONG)).await.unwrap_err();
    assert_eq!(
        error.chain().to_string(),
        "the PIN of the token 'daemon' cannot be read from the credential source: the vault is sealed"
    );
    // A source that returns nothing keeps no session and no thread.
    let source =
        || std::future::pending::<Result<Secret, Box<dyn std::error::Error + Send + Sync>>>();
    let token = double.token_with(TokenPin::Source(Arc::new(source)), 1, SHORT);
    for _ in 0..3 {
        let error = sign(&token).await.unwrap_err();
        assert_eq!(
            error.to_string(),
            "the PIN of the token 'daemon' cannot be read: the credential source returned nothing within 0.1 s"
        );
        assert!(error.is_transient());
    }
    assert_eq!(token.sessions.free_permits(), 1);
    assert_eq!(double.state().logins.len(), 0);
    assert_eq!(double.state().open.len(), 0);
    // A token that needs no login gets none.
    double.state().tokens[0].1.needs_login = false;
    double.state().is_logged_in = true;
    sign(&double.token_with(TokenPin::None, 8, LONG))
        .await
        .unwrap();
}

#[tokio::test]
async fn a_login_that_fails_for_another_reason_is_not_repeated() {
    let double = Double::default();
    double.state().login_error = Some(RvError::FunctionFailed);
    let error = sign(&double.token()).await.unwrap_err().to_string();
    assert!(
        error.contains("C_Login returned CKR_FUNCTION_FAILED"),
        "{error}"
    );
    assert_eq!(double.state().logins.len(), 1);
    // A token that is gone has not judged the PIN.
    double.state().login_error = Some(RvError::DeviceRemoved);
    let error = sign(&double.token()).await.unwrap_err().to_string();
    assert!(error.contains("was removed"), "{error}");
    assert_eq!(double.state().logins.len(), 3);
}
