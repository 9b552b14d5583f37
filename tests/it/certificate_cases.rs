//! Files in shapes that public bug reports describe, from `tests/data/cases`, and the texts and
//! wrong files that people pass in the place of PEM and PKCS#12.

use std::path::Path;

use base64::Engine;
use base64::prelude::{BASE64_STANDARD, BASE64_URL_SAFE_NO_PAD};
use confidential_client::credential::SigningAlgorithm;
use confidential_client::{Certificate, Error};
use serde_json::Value;

use crate::certificate_formats::{FOLDER, PASSWORD, assertion};

fn case(name: &str) -> Vec<u8> {
    let folder = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/data/cases");
    std::fs::read(folder.join(name)).unwrap_or_else(|error| panic!("{name}: {error}"))
}

fn made(name: &str) -> Vec<u8> {
    std::fs::read(FOLDER.path(name)).unwrap_or_else(|error| panic!("{name}: {error}"))
}

/// Reads the certificate alone, whose key is elsewhere.
fn signed_elsewhere(certificate: Vec<u8>) -> Result<Certificate, Error> {
    Certificate::from_signer(certificate, |_: SigningAlgorithm, _: Vec<u8>| async {
        Err("the vault is sealed".into())
    })
}

/// Returns the subject and the SHA-1 thumbprint that openssl prints.
fn by_openssl(der: &[u8]) -> (String, String) {
    let path = FOLDER.path(&format!("{}.der", uuid::Uuid::new_v4()));
    std::fs::write(&path, der).unwrap();
    let mut openssl = std::process::Command::new("openssl");
    openssl.args([
        "x509",
        "-inform",
        "DER",
        "-noout",
        "-subject",
        "-fingerprint",
        "-sha1",
        "-in",
    ]);
    let printed = openssl.arg(&path).output().unwrap().stdout;
    std::fs::remove_file(path).unwrap();
    let printed = String::from_utf8(printed).unwrap();
    let mut lines = printed.lines();
    let mut value = || {
        lines
            .next()
            .unwrap()
            .split_once('=')
            .unwrap()
            .1
            .trim()
            .to_owned()
    };
    (value(), value().replace(':', ""))
}

fn pem_to_der(pem: &[u8]) -> Vec<u8> {
    let text = String::from_utf8(pem.to_vec()).unwrap();
    let lines = text.lines().filter(|line| !line.starts_with('-'));
    BASE64_STANDARD.decode(lines.collect::<String>()).unwrap()
}

// failures.md O9.
#[test]
fn the_exports_of_common_tools_are_not_called_a_wrong_password() {
    let daemon = "EDB69EB676DC69F81F0756CF14B58FC50F35441F";
    let long = "49289BD4E16584243A8466CC7125D2CA6132FEA5";
    for (name, password, subject, thumbprint) in [
        ("null-password.p12", "", "CN=daemon", daemon),
        ("ber.p12", PASSWORD, "CN=daemon", daemon),
        ("pbmac1.p12", PASSWORD, "CN=daemon", daemon),
        ("long-serial.p12", PASSWORD, "CN=long", long),
    ] {
        let read = Certificate::from_pkcs12(case(name), password);
        let certificate = read.unwrap_or_else(|error| panic!("{name}: {error}"));
        assert_eq!(certificate.subject(), subject, "{name}");
        assert_eq!(certificate.thumbprint_sha1(), thumbprint, "{name}");
    }
}

#[tokio::test]
async fn a_certificate_against_the_standard_is_sent_byte_for_byte() {
    let sent = |pfx: Vec<u8>| async {
        let certificate = Certificate::from_pkcs12(pfx, PASSWORD).unwrap().send_x5c();
        let assertion = assertion(certificate).await.unwrap();
        let header = BASE64_URL_SAFE_NO_PAD.decode(assertion.split('.').next().unwrap());
        let header: Value = serde_json::from_slice(&header.unwrap()).unwrap();
        let chain = header["x5c"].as_array().unwrap().clone();
        let decode = |text: Value| BASE64_STANDARD.decode(text.as_str().unwrap()).unwrap();
        chain.into_iter().map(decode).collect::<Vec<_>>()
    };
    for (name, certificates) in [("long-serial.p12", 1), ("ber.p12", 2), ("pbmac1.p12", 2)] {
        let chain = sent(case(name)).await;
        assert_eq!(chain.len(), certificates, "{name}");
        let certificate = Certificate::from_pkcs12(case(name), PASSWORD).unwrap();
        let (_, sha1) = by_openssl(&chain[0]);
        assert_eq!(sha1, certificate.thumbprint_sha1(), "{name}");
    }
}

