//! Private keys and certificates on a token.

use super::failure::AttemptFailed;
use super::module::{FoundObject, ObjectKind, ObjectQuery};
use super::selection::{self, ObjectName};
use super::sessions::TokenWork;
use crate::error::{Error, Failure};

/// A certificate on a token and its private key.
pub(super) struct CertificateOnToken {
    pub(super) der: Vec<u8>,
    pub(super) key: FoundObject,
}

/// The certificates of one name, and the certificates that may have issued them.
pub(super) struct CertificatesOnToken {
    pub(super) candidates: Vec<CertificateOnToken>,
    pub(super) others: Vec<Vec<u8>>,
}

/// Finds a private key, or returns the handle of an earlier search.
pub(super) fn private_key(
    work: &TokenWork,
    name: &ObjectName,
    token: &str,
) -> Result<FoundObject, AttemptFailed> {
    let query = name.query(ObjectKind::PrivateKey);
    if let Some(key) = work.known_key(&query) {
        return Ok(key);
    }
    let keys = find(work, name, ObjectKind::PrivateKey, token)?;
    match keys.as_slice() {
        [key] => {
            work.remember_key(&query, key);
            Ok(key.clone())
        }
        [] => {
            let failure = Failure::new(no_key(work, name, token)?).lost_key();
            Err(AttemptFailed::stale(Error::Credential(failure.into())))
        }
        _ => Err(AttemptFailed::stale(Error::credential(format!(
            "{token} has {} private keys {name}, which are {}; select one with key_by_id(..), or delete the others",
            keys.len(),
            selection::names(&keys)
        )))),
    }
}

/// Finds the certificates of a name, each with its private key.
///
/// Key and certificate of a pair have the same id. Labels may differ. A token that gives no ids
/// gives both the same label.
pub(super) fn certificates(
    work: &TokenWork,
    name: &ObjectName,
    with_issuers: bool,
    token: &str,
) -> Result<CertificatesOnToken, AttemptFailed> {
    let keys = find(work, name, ObjectKind::PrivateKey, token)?;
    let mut certificates = find(work, name, ObjectKind::Certificate, token)?;
    let by_id = |id: &[u8]| ObjectName {
        label: None,
        id: Some(id.to_vec()),
    };
    for key in keys.iter().filter(|key| !key.id.is_empty()) {
        certificates.extend(find(work, &by_id(&key.id), ObjectKind::Certificate, token)?);
    }
    let mut candidates: Vec<CertificateOnToken> = Vec::new();
    for certificate in &certificates {
        if candidates
            .iter()
            .any(|known| known.der == certificate.value)
        {
            continue;
        }
        let is_of_pair = |key: &&FoundObject| match certificate.id.is_empty() {
            true => key.label.trim_end() == certificate.label.trim_end(),
            false => key.id == certificate.id,
        };
        let key = match keys.iter().find(is_of_pair) {
            Some(key) => Some(key.clone()),
            None if certificate.id.is_empty() => None,
            None => find(work, &by_id(&certificate.id), ObjectKind::PrivateKey, token)?.pop(),
        };
        candidates.extend(key.map(|key| CertificateOnToken {
            der: certificate.value.clone(),
            key,
        }));
    }
    if candidates.is_empty() {
        let error = match (certificates.is_empty(), keys.is_empty()) {
            (true, true) => Error::credential(no_key(work, name, token)?),
            (true, false) => no_certificate(work, name, token)?,
            (false, _) => Error::credential(format!(
                "{token} has the certificate {name} and no private key with the same id; its private keys are {}; put key and certificate on the token with one id",
                selection::names(&all(work, ObjectKind::PrivateKey, token)?)
            )),
        };
        return Err(AttemptFailed::stale(error));
    }
    let others = match with_issuers {
        true => all(work, ObjectKind::Certificate, token)?,
        false => Vec::new(),
    };
    Ok(CertificatesOnToken {
        candidates,
        others: others.into_iter().map(|other| other.value).collect(),
    })
}

/// Searches by the exact name, and then for a label that is padded with spaces.
fn find(
    work: &TokenWork,
    name: &ObjectName,
    kind: ObjectKind,
    token: &str,
) -> Result<Vec<FoundObject>, AttemptFailed> {
    let found = search(work, &name.query(kind), token)?;
    if !found.is_empty() || name.label.is_none() {
        return Ok(found);
    }
    let mut all = all(work, kind, token)?;
    all.retain(|object| name.matches(object));
    Ok(all)
}

fn all(work: &TokenWork, kind: ObjectKind, token: &str) -> Result<Vec<FoundObject>, AttemptFailed> {
    let query = ObjectQuery {
        kind,
        label: None,
        id: None,
    };
    search(work, &query, token)
}

fn search(
    work: &TokenWork,
    query: &ObjectQuery,
    token: &str,
) -> Result<Vec<FoundObject>, AttemptFailed> {
    let found = work.session.find(query);
    found.map_err(|call| AttemptFailed::of(call, token, None))
}

fn no_key(work: &TokenWork, name: &ObjectName, token: &str) -> Result<String, AttemptFailed> {
    let keys = all(work, ObjectKind::PrivateKey, token)?;
    Ok(match keys.is_empty() {
        true => format!("{token} has no private key {name}, and no other private key"),
        false => format!(
            "{token} has no private key {name}; its private keys are {}",
            selection::names(&keys)
        ),
    })
}

fn no_certificate(
    work: &TokenWork,
    name: &ObjectName,
    token: &str,
) -> Result<Error, AttemptFailed> {
    let certificates = all(work, ObjectKind::Certificate, token)?;
    let present = match certificates.is_empty() {
        true => "no certificate at all".to_owned(),
        false => format!("the certificates {}", selection::names(&certificates)),
    };
    Ok(Error::credential(format!(
        "{token} has the private key {name} and no certificate with the same id or label, but {present}; put the certificate on the token, or pass the certificate's file to Certificate::from_signer"
    )))
}
