//! Files in shapes that public bug reports describe, from `tests/data/cases`, and the texts and
//! wrong files that people pass in the place of PEM and PKCS#12.

use std::path::Path;

use base64::Engine;
use base64::prelude::{BASE64_STANDARD, BASE64_STANDARD_NO_PAD, BASE64_URL_SAFE_NO_PAD};
use confidential_client::credential::{CertificateFile, SigningAlgorithm};
use confidential_client::{Certificate, Error};
use serde_json::Value;

use crate::certificate_formats::{FOLDER, PASSWORD, assertion};

fn text(name: &str) -> String {
    String::from_utf8(made(name)).unwrap()
}

/// Reads a file whose content determines the format.
fn file(content: impl AsRef<[u8]>, password: Option<&str>) -> Result<Certificate, Error> {
    let path = FOLDER.path(&uuid::Uuid::new_v4().to_string());
    std::fs::write(&path, content).unwrap();
    let file = CertificateFile::new(&path);
    let read = match password {
        Some(password) => file.password(password).read(),
        None => file.read(),
    };
    std::fs::remove_file(path).unwrap();
    read
}

/// Returns the certificates that an assertion carries.
async fn chain(certificate: Certificate) -> Vec<String> {
    let assertion = assertion(certificate.send_x5c()).await.unwrap();
    let header = BASE64_URL_SAFE_NO_PAD.decode(assertion.split('.').next().unwrap());
    let header: Value = serde_json::from_slice(&header.unwrap()).unwrap();
    let chain = header["x5c"].as_array().unwrap();
    chain
        .iter()
        .map(|text| text.as_str().unwrap().to_owned())
        .collect()
}

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
    for (name, certificates) in [("long-serial.p12", 1), ("ber.p12", 2), ("pbmac1.p12", 2)] {
        let certificate = Certificate::from_pkcs12(case(name), PASSWORD).unwrap();
        let chain = chain(certificate.clone()).await;
        assert_eq!(chain.len(), certificates, "{name}");
        let (_, sha1) = by_openssl(&BASE64_STANDARD.decode(&chain[0]).unwrap());
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
    assert_eq!(list.lines().count(), 39);
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

/// The blocks of the PEM `text`, as they arrive in variables, JSON, YAML and mails.
fn as_it_arrives(text: &str) -> Vec<(&'static str, String)> {
    let lines = |each: &dyn Fn(&str) -> String| text.lines().map(each).collect::<String>();
    let json = serde_json::to_string(text).unwrap();
    let base64 = BASE64_STANDARD.encode(text);
    let wrapped: String = base64
        .as_bytes()
        .chunks(76)
        .map(|line| format!("{}\n", std::str::from_utf8(line).unwrap()))
        .collect();
    let percent: String = url::form_urlencoded::byte_serialize(text.as_bytes()).collect();
    let (certificates, key): (Vec<&str>, Vec<&str>) = text
        .split_inclusive("-----\n")
        .collect::<Vec<_>>()
        .chunks(2)
        .map(|block| &text[position(text, block[0])..position(text, block[1]) + block[1].len()])
        .partition(|block| block.contains("CERTIFICATE"));
    let [certificates, key] =
        [certificates, key].map(|blocks| BASE64_STANDARD.encode(blocks.concat()));
    vec![
        ("line breaks as \\n", text.replace('\n', "\\n")),
        (
            "\\n in quotes",
            format!("\"{}\"", text.replace('\n', "\\n")),
        ),
        ("\\n escaped twice", text.replace('\n', "\\\\n")),
        ("\\r\\n", text.replace('\n', "\\r\\n")),
        ("line breaks lost", text.replace('\n', "")),
        ("line breaks as spaces", text.replace('\n', " ")),
        (
            "line breaks as old Macs write them",
            text.replace('\n', "\r"),
        ),
        ("a variable's name before", format!("CERTIFICATE={text}")),
        (
            "export and quotes",
            format!("export CERTIFICATE='{text}'\n"),
        ),
        (
            "quotes around lines",
            lines(&|line| format!("\"{line}\"\n")),
        ),
        (
            "source code",
            lines(&|line| format!("    \"{line}\\n\" +\n")),
        ),
        (
            "an array of lines",
            format!("[{}]", lines(&|line| format!("\"{line}\","))),
        ),
        ("a citation", lines(&|line| format!("> {line}\n"))),
        ("tabs behind lines", lines(&|line| format!("{line}\t\n"))),
        (
            "no-break spaces behind lines",
            lines(&|line| format!("{line}\u{a0}\n")),
        ),
        ("indented", lines(&|line| format!("      {line}\n"))),
        (
            "backslashes behind lines",
            lines(&|line| format!("{line}\\\n")),
        ),
        (
            "a blank line between lines",
            lines(&|line| format!("{line}\n\n")),
        ),
        (
            "a byte order mark before blocks",
            text.replace("-----BEGIN", "\u{feff}-----BEGIN"),
        ),
        (
            "a zero-width space",
            text.replace("-----END", "\u{200b}-----END"),
        ),
        (
            "END and BEGIN on one line",
            text.replace("-----\n-----", "----------"),
        ),
        (
            "END and BEGIN with a space",
            text.replace("-----\n-----", "----- -----"),
        ),
        ("JSON", format!("{{\"id\": 7, \"pem\": {json}}}")),
        ("JSON in JSON", serde_json::to_string(&json).unwrap()),
        (
            "JSON of .NET",
            json.replace('+', "\\u002B").replace('/', "\\/"),
        ),
        ("a form field", percent.clone()),
        ("percent encoding", percent.replace('+', "%20")),
        (
            "X509 CERTIFICATE",
            text.replace(" CERTIFICATE", " X509 CERTIFICATE"),
        ),
        ("base64", base64.clone()),
        ("base64 in lines", wrapped),
        ("base64 in quotes", format!("\"{base64}\"\n")),
        ("base64 behind a name", format!("TLS_PEM={base64}")),
        (
            "base64 without padding",
            BASE64_STANDARD_NO_PAD.encode(text),
        ),
        ("base64url", BASE64_URL_SAFE_NO_PAD.encode(text)),
        ("base64 of base64", BASE64_STANDARD.encode(&base64)),
        ("base64 in JSON", format!("{{\"value\": \"{base64}\"}}")),
        (
            "a secret of Kubernetes",
            format!(
                "{{\"kind\": \"Secret\", \"data\": {{\"tls.crt\": \"{certificates}\", \"tls.key\": \"{key}\"}}}}"
            ),
        ),
        (
            "data in YAML",
            format!("data:\n  tls.crt: {certificates}\n  tls.key: {key}\n"),
        ),
    ]
}

/// The index of `part`, which is a slice of `text`.
fn position(text: &str, part: &str) -> usize {
    part.as_ptr() as usize - text.as_ptr() as usize
}

// failures.md O10.
#[tokio::test]
async fn no_layout_of_a_pem_loses_a_certificate() {
    let pem = text("rsa2048.scrambled.pem");
    let expected: Vec<String> = text("rsa2048.x5c").lines().map(str::to_owned).collect();
    assert_eq!(expected.len(), 3);
    for (layout, arrived) in as_it_arrives(&pem) {
        let read = Certificate::from_pem(&arrived);
        let certificate = read.unwrap_or_else(|error| panic!("{layout}: {error}\n{arrived}"));
        assert_eq!(chain(certificate).await, expected, "{layout}");
        let certificate = file(&arrived, None).unwrap();
        assert_eq!(chain(certificate).await, expected, "{layout}, as a file");
    }
    let trusted = text("trusted.pem");
    assert!(trusted.contains("TRUSTED CERTIFICATE"));
    let certificate = Certificate::from_pem(trusted + &text("rsa2048.key")).unwrap();
    assert_eq!(chain(certificate).await, expected[..1]);
}

#[test]
fn an_encrypted_key_is_read_in_every_layout() {
    for key in ["old-encrypted.key", "old-des3.key", "old-aes256.key"] {
        let pem = text("rsa2048.crt") + &text(key);
        for (layout, arrived) in as_it_arrives(&pem) {
            let read = Certificate::from_encrypted_pem(&arrived, PASSWORD);
            read.unwrap_or_else(|error| panic!("{key}, {layout}: {error}\n{arrived}"));
            let error = Certificate::from_encrypted_pem(&arrived, "wrong").unwrap_err();
            assert!(
                error.to_string().contains("the password is wrong"),
                "{error}"
            );
        }
    }
}

#[test]
fn a_certificate_that_would_get_lost_is_an_error() {
    let pem = text("rsa2048.scrambled.pem");
    let root_end = pem.find("-----END").unwrap();
    let intermediate = pem.rfind("-----BEGIN").unwrap();
    let replace =
        |at: usize, from: &str, to: &str| pem[..at].to_owned() + &pem[at..].replacen(from, to, 1);
    for (name, broken, text) in [
        (
            "an END is missing",
            replace(root_end, "-----END CERTIFICATE-----\n", ""),
            "no matching '-----END'",
        ),
        (
            "another END",
            replace(root_end, "END CERTIFICATE", "END PRIVATE KEY"),
            "do not match",
        ),
        (
            "a BEGIN is missing",
            replace(intermediate, "-----BEGIN CERTIFICATE-----\n", ""),
            "misspelled or alone",
        ),
        (
            "four hyphens",
            replace(intermediate, "-----BEGIN", "----BEGIN"),
            "misspelled or alone",
        ),
        (
            "four hyphens behind",
            replace(intermediate, "CERTIFICATE-----", "CERTIFICATE----"),
            "misspelled",
        ),
        (
            "a dash",
            replace(intermediate, "-----BEGIN", "\u{2014}BEGIN"),
            "misspelled or alone",
        ),
        (
            "small letters",
            replace(intermediate, "BEGIN CERTIFICATE", "BEGIN certificate"),
            "misspelled",
        ),
        (
            "small letters on both sides",
            in_small_letters(&pem, intermediate),
            "misspelled or alone",
        ),
        (
            "a tab",
            pem[..intermediate].to_owned() + &pem[intermediate..].replace(" CERT", "\tCERT"),
            "misspelled or alone",
        ),
        (
            "no space",
            pem[..intermediate].to_owned() + &pem[intermediate..].replace(" CERT", "CERT"),
            "misspelled or alone",
        ),
        (
            "minus signs",
            pem[..intermediate].to_owned() + &pem[intermediate..].replace('-', "\u{2212}"),
            "misspelled or alone",
        ),
        (
            "equals signs",
            pem[..intermediate].to_owned() + &pem[intermediate..].replace('-', "="),
            "misspelled or alone",
        ),
        (
            "a part as PKCS#7",
            pem.clone() + "-----BEGIN PKCS7-----\nMIIB\n-----END PKCS7-----\n",
            "a part of its certificates as PKCS#7",
        ),
        ("no space anywhere", pem.replace(' ', ""), "are misspelled"),
        (
            "a character in a certificate",
            replace(intermediate, "MII", "M*I"),
            "is not base64",
        ),
        (
            "a line is missing",
            replace(intermediate, &line_of(&pem[intermediate..], 5), ""),
            "a certificate cannot be read",
        ),
        (
            "cut off",
            pem[..pem.len() - 40].to_owned(),
            "was the file cut off",
        ),
        (
            "all dashes",
            pem.replace("-----", "\u{2013}"),
            "each side has five hyphens",
        ),
    ] {
        let error = Certificate::from_pem(&broken).expect_err(name);
        assert!(error.to_string().contains(text), "{name}: {error}");
        let line = line_of(&pem, 10);
        assert!(
            !format!("{error:?}").contains(line.trim()),
            "{name}: {error:?}"
        );
    }
}

fn in_small_letters(pem: &str, from: usize) -> String {
    let (before, behind) = pem.split_at(from);
    let behind = behind.replace("BEGIN CERTIFICATE", "begin certificate");
    before.to_owned() + &behind.replace("END CERTIFICATE", "end certificate")
}

/// A script that appends, and two settings that name one file, repeat the key.
#[tokio::test]
async fn a_key_that_is_given_twice_is_not_called_two_keys() {
    let pem = text("rsa2048.scrambled.pem");
    let twice = Certificate::from_pem(format!("{pem}\n{pem}")).unwrap();
    assert_eq!(chain(twice).await.len(), 3);
    let pair = Certificate::from_pem_pair(&pem, &pem).unwrap();
    assert_eq!(chain(pair).await.len(), 3);
    let other = text("rsa3072.scrambled.pem");
    let error = Certificate::from_pem(format!("{pem}\n{other}")).unwrap_err();
    assert!(error.to_string().contains("two private keys"), "{error}");
}

fn line_of(text: &str, index: usize) -> String {
    format!("{}\n", text.lines().nth(index).unwrap())
}

#[test]
fn pkcs12_is_read_as_it_arrives() {
    let pfx = made("rsa2048.modern.p12");
    let base64 = BASE64_STANDARD.encode(&pfx);
    let wrapped: Vec<&str> = base64
        .as_bytes()
        .chunks(64)
        .map(|line| std::str::from_utf8(line).unwrap())
        .collect();
    for (layout, arrived) in [
        ("with a newline", [&pfx[..], b"\r\n"].concat()),
        ("base64", base64.clone().into_bytes()),
        ("base64 in lines", wrapped.join("\r\n").into_bytes()),
        ("base64 in quotes", format!("\"{base64}\"\n").into_bytes()),
        ("a byte order mark", format!("\u{feff}{base64}").into_bytes()),
        ("base64 behind a name", format!("AZURE_PFX={base64}").into_bytes()),
        ("without padding", BASE64_STANDARD_NO_PAD.encode(&pfx).into_bytes()),
        ("base64url", BASE64_URL_SAFE_NO_PAD.encode(&pfx).into_bytes()),
        ("base64 of base64", BASE64_STANDARD.encode(&base64).into_bytes()),
        ("a data URL", format!("data:application/x-pkcs12;base64,{base64}").into_bytes()),
        (
            "a secret of Azure Key Vault",
            format!("{{\"contentType\": \"application/x-pkcs12\", \"id\": \"https://v.vault.azure.net/secrets/a/b\", \"value\": \"{base64}\"}}").into_bytes(),
        ),
    ] {
        for read in [
            Certificate::from_pkcs12(&arrived, PASSWORD),
            file(&arrived, Some(PASSWORD)),
        ] {
            read.unwrap_or_else(|error| panic!("{layout}: {error}"));
        }
        if layout != "with a newline" {
            let error = Certificate::from_pem(&arrived).unwrap_err();
            assert!(error.to_string().contains("use from_pkcs12"), "{layout}: {error}");
        }
    }
}

#[test]
fn der_in_two_files_is_read() {
    for (certificate, key, password) in [
        ("rsa2048.crt.der", "rsa2048.pkcs8.der", None),
        ("rsa2048.crt.der", "rsa2048.traditional.der", None),
        ("rsa2048.crt.der", "rsa2048.key", None),
        ("rsa2048.crt", "rsa2048.pkcs8.der", None),
        ("rsa2048.crt", "encrypted.der", Some(PASSWORD)),
    ] {
        let file = CertificateFile::new(FOLDER.path(certificate)).private_key(FOLDER.path(key));
        let read = match password {
            Some(password) => file.password(password).read(),
            None => file.read(),
        };
        read.unwrap_or_else(|error| panic!("{certificate} and {key}: {error}"));
    }
    let newline = [made("rsa2048.pkcs8.der"), b"\n".to_vec()].concat();
    Certificate::from_der(
        [made("rsa2048.crt.der"), b"\n".to_vec()]
            .concat()
            .chunks(1 << 20),
        newline,
    )
    .unwrap();
}

#[test]
fn the_wrong_file_is_named_for_what_it_is() {
    let utf16 =
        |text: String| -> Vec<u8> { text.encode_utf16().flat_map(u16::to_le_bytes).collect() };
    let newline = [made("rsa2048.crt.der"), b"\n".to_vec()].concat();
    let as_text = String::from_utf8_lossy(&made("rsa2048.modern.p12")).into_owned();
    for (name, content, texts) in [
        (
            "JKS",
            case("keytool.jks"),
            &["a Java keystore", "keytool -importkeystore"][..],
        ),
        (
            "PKCS#7",
            case("chain.p7b"),
            &["PKCS#7", "openssl pkcs7 -print_certs"],
        ),
        (
            "private key in DER",
            made("rsa2048.pkcs8.der"),
            &["a private key in DER, without certificate"],
        ),
        (
            "old private key in DER",
            made("rsa2048.traditional.der"),
            &["a private key in DER"],
        ),
        (
            "EC private key in DER",
            made("p256.traditional.der"),
            &["a private key in DER"],
        ),
        (
            "encrypted key in DER",
            made("encrypted.der"),
            &["an encrypted private key in DER"],
        ),
        (
            "public key in DER",
            made("public.der"),
            &["a public key in DER"],
        ),
        (
            "request in DER",
            made("rsa2048.csr.der"),
            &["a certificate request (CSR)"],
        ),
        ("CRL", made("crl.der"), &["a certificate revocation list"]),
        (
            "ZIP",
            b"PK\x03\x04\x14\0\0\0".to_vec(),
            &["a ZIP archive", "unpack it"],
        ),
        (
            "certificate",
            newline,
            &["one certificate in DER", "private key"],
        ),
        (
            "UTF-16",
            utf16(text("rsa2048.pkcs8.pem")),
            &["UTF-16", "save it as UTF-8"],
        ),
        (
            "saved as text",
            as_text.into_bytes(),
            &["a binary file that a program saved as text"],
        ),
        (
            "a page",
            b"<!DOCTYPE html><title>Sign in</title>".to_vec(),
            &["an HTML page"],
        ),
        (
            "PuTTY",
            b"PuTTY-User-Key-File-3: ssh-rsa\n".to_vec(),
            &["PuTTY"],
        ),
    ] {
        for (read, prefix) in [
            (file(&content, None), "cannot be used: it "),
            (Certificate::from_pem(&content), "this is not PEM but "),
            (
                Certificate::from_pkcs12(&content, ""),
                "this is not PKCS#12 but ",
            ),
        ] {
            let error = read.expect_err(name).to_string();
            assert!(error.contains(prefix), "{name}: {error}");
            for text in texts {
                assert!(error.contains(text), "{name}: {error}");
            }
            assert!(
                name == "UTF-16" || !error.contains("UTF-16"),
                "{name}: {error}"
            );
        }
    }
    let pem = "-----BEGIN PKCS12-----\nMIIB\n-----END PKCS12-----\n";
    let error = Certificate::from_pem(pem).unwrap_err().to_string();
    assert!(error.contains("holds a PKCS#12 file"), "{error}");
    let error = Certificate::from_der([made("rsa2048.crt.der")], made("rsa2048.modern.p12"));
    assert!(
        error
            .unwrap_err()
            .to_string()
            .contains("it is a PKCS#12 file")
    );
    let error = Certificate::from_der([made("chain.p7b")], made("rsa2048.pkcs8.der")).unwrap_err();
    assert!(
        error.to_string().contains("it is PEM and not DER"),
        "{error}"
    );
    let error = Certificate::from_der([case("chain.p7b")], made("rsa2048.pkcs8.der")).unwrap_err();
    assert!(error.to_string().contains("it is PKCS#7"), "{error}");
    let error = signed_elsewhere(case("keytool.jks")).unwrap_err();
    assert!(error.to_string().contains("a Java keystore"), "{error}");
}

#[test]
fn a_damaged_or_rare_old_encryption_is_named() {
    let pem = || text("rsa2048.crt") + &text("old-aes256.key");
    for (name, pem, text) in [
        (
            "no cipher",
            pem().replace("DEK-Info", "DEK"),
            "'DEK-Info' or its base64 is damaged",
        ),
        (
            "short vector",
            pem().replacen("AES-256-CBC,", "AES-256-CBC,!", 1),
            "is damaged",
        ),
        (
            "another cipher",
            pem().replace("AES-256-CBC", "CAMELLIA-256-CBC"),
            "by CAMELLIA-256-CBC",
        ),
        (
            "a length of no block",
            pem().replacen("-----END RSA", "AAAA-----END RSA", 1),
            "is damaged",
        ),
    ] {
        let error = Certificate::from_encrypted_pem(pem, PASSWORD)
            .unwrap_err()
            .to_string();
        assert!(error.contains(text), "{name}: {error}");
    }
    let error = Certificate::from_encrypted_pem(pem(), "").unwrap_err();
    assert!(
        error.to_string().contains("the password is empty"),
        "{error}"
    );
}