#[test]
fn a_certificate_that_openssl_reads_is_read_and_shown_readably() {
    for (name, subject) in [
        ("t61-subject.crt", "CN=Große Daemon"),
        ("boolean-one.crt", "CN=negative"),
    ] {
        let certificate = signed_elsewhere(case(name)).unwrap();
        assert_eq!(certificate.subject(), subject);
        let der = pem_to_der(&case(name));
        let (_, sha1) = by_openssl(&der);
        assert_eq!(certificate.thumbprint_sha1(), sha1);
        let with_newline = [&der[..], b"\n"].concat();
        let certificate = signed_elsewhere(with_newline).unwrap();
        assert_eq!(certificate.thumbprint_sha1(), sha1);
    }
}

#[test]
fn a_password_outside_of_latin_is_not_called_wrong() {
    for (name, password) in [
        ("rsa2048.unicode.p12", "pässwörd✓"),
        ("astral.p12", "🔑 hunter2"),
        ("astral-legacy.p12", "🔑 hunter2"),
        // As OpenSSL 1.0 wrote it in a UTF-8 terminal.
        ("old-unicode.p12", "pässwörd"),
    ] {
        let read = Certificate::from_pkcs12(made(name), password);
        let certificate = read.unwrap_or_else(|error| panic!("{name}: {error}"));
        assert!(certificate.subject().contains("CN=rsa2048"));
        let error = Certificate::from_pkcs12(made(name), "passwörd").unwrap_err();
        assert!(error.to_string().contains("the password is wrong"));
    }
}

#[test]
fn old_and_rare_encryption_is_read_as_openssl_reads_it() {
    let list = String::from_utf8(made("legacy.list")).unwrap();
    assert_eq!(list.lines().count(), 33);
    for name in list.lines() {
        let read = match name.ends_with(".p12") {
            true => Certificate::from_pkcs12(made(name), PASSWORD),
            false => Certificate::from_encrypted_pem(made(name), PASSWORD),
        };
        // The key is checked against the certificate.
        let certificate = read.unwrap_or_else(|error| panic!("{name}: {error}"));
        assert!(certificate.subject().contains("CN=rsa2048"), "{name}");
        let wrong = match name.ends_with(".p12") {
            true => Certificate::from_pkcs12(made(name), "wrong"),
            false => Certificate::from_encrypted_pem(made(name), "wrong"),
        };
        let error = wrong.unwrap_err().to_string();
        assert!(error.contains("the password is wrong"), "{name}: {error}");
    }
}

#[test]
fn a_wrong_password_and_no_password_and_damage_are_told_apart() {
    let pfx = || made("rsa2048.modern.p12");
    let cut = |length: usize| pfx()[..length].to_vec();
    let mut changed = pfx();
    changed[200] ^= 1;
    let mut misshapen = pfx();
    misshapen[7] = 0x31;
    for (file, password, texts) in [
        (
            pfx(),
            "wrong",
            &["the password is wrong", "file is damaged"][..],
        ),
        (
            pfx(),
            "hunter2\n",
            &["the password is wrong", "ends in white space"],
        ),
        (
            pfx(),
            "\u{a0}hunter2",
            &["the password is wrong", "begins with white space"],
        ),
        (
            pfx(),
            "",
            &["no password was given", "AZURE_CLIENT_CERTIFICATE_PASSWORD"],
        ),
        (cut(2000), PASSWORD, &["is cut off"]),
        (cut(3), PASSWORD, &["is cut off"]),
        (misshapen, PASSWORD, &["is damaged: its structure"]),
        (
            changed,
            PASSWORD,
            &["the password is wrong, or the file is damaged"],
        ),
    ] {
        let error = Certificate::from_pkcs12(file, password).unwrap_err();
        let shown = format!("{error} {error:?}");
        for text in texts {
            assert!(shown.contains(text), "{shown}");
        }
        assert!(!shown.contains(PASSWORD), "{shown}");
    }
    let key = || made("rsa2048.encrypted.pem");
    for (password, text) in [
        ("hunter2 ", "ends in white space"),
        (" hunter2", "begins with white space"),
        ("hunter3", "the password is wrong"),
    ] {
        let error = Certificate::from_encrypted_pem(key(), password).unwrap_err();
        assert!(error.to_string().contains(text), "{error}");
    }
}

#[test]
fn an_rsa_pss_key_for_other_parameters_is_named() {
    for key in ["pss-sha512", "pss-salt"] {
        let pair = [made(&format!("{key}.crt")), made(&format!("{key}.key"))].concat();
        let error = Certificate::from_pem(pair).unwrap_err().to_string();
        assert!(error.contains("which PS256 needs"), "{error}");
    }
}
