//! Formats with a password, PKCS#12 and encrypted PKCS#8. Both need the feature `pkcs12`.

use crate::crypto::PrivateKeyDer;
#[cfg(not(feature = "pkcs12"))]
use crate::error::Error;

#[cfg(feature = "pkcs12")]
pub(super) use reading::{pkcs12, private_key};

#[cfg(not(feature = "pkcs12"))]
pub(super) fn private_key(_: &[u8], _: &str) -> Result<PrivateKeyDer, Error> {
    Err(missing_feature("an encrypted private key"))
}

#[cfg(not(feature = "pkcs12"))]
pub(super) fn pkcs12(_: &[u8], _: &str) -> Result<Pkcs12Contents, Error> {
    Err(missing_feature("a PKCS#12 file"))
}

#[cfg(not(feature = "pkcs12"))]
fn missing_feature(format: &str) -> Error {
    Error::config(format!(
        "reading {format} needs the feature 'pkcs12'; write confidential-client = {{ version = \"{}\", features = [\"pkcs12\"] }} in Cargo.toml, or store certificate and key as unencrypted PEM and protect the file",
        env!("CARGO_PKG_VERSION")
    ))
}

/// The certificates and the private key of a PKCS#12 file.
pub(super) struct Pkcs12Contents {
    pub(super) certificates: Vec<Vec<u8>>,
    pub(super) key: PrivateKeyDer,
}

#[cfg(feature = "pkcs12")]
mod reading {
    use p12_keystore::Pkcs12Archive;
    use p12_keystore::error::Error as Pkcs12Error;
    use pkcs8::EncryptedPrivateKeyInfoRef;
    use pkcs8::der::{Reader, SliceReader};
    use pkcs8::pkcs5::{self, EncryptionScheme, pbes2};
    use zeroize::Zeroizing;

