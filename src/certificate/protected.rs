//! Formats with a password, PKCS#12 and encrypted private keys. All need the feature `pkcs12`.

use crate::crypto::PrivateKeyDer;
use crate::error::Error;

#[cfg(feature = "pkcs12")]
pub(super) use super::pkcs12::read as pkcs12;
#[cfg(feature = "pkcs12")]
pub(super) use reading::{hint, old_private_key, private_key, refusal};

/// Checks that formats with a password can be read.
///
/// # Errors
///
/// [`Error::Config`] without the feature `pkcs12`.
pub(super) fn check_feature(format: &str) -> Result<(), Error> {
    match cfg!(feature = "pkcs12") {
        true => Ok(()),
        false => Err(missing(format)),
    }
}

#[cfg(not(feature = "pkcs12"))]
pub(super) fn private_key(_: &[u8], _: &str) -> Result<PrivateKeyDer, Error> {
    Err(missing("an encrypted private key"))
}

#[cfg(not(feature = "pkcs12"))]
pub(super) fn old_private_key(_: &str, _: &str) -> Result<PrivateKeyDer, Error> {
    Err(missing("an encrypted private key"))
}

#[cfg(not(feature = "pkcs12"))]
pub(super) fn pkcs12(_: &[u8], _: &str) -> Result<Pkcs12Contents, Error> {
    Err(missing("a PKCS#12 file"))
}

fn missing(format: &str) -> Error {
    Error::config(format!(
        "reading {format} needs the feature 'pkcs12'; write confidential-client = {{ version = \"{}\", features = [\"pkcs12\"] }} in Cargo.toml, or store certificate and key as unencrypted PEM and protect the file",
        env!("CARGO_PKG_VERSION")
    ))
}

/// Error message for content that is nothing like PKCS#12.
pub(super) const NOT_PKCS12: &str =
    "this cannot be read as PKCS#12; create the file again with 'openssl pkcs12 -export'";

/// The certificates and the private key of a PKCS#12 file.
pub(super) struct Pkcs12Contents {
    pub(super) certificates: Vec<Vec<u8>>,
    pub(super) key: PrivateKeyDer,
}

#[cfg(feature = "pkcs12")]
mod reading {
    use super::{Error, PrivateKeyDer};
    use crate::certificate::pem;
    use crate::crypto::asn1::{Asn1Error, Asn1Reader};
    use crate::crypto::password_based::{
        DecryptionError, MOST_ROUNDS, OpenSslCipher, Password, UnknownCipher, WorkLimit, decrypt,
    };

    /// Decrypts an `EncryptedPrivateKeyInfo` ([RFC 5958 section 3]).
    ///
    /// [RFC 5958 section 3]: https://www.rfc-editor.org/rfc/rfc5958#section-3
    pub(in super::super) fn private_key(
        der: &[u8],
        password: &str,
    ) -> Result<PrivateKeyDer, Error> {
        if password.is_empty() {
            return Err(Error::credential(
                "the private key is encrypted and the password is empty; was its variable set?",
            ));
        }
        let parts = || {
            let mut info = Asn1Reader::new(der).sequence()?;
            Ok::<_, Asn1Error>((info.sequence()?, info.octets()?))
        };
        let (algorithm, data) = parts().map_err(|_| damaged())?;
        let mut limit = WorkLimit::new();
        for password in &Password::encodings(password) {
            match decrypt(algorithm, &data, password, &mut limit) {
                Ok(plain) => {
                    if let Some(key) = PrivateKeyDer::detect(&plain) {
                        return Ok(key);
                    }
                }
                Err(DecryptionError::Padding) => {}
                Err(DecryptionError::Malformed) => return Err(damaged()),
                Err(error) => return Err(refusal("the encrypted private key", &error, CONVERT)),
            }
        }
        Err(wrong_password(password))
    }

