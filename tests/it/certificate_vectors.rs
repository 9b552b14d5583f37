//! Every private key and PKCS#12 file of pyca's `cryptography_vectors`, read as `cryptography`
//! reads it. `tests/interop/vectors.py` writes what `cryptography` made of each file.

use std::path::PathBuf;

use confidential_client::credential::CertificateFile;
use confidential_client::{Certificate, Error};
use serde_json::Value;

/// What this crate says of a file that holds no usable key for another reason than its format.
const UNSUITABLE: [&str; 5] = [
    "neither an RSA key of 2048 bits or more nor a P-256, P-384 or Ed25519 key",
    "the private key is for DSA",
    "under 2048 bits",
    "which PS256 needs",
    "that is neither RSA nor P-256",
];

#[test]
#[ignore = "needs python3 with cryptography and cryptography_vectors; .ci/run installs and runs it"]
fn every_file_of_cryptography_vectors_is_read_as_pyca_reads_it() {
    let folder = PathBuf::from(std::env::var("CRYPTOGRAPHY_VECTORS").unwrap());
    let description = std::fs::read(folder.join("files.json")).unwrap();
    let description: Value = serde_json::from_slice(&description).unwrap();
    let passwords: Vec<&str> = description["passwords"]
        .as_array()
        .unwrap()
        .iter()
        .map(|password| password.as_str().unwrap())
        .collect();
    let files = description["files"].as_array().unwrap();
    assert!(files.len() > 500, "{}", files.len());
    let mut differences = Vec::new();
    let mut usable = 0;
    for vector in files {
        let read = |password: Option<&str>| read(vector, &folder, password);
        if vector["read"] == false {
            let name = vector["name"].as_str().unwrap();
            let all = passwords.iter().copied().map(Some).chain([None]);
            let opened = all.into_iter().find(|password| read(*password).is_ok());
            if opened.is_some() {
                differences.push(format!("{name}: {opened:?}"));
            }
            continue;
        }
        match judge(vector, read(vector["password"].as_str())) {
            Ok(is_usable) => usable += usize::from(is_usable),
            Err(difference) => differences.push(format!("{}: {difference}", vector["name"])),
        }
    }
    assert!(differences.is_empty(), "{}", differences.join("\n"));
    assert!(usable > 400, "{usable}");
}

fn read(
    vector: &Value,
    folder: &std::path::Path,
    password: Option<&str>,
) -> Result<Certificate, Error> {
    let path = vector["path"].as_str().unwrap();
    let file = match vector["certificate"].as_str() {
        Some(certificate) => CertificateFile::new(folder.join(certificate)).private_key(path),
        None => CertificateFile::new(path),
    };
    match password {
        Some(password) => file.password(password).read(),
        None => file.read(),
    }
}

/// Compares a result with what `cryptography` read. Returns whether the key is usable.
fn judge(vector: &Value, read: Result<Certificate, Error>) -> Result<bool, String> {
    let is_pkcs12 = vector["format"] == "PKCS#12";
    let key = vector["key"].as_str();
    let must_fail_with = match key {
        None => vec!["holds no private key"],
        Some(_) if is_pkcs12 && vector["sha256"].is_null() => vec!["holds no certificate"],
        Some("EC secp256r1" | "EC secp384r1" | "Ed25519PrivateKey") => vec![],
        Some(key) => match key
            .strip_prefix("RSA ")
            .map(|bits| bits.parse::<u32>().unwrap())
        {
            // Some RSA-PSS keys are for other hashes.
            Some(2048..)
                if vector["name"]
                    .as_str()
                    .unwrap()
                    .contains("rsa_pss_2048_hash") =>
            {
                vec!["", "which PS256 needs"]
            }
            Some(2048..) => vec![],
            _ => UNSUITABLE.to_vec(),
        },
    };
    match read {
        Ok(certificate) if must_fail_with.is_empty() || must_fail_with.contains(&"") => {
            match vector["sha256"].as_str() {
                Some(sha256) if certificate.thumbprint_sha256() != sha256 => {
                    Err(format!("another certificate, {certificate:?}"))
                }
                _ => Ok(true),
            }
        }
        Ok(certificate) => Err(format!("{key:?} is read, {certificate:?}")),
        Err(error) => {
            let text = error.to_string();
            let expected = must_fail_with
                .iter()
                .filter(|expected| !expected.is_empty());
            match expected.into_iter().any(|expected| text.contains(expected)) {
                true => Ok(false),
                false => Err(format!("{key:?} with {:?}: {text}", vector["password"])),
            }
        }
    }
}
