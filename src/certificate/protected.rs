//! What is read with a password: PKCS#12, and PKCS#8 encrypted.

#[cfg(not(feature = "pkcs12"))]
use crate::error::Error;

#[cfg(feature = "pkcs12")]
pub(super) use reading::{pkcs12, private_key};

#[cfg(not(feature = "pkcs12"))]
pub(super) fn private_key(_: &[u8], _: &str) -> Result<super::key::PrivateKeyDer, Error> {
    Err(feature_needed("the private key is encrypted"))
}

#[cfg(not(feature = "pkcs12"))]
pub(super) fn pkcs12(_: &[u8], _: &str) -> Result<Contents, Error> {
    Err(feature_needed("the file is PKCS#12"))
}

#[cfg(not(feature = "pkcs12"))]
fn feature_needed(what: &str) -> Error {
    Error::config(format!(
        "{what}, which only the feature 'pkcs12' of confidential-client reads; enable it, or write certificate and key as plain PEM and protect that file"
    ))
}

/// What a PKCS#12 file holds.
pub(super) struct Contents {
    pub(super) certificates: Vec<Vec<u8>>,
    pub(super) key: super::key::PrivateKeyDer,
}

#[cfg(feature = "pkcs12")]
mod reading {
    use p12_keystore::Pkcs12Archive;
    use p12_keystore::error::Error as Pkcs12Error;
    use pkcs8::EncryptedPrivateKeyInfoRef;
    use pkcs8::pkcs5::{self, EncryptionScheme, pbes2};
    use zeroize::Zeroizing;

    use super::super::key::PrivateKeyDer;
    use super::Contents;
    use crate::error::Error;

    /// Decrypts an `EncryptedPrivateKeyInfo`.
    pub(in super::super) fn private_key(
        der: &[u8],
        password: &str,
    ) -> Result<PrivateKeyDer, Error> {
        if password.is_empty() {
            return Err(Error::credential(
                "the private key is encrypted and the password is empty; was its variable set?",
            ));
        }
        let info = EncryptedPrivateKeyInfoRef::try_from(der)
            .map_err(|_| other_encryption("the encrypted private key"))?;
        check_cost(&info.encryption_algorithm)?;
        match info.decrypt(password) {
            Ok(key) => Ok(PrivateKeyDer::Pkcs8(Zeroizing::new(
                key.as_bytes().to_vec(),
            ))),
            Err(pkcs8::Error::EncryptedPrivateKey(
                pkcs5::Error::NoPbes1CryptSupport
                | pkcs5::Error::UnsupportedAlgorithm { .. }
                | pkcs5::Error::AlgorithmParametersInvalid { .. },
            )) => Err(other_encryption("the encrypted private key")),
            Err(_) => Err(wrong_password("the private key")),
        }
    }

    /// A file may ask for any number of rounds; one that would take minutes is no key.
    fn check_cost(scheme: &EncryptionScheme) -> Result<(), Error> {
        let EncryptionScheme::Pbes2(parameters) = scheme else {
            return Err(other_encryption("the encrypted private key"));
        };
        let bearable = match &parameters.kdf {
            pbes2::Kdf::Pbkdf2(pbkdf2) => pbkdf2.iteration_count <= MOST_ITERATIONS,
            pbes2::Kdf::Scrypt(scrypt) => {
                let memory = 128_u64
                    .saturating_mul(scrypt.cost_parameter)
                    .saturating_mul(scrypt.block_size.into());
                memory <= MOST_MEMORY && scrypt.parallelization <= 16
            }
            _ => false,
        };
        match bearable {
            true => Ok(()),
            false => Err(other_encryption("the encrypted private key")),
        }
    }

    /// Reads a PKCS#12 archive ([RFC 7292](https://www.rfc-editor.org/rfc/rfc7292)).
    pub(in super::super) fn pkcs12(pfx: &[u8], password: &str) -> Result<Contents, Error> {
        let archive = Pkcs12Archive::from_pkcs12(pfx, password).map_err(|error| match error {
            Pkcs12Error::MacError(_) | Pkcs12Error::UnpadError | Pkcs12Error::Pkcs5Error(_) => {
                wrong_password("the PKCS#12 file")
            }
            Pkcs12Error::UnsupportedEncryptionScheme
            | Pkcs12Error::UnsupportedMacAlgorithm
            | Pkcs12Error::InvalidParameters => other_encryption("the PKCS#12 file"),
            _ if pfx.starts_with(b"-----BEGIN") || pfx.starts_with(b"Bag Attributes") => {
                Error::credential("this is PEM and not PKCS#12; use from_pem")
            }
            // What the library says is not passed on: it may quote what was decrypted.
            _ => Error::credential(
                "this cannot be read as PKCS#12; make the file anew with 'openssl pkcs12 -export'",
            ),
        })?;
        let mut keys = archive.keys.into_iter().map(|bag| bag.key);
        let Some(key) = keys.next() else {
            return Err(Error::credential(
                "the PKCS#12 file holds no private key; export it with its private key",
            ));
        };
        if keys.next().is_some() {
            return Err(Error::credential(
                "the PKCS#12 file holds two private keys; leave the one that fits the certificate",
            ));
        }
        let certificates = archive.certs.iter().map(|bag| bag.cert.as_der().to_vec());
        Ok(Contents {
            certificates: certificates.collect(),
            key: PrivateKeyDer::Pkcs8(Zeroizing::new(key.as_der().to_vec())),
        })
    }

    fn wrong_password(what: &str) -> Error {
        Error::credential(format!(
            "{what} cannot be decrypted: the password is wrong, or the file is damaged"
        ))
    }

    fn other_encryption(what: &str) -> Error {
        Error::credential(format!(
            "{what} is damaged, or encrypted in a way that is not read here; write it anew with OpenSSL 3, by 'openssl pkcs8 -topk8' or 'openssl pkcs12 -export'"
        ))
    }

    /// Ten times what OpenSSL and Windows write at their most careful.
    const MOST_ITERATIONS: u32 = 10_000_000;
    const MOST_MEMORY: u64 = 1 << 30;
}
