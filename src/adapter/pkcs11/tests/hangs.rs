//! Calls of the module that do not return, or panic.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU32, Ordering};
use std::time::{Duration, Instant};

use cryptoki::error::RvError;
use tokio::runtime::Builder;
use tokio::sync::Semaphore;
use tokio::task::{JoinSet, spawn_blocking};

use super::super::Pkcs11Token;
use super::super::failure::EnterFailed;
use super::super::selection::TokenSelection;
use super::super::sessions::TokenPin;
use super::super::shared_module::SharedModule;
use super::double::{
    Double, LONG, MEDIUM, PIN, SHORT, ShiftedClock, Step, sign, token_info, token_of,
};
use crate::time::TimeSource;

fn labelled(module: &Arc<SharedModule>, label: &str, limit: Duration) -> Pkcs11Token {
    let selection = TokenSelection {
        label: Some(label.to_owned()),
        ..TokenSelection::default()
    };
    token_of(module, selection, TokenPin::Fixed(PIN.into()), 8, limit)
}

async fn wait_until_inside(double: &Double, count: usize) {
    let waiting = double.clone();
    spawn_blocking(move || waiting.wait_until(|state| state.inside == count))
        .await
        .unwrap();
}

async fn errors_of(token: &Pkcs11Token, callers: usize) -> Vec<String> {
    let mut tasks = JoinSet::new();
    for _ in 0..callers {
        let token = token.clone();
        tasks.spawn(async move { sign(&token).await.unwrap_err().to_string() });
    }
    tasks.join_all().await
}

#[tokio::test]
async fn a_login_that_hangs_is_an_error_for_its_token_and_delays_no_other() {
    let double = Double::default();
    let module = double.shared(&ShiftedClock::default());
    double.state().tokens.push((8, token_info("other", "0002")));
    let other = labelled(&module, "other", LONG);
    sign(&other).await.unwrap();
    double.log_out();
    double.state().hangs_at = Some(Step::Login);
    let token = labelled(&module, "daemon", MEDIUM);
    let first = tokio::spawn({
        let token = token.clone();
        async move { sign(&token).await.unwrap_err().to_string() }
    });
    wait_until_inside(&double, 1).await;
    let first = first.await.unwrap();
    assert!(first.contains("did not return within"), "{first}");
    // Nobody waits for a call that is known to hang, however long the caller's limit: neither the
    // callers of the same object, nor those of another object for the same token.
    let patient = labelled(&module, "daemon", LONG * 3);
    for token in [&token, &patient] {
        for error in errors_of(token, 20).await {
            assert!(
                error.starts_with("another caller logs in to the token 'daemon'"),
                "{error}"
            );
        }
    }
    // The first login is that of the other token.
    assert_eq!(double.state().logins.len(), 2);
    // The other token logs in beside the login that hangs.
    double.state().hangs_at = None;
    sign(&other).await.unwrap();
    assert_eq!(double.state().logins.len(), 3);
    double.release();
    double.wait_until(|state| state.inside == 0);
    let token = labelled(&module, "daemon", LONG);
    sign(&token).await.unwrap();
}

#[tokio::test]
async fn a_module_that_hangs_while_it_is_initialized_is_an_error() {
    let double = Double::default();
    let module = double.shared(&ShiftedClock::default());
    double.state().hangs_at = Some(Step::Initialize);
    let first = labelled(&module, "daemon", MEDIUM);
    let first = tokio::spawn(async move { sign(&first).await.unwrap_err().to_string() });
    wait_until_inside(&double, 1).await;
    first.await.unwrap();
    // The call is known to hang, so nobody waits, however long the caller's limit.
    let token = labelled(&module, "daemon", LONG * 3);
    for error in errors_of(&token, 20).await {
        assert!(
            error.starts_with(
                "the PKCS#11 module double.so is being loaded, initialized or finalized for another caller"
            ),
            "{error}"
        );
    }
    // A drop on a thread without a runtime does not wait, either.
    std::thread::spawn(move || drop(token)).join().unwrap();
    double.release();
    double.wait_until(|state| state.inside == 0);
    sign(&labelled(&module, "daemon", LONG)).await.unwrap();
    assert_eq!(double.state().initializes, 1);
}

