use std::time::SystemTime;

use super::x509::X509;
use crate::error::Error;

/// Returns the chain from the certificate of `public_key` up to its root, without other
/// certificates.
///
/// A renewed certificate has the same key. Of several certificates for the key, those that are
/// valid `now` come first, and then the one that expires last.
pub(super) fn chain_for_key(
    public_key: &[u8],
    certificates: Vec<X509>,
    now: SystemTime,
) -> Option<Vec<X509>> {
    let matching = certificates
        .iter()
        .enumerate()
        .filter(|(_, certificate)| certificate.is_for(public_key));
    let (leaf, _) = matching.max_by_key(|(_, certificate)| {
        let is_valid = certificate.not_before() <= now && now <= certificate.not_after();
        (is_valid, certificate.not_after())
    })?;
    Some(chain_from(leaf, certificates))
}

/// Returns the chain from the leaf up to its root, without other certificates.
///
/// The leaf is the certificate that issued none of the others.
pub(super) fn chain_for_leaf(certificates: Vec<X509>, now: SystemTime) -> Result<Vec<X509>, Error> {
    let is_leaf = |certificate: &&X509| !certificates.iter().any(|other| certificate.issued(other));
    let leaves: Vec<&X509> = certificates.iter().filter(is_leaf).collect();
    let Some(first) = leaves.first() else {
        if certificates.is_empty() {
            return Err(Error::credential(
                "there is no certificate ('-----BEGIN CERTIFICATE-----'); pass the certificate of the signer's key",
            ));
        }
        return Err(Error::credential(
            "each of the certificates was issued by another of them; pass only the certificate of the signer's key and its chain",
        ));
    };
    if leaves
        .iter()
        .any(|leaf| leaf.public_key() != first.public_key())
    {
        return Err(Error::credential(format!(
            "the certificates are of {} that issued none of the others; pass only the certificate of the signer's key and its chain",
            leaves
                .iter()
                .map(|leaf| format!("'{}'", leaf.subject()))
                .collect::<Vec<_>>()
                .join(" and ")
        )));
    }
    let public_key = first.public_key().to_vec();
    // The first leaf has this key, so a chain exists.
    Ok(chain_for_key(&public_key, certificates, now).unwrap_or_default())
}

/// Follows the issuers from the certificate at index `leaf`.
pub(super) fn chain_from(leaf: usize, mut certificates: Vec<X509>) -> Vec<X509> {
    let mut chain = vec![certificates.swap_remove(leaf)];
    while let Some(last) = chain.last() {
        let issuers = certificates
            .iter()
            .enumerate()
            .filter(|(_, issuer)| issuer.issued(last));
        let Some((issuer, _)) = issuers.max_by_key(|(_, issuer)| issuer.not_after()) else {
            break;
        };
        chain.push(certificates.swap_remove(issuer));
    }
    chain
}
