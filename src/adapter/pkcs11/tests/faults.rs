use cryptoki::context::Function;
use cryptoki::error::RvError;
use tokio::runtime::Builder;
use tokio::task::JoinSet;

use super::super::failure::error_of;
use super::super::module::CallFailed;
use super::super::sessions::TokenPin;
use super::double::{Double, LONG, PIN, SHORT, Step, sign, token_info};

#[tokio::test]
async fn after_any_error_of_a_signature_everything_is_looked_up_once() {
    for code in [
        RvError::DeviceRemoved,
        RvError::TokenNotPresent,
        RvError::SessionHandleInvalid,
        RvError::ObjectHandleInvalid,
        RvError::KeyHandleInvalid,
        RvError::UserNotLoggedIn,
        RvError::DeviceError,
        RvError::GeneralError,
        RvError::OperationActive,
        RvError::VendorDefined(0x8000_0001),
    ] {
        let double = Double::default();
        let token = double.token();
        sign(&token).await.unwrap();
        double.state().sign_errors.extend([code]);
        let searches = double.state().searches;
        sign(&token).await.unwrap();
        assert_eq!(double.state().sign_calls, 3, "{code:?}");
        assert_eq!(double.state().searches, searches + 1, "{code:?}");

        // The second error is the caller's, and names the code.
        double.state().sign_errors.extend([code, code]);
        let error = sign(&token).await.unwrap_err();
        assert_eq!(double.state().sign_calls, 5, "{code:?}");
        assert!(error.is_transient(), "{code:?}");
        assert!(error.to_string().contains("(C_") || error.to_string().contains(": C_Sign "));
        sign(&token).await.unwrap();
        // The failed session was not used again.
        assert_eq!(double.state().sign_calls, 6, "{code:?}");
        // The failed sessions are closed. One keeper and one session are left.
        assert_eq!(double.state().open.len(), 2, "{code:?}");
        assert_eq!(double.state().wrongly_closed, 0, "{code:?}");
        // The keepers overlap, so the process stays logged in.
        assert_eq!(double.state().logins.len(), 1, "{code:?}");
    }
}

#[tokio::test]
async fn a_logout_by_another_part_of_the_program_is_repaired_for_all_callers() {
    let double = Double::default();
    let token = double.token();
    for _ in 0..5 {
        let mut callers = JoinSet::new();
        for _ in 0..16 {
            let token = token.clone();
            callers.spawn(async move { sign(&token).await.unwrap() });
        }
        callers.join_all().await;
        double.log_out();
    }
    let state = double.state();
    assert_eq!(state.logins.len(), 5);
    assert_eq!(state.wrongly_closed, 0);
}

#[tokio::test]
async fn sessions_are_reused_and_closed_with_the_token() {
    let double = Double::default();
    let token = double.token();
    let key = token.key("signing");
    for _ in 0..10 {
        sign(&token).await.unwrap();
    }
    assert_eq!(double.state().opened, 2);
    drop(token);
    assert_eq!(double.state().open.len(), 2);
    drop(key);
    double.wait_until(|state| state.open.is_empty());
    assert_eq!(double.state().wrongly_closed, 0);
}

/// A thread that is still in the module when the process ends crashes the process.
#[test]
fn outside_of_a_runtime_a_drop_closes_the_sessions() {
    let double = Double::default();
    let token = double.token();
    let runtime = Builder::new_current_thread().enable_all().build().unwrap();
    runtime.block_on(sign(&token)).unwrap();
    drop(runtime);
    drop(token);
    assert!(double.state().open.is_empty());
    assert_eq!(double.state().wrongly_closed, 0);
}

#[tokio::test]
async fn a_signature_that_hangs_keeps_its_session_and_no_more() {
    let double = Double::default();
    let token = double.token_with(TokenPin::Fixed(PIN.into()), 2, SHORT);
    sign(&token).await.unwrap();
    double.state().hangs_at = Some(Step::Sign);
    // The first two callers hang in the module. The others wait for a session.
    let errors: Vec<String> = {
        let mut callers = JoinSet::new();
        for _ in 0..64 {
            let token = token.clone();
            callers.spawn(async move { sign(&token).await.unwrap_err().to_string() });
        }
        callers.join_all().await
    };
    let slow = errors
        .iter()
        .filter(|error| error.contains("did not return within 0.1 s"));
    assert_eq!(slow.count(), 2, "{errors:?}");
    let busy = errors
        .iter()
        .filter(|error| error.starts_with("all 2 sessions of the token"));
    assert_eq!(busy.count(), 62, "{errors:?}");
    assert_eq!(double.state().most_inside, 2);
    double.release();
    double.wait_until(|state| state.inside == 0);
    let token = token.clone();
    // The calls that returned late have given their sessions back.
    while token.sessions.idle_sessions() < 2 {
        tokio::task::yield_now().await;
    }
    sign(&token).await.unwrap();
    // The keeper and two sessions.
    let state = double.state();
    assert_eq!((state.opened, state.open.len()), (3, 3));
}

