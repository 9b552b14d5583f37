//! A real module, SoftHSM, with a clock that the test moves and with counted logins.

use std::path::{Path, PathBuf};
use std::process::Command;
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};

use cryptoki::context::{CInitializeArgs, CInitializeFlags, Pkcs11};
use cryptoki::mechanism::Mechanism;
use cryptoki::object::Attribute;
use cryptoki::session::UserType;
use cryptoki::types::AuthPin;
use tokio::task::JoinSet;

use super::super::Pkcs11Token;
use super::super::cryptoki_module::CryptokiModule;
use super::super::module::{
    CallFailed, FoundObject, KeyHandle, ObjectQuery, Pkcs11Mechanism, Pkcs11Module, Pkcs11Session,
    TokenInfo,
};
use super::super::selection::TokenSelection;
use super::super::sessions::TokenPin;
use super::super::shared_module::SharedModule;
use super::super::token_logins::TokenLogins;
use super::double::{LONG, PIN, ShiftedClock, sign, token_of};
use crate::secret::Secret;
use crate::time::TimeSource;

const MODULE: &str = "/usr/lib/softhsm/libsofthsm2.so";
const PREFIX: &str = "adapter::pkcs11::tests::softhsm::";

/// A module that counts the logins of all sessions.
struct Counted {
    module: CryptokiModule,
    logins: Arc<AtomicUsize>,
}

struct CountedSession {
    session: Box<dyn Pkcs11Session>,
    logins: Arc<AtomicUsize>,
}

impl Pkcs11Module for Counted {
    fn initialize(&self) -> Result<(), CallFailed> {
        self.module.initialize()
    }

    fn finalize(&self) -> Result<(), CallFailed> {
        self.module.finalize()
    }

    fn slots(&self) -> Result<Vec<u64>, CallFailed> {
        self.module.slots()
    }

    fn token_info(&self, slot: u64) -> Result<TokenInfo, CallFailed> {
        self.module.token_info(slot)
    }

    fn mechanisms(&self, slot: u64) -> Result<Vec<Pkcs11Mechanism>, CallFailed> {
        self.module.mechanisms(slot)
    }

    fn open_session(&self, slot: u64) -> Result<Box<dyn Pkcs11Session>, CallFailed> {
        Ok(Box::new(CountedSession {
            session: self.module.open_session(slot)?,
            logins: Arc::clone(&self.logins),
        }))
    }
}

impl Pkcs11Session for CountedSession {
    fn is_logged_in(&self) -> Result<bool, CallFailed> {
        self.session.is_logged_in()
    }

    fn login(&self, pin: &Secret) -> Result<(), CallFailed> {
        self.logins.fetch_add(1, Ordering::SeqCst);
        self.session.login(pin)
    }

    fn find(&self, query: &ObjectQuery) -> Result<Vec<FoundObject>, CallFailed> {
        self.session.find(query)
    }

    fn sign(
        &self,
        mechanism: Pkcs11Mechanism,
        key: KeyHandle,
        data: &[u8],
    ) -> Result<Vec<u8>, CallFailed> {
        self.session.sign(mechanism, key, data)
    }

    fn close(self: Box<Self>) {
        self.session.close();
    }
}

/// A folder with the tokens of one process, removed on drop.
struct Folder(PathBuf);

impl Drop for Folder {
    fn drop(&mut self) {
        std::fs::remove_dir_all(&self.0).ok();
    }
}

/// Runs a test of this file in a process of its own, with a token directory of its own.
fn in_the_child(test: &str) {
    let folder = std::env::temp_dir().join(format!("pkcs11-{}-{test}", std::process::id()));
    std::fs::create_dir_all(folder.join("tokens")).unwrap();
    let folder = Folder(folder);
    let tokens = folder.0.join("tokens");
    let configuration = folder.0.join("softhsm2.conf");
    std::fs::write(
        &configuration,
        format!("directories.tokendir = {}\n", tokens.display()),
    )
    .unwrap();
    let output = Command::new(std::env::current_exe().unwrap())
        .args([
            "--exact",
            &format!("{PREFIX}{test}"),
            "--ignored",
            "--nocapture",
        ])
        .env("SOFTHSM2_CONF", &configuration)
        .env("PKCS11_TEST_TOKENS", &tokens)
        .output()
        .unwrap();
    let text = String::from_utf8_lossy(&output.stdout);
    assert!(
        output.status.success() && text.contains("1 passed"),
        "{text}"
    );
}

/// Creates a token with an RSA key, and returns the initialized module.
fn create_token() -> Pkcs11 {
    let module = Pkcs11::new(MODULE).unwrap();
    module
        .initialize(CInitializeArgs::new(CInitializeFlags::OS_LOCKING_OK))
        .unwrap();
    let slot = module.get_slots_with_token().unwrap()[0];
    let so_pin = AuthPin::new("so-pin".into());
    module.init_token(slot, &so_pin, "daemon").unwrap();
    let slot = module.get_slots_with_initialized_token().unwrap()[0];
    let session = module.open_rw_session(slot).unwrap();
    session.login(UserType::So, Some(&so_pin)).unwrap();
    session.init_pin(&AuthPin::new(PIN.into())).unwrap();
    session.logout().unwrap();
    session
        .login(UserType::User, Some(&AuthPin::new(PIN.into())))
        .unwrap();
    let name = [
        Attribute::Token(true),
        Attribute::Label(b"signing".to_vec()),
        Attribute::Id(vec![1]),
    ];
    let public = [&name[..], &[Attribute::ModulusBits(2048.into())]].concat();
    let private = [
        &name[..],
        &[Attribute::Sign(true), Attribute::Private(true)],
    ]
    .concat();
    let generate = session.generate_key_pair(&Mechanism::RsaPkcsKeyPairGen, &public, &private);
    generate.unwrap();
    session.logout().unwrap();
    module
}

