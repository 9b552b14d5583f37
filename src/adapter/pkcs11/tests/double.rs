//! A double of a module, with a token that misbehaves on request.

use std::collections::{HashSet, VecDeque};
use std::path::PathBuf;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Condvar, Mutex, MutexGuard};
use std::time::{Duration, Instant, SystemTime};

use cryptoki::context::Function;
use cryptoki::error::RvError;

use super::super::Pkcs11Token;
use super::super::module::{
    CallFailed, FoundObject, KeyFacts, KeyFamily, KeyHandle, ObjectKind, ObjectQuery,
    Pkcs11Mechanism, Pkcs11Module, Pkcs11Session, TokenInfo,
};
use super::super::selection::TokenSelection;
use super::super::sessions::{TokenPin, TokenSessions};
use super::super::shared_module::SharedModule;
use crate::credential::{Signer, SigningAlgorithm};
use crate::error::Error;
use crate::secret::Secret;
use crate::time::{Clock, TimeSource};

pub(super) const PIN: &str = "1234";
pub(super) const SLOT: u64 = 7;

/// A call of the module in which the double hangs or panics.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Step {
    Initialize,
    Finalize,
    OpenSession,
    Login,
    Sign,
}

#[derive(Clone, Default)]
pub(super) struct Double(Arc<(Mutex<DoubleState>, Condvar)>);

/// Everything that a test sets and counts.
pub(super) struct DoubleState {
    pub(super) is_initialized: bool,
    pub(super) initializes: usize,
    pub(super) finalizes: usize,
    pub(super) slots_fail: bool,
    pub(super) tokens: Vec<(u64, TokenInfo)>,
    pub(super) mechanisms: Vec<Pkcs11Mechanism>,
    pub(super) pin: &'static str,
    pub(super) is_logged_in: bool,
    /// The PINs of the logins, the rejected ones included.
    pub(super) logins: Vec<String>,
    pub(super) login_error: Option<RvError>,
    pub(super) open: HashSet<u64>,
    pub(super) opened: usize,
    pub(super) closed: usize,
    /// Closed sessions that were not open, or not open any more.
    pub(super) wrongly_closed: usize,
    pub(super) objects: Vec<(ObjectKind, FoundObject)>,
    pub(super) searches: usize,
    pub(super) sign_errors: VecDeque<RvError>,
    pub(super) signatures: Vec<(Pkcs11Mechanism, Vec<u8>)>,
    pub(super) sign_calls: usize,
    /// The call that does not return before the release.
    pub(super) hangs_at: Option<Step>,
    releases: usize,
    /// The call that panics once.
    pub(super) panics_at: Option<Step>,
    pub(super) session_limit: usize,
    /// Number of sessions that were not opened because of the limit.
    pub(super) refused: usize,
    /// Number of calls in which the double may hang.
    pub(super) inside: usize,
    pub(super) most_inside: usize,
    next_session: u64,
    /// Sessions whose failed call has left an active operation.
    active: HashSet<u64>,
    /// A handle of another epoch is invalid.
    epoch: u64,
}

impl Default for DoubleState {
    fn default() -> Self {
        Self {
            is_initialized: false,
            initializes: 0,
            finalizes: 0,
            slots_fail: false,
            tokens: vec![(SLOT, token_info("daemon", "0001"))],
            mechanisms: vec![
                Pkcs11Mechanism::Sha256RsaPss,
                Pkcs11Mechanism::Sha256RsaPkcs,
            ],
            pin: PIN,
            is_logged_in: false,
            logins: Vec::new(),
            login_error: None,
            open: HashSet::new(),
            opened: 0,
            closed: 0,
            wrongly_closed: 0,
            objects: vec![(ObjectKind::PrivateKey, key("signing", &[1], KeyFamily::Rsa))],
            searches: 0,
            sign_errors: VecDeque::new(),
            signatures: Vec::new(),
            sign_calls: 0,
            hangs_at: None,
            releases: 0,
            panics_at: None,
            session_limit: usize::MAX,
            refused: 0,
            inside: 0,
            most_inside: 0,
            next_session: 0,
            active: HashSet::new(),
            epoch: 0,
        }
    }
}