#[tokio::test]
async fn callers_share_the_sessions() {
    let double = Double::default();
    let token = double.token_with(TokenPin::Fixed(PIN.into()), 4, LONG);
    double.state().hangs_at = Some(Step::Sign);
    let mut callers = JoinSet::new();
    for _ in 0..64 {
        let token = token.clone();
        callers.spawn(async move { sign(&token).await.unwrap() });
    }
    let waiting = double.clone();
    tokio::task::spawn_blocking(move || waiting.wait_until(|state| state.inside == 4))
        .await
        .unwrap();
    double.release();
    assert_eq!(callers.join_all().await.len(), 64);
    let state = double.state();
    assert_eq!(
        (state.most_inside, state.opened, state.logins.len()),
        (4, 5, 1)
    );
}

#[tokio::test(flavor = "multi_thread", worker_threads = 4)]
async fn callers_wait_for_a_session_if_the_token_allows_no_more() {
    for limit in [2, 3, 5] {
        let double = Double::default();
        double.state().session_limit = limit;
        double.state().hangs_at = Some(Step::Sign);
        let token = double.token();
        let mut callers = JoinSet::new();
        for _ in 0..64 {
            let token = token.clone();
            callers.spawn(async move { sign(&token).await.unwrap() });
        }
        // Each of the eight threads has a session, or was refused one. The keeper has one, too.
        let waiting = double.clone();
        tokio::task::spawn_blocking(move || {
            waiting.wait_until(|state| state.inside + state.refused == 8);
        })
        .await
        .unwrap();
        double.release();
        assert_eq!(callers.join_all().await.len(), 64);
        // A lost session needs no more sessions than before.
        double.state().sign_errors.extend([RvError::DeviceError]);
        sign(&token).await.unwrap();
        let state = double.state();
        assert_eq!((state.logins.len(), state.wrongly_closed), (1, 0));
    }
}

#[tokio::test]
async fn a_token_with_one_session_is_an_error_that_ends_no_login() {
    let double = Double::default();
    double.state().session_limit = 1;
    let token = double.token();
    for _ in 0..3 {
        let error = sign(&token).await.unwrap_err();
        assert!(error.to_string().contains("allows no more sessions"));
        assert!(error.is_transient());
    }
    assert_eq!(double.state().logins.len(), 1);
    double.state().session_limit = 2;
    sign(&token).await.unwrap();
    assert_eq!(double.state().logins.len(), 1);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 4)]
async fn a_token_that_is_removed_while_64_callers_sign_recovers() {
    let double = Double::default();
    let token = double.token();
    double.state().hangs_at = Some(Step::Sign);
    let mut callers = JoinSet::new();
    for _ in 0..64 {
        let token = token.clone();
        callers.spawn(async move { sign(&token).await.unwrap_err() });
    }
    let waiting = double.clone();
    tokio::task::spawn_blocking(move || waiting.wait_until(|state| state.inside == 8))
        .await
        .unwrap();
    let removed = std::mem::take(&mut double.state().tokens);
    double.log_out();
    double.state().sign_errors = vec![RvError::DeviceRemoved; 8].into();
    double.release();
    for error in callers.join_all().await {
        let text = error.to_string();
        assert!(text.contains("is not present"), "{text}");
        assert!(error.is_transient());
    }
    assert_eq!(double.state().finalizes, 1);
    assert_eq!(double.state().open.len(), 0);
    double.state().tokens = removed;
    let mut callers = JoinSet::new();
    for _ in 0..64 {
        let token = token.clone();
        callers.spawn(async move { sign(&token).await.unwrap() });
    }
    callers.join_all().await;
    let state = double.state();
    assert_eq!((state.logins.len(), state.wrongly_closed), (2, 0));
}

