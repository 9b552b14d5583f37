//! SoftHSM in a process of its own, with a token whose keys and certificates openssl creates.

use std::fs;
use std::path::{Path, PathBuf};
use std::process::{Command, Output};

use confidential_client::adapter::Pkcs11Token;
use cryptoki::context::{CInitializeArgs, CInitializeFlags, Pkcs11};
use cryptoki::object::{Attribute, CertificateType, ObjectClass};
use cryptoki::session::{Session, UserType};
use cryptoki::types::AuthPin;

pub const MODULE: &str = "/usr/lib/softhsm/libsofthsm2.so";
pub const PIN: &str = "48151623";

/// Runs a test in a process of its own, since a module belongs to the process. The process has its
/// own folder, with a token `daemon`.
pub fn in_the_child(test: &str) {
    let name = test.replace("::", "-");
    let folder = std::env::temp_dir().join(format!("{name}-{}", std::process::id()));
    fs::create_dir_all(folder.join("tokens")).unwrap();
    let folder = Folder(folder);
    let tokens = folder.0.join("tokens").display().to_string();
    let configuration = folder.0.join("softhsm2.conf");
    fs::write(&configuration, format!("directories.tokendir = {tokens}\n")).unwrap();
    let run = |mut command: Command| {
        let output = command
            .env("SOFTHSM2_CONF", &configuration)
            .env(FOLDER, &folder.0)
            .output();
        succeeded(output.unwrap())
    };
    let mut util = Command::new("softhsm2-util");
    util.args([
        "--init-token",
        "--free",
        "--label",
        "daemon",
        "--so-pin",
        "so-pin",
        "--pin",
        PIN,
    ]);
    run(util);
    let mut child = Command::new(std::env::current_exe().unwrap());
    child.args(["--exact", test, "--ignored", "--nocapture"]);
    let text = run(child);
    assert!(text.contains("1 passed"), "{text}");
    assert!(!text.contains(PIN), "{text}");
}

struct Folder(PathBuf);

impl Drop for Folder {
    fn drop(&mut self) {
        fs::remove_dir_all(&self.0).ok();
    }
}

/// Returns a path in the folder of this process.
pub fn path(name: &str) -> PathBuf {
    Path::new(&std::env::var_os(FOLDER).unwrap()).join(name)
}

/// Returns the token `daemon` with the right PIN.
pub fn token() -> Pkcs11Token {
    Pkcs11Token::new(MODULE).label("daemon").pin(PIN)
}

/// A key and a certificate in files, as openssl writes them.
pub struct OpensslKey {
    name: String,
}

impl OpensslKey {
    /// Creates a key and a self-signed certificate of some days. `new_key` has the arguments of
    /// `openssl req -newkey`.
    pub fn create(name: &str, new_key: &[&str], days: u32) -> Self {
        let this = Self {
            name: name.to_owned(),
        };
        let mut command = Command::new("openssl");
        command.args([
            "req",
            "-x509",
            "-nodes",
            "-subj",
            &format!("/CN={name}"),
            "-newkey",
        ]);
        command.args(new_key).args(["-days", &days.to_string()]);
        command
            .arg("-keyout")
            .arg(this.file("key"))
            .arg("-out")
            .arg(this.file("crt"));
        succeeded(command.output().unwrap());
        this
    }

    pub fn pem(&self) -> String {
        fs::read_to_string(self.file("crt")).unwrap()
    }

    /// Puts the key on the token.
    pub fn import_key(&self, label: &str, id: &str) {
        let mut util = Command::new("softhsm2-util");
        util.args([
            "--token", "daemon", "--pin", PIN, "--label", label, "--id", id,
        ]);
        util.arg("--import").arg(self.file("key"));
        succeeded(util.output().unwrap());
    }