pub(super) fn token_info(label: &str, serial_number: &str) -> TokenInfo {
    TokenInfo {
        manufacturer: "Double".to_owned(),
        model: "v1".to_owned(),
        label: label.to_owned(),
        serial_number: serial_number.to_owned(),
        is_initialized: true,
        needs_login: true,
        is_pin_locked: false,
    }
}

pub(super) fn key(label: &str, id: &[u8], family: KeyFamily) -> FoundObject {
    FoundObject {
        handle: KeyHandle::Double(0),
        label: label.to_owned(),
        id: id.to_vec(),
        value: Vec::new(),
        key: KeyFacts {
            family,
            modulus: None,
            curve: None,
            can_sign: true,
            always_authenticate: false,
        },
    }
}

impl Double {
    pub(super) fn state(&self) -> MutexGuard<'_, DoubleState> {
        self.0.0.lock().unwrap()
    }

    /// Waits until the state is as expected.
    pub(super) fn wait_until(&self, condition: impl Fn(&DoubleState) -> bool) {
        let wait = self
            .0
            .1
            .wait_timeout_while(self.state(), Duration::from_secs(20), |state| {
                !condition(state)
            });
        assert!(!wait.unwrap().1.timed_out());
    }

    /// Logs out, as another part of the program does.
    pub(super) fn log_out(&self) {
        let mut state = self.state();
        state.is_logged_in = false;
        state.epoch += 1;
    }

    /// Ends all calls that hang.
    pub(super) fn release(&self) {
        let mut state = self.state();
        state.hangs_at = None;
        state.releases += 1;
        drop(state);
        self.0.1.notify_all();
    }

    /// Hangs or panics if the test says so.
    fn pass<'a>(
        &'a self,
        step: Step,
        mut state: MutexGuard<'a, DoubleState>,
    ) -> MutexGuard<'a, DoubleState> {
        if state.panics_at == Some(step) {
            state.panics_at = None;
            drop(state);
            panic!("the module panics");
        }
        state.inside += 1;
        state.most_inside = state.most_inside.max(state.inside);
        self.0.1.notify_all();
        let releases = state.releases;
        let hangs_here = state.hangs_at == Some(step);
        let hangs = |state: &mut DoubleState| hangs_here && state.releases == releases;
        // A test that fails ends in spite of a call that hangs.
        let waited = self.0.1.wait_timeout_while(state, LONG, hangs);
        let mut state = waited.unwrap().0;
        state.inside -= 1;
        self.0.1.notify_all();
        state
    }

    pub(super) fn shared(&self, clock: &ShiftedClock) -> Arc<SharedModule> {
        let time = TimeSource::Injected(Arc::new(clock.clone()));
        let module = SharedModule::new(Box::new(self.clone()), time, Arc::default());
        Arc::new(module.drain_limit(SHORT))
    }

    /// Returns a token with the fixed PIN.
    pub(super) fn token(&self) -> Pkcs11Token {
        self.token_with(TokenPin::Fixed(PIN.into()), 8, LONG)
    }

    pub(super) fn token_with(&self, pin: TokenPin, max: usize, limit: Duration) -> Pkcs11Token {
        let selection = TokenSelection {
            label: Some("daemon".to_owned()),
            ..TokenSelection::default()
        };
        token_of(
            &self.shared(&ShiftedClock::default()),
            selection,
            pin,
            max,
            limit,
        )
    }
}

pub(super) fn token_of(
    module: &Arc<SharedModule>,
    selection: TokenSelection,
    pin: TokenPin,
    max: usize,
    limit: Duration,
) -> Pkcs11Token {
    let mut sessions = TokenSessions::new(PathBuf::from("double.so"), selection, pin, max);
    sessions.limit = limit;
    assert!(sessions.module.set(Arc::clone(module)).is_ok());
    Pkcs11Token {
        sessions: Arc::new(sessions),
    }
}