#[tokio::test]
async fn a_panic_of_the_module_leaves_the_module_usable() {
    for step in [
        Step::Initialize,
        Step::OpenSession,
        Step::Login,
        Step::Sign,
        Step::Finalize,
    ] {
        let (double, clock) = (Double::default(), ShiftedClock::default());
        let module = double.shared(&clock);
        let token = labelled(&module, "daemon", LONG);
        if step == Step::Finalize {
            sign(&token).await.unwrap();
            double.state().slots_fail = true;
            double.log_out();
        }
        double.state().panics_at = Some(step);
        let error = sign(&token).await.unwrap_err().to_string();
        assert_eq!(error, "the token 'daemon' cannot be used", "{step:?}");
        double.state().slots_fail = false;
        sign(&token).await.unwrap();
        assert_eq!(token.sessions.free_permits(), 8, "{step:?}");
    }
}

#[tokio::test]
async fn a_restart_waits_once_for_a_call_that_hangs() {
    let double = Double::default();
    let time = TimeSource::System;
    let module = SharedModule::new(Box::new(double.clone()), time, Arc::default());
    let module = Arc::new(module.drain_limit(LONG));
    let soon = || Instant::now() + SHORT;
    let hung = module.enter(soon()).ok().unwrap();
    let generation = hung.generation();
    assert!(!module.restart(generation, soon()));
    // A restart that waits for the call blocks other callers, which the helper sees. The helper
    // ends the call then, and the restart would go on.
    let is_done = Arc::new(AtomicBool::new(false));
    std::thread::scope(|scope| {
        scope.spawn(|| {
            let hung = hung;
            while !is_done.load(Ordering::SeqCst) && module.enter_again(generation).is_some() {
                std::thread::yield_now();
            }
            drop(hung);
        });
        assert!(!module.restart(generation, Instant::now() + LONG));
        is_done.store(true, Ordering::SeqCst);
    });
    assert_eq!(double.state().finalizes, 0);
    // The call has returned, so a restart is possible at once.
    assert!(module.restart(generation, Instant::now() + LONG));
    assert_eq!(double.state().finalizes, 1);
}

#[tokio::test]
async fn callers_do_not_wait_for_a_restart_beyond_their_limit() {
    let double = Double::default();
    let module = double.shared(&ShiftedClock::default());
    let soon = || Instant::now() + SHORT;
    let generation = module.enter(soon()).ok().unwrap().generation();
    double.state().hangs_at = Some(Step::Finalize);
    let restarting = spawn_blocking({
        let module = Arc::clone(&module);
        move || module.restart(generation, Instant::now() + LONG)
    });
    wait_until_inside(&double, 1).await;
    assert!(matches!(module.enter(soon()), Err(EnterFailed::Busy)));
    assert!(!module.restart(generation, soon()));
    assert!(module.enter_again(generation).is_none());
    double.release();
    assert!(restarting.await.unwrap());
    assert!(module.enter(soon()).is_ok());
}

#[tokio::test]
async fn hanging_calls_of_many_tokens_use_a_bounded_number_of_threads() {
    let double = Double::default();
    let module = double.shared(&ShiftedClock::default());
    let threads = Arc::new(Semaphore::new(4));
    let client = |_| {
        let mut token = labelled(&module, "daemon", SHORT);
        let sessions = Arc::get_mut(&mut token.sessions).unwrap();
        sessions.threads = Arc::clone(&threads);
        token
    };
    let tokens: Vec<_> = (0..20).map(client).collect();
    sign(&tokens[0]).await.unwrap();
    double.state().hangs_at = Some(Step::Sign);
    let mut callers = JoinSet::new();
    for token in &tokens {
        let token = token.clone();
        callers.spawn(async move { sign(&token).await.unwrap_err().to_string() });
    }
    let errors = callers.join_all().await;
    let is_bounded = |error: &&String| error.starts_with("all 128 threads that the process has");
    assert_eq!(errors.iter().filter(is_bounded).count(), 16, "{errors:?}");
    let inside = {
        let state = double.state();
        (state.inside, state.most_inside)
    };
    assert_eq!(inside, (4, 4));
    double.release();
    double.wait_until(|state| state.inside == 0);
    let permits = threads.acquire_many(4).await.unwrap();
    drop(permits);
    sign(&tokens[19]).await.unwrap();
}