fn counted(pin: TokenPin, clock: &ShiftedClock) -> (Pkcs11Token, Arc<AtomicUsize>) {
    counted_at(Path::new(MODULE), pin, clock)
}

fn counted_at(path: &Path, pin: TokenPin, clock: &ShiftedClock) -> (Pkcs11Token, Arc<AtomicUsize>) {
    let logins = Arc::new(AtomicUsize::new(0));
    let module = Counted {
        module: CryptokiModule::load(path).unwrap(),
        logins: Arc::clone(&logins),
    };
    let time = TimeSource::Injected(Arc::new(clock.clone()));
    let shared = Arc::new(SharedModule::new(
        Box::new(module),
        time,
        TokenLogins::of_process(),
    ));
    let selection = TokenSelection {
        label: Some("daemon".to_owned()),
        ..TokenSelection::default()
    };
    (token_of(&shared, selection, pin, 8, LONG), logins)
}

/// The only token's directory.
fn token_directory() -> PathBuf {
    let tokens = std::env::var_os("PKCS11_TEST_TOKENS").unwrap();
    let mut entries = std::fs::read_dir(tokens).unwrap();
    entries.next().unwrap().unwrap().path()
}

#[test]
#[ignore = "needs SoftHSM; .ci/run installs it and runs the test"]
fn softhsm_a_removed_token_is_used_again_when_it_is_back() {
    in_the_child("removed");
}

#[tokio::test]
#[ignore = "run by the others, with an environment"]
async fn removed() {
    create_token();
    let clock = ShiftedClock::default();
    let (token, logins) = counted(TokenPin::Fixed(PIN.into()), &clock);
    sign(&token).await.unwrap();
    let directory = token_directory();
    let elsewhere = directory.with_file_name("../elsewhere");
    for round in 1..3 {
        std::fs::rename(&directory, &elsewhere).unwrap();
        for _ in 0..3 {
            let error = sign(&token).await.unwrap_err();
            assert!(
                error.to_string().contains("token 'daemon' is not present"),
                "{error}"
            );
            assert!(error.is_transient());
        }
        std::fs::rename(&elsewhere, &directory).unwrap();
        // SoftHSM sees the token after it is initialized again, at most once a minute.
        assert!(sign(&token).await.is_err());
        clock.pass(60);
        sign(&token).await.unwrap();
        clock.pass(60);
        assert_eq!(logins.load(Ordering::SeqCst), round + 1);
    }
}

#[test]
#[ignore = "needs SoftHSM; .ci/run installs it and runs the test"]
fn softhsm_a_wrong_pin_is_tried_once() {
    in_the_child("wrong_pin");
}

#[tokio::test]
#[ignore = "run by the others, with an environment"]
async fn wrong_pin() {
    create_token();
    let (token, logins) = counted(TokenPin::Fixed("9999".into()), &ShiftedClock::default());
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
    assert_eq!(logins.load(Ordering::SeqCst), 1);
    // Another client with another wrong PIN, and a copy of the module.
    let copy = token_directory().with_file_name("../module.so");
    std::fs::copy(MODULE, &copy).unwrap();
    let pin = |pin: &str| TokenPin::Fixed(pin.into());
    let clock = ShiftedClock::default();
    let (other, logins_of_other) = counted(pin("8888"), &clock);
    let (of_copy, logins_of_copy) = counted_at(&copy, pin("9999"), &clock);
    for _ in 0..3 {
        for token in [&other, &token, &of_copy] {
            let error = sign(token).await.unwrap_err().to_string();
            assert!(error.contains("rejected the PIN"), "{error}");
        }
    }
    let count = |logins: &AtomicUsize| logins.load(Ordering::SeqCst);
    let counts = [&logins, &logins_of_other, &logins_of_copy].map(|logins| count(logins));
    assert_eq!(counts, [1, 1, 0]);
    let (right, logins_of_right) = counted_at(&copy, pin(PIN), &clock);
    sign(&right).await.unwrap();
    assert_eq!(count(&logins_of_right), 1);
}

#[test]
#[ignore = "needs SoftHSM; .ci/run installs it and runs the test"]
fn softhsm_another_part_of_the_program_finalizes_the_module() {
    in_the_child("finalized");
}

#[tokio::test]
#[ignore = "run by the others, with an environment"]
async fn finalized() {
    let other = create_token();
    let (token, _) = counted(TokenPin::Fixed(PIN.into()), &ShiftedClock::default());
    for _ in 0..3 {
        sign(&token).await.unwrap();
        other.clone().finalize().unwrap();
    }
}