pub(super) async fn sign(token: &Pkcs11Token) -> Result<Vec<u8>, Error> {
    sign_with(token, SigningAlgorithm::PS256).await
}

pub(super) async fn sign_with(
    token: &Pkcs11Token,
    algorithm: SigningAlgorithm,
) -> Result<Vec<u8>, Error> {
    let key = token.key("signing");
    let signature = Signer::sign(&key, algorithm, b"message".to_vec()).await;
    signature.map_err(|error| *error.downcast().unwrap())
}

pub(super) const LONG: Duration = Duration::from_secs(30);
pub(super) const SHORT: Duration = Duration::from_millis(50);
/// A limit that a busy machine does not exceed by its own slowness.
pub(super) const MEDIUM: Duration = Duration::from_secs(2);

/// The system's clock, moved forward by seconds.
#[derive(Clone, Default)]
pub(super) struct ShiftedClock(Arc<AtomicU64>);

impl ShiftedClock {
    pub(super) fn pass(&self, seconds: u64) {
        self.0.fetch_add(seconds, Ordering::SeqCst);
    }

    fn shift(&self) -> Duration {
        Duration::from_secs(self.0.load(Ordering::SeqCst))
    }
}

impl Clock for ShiftedClock {
    fn wall(&self) -> SystemTime {
        SystemTime::now() + self.shift()
    }

    fn monotonic(&self) -> Instant {
        Instant::now() + self.shift()
    }
}

fn fail<T>(function: Function, code: RvError) -> Result<T, CallFailed> {
    Err(CallFailed {
        function,
        code: Some(code),
    })
}

impl DoubleState {
    fn check(&self, function: Function) -> Result<(), CallFailed> {
        match self.is_initialized {
            true => Ok(()),
            false => fail(function, RvError::CryptokiNotInitialized),
        }
    }
}

impl Pkcs11Module for Double {
    fn initialize(&self) -> Result<(), CallFailed> {
        let mut state = self.pass(Step::Initialize, self.state());
        state.initializes += 1;
        state.is_initialized = true;
        Ok(())
    }

    fn finalize(&self) -> Result<(), CallFailed> {
        let state = self.state();
        state.check(Function::Finalize)?;
        assert_eq!(state.inside, 0, "a call is in the module");
        let mut state = self.pass(Step::Finalize, state);
        state.finalizes += 1;
        state.is_initialized = false;
        state.is_logged_in = false;
        state.open.clear();
        state.active.clear();
        // As in SoftHSM, a new session has the number of an old one.
        state.next_session = 0;
        state.epoch += 1;
        Ok(())
    }

    fn slots(&self) -> Result<Vec<u64>, CallFailed> {
        let state = self.state();
        state.check(Function::GetSlotList)?;
        match state.slots_fail {
            true => fail(Function::GetSlotList, RvError::GeneralError),
            false => Ok(state.tokens.iter().map(|(slot, _)| *slot).collect()),
        }
    }

    fn token_info(&self, slot: u64) -> Result<TokenInfo, CallFailed> {
        let state = self.state();
        let token = state.tokens.iter().find(|(known, _)| *known == slot);
        match token {
            Some((_, info)) if info.label == "broken" => {
                fail(Function::GetTokenInfo, RvError::GeneralError)
            }
            Some((_, info)) => Ok(info.clone()),
            None => fail(Function::GetTokenInfo, RvError::SlotIdInvalid),
        }
    }

    fn mechanisms(&self, _: u64) -> Result<Vec<Pkcs11Mechanism>, CallFailed> {
        Ok(self.state().mechanisms.clone())
    }