    /// Puts the certificate on the token.
    pub fn import_certificate(&self, user: &OtherUser, label: &str, id: u8) {
        let der = succeeded_bytes(
            Command::new("openssl")
                .args(["x509", "-outform", "DER", "-in"])
                .arg(self.file("crt"))
                .output()
                .unwrap(),
        );
        let template = [
            Attribute::Class(ObjectClass::CERTIFICATE),
            Attribute::CertificateType(CertificateType::X_509),
            Attribute::Token(true),
            Attribute::Private(false),
            Attribute::Label(label.as_bytes().to_vec()),
            Attribute::Id(vec![id]),
            Attribute::Subject(vec![0x30, 0x00]),
            Attribute::Value(der),
        ];
        // SoftHSM overlooks a key of another process if it writes without a search before, and a
        // write sometimes fails while others read.
        let is_written = (0..20).any(|_| {
            user.session.find_objects(&[]).unwrap();
            user.session.create_object(&template).is_ok()
        });
        assert!(is_written);
    }

    /// Lets openssl verify a signature in the form of a JWS.
    pub fn verify(&self, algorithm: &str, message: &[u8], signature: &[u8]) -> bool {
        let (public, signed, file) = (self.file("pub"), self.file("msg"), self.file("sig"));
        let mut export = Command::new("openssl");
        export
            .args(["x509", "-pubkey", "-noout", "-in"])
            .arg(self.file("crt"));
        fs::write(&public, succeeded_bytes(export.output().unwrap())).unwrap();
        fs::write(&signed, message).unwrap();
        let signature = match algorithm.starts_with("ES") {
            true => der_of(signature),
            false => signature.to_vec(),
        };
        fs::write(&file, signature).unwrap();
        let digest = if algorithm.ends_with("384") {
            "-sha384"
        } else {
            "-sha256"
        };
        let mut judge = Command::new("openssl");
        judge
            .args(["dgst", digest, "-verify"])
            .arg(public)
            .arg("-signature")
            .arg(file);
        if algorithm.starts_with("PS") {
            judge.args([
                "-sigopt",
                "rsa_padding_mode:pss",
                "-sigopt",
                "rsa_pss_saltlen:32",
            ]);
        }
        judge.arg(signed).output().unwrap().status.success()
    }

    fn file(&self, extension: &str) -> PathBuf {
        path(&format!("{}.{extension}", self.name))
    }
}

/// Another part of the program that uses the module.
pub struct OtherUser {
    pub session: Session,
}

impl OtherUser {
    pub fn log_in() -> Self {
        let module = Pkcs11::new(MODULE).unwrap();
        // The crate may have been first.
        let _ = module.initialize(CInitializeArgs::new(CInitializeFlags::OS_LOCKING_OK));
        let slot = module.get_slots_with_initialized_token().unwrap()[0];
        let session = module.open_rw_session(slot).unwrap();
        let user = Self { session };
        user.log_in_again();
        user
    }

    pub fn log_in_again(&self) {
        // The login is that of the process.
        let _ = self
            .session
            .login(UserType::User, Some(&AuthPin::new(PIN.into())));
    }

    pub fn log_out(&self) {
        let _ = self.session.logout();
    }

    /// Deletes the keys and certificates with an id.
    pub fn delete(&self, id: u8) {
        let find = || {
            self.session
                .find_objects(&[Attribute::Id(vec![id])])
                .unwrap()
        };
        assert!(!find().is_empty());
        let is_deleted = (0..20).any(|_| {
            for object in find() {
                let _ = self.session.destroy_object(object);
            }
            find().is_empty()
        });
        assert!(is_deleted);
    }
}

/// Encodes r and s as the DER that openssl reads.
fn der_of(signature: &[u8]) -> Vec<u8> {
    let (r, s) = signature.split_at(signature.len() / 2);
    let integer = |number: &[u8]| {
        let zeros = number.iter().take_while(|byte| **byte == 0).count();
        let mut digits = number[zeros..].to_vec();
        if digits[0] >= 0x80 {
            digits.insert(0, 0);
        }
        [&[0x02, digits.len() as u8], &digits[..]].concat()
    };
    let numbers = [integer(r), integer(s)].concat();
    [&[0x30, numbers.len() as u8], &numbers[..]].concat()
}

fn succeeded(output: Output) -> String {
    String::from_utf8(succeeded_bytes(output)).unwrap()
}

fn succeeded_bytes(output: Output) -> Vec<u8> {
    let error = String::from_utf8_lossy(&output.stderr);
    let text = String::from_utf8_lossy(&output.stdout);
    assert!(output.status.success(), "{text}\n{error}");
    output.stdout
}

const FOLDER: &str = "PKCS11_TEST_FOLDER";