#[tokio::test]
async fn a_call_without_a_caller_recovers_nothing() {
    let double = Double::default();
    let token = double.token_with(TokenPin::Fixed(PIN.into()), 1, SHORT);
    sign(&token).await.unwrap();
    double.state().hangs_at = Some(Step::Sign);
    let error = sign(&token).await.unwrap_err().to_string();
    assert!(error.contains("did not return"), "{error}");
    double.state().sign_errors.extend([RvError::DeviceError]);
    double.release();
    while token.sessions.free_permits() < 1 {
        tokio::task::yield_now().await;
    }
    assert_eq!(double.state().sign_calls, 2);
    sign(&token).await.unwrap();
}

#[test]
fn a_thread_that_starts_after_the_limit_calls_nothing() {
    let double = Double::default();
    let token = double.token_with(TokenPin::Fixed(PIN.into()), 1, SHORT);
    let runtime = Builder::new_current_thread()
        .max_blocking_threads(1)
        .enable_all()
        .build()
        .unwrap();
    runtime.block_on(async {
        let (release, blocked) = std::sync::mpsc::channel::<()>();
        spawn_blocking(move || blocked.recv());
        let error = sign(&token).await.unwrap_err().to_string();
        assert!(error.contains("did not return"), "{error}");
        drop(release);
        while token.sessions.free_permits() < 1 {
            tokio::task::yield_now().await;
        }
    });
    assert_eq!(double.state().initializes, 0);
}

#[tokio::test]
async fn dropped_callers_leave_the_pool_whole() {
    let double = Double::default();
    let token = double.token_with(TokenPin::Fixed(PIN.into()), 4, LONG);
    sign(&token).await.unwrap();
    double.state().hangs_at = Some(Step::Sign);
    let mut callers = JoinSet::new();
    for _ in 0..64 {
        let token = token.clone();
        callers.spawn(async move { sign(&token).await });
    }
    wait_until_inside(&double, 4).await;
    callers.shutdown().await;
    double.release();
    while token.sessions.free_permits() < 4 {
        tokio::task::yield_now().await;
    }
    assert_eq!(token.sessions.idle_sessions(), 4);
    sign(&token).await.unwrap();
    let state = double.state();
    assert_eq!(
        (state.opened, state.open.len(), state.logins.len()),
        (5, 5, 1)
    );
}

#[test]
fn a_runtime_that_ends_during_a_signature_leaves_no_session_open() {
    for is_dropped_first in [true, false] {
        let double = Double::default();
        let token = double.token();
        let runtime = Builder::new_multi_thread()
            .worker_threads(1)
            .enable_all()
            .build()
            .unwrap();
        runtime.block_on(sign(&token)).unwrap();
        double.state().hangs_at = Some(Step::Sign);
        runtime.spawn({
            let token = token.clone();
            async move { sign(&token).await }
        });
        double.wait_until(|state| state.inside == 1);
        if is_dropped_first {
            drop(token);
            runtime.shutdown_background();
        } else {
            runtime.shutdown_background();
            drop(token);
        }
        double.release();
        double.wait_until(|state| state.open.is_empty());
        assert_eq!(double.state().wrongly_closed, 0);
    }
}

#[tokio::test]
async fn a_forked_process_initializes_the_module_and_leaves_its_parents_sessions() {
    static PROCESS: AtomicU32 = AtomicU32::new(1);
    let double = Double::default();
    let time = TimeSource::System;
    let module = SharedModule::new(Box::new(double.clone()), time, Arc::default())
        .process_id(|| PROCESS.load(Ordering::SeqCst));
    let module = Arc::new(module);
    let (of_parent, kept) = (
        labelled(&module, "daemon", LONG),
        labelled(&module, "daemon", LONG),
    );
    sign(&of_parent).await.unwrap();
    sign(&kept).await.unwrap();
    // A thread of the parent that does not exist in the child.
    let entered = module.enter(Instant::now() + LONG).ok().unwrap();
    PROCESS.store(2, Ordering::SeqCst);
    assert_eq!(double.state().open.len(), 4);
    // A thread without a runtime closes at once, if at all.
    std::thread::spawn(move || drop(of_parent)).join().unwrap();
    assert_eq!(double.state().open.len(), 4);
    sign(&kept).await.unwrap();
    assert_eq!(double.state().initializes, 2);
    // The sessions of the parent are neither used nor closed.
    assert_eq!(double.state().open.len(), 6);
    let generation = {
        let entered = module.enter(Instant::now() + LONG);
        entered.ok().unwrap().generation()
    };
    assert!(module.restart(generation, Instant::now() + LONG));
    drop(entered);
}