    fn open_session(&self, slot: u64) -> Result<Box<dyn Pkcs11Session>, CallFailed> {
        let mut state = self.pass(Step::OpenSession, self.state());
        state.check(Function::OpenSession)?;
        if !state.tokens.iter().any(|(known, _)| *known == slot) {
            return fail(Function::OpenSession, RvError::TokenNotPresent);
        }
        if state.open.len() >= state.session_limit {
            state.refused += 1;
            self.0.1.notify_all();
            return fail(Function::OpenSession, RvError::SessionCount);
        }
        state.next_session += 1;
        state.opened += 1;
        let number = state.next_session;
        state.open.insert(number);
        Ok(Box::new(DoubleSession {
            double: self.clone(),
            number,
        }))
    }
}

struct DoubleSession {
    double: Double,
    number: u64,
}

impl DoubleSession {
    fn state(&self, function: Function) -> Result<MutexGuard<'_, DoubleState>, CallFailed> {
        let state = self.double.state();
        state.check(function)?;
        match state.open.contains(&self.number) {
            true => Ok(state),
            false => fail(function, RvError::SessionHandleInvalid),
        }
    }
}

impl Pkcs11Session for DoubleSession {
    fn is_logged_in(&self) -> Result<bool, CallFailed> {
        Ok(self.state(Function::GetSessionInfo)?.is_logged_in)
    }

    fn login(&self, pin: &Secret) -> Result<(), CallFailed> {
        let mut state = self.state(Function::Login)?;
        state.logins.push(pin.expose().to_owned());
        let mut state = self.double.pass(Step::Login, state);
        match state.login_error {
            Some(error) => fail(Function::Login, error),
            None if state.is_logged_in => fail(Function::Login, RvError::UserAlreadyLoggedIn),
            None if pin.expose() != state.pin => fail(Function::Login, RvError::PinIncorrect),
            None => {
                state.is_logged_in = true;
                Ok(())
            }
        }
    }

    fn find(&self, query: &ObjectQuery) -> Result<Vec<FoundObject>, CallFailed> {
        let mut state = self.state(Function::FindObjectsInit)?;
        state.searches += 1;
        let (epoch, is_logged_in) = (state.epoch, state.is_logged_in);
        let objects = state
            .objects
            .iter()
            .enumerate()
            .filter(|(_, (kind, object))| {
                *kind == query.kind
                    && (is_logged_in || *kind == ObjectKind::Certificate)
                    && query
                        .label
                        .as_ref()
                        .is_none_or(|label| *label == object.label)
                    && query.id.as_ref().is_none_or(|id| *id == object.id)
            });
        let objects = objects.map(|(index, (_, object))| FoundObject {
            handle: KeyHandle::Double(epoch * 1000 + index as u64),
            ..object.clone()
        });
        Ok(objects.collect())
    }

    fn sign(
        &self,
        mechanism: Pkcs11Mechanism,
        key: KeyHandle,
        data: &[u8],
    ) -> Result<Vec<u8>, CallFailed> {
        let mut state = self.state(Function::SignInit)?;
        state.sign_calls += 1;
        let mut state = self.double.pass(Step::Sign, state);
        if state.active.contains(&self.number) {
            return fail(Function::SignInit, RvError::OperationActive);
        }
        if let Some(error) = state.sign_errors.pop_front() {
            state.active.insert(self.number);
            return fail(Function::Sign, error);
        }
        let KeyHandle::Double(handle) = key else {
            panic!("a handle of a real module");
        };
        if handle / 1000 != state.epoch || handle % 1000 >= state.objects.len() as u64 {
            return fail(Function::SignInit, RvError::ObjectHandleInvalid);
        }
        if !state.is_logged_in {
            return fail(Function::SignInit, RvError::UserNotLoggedIn);
        }
        state.signatures.push((mechanism, data.to_vec()));
        Ok(b"signature".to_vec())
    }

    fn close(self: Box<Self>) {
        let mut state = self.double.state();
        if !state.is_initialized || !state.open.remove(&self.number) {
            state.wrongly_closed += 1;
            return;
        }
        state.closed += 1;
        if state.open.is_empty() {
            state.is_logged_in = false;
            state.epoch += 1;
        }
        self.double.0.1.notify_all();
    }
}
