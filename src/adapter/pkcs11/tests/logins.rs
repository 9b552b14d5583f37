//! Logins of several clients with one token.

use std::sync::Arc;

use tokio::sync::Barrier;
use tokio::task::{JoinSet, spawn_blocking};

use super::super::Pkcs11Token;
use super::super::module::TokenInfo;
use super::super::selection::TokenSelection;
use super::super::sessions::TokenPin;
use super::super::shared_module::SharedModule;
use super::super::token_logins::TokenLogins;
use super::double::{Double, LONG, PIN, SLOT, ShiftedClock, Step, sign, token_info, token_of};
use crate::time::TimeSource;

/// Returns a token of a client with a fixed PIN. The serial number selects the token.
fn client(module: &Arc<SharedModule>, serial_number: &str, pin: &str) -> Pkcs11Token {
    let selection = TokenSelection {
        serial_number: Some(serial_number.to_owned()),
        ..TokenSelection::default()
    };
    token_of(module, selection, TokenPin::Fixed(pin.into()), 8, LONG)
}

async fn is_rejected(token: &Pkcs11Token) -> bool {
    match sign(token).await {
        Ok(_) => false,
        Err(error) => {
            let error = error.to_string();
            assert!(error.contains("rejected the PIN"), "{error}");
            true
        }
    }
}

#[tokio::test]
async fn two_clients_with_different_wrong_pins_try_each_pin_once() {
    let double = Double::default();
    let module = double.shared(&ShiftedClock::default());
    let wrong = ["9999", "8888", "7777"].map(|pin| client(&module, "0001", pin));
    for _ in 0..3 {
        for token in &wrong {
            assert!(is_rejected(token).await);
        }
    }
    assert_eq!(double.state().logins, ["9999", "8888", "7777"]);
    sign(&client(&module, "0001", PIN)).await.unwrap();
    // A right PIN makes the wrong ones no better. Without a login of the process they count.
    double.log_out();
    for token in &wrong {
        assert!(is_rejected(token).await);
    }
    assert_eq!(double.state().logins, ["9999", "8888", "7777", PIN]);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 4)]
async fn clients_that_log_in_at_once_try_a_wrong_pin_once() {
    let double = Double::default();
    let module = double.shared(&ShiftedClock::default());
    double.state().hangs_at = Some(Step::Login);
    let start = Arc::new(Barrier::new(16));
    let mut callers = JoinSet::new();
    for number in 0..16 {
        // The token is selected in two ways.
        let token = match number % 2 {
            0 => client(&module, "0001", "9999"),
            _ => double_labelled(&module, "9999"),
        };
        let start = Arc::clone(&start);
        callers.spawn(async move {
            start.wait().await;
            is_rejected(&token).await
        });
    }
    let waiting = double.clone();
    // All of them are before the login, each with a session.
    spawn_blocking(move || waiting.wait_until(|state| state.opened == 16))
        .await
        .unwrap();
    double.release();
    assert!(
        callers
            .join_all()
            .await
            .into_iter()
            .all(|rejected| rejected)
    );
    assert_eq!(double.state().logins, ["9999"]);
    assert_eq!(double.state().open.len(), 0);
}

fn double_labelled(module: &Arc<SharedModule>, pin: &str) -> Pkcs11Token {
    let selection = TokenSelection {
        label: Some("daemon".to_owned()),
        ..TokenSelection::default()
    };
    token_of(module, selection, TokenPin::Fixed(pin.into()), 8, LONG)
}

#[tokio::test(flavor = "multi_thread", worker_threads = 4)]
async fn a_client_that_waits_for_anothers_login_uses_it() {
    let double = Double::default();
    let module = double.shared(&ShiftedClock::default());
    double.state().hangs_at = Some(Step::Login);
    let mut callers = JoinSet::new();
    for _ in 0..4 {
        let token = client(&module, "0001", PIN);
        callers.spawn(async move { sign(&token).await.unwrap() });
    }
    let waiting = double.clone();
    spawn_blocking(move || waiting.wait_until(|state| state.opened == 4))
        .await
        .unwrap();
    double.release();
    callers.join_all().await;
    assert_eq!(double.state().logins, [PIN]);
}

#[tokio::test]
async fn two_copies_of_a_module_share_the_rejected_pins_of_a_token() {
    let logins = Arc::<TokenLogins>::default();
    let copy = |info: TokenInfo| {
        let double = Double::default();
        double.state().tokens = vec![(SLOT, info)];
        let module = SharedModule::new(
            Box::new(double.clone()),
            TimeSource::System,
            Arc::clone(&logins),
        );
        (double, Arc::new(module))
    };
    let (one, module) = copy(token_info("daemon", "0001"));
    assert!(is_rejected(&client(&module, "0001", "9999")).await);
    assert_eq!(one.state().logins, ["9999"]);
    let daemon = || token_info("daemon", "0001");
    for (info, is_same) in [
        // Padded, as modules pad.
        (token_info("daemon   ", "0001"), true),
        (token_info("daemon", "0002"), false),
        (token_info("other", "0001"), false),
        (
            TokenInfo {
                manufacturer: "Another".to_owned(),
                ..daemon()
            },
            false,
        ),
        (
            TokenInfo {
                model: "v2".to_owned(),
                ..daemon()
            },
            false,
        ),
    ] {
        let serial_number = info.serial_number.clone();
        let shown = format!("{info:?}");
        let (other, module) = copy(info);
        assert!(is_rejected(&client(&module, &serial_number, "9999")).await);
        assert_eq!(other.state().logins.is_empty(), is_same, "{shown}");
    }
}

#[tokio::test]
async fn a_pin_that_the_token_got_back_works_after_the_pin_between_was_rejected() {
    let double = Double::default();
    let module = double.shared(&ShiftedClock::default());
    let (old, new) = (
        client(&module, "0001", PIN),
        client(&module, "0001", "5678"),
    );
    sign(&old).await.unwrap();
    // The PIN is changed on the token, and then in the program.
    double.state().pin = "5678";
    double.log_out();
    assert!(is_rejected(&old).await);
    sign(&new).await.unwrap();
    // The PIN is changed back.
    double.state().pin = PIN;
    double.log_out();
    // Nothing shows that yet.
    assert!(is_rejected(&old).await);
    assert!(is_rejected(&new).await);
    sign(&old).await.unwrap();
    assert_eq!(double.state().logins, [PIN, PIN, "5678", "5678", PIN]);
    // A PIN that was never accepted shows nothing by its rejection.
    double.log_out();
    double.state().pin = "0000";
    for wrong in ["1111", "2222", "1111", "2222"] {
        assert!(is_rejected(&client(&module, "0001", wrong)).await);
    }
    assert_eq!(double.state().logins.len(), 7);
}

#[tokio::test]
async fn a_pin_that_is_a_mistake_is_not_tried() {
    let double = Double::default();
    let module = double.shared(&ShiftedClock::default());
    for (pin, expected) in [
        ("", "is empty"),
        ("1234\n", "begins or ends with white space"),
        (" 1234", "begins or ends with white space"),
    ] {
        let error = sign(&client(&module, "0001", pin)).await.unwrap_err();
        let error = error.to_string();
        assert!(error.contains(expected) && !error.contains("34"), "{error}");
    }
    assert!(double.state().logins.is_empty());
    assert!(double.state().open.is_empty());
}
