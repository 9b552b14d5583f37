use std::sync::Arc;

use super::super::selection::TokenSelection;
use super::super::sessions::TokenPin;
use super::super::shared_module::SharedModule;
use super::super::{Pkcs11Token, module::KeyFamily, module::ObjectKind};
use super::double::{Double, LONG, PIN, ShiftedClock, Step, key, sign, token_info, token_of};

fn labelled(module: &Arc<SharedModule>, label: &str) -> Pkcs11Token {
    let selection = TokenSelection {
        label: Some(label.to_owned()),
        ..TokenSelection::default()
    };
    token_of(module, selection, TokenPin::Fixed(PIN.into()), 8, LONG)
}

#[tokio::test]
async fn a_module_without_slots_is_initialized_again_once_a_minute() {
    let (double, clock) = (Double::default(), ShiftedClock::default());
    let token = labelled(&double.shared(&clock), "daemon");
    sign(&token).await.unwrap();
    assert_eq!(double.state().initializes, 1);
    assert_eq!(double.state().finalizes, 0);

    double.log_out();
    double.state().slots_fail = true;
    for _ in 0..3 {
        let error = sign(&token).await.unwrap_err();
        assert!(
            error
                .to_string()
                .contains("C_GetSlotList returned CKR_GENERAL_ERROR")
        );
        assert!(error.is_transient());
        assert_eq!(double.state().finalizes, 1);
    }
    clock.pass(59);
    assert!(sign(&token).await.is_err());
    assert_eq!(double.state().finalizes, 1);
    clock.pass(1);
    double.state().slots_fail = false;
    sign(&token).await.unwrap();
    // The slots work, so there was no need.
    assert_eq!(double.state().initializes, 2);
    assert_eq!(double.state().finalizes, 1);
    assert_eq!(double.state().wrongly_closed, 0);
}

#[tokio::test]
async fn a_token_that_is_put_back_is_found_without_a_restart_of_the_program() {
    let (double, clock) = (Double::default(), ShiftedClock::default());
    let token = labelled(&double.shared(&clock), "daemon");
    sign(&token).await.unwrap();
    let removed = std::mem::take(&mut double.state().tokens);
    double.state().open.clear();
    let error = sign(&token).await.unwrap_err().to_string();
    assert!(
        error.contains("the token 'daemon' is not present: the module shows no token"),
        "{error}"
    );
    assert_eq!(double.state().finalizes, 1);
    clock.pass(60);
    double.state().tokens = removed;
    sign(&token).await.unwrap();
    assert_eq!(double.state().finalizes, 1);
    // The void sessions were not closed. Their numbers belong to others now.
    assert_eq!(double.state().open.len(), 2);
}

#[tokio::test]
async fn a_token_that_was_never_there_ends_nobodys_sessions() {
    let (double, clock) = (Double::default(), ShiftedClock::default());
    let module = double.shared(&clock);
    sign(&labelled(&module, "daemon")).await.unwrap();
    let error = sign(&labelled(&module, "deamon"))
        .await
        .unwrap_err()
        .to_string();
    assert_eq!(
        error,
        "the token 'deamon' is not present: the module shows 'daemon' (serial number '0001', slot 7); insert the token, or select another"
    );
    assert_eq!(double.state().finalizes, 0);
}

#[tokio::test]
async fn a_restart_ends_the_sessions_of_every_token_of_the_module() {
    let (double, clock) = (Double::default(), ShiftedClock::default());
    let module = double.shared(&clock);
    double.state().tokens.push((8, token_info("other", "0002")));
    let (one, other) = (labelled(&module, "daemon"), labelled(&module, "other"));
    sign(&one).await.unwrap();
    sign(&other).await.unwrap();
    double
        .state()
        .tokens
        .retain(|(_, info)| info.label != "daemon");
    double.log_out();
    assert!(sign(&one).await.is_err());
    assert_eq!(double.state().finalizes, 1);
    let calls = double.state().sign_calls;
    sign(&other).await.unwrap();
    // The sessions from before the restart were not used.
    assert_eq!(double.state().sign_calls, calls + 1);
    assert_eq!(double.state().wrongly_closed, 0);
    drop((one, other));
}