#[tokio::test]
async fn another_token_with_the_same_label_gets_a_login_and_a_search_of_its_own() {
    let double = Double::default();
    let token = double.token();
    sign(&token).await.unwrap();
    // The other token has another PIN, and another key under the label.
    double.state().tokens = vec![(9, token_info("daemon", "0002"))];
    double.state().objects[0].1.id = vec![2];
    double.state().pin = "5678";
    double.log_out();
    double.state().open.clear();
    let searches = double.state().searches;
    for _ in 0..3 {
        let error = sign(&token).await.unwrap_err().to_string();
        assert!(error.contains("rejected the PIN"), "{error}");
    }
    // One login for each token.
    assert_eq!(double.state().logins.len(), 2);
    double.state().pin = PIN;
    double.state().tokens[0].1.serial_number = "0003".to_owned();
    sign(&token).await.unwrap();
    assert_eq!(double.state().searches, searches + 1);
    // The PIN is not known as wrong on the first token.
    double.state().tokens[0].1.serial_number = "0001".to_owned();
    double.log_out();
    sign(&token).await.unwrap();
}

#[tokio::test]
async fn a_session_of_an_ended_login_is_closed_when_its_call_returns() {
    let double = Double::default();
    let token = double.token();
    sign(&token).await.unwrap();
    double.state().hangs_at = Some(Step::Sign);
    let slow = tokio::spawn({
        let token = token.clone();
        async move { sign(&token).await }
    });
    let waiting = double.clone();
    tokio::task::spawn_blocking(move || waiting.wait_until(|state| state.inside == 1))
        .await
        .unwrap();
    token.sessions.retire_current();
    double.release();
    slow.await.unwrap().unwrap();
    sign(&token).await.unwrap();
    assert_eq!(double.state().open.len(), 2);
}

#[tokio::test]
async fn no_sessions_at_all_is_an_error_and_so_is_no_runtime() {
    let double = Double::default();
    let token = double.token_with(TokenPin::None, 0, LONG);
    let error = sign(&token).await.unwrap_err().to_string();
    assert_eq!(error, "max_sessions must be at least 1");
    let token = double.token();
    let outside = std::thread::spawn(move || futures_util::FutureExt::now_or_never(sign(&token)));
    let error = outside.join().unwrap().unwrap().unwrap_err().to_string();
    assert!(error.contains("needs a tokio runtime"), "{error}");
}

#[test]
fn each_code_has_words_of_our_own() {
    let rows = [
        (
            RvError::TokenNotPresent,
            "was removed; insert the token (C_Sign returned CKR_TOKEN_NOT_PRESENT)",
        ),
        (RvError::DeviceRemoved, "was removed"),
        (RvError::TokenNotRecognized, "was removed"),
        (RvError::SlotIdInvalid, "has no slot any more"),
        (
            RvError::PinExpired,
            "the PIN of the token 'daemon' has expired",
        ),
        (RvError::UserPinNotInitialized, "has no user PIN"),
        (
            RvError::UserAnotherAlreadyLoggedIn,
            "security officer of the token 'daemon' is logged in",
        ),
        (
            RvError::SessionReadWriteSoExists,
            "security officer of the token 'daemon' is logged in",
        ),
        (RvError::SessionCount, "set a smaller max_sessions"),
        (
            RvError::UserNotLoggedIn,
            "does another part of the program log out?",
        ),
        (
            RvError::MechanismInvalid,
            "the key on the token 'daemon' cannot make a signature of this kind",
        ),
        (
            RvError::MechanismParamInvalid,
            "cannot make a signature of this kind",
        ),
        (
            RvError::KeyFunctionNotPermitted,
            "the key on the token 'daemon' is not allowed to sign",
        ),
        (RvError::KeyTypeInconsistent, "does not fit the signature"),
        (RvError::KeySizeRange, "does not fit the signature"),
        (RvError::ObjectHandleInvalid, "disappeared during the call"),
        (RvError::KeyHandleInvalid, "disappeared during the call"),
        (
            RvError::SessionHandleInvalid,
            "closed the session of the call",
        ),
        (RvError::SessionClosed, "closed the session of the call"),
        (
            RvError::CryptokiNotInitialized,
            "another part of the program finalized the PKCS#11 module",
        ),
        (
            RvError::DeviceError,
            "failed: C_Sign returned CKR_DEVICE_ERROR",
        ),
        (
            RvError::VendorDefined(0x8000_0001),
            "C_Sign returned 0x80000001",
        ),
    ];
    for (code, expected) in rows {
        let call = CallFailed {
            function: Function::Sign,
            code: Some(code),
        };
        let error = error_of(call, "the token 'daemon'", Some("the key"))
            .chain()
            .to_string();
        assert!(error.contains(expected), "{code:?}: {error}");
        // The text of the specification is no part of the message.
        let text = code.to_string();
        assert!(!error.contains(text.get(..40).unwrap_or(&text)), "{error}");
    }
    let call = CallFailed {
        function: Function::Sign,
        code: None,
    };
    let error = error_of(call, "the token", None).to_string();
    assert_eq!(
        error,
        "the token cannot be used: C_Sign is missing or its result cannot be read"
    );
}