    /// Decrypts a private key in OpenSSL's old form.
    ///
    /// `text` begins with the headers `Proc-Type` and `DEK-Info`, and continues with base64. A line
    /// break behind the headers may be missing.
    pub(in super::super) fn old_private_key(
        text: &str,
        password: &str,
    ) -> Result<PrivateKeyDer, Error> {
        if password.is_empty() {
            return Err(Error::credential(
                "the private key is encrypted and the password is empty; was its variable set?",
            ));
        }
        let damaged = || {
            Error::credential(
                "the private key is encrypted in OpenSSL's old form, and its line 'DEK-Info' or its base64 is damaged; copy the file again",
            )
        };
        let (_, info) = text.split_once("DEK-Info:").ok_or_else(damaged)?;
        let (cipher, base64) = match OpenSslCipher::parse(info) {
            Ok(parsed) => parsed,
            Err(UnknownCipher::Malformed) => return Err(damaged()),
            Err(UnknownCipher::Unsupported(name)) => {
                let error = DecryptionError::Unsupported(name);
                return Err(refusal("the private key", &error, CONVERT_OLD));
            }
        };
        let data = pem::decode(base64.as_bytes()).ok_or_else(damaged)?;
        match cipher.decrypt(&data, password) {
            Ok(plain) => PrivateKeyDer::detect(&plain).ok_or_else(|| wrong_password(password)),
            Err(DecryptionError::Padding) => Err(wrong_password(password)),
            Err(_) => Err(damaged()),
        }
    }

    fn wrong_password(password: &str) -> Error {
        Error::credential(format!(
            "the private key cannot be decrypted: the password is wrong, or the file is damaged{}",
            hint(password)
        ))
    }

    fn damaged() -> Error {
        Error::credential(
            "the encrypted private key is damaged: its structure cannot be read; copy the file again",
        )
    }

    /// Returns the error for encryption that is not supported, with the commands that convert the
    /// file.
    pub(in super::super) fn refusal(what: &str, error: &DecryptionError, convert: &str) -> Error {
        let why = match error {
            DecryptionError::Unsupported(name) => format!("by {name}"),
            DecryptionError::TooManyRounds(rounds) => format!(
                "the key derivation takes {rounds} rounds, and at most {MOST_ROUNDS} are computed"
            ),
            DecryptionError::TooMuchWork => "the key derivation takes too long".to_owned(),
            DecryptionError::Malformed | DecryptionError::Padding => "damaged".to_owned(),
        };
        Error::credential(format!(
            "{what} is encrypted in a way that is not supported ({why}); convert it with {convert}"
        ))
    }