#[tokio::test]
async fn a_restart_does_not_interrupt_a_call() {
    let (double, clock) = (Double::default(), ShiftedClock::default());
    let module = double.shared(&clock);
    let token = labelled(&module, "daemon");
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
    double.state().slots_fail = true;
    assert!(sign(&labelled(&module, "daemon")).await.is_err());
    assert_eq!(double.state().finalizes, 0);
    double.release();
    slow.await.unwrap().unwrap();
    // The restart that was given up does not count.
    assert!(sign(&labelled(&module, "daemon")).await.is_err());
    assert_eq!(double.state().finalizes, 1);
}

#[tokio::test]
async fn a_module_that_another_part_of_the_program_finalized_is_initialized() {
    let (double, clock) = (Double::default(), ShiftedClock::default());
    let token = labelled(&double.shared(&clock), "daemon");
    for round in 1..4 {
        sign(&token).await.unwrap();
        assert_eq!(double.state().initializes, round);
        super::super::module::Pkcs11Module::finalize(&double).unwrap();
    }
    // The finalizes are those of the other part.
    assert_eq!(double.state().finalizes, 3);
    assert_eq!(double.state().wrongly_closed, 0);
}

#[tokio::test]
async fn a_token_is_selected_by_label_serial_number_or_slot() {
    let double = Double::default();
    let module = double.shared(&ShiftedClock::default());
    double.state().tokens = vec![
        (1, token_info("daemon   ", "0001  ")),
        (2, token_info("daemon", "0002")),
        (3, token_info("other", "0003")),
        (4, token_info("broken", "")),
        (
            5,
            super::super::module::TokenInfo {
                is_initialized: false,
                ..token_info("", "")
            },
        ),
    ];
    let found = |label: Option<&str>, serial_number: Option<&str>, slot| {
        let selection = TokenSelection {
            label: label.map(str::to_owned),
            serial_number: serial_number.map(str::to_owned),
            slot,
        };
        let token = token_of(&module, selection, TokenPin::Fixed(PIN.into()), 8, LONG);
        async move { sign(&token).await.map_err(|error| error.to_string()) }
    };
    for (label, serial_number, slot) in [
        (Some("other"), None, None),
        (Some("daemon"), Some("0001"), None),
        (None, Some("0002"), None),
        (None, None, Some(3)),
    ] {
        assert!(found(label, serial_number, slot).await.is_ok());
    }
    assert_eq!(
        found(Some("daemon"), None, None).await.unwrap_err(),
        "the token 'daemon' matches several tokens, which are 'daemon   ' (serial number '0001  ', slot 1) and 'daemon' (serial number '0002', slot 2); select one with serial_number(..) or slot(..)"
    );
    let error = found(None, None, None).await.unwrap_err();
    assert!(
        error.starts_with("a choice without label matches several tokens"),
        "{error}"
    );
    let error = found(Some("daemon"), None, Some(3)).await.unwrap_err();
    assert!(
        error.starts_with("the token 'daemon' in slot 3 is not present"),
        "{error}"
    );
    // The token of the broken slot may be the one.
    let error = found(Some("third"), None, None).await.unwrap_err();
    assert!(
        error.contains("C_GetTokenInfo returned CKR_GENERAL_ERROR"),
        "{error}"
    );
    assert_eq!(double.state().finalizes, 1);
}

#[tokio::test]
async fn a_key_that_was_put_on_the_token_later_is_found() {
    let double = Double::default();
    let token = double.token();
    double.state().objects.clear();
    assert!(sign(&token).await.is_err());
    double.state().objects = vec![(ObjectKind::PrivateKey, key("signing", &[1], KeyFamily::Rsa))];
    sign(&token).await.unwrap();
}