    use super::Pkcs12Contents;
    use crate::crypto::PrivateKeyDer;
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
            .map_err(|_| unsupported_encryption("the encrypted private key"))?;
        check_cost(&info.encryption_algorithm)?;
        match info.decrypt(password) {
            Ok(key) => Ok(PrivateKeyDer::Pkcs8(Zeroizing::new(
                key.as_bytes().to_vec(),
            ))),
            Err(pkcs8::Error::EncryptedPrivateKey(
                pkcs5::Error::NoPbes1CryptSupport
                | pkcs5::Error::UnsupportedAlgorithm { .. }
                | pkcs5::Error::AlgorithmParametersInvalid { .. },
            )) => Err(unsupported_encryption("the encrypted private key")),
            Err(_) => Err(wrong_password("the private key")),
        }
    }

    /// Rejects a key derivation that would take minutes. A file may request any number of rounds.
    fn check_cost(scheme: &EncryptionScheme) -> Result<(), Error> {
        let EncryptionScheme::Pbes2(parameters) = scheme else {
            return Err(unsupported_encryption("the encrypted private key"));
        };
        let is_affordable = match &parameters.kdf {
            pbes2::Kdf::Pbkdf2(pbkdf2) => pbkdf2.iteration_count <= MOST_ITERATIONS,
            pbes2::Kdf::Scrypt(scrypt) => is_affordable(scrypt),
            _ => false,
        };
        match is_affordable {
            true => Ok(()),
            false => Err(unsupported_encryption("the encrypted private key")),
        }
    }

    fn is_affordable(scrypt: &pbes2::ScryptParams) -> bool {
        let work = 128_u64
            .saturating_mul(scrypt.cost_parameter)
            .saturating_mul(scrypt.block_size.into())
            .saturating_mul(scrypt.parallelization.into());
        // The library panics if the cost parameter is 0.
        scrypt.cost_parameter > 0 && work <= MOST_MEMORY
    }

    /// Returns whether a PKCS#12 file requests more scrypt than is affordable.
    ///
    /// The library does not limit scrypt. Encrypted parts of the file are not examined.
    fn has_unaffordable_scrypt(pfx: &[u8]) -> bool {
        let scrypt = pbes2::SCRYPT_OID.as_bytes();
        pfx.windows(scrypt.len())
            .enumerate()
            .filter(|(_, part)| *part == scrypt)
            .filter_map(|(at, _)| pfx.get(at.saturating_add(scrypt.len())..))
            .filter_map(|behind| SliceReader::new(behind).ok()?.decode().ok())
            .any(|scrypt| !is_affordable(&scrypt))
    }

    /// Reads a PKCS#12 archive ([RFC 7292](https://www.rfc-editor.org/rfc/rfc7292)).
    pub(in super::super) fn pkcs12(pfx: &[u8], password: &str) -> Result<Pkcs12Contents, Error> {
        if has_unaffordable_scrypt(pfx) {
            return Err(unsupported_encryption("the PKCS#12 file"));
        }
        let archive = Pkcs12Archive::from_pkcs12(pfx, password).map_err(|error| match error {
            Pkcs12Error::MacError(_) | Pkcs12Error::UnpadError | Pkcs12Error::Pkcs5Error(_) => {
                wrong_password("the PKCS#12 file")
            }
            Pkcs12Error::UnsupportedEncryptionScheme
            | Pkcs12Error::UnsupportedMacAlgorithm
            | Pkcs12Error::InvalidParameters => unsupported_encryption("the PKCS#12 file"),
            _ if pfx.starts_with(b"-----BEGIN") || pfx.starts_with(b"Bag Attributes") => {
                Error::credential("this is PEM and not PKCS#12; use from_pem")
            }
            // The library's error is dropped, because the error may quote decrypted text.
            _ => Error::credential(
                "this cannot be read as PKCS#12; create the file again with 'openssl pkcs12 -export'",
            ),
        })?;
        let mut keys = archive.keys.into_iter().map(|bag| bag.key);
        let Some(key) = keys.next() else {
            return Err(Error::credential(
                "the PKCS#12 file holds no private key; export the certificate with its private key",
            ));
        };
        if keys.next().is_some() {
            return Err(Error::credential(
                "the PKCS#12 file holds two private keys; keep only the one that matches the certificate",
            ));
        }
        let certificates = archive.certs.iter().map(|bag| bag.cert.as_der().to_vec());
        Ok(Pkcs12Contents {
            certificates: certificates.collect(),
            key: PrivateKeyDer::Pkcs8(Zeroizing::new(key.as_der().to_vec())),
        })
    }

    fn wrong_password(what: &str) -> Error {
        Error::credential(format!(
            "{what} cannot be decrypted: the password is wrong, or the file is damaged"
        ))
    }

    fn unsupported_encryption(what: &str) -> Error {
        Error::credential(format!(
            "{what} is damaged, or encrypted in a way that is not supported; write it again with OpenSSL 3 ('openssl pkcs8 -topk8' or 'openssl pkcs12 -export')"
        ))
    }

    /// Largest number of PBKDF2 rounds, as in the library's limit for PKCS#12. OpenSSL and Windows
    /// write 2000 by default.
    const MOST_ITERATIONS: u32 = 1_000_000;
    /// Largest product of scrypt's memory and passes, in bytes.
    const MOST_MEMORY: u64 = 1 << 28;

    #[cfg(test)]
    mod tests {
        use p12_keystore::{KeyStore, KeyStoreEntry, PrivateKeyChain};
        use pkcs8::der::asn1::{AnyRef, OctetStringRef};
        use pkcs8::der::oid::ObjectIdentifier;
        use pkcs8::der::{Encode, Tag, TagNumber};

        use rustls_pki_types::pem::PemObject;

        use super::*;

        #[test]
        fn two_keys_in_one_archive_are_rejected() {
            let mut store = KeyStore::new();
            for name in ["one", "two"] {
                let pem = crate::testing::self_signed_certificate(name).unwrap();
                let der = <rustls_pki_types::PrivatePkcs8KeyDer<'_> as PemObject>::from_pem_slice(
                    pem.as_bytes(),
                );
                let der = der.unwrap();
                let key = p12_keystore::PrivateKey::from_der(der.secret_pkcs8_der()).unwrap();
                let chain = PrivateKeyChain::new(name, key, []);
                store.add_entry(name, KeyStoreEntry::PrivateKeyChain(chain));
            }
            let pfx = store.writer("hunter2").write().unwrap();
            let error = pkcs12(&pfx, "hunter2").err();
            assert!(shown(error).contains("two private keys"));
        }

        #[test]
        fn scrypt_without_a_cost_is_rejected() {
            let scheme = scrypt(0, 8, 1);
            assert_unsupported(private_key(&encrypted_key(&scheme), "hunter2").err());
            assert_unsupported(pkcs12(&pfx(&scheme), "hunter2").err());
        }

        #[test]
        fn scrypt_that_would_take_minutes_is_rejected() {
            let scheme = scrypt(1 << 20, 8, 16);
            assert_unsupported(private_key(&encrypted_key(&scheme), "hunter2").err());
            assert_unsupported(pkcs12(&pfx(&scheme), "hunter2").err());
        }

        #[test]
        fn too_many_pbkdf2_rounds_are_rejected() {
            let scheme = pbkdf2(1_000_001);
            assert_unsupported(private_key(&encrypted_key(&scheme), "hunter2").err());
            assert_unsupported(pkcs12(&pfx(&scheme), "hunter2").err());
        }

        #[test]
        fn scrypt_within_the_limits_is_computed() {
            for scheme in [scrypt(1 << 14, 8, 1), scrypt(1 << 10, 8, 16)] {
                let read = private_key(&encrypted_key(&scheme), "hunter2").err();
                assert!(shown(read).contains("the password is wrong"));
                let read = pkcs12(&pfx(&scheme), "hunter2").err();
                assert!(shown(read).contains("the password is wrong"));
            }
        }

        fn assert_unsupported(error: Option<Error>) {
            let shown = shown(error);
            assert!(
                shown.contains("encrypted in a way that is not supported"),
                "{shown}"
            );
        }

        fn shown(error: Option<Error>) -> String {
            error.unwrap().to_string()
        }

        fn scrypt(n: u64, r: u16, p: u16) -> EncryptionScheme {
            let scrypt = pbes2::ScryptParams {
                salt: b"salt".as_slice().try_into().unwrap(),
                cost_parameter: n,
                block_size: r,
                parallelization: p,
                key_length: None,
            };
            pbes2(scrypt.into())
        }

        fn pbkdf2(iterations: u32) -> EncryptionScheme {
            let pbkdf2 = pbes2::Pbkdf2Params::hmac_sha256(iterations, b"salt");
            pbes2(pbkdf2.unwrap().into())
        }

        fn pbes2(kdf: pbes2::Kdf) -> EncryptionScheme {
            let encryption = pbes2::EncryptionScheme::Aes256Cbc { iv: [0; 16] };
            EncryptionScheme::Pbes2(pbes2::Parameters { kdf, encryption })
        }

        fn encrypted_key(scheme: &EncryptionScheme) -> Vec<u8> {
            let info = EncryptedPrivateKeyInfoRef {
                encryption_algorithm: scheme.clone(),
                encrypted_data: OctetStringRef::new(&[0; 32]).unwrap(),
            };
            info.to_der().unwrap()
        }

        /// Returns a PKCS#12 archive without MAC and with one `EncryptedData`.
        fn pfx(scheme: &EncryptionScheme) -> Vec<u8> {
            let data = ObjectIdentifier::new_unwrap("1.2.840.113549.1.7.1");
            let encrypted_data = ObjectIdentifier::new_unwrap("1.2.840.113549.1.7.6");
            let number = |number| tagged(Tag::Integer, &[&[number]]);
            let content = |constructed, content: &[u8]| {
                let number = TagNumber(0);
                let tag = Tag::ContextSpecific {
                    constructed,
                    number,
                };
                tagged(tag, &[content])
            };
            let encrypted = sequence(&[
                &data.to_der().unwrap(),
                &scheme.to_der().unwrap(),
                &content(false, &[0; 32]),
            ]);
            let safe = sequence(&[
                &encrypted_data.to_der().unwrap(),
                &content(true, &sequence(&[&number(0), &encrypted])),
            ]);
            let safes = tagged(Tag::OctetString, &[&sequence(&[&safe])]);
            let safes = sequence(&[&data.to_der().unwrap(), &content(true, &safes)]);
            sequence(&[&number(3), &safes])
        }

        fn sequence(parts: &[&[u8]]) -> Vec<u8> {
            tagged(Tag::Sequence, parts)
        }

        fn tagged(tag: Tag, parts: &[&[u8]]) -> Vec<u8> {
            let content = parts.concat();
            AnyRef::new(tag, &content).unwrap().to_der().unwrap()
        }
    }
}