    /// Returns what may be wrong with a password, to append to a message.
    pub(in super::super) fn hint(password: &str) -> &'static str {
        if password.ends_with(char::is_whitespace) {
            "; the password ends in white space, such as the newline of its file, so trim it"
        } else if password.starts_with(char::is_whitespace) {
            "; the password begins with white space, so trim it"
        } else {
            ""
        }
    }

    /// Command that converts a key with old or rare encryption.
    const CONVERT: &str =
        "'openssl pkcs8 -topk8 -provider legacy -provider default -in key.pem -out new.pem'";
    /// Command that converts a key in OpenSSL's old form.
    const CONVERT_OLD: &str =
        "'openssl pkey -provider legacy -provider default -in key.pem -aes256 -out new.pem'";

    #[cfg(test)]
    mod tests {
        use der::asn1::ObjectIdentifier;

        use super::*;
        use crate::certificate::Certificate;
        use crate::certificate::pkcs12::read as pkcs12;
        use crate::crypto::asn1::{
            INTEGER, OBJECT_IDENTIFIER, OCTET_STRING, SEQUENCE, context, encode,
        };
        use crate::crypto::password_based::Mac;

        #[test]
        fn two_keys_in_one_archive_are_rejected() {
            let key = |modulus: &[u8]| sequence(&[&number(0), &number(1), &integer(modulus)]);
            let bag = |key: &[u8]| {
                let value = encode(context(0), &[key]);
                sequence(&[&oid("1.2.840.113549.1.12.10.1.1"), &value])
            };
            let (one, two) = (bag(&key(&[1])), bag(&key(&[2])));
            let error = pkcs12(&pfx(&[&bags(&[&one, &two])]), "").err();
            assert!(shown(error).contains("two private keys"));
            let twice = pfx(&[&bags(&[&one]), &bags(&[&one])]);
            assert!(pkcs12(&twice, "").is_ok(), "the same key");
        }

        #[test]
        fn scrypt_without_a_cost_is_rejected() {
            for scheme in [scrypt(0, 8, 1), scrypt(16, 0, 1), scrypt(16, 8, 0)] {
                let key = private_key(&encrypted_key(&scheme), "hunter2").err();
                assert!(shown(key).contains("the encrypted private key is damaged"));
                let file = pkcs12(&pfx(&[&encrypted(&scheme)]), "hunter2").err();
                assert!(shown(file).contains("the PKCS#12 file is damaged"));
            }
        }

        #[test]
        fn scrypt_that_would_take_minutes_is_rejected() {
            for scheme in [
                scrypt(1 << 20, 8, 16),
                scrypt(1 << 62, 8, 1),
                scrypt(16, 1 << 40, 1),
                scrypt(16, 1, 1 << 40),
            ] {
                assert_unsupported(private_key(&encrypted_key(&scheme), "hunter2").err());
                let file = pfx(&[&encrypted(&scheme)]);
                assert_unsupported(pkcs12(&file, "hunter2").err());
            }
        }

        #[test]
        fn too_many_pbkdf2_rounds_are_rejected() {
            for rounds in [1_000_001, u64::MAX >> 1] {
                let scheme = pbkdf2(rounds);
                let error = private_key(&encrypted_key(&scheme), "hunter2").err();
                let error = shown(error);
                assert!(error.contains(&format!("takes {rounds} rounds")), "{error}");
                assert_unsupported(pkcs12(&pfx(&[&encrypted(&scheme)]), "hunter2").err());
            }
        }

        #[test]
        fn too_many_rounds_of_every_other_derivation_are_rejected() {
            let salted = sequence(&[&octets(b"salt"), &integer(&1_000_001_u32.to_be_bytes())]);
            for scheme in ["1.2.840.113549.1.5.3", "1.2.840.113549.1.12.1.3"] {
                let scheme = sequence(&[&oid(scheme), &salted]);
                assert_unsupported(private_key(&encrypted_key(&scheme), "hunter2").err());
            }
            let sha1 = sequence(&[&oid("1.3.14.3.2.26")]);
            let pbmac1 = sequence(&[
                &oid("1.2.840.113549.1.5.14"),
                &sequence(&[&key_derivation(1_000_001, Some(20)), &hmac_sha1()]),
            ]);
            for (algorithm, rounds) in [(sha1, 1_000_001_u32), (pbmac1, 1)] {
                let rounds = integer(&rounds.to_be_bytes());
                let file = pfx_with_mac(&algorithm, &rounds);
                assert_unsupported(pkcs12(&file, "hunter2").err());
            }
        }

        #[test]
        fn contents_that_do_not_decrypt_are_not_a_wrong_password_when_the_mac_is_right() {
            let safe = sequence(&[&encrypted(&pbkdf2(1))]);
            for encoding in &Password::encodings("") {
                let mac = Mac::encode(&safe, encoding);
                let file = sequence(&[&number(3), &data(&octets(&safe)), &mac]);
                let error = shown(pkcs12(&file, "").err());
                assert!(
                    error.contains("password of the PKCS#12 file is right"),
                    "{error}"
                );
                let error = shown(pkcs12(&file, "hunter2").err());
                assert!(error.contains("the password is wrong"), "{error}");
            }
            let without_mac = sequence(&[&number(3), &data(&octets(&safe))]);
            let error = shown(pkcs12(&without_mac, "").err());
            assert!(error.contains("no password was given"), "{error}");
        }

        #[test]
        fn zero_rounds_are_damage() {
            let error = private_key(&encrypted_key(&pbkdf2(0)), "hunter2").err();
            assert!(shown(error).contains("the encrypted private key is damaged"));
        }

        #[test]
        fn a_pbmac1_key_of_another_length_is_damage() {
            for length in [None, Some(19), Some(65)] {
                let pbmac1 = sequence(&[
                    &oid("1.2.840.113549.1.5.14"),
                    &sequence(&[&key_derivation(1, length), &hmac_sha1()]),
                ]);
                let file = pfx_with_mac(&pbmac1, &number(1));
                assert!(shown(pkcs12(&file, "x").err()).contains("is damaged"));
            }
        }

        #[test]
        fn scrypt_within_the_limits_is_computed() {
            for scheme in [scrypt(1 << 14, 8, 1), scrypt(1 << 10, 8, 16)] {
                let read = private_key(&encrypted_key(&scheme), "hunter2").err();
                assert!(shown(read).contains("the password is wrong"));
                let read = pkcs12(&pfx(&[&encrypted(&scheme)]), "hunter2").err();
                assert!(shown(read).contains("the password is wrong"));
            }
        }

        #[test]
        fn too_many_and_too_deep_bags_are_rejected() {
            let crl = sequence(&[
                &oid("1.2.840.113549.1.12.10.1.4"),
                &encode(context(0), &[&number(0)]),
            ]);
            let many = pfx(&[&bags(&vec![&crl[..]; 1001])]);
            assert!(shown(pkcs12(&many, "").err()).contains("more than 1000 entries"));
            let nested = |depth| {
                (0..depth).fold(crl.clone(), |inner, _| {
                    let contents = sequence(&[&inner]);
                    sequence(&[
                        &oid("1.2.840.113549.1.12.10.1.6"),
                        &encode(context(0), &[&contents]),
                    ])
                })
            };
            for (depth, text) in [(8, "holds no private key"), (9, "is damaged")] {
                let error = pkcs12(&pfx(&[&bags(&[&nested(depth)])]), "").err();
                assert!(shown(error).contains(text), "{depth}");
            }
        }

        #[test]
        fn a_file_protected_by_a_public_key_is_named() {
            for kind in ["1.2.840.113549.1.7.2", "1.2.840.113549.1.7.3"] {
                let part = sequence(&[&oid(kind), &encode(context(0), &[&number(0)])]);
                let inner = shown(pkcs12(&pfx(&[&part]), "x").err());
                let outer = sequence(&[&number(3), &part]);
                let outer = shown(pkcs12(&outer, "x").err());
                let (signed, enveloped) = match kind.ends_with('2') {
                    true => (outer, inner),
                    false => (inner, outer),
                };
                assert!(signed.contains("protected by a public key"), "{signed}");
                assert!(enveloped.contains("is damaged"), "{enveloped}");
            }
        }

        #[test]
        fn an_unknown_algorithm_is_named_with_the_command_that_converts() {
            for (algorithm, name) in [
                ("1.2.392.200011.61.1.1.1.4", "by Camellia"),
                ("2.16.840.1.101.3.4.1.46", "by AES in a mode other than CBC"),
                ("1.2.840.113549.1.5.1", "by PBE-MD2-DES"),
                ("1.2.3.4", "by 1.2.3.4"),
            ] {
                let direct = sequence(&[&oid(algorithm)]);
                let inner = sequence(&[&oid(algorithm), &octets(&[0; 16])]);
                let pbes2 = sequence(&[
                    &oid("1.2.840.113549.1.5.13"),
                    &sequence(&[&key_derivation(1, None), &inner]),
                ]);
                for scheme in [direct, pbes2] {
                    let key = shown(private_key(&encrypted_key(&scheme), "x").err());
                    assert!(key.contains(name), "{key}");
                    assert!(key.contains("openssl pkcs8 -topk8 -provider legacy"));
                    let file = shown(pkcs12(&pfx(&[&encrypted(&scheme)]), "x").err());
                    assert!(file.contains(name), "{file}");
                    assert!(file.contains("openssl pkcs12 -legacy"));
                }
            }
        }

        #[test]
        fn a_file_cut_anywhere_or_with_a_changed_byte_is_an_error_and_no_panic() {
            let pem = crate::testing::self_signed_certificate("daemon").unwrap();
            let blocks = crate::certificate::pem::read(pem.as_bytes()).unwrap();
            let key = match &blocks.key {
                crate::certificate::pem::PemKey::Plain(PrivateKeyDer::Pkcs8(key)) => key,
                _ => panic!("PKCS#8 is expected"),
            };
            let key_bag = sequence(&[
                &oid("1.2.840.113549.1.12.10.1.1"),
                &encode(context(0), &[key]),
            ]);
            let certificate = encode(context(0), &[&octets(&blocks.certificates[0])]);
            let certificate = sequence(&[&oid("1.2.840.113549.1.9.22.1"), &certificate]);
            let certificate_bag = sequence(&[
                &oid("1.2.840.113549.1.12.10.1.3"),
                &encode(context(0), &[&certificate]),
            ]);
            let whole = pfx(&[&bags(&[&key_bag, &certificate_bag])]);
            Certificate::from_pkcs12(&whole, "").unwrap();
            Certificate::from_pkcs12([&whole[..], b"\r\n"].concat(), "").unwrap();
            for end in 6..whole.len() {
                let error = pkcs12(&whole[..end], "").err();
                assert!(shown(error).contains("is cut off"), "{end}");
            }
            for index in 0..whole.len() {
                let mut changed = whole.clone();
                changed[index] ^= 0x81;
                if let Err(error) = pkcs12(&changed, "") {
                    assert!(matches!(error, Error::Credential(_)), "{error}");
                }
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

        fn scrypt(n: u64, r: u64, p: u64) -> Vec<u8> {
            let [n, r, p] = [n, r, p].map(|number| integer(&number.to_be_bytes()));
            let parameters = sequence(&[&octets(b"salt"), &n, &r, &p]);
            pbes2(&sequence(&[&oid("1.3.6.1.4.1.11591.4.11"), &parameters]))
        }

        fn pbkdf2(rounds: u64) -> Vec<u8> {
            pbes2(&key_derivation(rounds, None))
        }

        fn key_derivation(rounds: u64, key_length: Option<u8>) -> Vec<u8> {
            let key_length = key_length.map(number).unwrap_or_default();
            let parameters = sequence(&[
                &octets(b"salt"),
                &integer(&rounds.to_be_bytes()),
                &key_length,
                &hmac_sha1(),
            ]);
            sequence(&[&oid("1.2.840.113549.1.5.12"), &parameters])
        }

        fn hmac_sha1() -> Vec<u8> {
            sequence(&[&oid("1.2.840.113549.2.7")])
        }

        fn pbes2(derivation: &[u8]) -> Vec<u8> {
            let encryption = sequence(&[&oid("2.16.840.1.101.3.4.1.42"), &octets(&[0; 16])]);
            sequence(&[
                &oid("1.2.840.113549.1.5.13"),
                &sequence(&[derivation, &encryption]),
            ])
        }

        fn encrypted_key(scheme: &[u8]) -> Vec<u8> {
            sequence(&[scheme, &octets(&[0; 32])])
        }

        /// Returns a PKCS#12 file without MAC.
        fn pfx(parts: &[&[u8]]) -> Vec<u8> {
            sequence(&[&number(3), &data(&octets(&sequence(parts)))])
        }

        fn pfx_with_mac(algorithm: &[u8], rounds: &[u8]) -> Vec<u8> {
            let digest = sequence(&[algorithm, &octets(&[0; 20])]);
            let mac = sequence(&[&digest, &octets(b"salt"), rounds]);
            sequence(&[&number(3), &data(&octets(&sequence(&[]))), &mac])
        }

        /// Returns an encrypted part of a PKCS#12 file.
        fn encrypted(scheme: &[u8]) -> Vec<u8> {
            let content = encode(0x80, &[&[0; 32]]);
            let content = sequence(&[&oid("1.2.840.113549.1.7.1"), scheme, &content]);
            let content = sequence(&[&number(0), &content]);
            sequence(&[
                &oid("1.2.840.113549.1.7.6"),
                &encode(context(0), &[&content]),
            ])
        }

        fn bags(bags: &[&[u8]]) -> Vec<u8> {
            data(&octets(&sequence(bags)))
        }

        fn data(content: &[u8]) -> Vec<u8> {
            sequence(&[
                &oid("1.2.840.113549.1.7.1"),
                &encode(context(0), &[content]),
            ])
        }

        fn sequence(parts: &[&[u8]]) -> Vec<u8> {
            encode(SEQUENCE, parts)
        }

        fn octets(content: &[u8]) -> Vec<u8> {
            encode(OCTET_STRING, &[content])
        }

        fn number(number: u8) -> Vec<u8> {
            integer(&[number])
        }

        fn integer(digits: &[u8]) -> Vec<u8> {
            encode(INTEGER, &[digits])
        }

        fn oid(text: &str) -> Vec<u8> {
            encode(
                OBJECT_IDENTIFIER,
                &[ObjectIdentifier::new_unwrap(text).as_bytes()],
            )
        }
    }
}
