use der::asn1::ObjectIdentifier;
use scrypt::Params;
use zeroize::Zeroizing;

use super::cipher::Cipher;
use super::derivation::{Hash, Purpose};
use super::{DecryptionError, Password, WorkLimit};
use crate::crypto::asn1::{Asn1Reader, INTEGER, SEQUENCE};

/// Decrypts `data` by an `AlgorithmIdentifier` of PKCS#5 or PKCS#12.
///
/// Without an integrity check, a wrong password gives random bytes once in some 250 times.
pub(crate) fn decrypt(
    mut algorithm: Asn1Reader<'_>,
    data: &[u8],
    password: &Password<'_>,
    limit: &mut WorkLimit,
) -> Result<Zeroizing<Vec<u8>>, DecryptionError> {
    let oid = algorithm.oid()?;
    if oid == PBES2 {
        return pbes2(algorithm.sequence()?, data, password, limit);
    }
    let Some((_, scheme)) = SCHEMES.iter().find(|(known, _)| *known == oid) else {
        return Err(unsupported(oid));
    };
    let mut parameters = algorithm.sequence()?;
    let salt = parameters.octets()?;
    let rounds = rounds(parameters.unsigned()?, limit)?;
    match *scheme {
        Scheme::Pkcs5(hash, cipher) => {
            let derived = hash.pbkdf1(password.text.as_bytes(), &salt, rounds);
            let (key, iv) = derived.split_at(8);
            cipher.decrypt(key, iv.get(..8).unwrap_or_default(), data)
        }
        Scheme::Pkcs12(cipher) => {
            let derive = |purpose, length| {
                Hash::Sha1.pkcs12(purpose, &password.pkcs12, &salt, rounds, length)
            };
            let key = derive(Purpose::Key, cipher.key_length());
            let iv = derive(Purpose::InitializationVector, cipher.iv_length());
            cipher.decrypt(&key, &iv, data)
        }
    }
}

/// Decrypts by PBES2 ([RFC 8018 section 6.2](https://www.rfc-editor.org/rfc/rfc8018#section-6.2)).
fn pbes2(
    mut parameters: Asn1Reader<'_>,
    data: &[u8],
    password: &Password<'_>,
    limit: &mut WorkLimit,
) -> Result<Zeroizing<Vec<u8>>, DecryptionError> {
    let derivation = Derivation::parse(parameters.sequence()?)?;
    let mut encryption = parameters.sequence()?;
    let oid = encryption.oid()?;
    let (cipher, iv) = if oid == RC2_CBC {
        rc2(encryption.sequence()?, derivation.key_length)?
    } else {
        let Some((_, cipher)) = CIPHERS.iter().find(|(known, _)| *known == oid) else {
            return Err(unsupported(oid));
        };
        (*cipher, encryption.octets()?)
    };
    let length = cipher.key_length();
    if derivation
        .key_length
        .is_some_and(|stated| stated != length as u64)
    {
        return Err(DecryptionError::Malformed);
    }
    let key = derivation.key(password, length, limit)?;
    cipher.decrypt(&key, &iv, data)
}

/// Reads the parameters of RC2 ([RFC 8018 appendix B.2.3]).
///
/// [RFC 8018 appendix B.2.3]: https://www.rfc-editor.org/rfc/rfc8018#appendix-B.2.3
fn rc2(
    mut parameters: Asn1Reader<'_>,
    key_length: Option<u64>,
) -> Result<(Cipher, Zeroizing<Vec<u8>>), DecryptionError> {
    // The versions that OpenSSL reads.
    let effective_bits: usize = match parameters.unsigned()? {
        160 => 40,
        120 => 64,
        58 => 128,
        _ => return Err(DecryptionError::Malformed),
    };
    // OpenSSL derives as many bytes as the key has effective bits.
    let key_length = match key_length {
        Some(length @ 1..=128) => length as usize,
        Some(_) => return Err(DecryptionError::Malformed),
        None => effective_bits.div_ceil(8),
    };
    let cipher = Cipher::Rc2 {
        key_length,
        effective_bits,
    };
    Ok((cipher, parameters.octets()?))
}

/// A key derivation of PKCS#5 with its parameters.
struct Derivation {
    salt: Zeroizing<Vec<u8>>,
    key_length: Option<u64>,
    function: Function,
}

enum Function {
    Pbkdf2 { hash: Hash, rounds: u64 },
    Scrypt { n: u64, r: u64, p: u64 },
}

impl Derivation {
    fn parse(mut algorithm: Asn1Reader<'_>) -> Result<Self, DecryptionError> {
        let oid = algorithm.oid()?;
        if oid != PBKDF2 && oid != SCRYPT {
            return Err(unsupported(oid));
        }
        let mut parameters = algorithm.sequence()?;
        let salt = parameters.octets()?;
        let first = parameters.unsigned()?;
        let scrypt = match oid == SCRYPT {
            true => Some((parameters.unsigned()?, parameters.unsigned()?)),
            false => None,
        };
        let key_length = match parameters.optional(INTEGER)? {
            Some(length) => Some(length.to_unsigned()?),
            None => None,
        };
        let function = match scrypt {
            Some((r, p)) => Function::Scrypt { n: first, r, p },
            None => {
                let hash = match parameters.optional(SEQUENCE)? {
                    None => Hash::Sha1,
                    Some(prf) => hash(prf.reader().oid()?, &PRFS)?,
                };
                let rounds = first;
                Function::Pbkdf2 { hash, rounds }
            }
        };
        Ok(Self {
            salt,
            key_length,
            function,
        })
    }

    fn key(
        &self,
        password: &Password<'_>,
        length: usize,
        limit: &mut WorkLimit,
    ) -> Result<Zeroizing<Vec<u8>>, DecryptionError> {
        let mut key = Zeroizing::new(vec![0; length]);
        let password = password.text.as_bytes();
        match self.function {
            Function::Pbkdf2 {
                hash,
                rounds: asked,
            } => {
                let rounds = rounds(asked, limit)?;
                hash.pbkdf2(password, &self.salt, rounds, &mut key);
            }
            Function::Scrypt { n, r, p } => {
                let work = n.saturating_mul(r).saturating_mul(p).saturating_mul(128);
                if work == 0 || !n.is_power_of_two() {
                    return Err(DecryptionError::Malformed);
                }
                // The memory is below the work.
                if work > MOST_SCRYPT_BYTES {
                    return Err(DecryptionError::TooMuchWork);
                }
                limit.spend(work.div_ceil(SCRYPT_BYTES_A_ROUND))?;
                let log_n = n.trailing_zeros() as u8;
                // Both are below the work.
                let parameters = Params::new(log_n, r as u32, p as u32);
                let parameters = parameters.map_err(|_| DecryptionError::Malformed)?;
                scrypt::scrypt(password, &self.salt, &parameters, &mut key)
                    .map_err(|_| DecryptionError::Malformed)?;
            }
        }
        Ok(key)
    }
}

/// The message authentication code of a PKCS#12 file.
pub(crate) struct Mac {
    function: MacFunction,
    digest: Zeroizing<Vec<u8>>,
}

enum MacFunction {
    Pkcs12 {
        hash: Hash,
        salt: Zeroizing<Vec<u8>>,
        rounds: u64,
    },
    /// PBMAC1 ([RFC 9579](https://www.rfc-editor.org/rfc/rfc9579)).
    Pbmac1 {
        derivation: Derivation,
        key_length: usize,
        hash: Hash,
    },
}

#[cfg(test)]
impl Mac {
    /// Returns the encoded `MacData` of a content, with SHA-1 and one round.
    pub(crate) fn encode(content: &[u8], password: &Password<'_>) -> Vec<u8> {
        use hmac::{KeyInit as _, Mac as _};

        use crate::crypto::asn1::{OBJECT_IDENTIFIER, OCTET_STRING, encode};

        let key = Hash::Sha1.pkcs12(Purpose::Mac, &password.pkcs12, b"salt", 1, 20);
        let mac = hmac::Hmac::<sha1::Sha1>::new_from_slice(&key).unwrap();
        let mac = mac.chain_update(content).finalize().into_bytes();
        let algorithm = encode(OBJECT_IDENTIFIER, &[HASHES[1].0.as_bytes()]);
        let info = [
            encode(SEQUENCE, &[&algorithm]),
            encode(OCTET_STRING, &[&mac]),
        ];
        let info = encode(SEQUENCE, &[&info.concat()]);
        encode(SEQUENCE, &[&info, &encode(OCTET_STRING, &[b"salt"])])
    }
}

impl Mac {
    /// Reads a `MacData`.
    pub(crate) fn parse(mut data: Asn1Reader<'_>) -> Result<Self, DecryptionError> {
        let mut info = data.sequence()?;
        let mut algorithm = info.sequence()?;
        let digest = info.octets()?;
        let salt = data.octets()?;
        let rounds = match data.optional(INTEGER)? {
            Some(rounds) => rounds.to_unsigned()?,
            None => 1,
        };
        let oid = algorithm.oid()?;
        let function = if oid == PBMAC1 {
            let mut parameters = algorithm.sequence()?;
            let derivation = Derivation::parse(parameters.sequence()?)?;
            let hash = hash(parameters.sequence()?.oid()?, &PRFS)?;
            // RFC 9579 section 5 requires the length, and section 9 at least 20 bytes.
            let key_length = match derivation.key_length {
                Some(length @ 20..=64) => length as usize,
                _ => return Err(DecryptionError::Malformed),
            };
            MacFunction::Pbmac1 {
                derivation,
                key_length,
                hash,
            }
        } else {
            let hash = hash(oid, &HASHES)?;
            MacFunction::Pkcs12 { hash, salt, rounds }
        };
        Ok(Self { function, digest })
    }

    /// Returns whether `content` is authentic, and so the password right.
    pub(crate) fn verify(
        &self,
        content: &[u8],
        password: &Password<'_>,
        limit: &mut WorkLimit,
    ) -> Result<bool, DecryptionError> {
        let (hash, key) = match &self.function {
            MacFunction::Pkcs12 {
                hash,
                salt,
                rounds: asked,
            } => {
                let length = hash.digest(&[]).len();
                let rounds = rounds(*asked, limit)?;
                let key = hash.pkcs12(Purpose::Mac, &password.pkcs12, salt, rounds, length);
                (*hash, key)
            }
            MacFunction::Pbmac1 {
                derivation,
                key_length,
                hash,
            } => (*hash, derivation.key(password, *key_length, limit)?),
        };
        Ok(hash.verify_hmac(&key, content, &self.digest))
    }
}

/// Accounts for the rounds.
fn rounds(rounds: u64, limit: &mut WorkLimit) -> Result<u32, DecryptionError> {
    limit.spend(rounds)?;
    match u32::try_from(rounds) {
        Ok(rounds @ 1..) => Ok(rounds),
        _ => Err(DecryptionError::Malformed),
    }
}

fn hash(
    oid: ObjectIdentifier,
    known: &[(ObjectIdentifier, Hash)],
) -> Result<Hash, DecryptionError> {
    let found = known.iter().find(|(known, _)| *known == oid);
    found.map(|(_, hash)| *hash).ok_or_else(|| unsupported(oid))
}

/// Returns the error with the name of an algorithm, if the name is known.
fn unsupported(oid: ObjectIdentifier) -> DecryptionError {
    let text = oid.to_string();
    let is_below = |known: &str| known.ends_with('.') && text.starts_with(known);
    let known = NAMES
        .iter()
        .find(|(known, _)| *known == text || is_below(known));
    let name = known.map(|(_, name)| (*name).to_owned());
    DecryptionError::Unsupported(name.unwrap_or(text))
}

/// A scheme whose parameters are a salt and a number of rounds.
#[derive(Clone, Copy)]
enum Scheme {
    /// PBES1 ([RFC 8018 section 6.1](https://www.rfc-editor.org/rfc/rfc8018#section-6.1)).
    Pkcs5(Hash, Cipher),
    /// [RFC 7292 appendix C](https://www.rfc-editor.org/rfc/rfc7292#appendix-C), with SHA-1.
    Pkcs12(Cipher),
}

const fn oid(text: &str) -> ObjectIdentifier {
    ObjectIdentifier::new_unwrap(text)
}

const fn rc2_cipher(key_length: usize) -> Cipher {
    Cipher::Rc2 {
        key_length,
        effective_bits: key_length.saturating_mul(8),
    }
}

const SCHEMES: [(ObjectIdentifier, Scheme); 10] = [
    (
        oid("1.2.840.113549.1.5.3"),
        Scheme::Pkcs5(Hash::Md5, Cipher::Des),
    ),
    (
        oid("1.2.840.113549.1.5.6"),
        Scheme::Pkcs5(Hash::Md5, rc2_cipher(8)),
    ),
    (
        oid("1.2.840.113549.1.5.10"),
        Scheme::Pkcs5(Hash::Sha1, Cipher::Des),
    ),
    (
        oid("1.2.840.113549.1.5.11"),
        Scheme::Pkcs5(Hash::Sha1, rc2_cipher(8)),
    ),
    (
        oid("1.2.840.113549.1.12.1.1"),
        Scheme::Pkcs12(Cipher::Rc4 { key_length: 16 }),
    ),
    (
        oid("1.2.840.113549.1.12.1.2"),
        Scheme::Pkcs12(Cipher::Rc4 { key_length: 5 }),
    ),
    (
        oid("1.2.840.113549.1.12.1.3"),
        Scheme::Pkcs12(Cipher::TripleDes3),
    ),
    (
        oid("1.2.840.113549.1.12.1.4"),
        Scheme::Pkcs12(Cipher::TripleDes2),
    ),
    (
        oid("1.2.840.113549.1.12.1.5"),
        Scheme::Pkcs12(rc2_cipher(16)),
    ),
    (
        oid("1.2.840.113549.1.12.1.6"),
        Scheme::Pkcs12(rc2_cipher(5)),
    ),
];

const PBES2: ObjectIdentifier = oid("1.2.840.113549.1.5.13");
const PBKDF2: ObjectIdentifier = oid("1.2.840.113549.1.5.12");
const PBMAC1: ObjectIdentifier = oid("1.2.840.113549.1.5.14");
const SCRYPT: ObjectIdentifier = oid("1.3.6.1.4.1.11591.4.11");
const RC2_CBC: ObjectIdentifier = oid("1.2.840.113549.3.2");

const CIPHERS: [(ObjectIdentifier, Cipher); 5] = [
    (oid("2.16.840.1.101.3.4.1.2"), Cipher::Aes128),
    (oid("2.16.840.1.101.3.4.1.22"), Cipher::Aes192),
    (oid("2.16.840.1.101.3.4.1.42"), Cipher::Aes256),
    (oid("1.2.840.113549.3.7"), Cipher::TripleDes3),
    (oid("1.3.14.3.2.7"), Cipher::Des),
];

/// HMAC with each hash function.
const PRFS: [(ObjectIdentifier, Hash); 8] = [
    (oid("1.2.840.113549.2.6"), Hash::Md5),
    (oid("1.2.840.113549.2.7"), Hash::Sha1),
    (oid("1.2.840.113549.2.8"), Hash::Sha224),
    (oid("1.2.840.113549.2.9"), Hash::Sha256),
    (oid("1.2.840.113549.2.10"), Hash::Sha384),
    (oid("1.2.840.113549.2.11"), Hash::Sha512),
    (oid("1.2.840.113549.2.12"), Hash::Sha512_224),
    (oid("1.2.840.113549.2.13"), Hash::Sha512_256),
];

const HASHES: [(ObjectIdentifier, Hash); 8] = [
    (oid("1.2.840.113549.2.5"), Hash::Md5),
    (oid("1.3.14.3.2.26"), Hash::Sha1),
    (oid("2.16.840.1.101.3.4.2.4"), Hash::Sha224),
    (oid("2.16.840.1.101.3.4.2.1"), Hash::Sha256),
    (oid("2.16.840.1.101.3.4.2.2"), Hash::Sha384),
    (oid("2.16.840.1.101.3.4.2.3"), Hash::Sha512),
    (oid("2.16.840.1.101.3.4.2.5"), Hash::Sha512_224),
    (oid("2.16.840.1.101.3.4.2.6"), Hash::Sha512_256),
];

/// Names of algorithms that are not supported. An object identifier that ends in a dot stands for
/// those below.
const NAMES: [(&str, &str); 13] = [
    ("1.2.840.113549.1.5.1", "PBE-MD2-DES"),
    ("1.2.840.113549.1.5.4", "PBE-MD2-RC2"),
    ("1.2.392.200011.61.1.1.1.", "Camellia"),
    ("1.2.410.200046.1.1.", "ARIA"),
    ("1.2.410.200004.1.4", "SEED"),
    ("1.3.6.1.4.1.188.7.1.1.", "IDEA"),
    ("1.3.6.1.4.1.3029.1.2", "Blowfish"),
    ("1.2.840.113533.7.66.10", "CAST5"),
    ("1.2.156.10197.1.104.", "SM4"),
    ("2.16.840.1.101.3.4.1.", "AES in a mode other than CBC"),
    ("1.2.643.", "GOST"),
    ("2.16.840.1.101.3.4.2.", "SHA-3"),
    ("1.2.840.113549.3.4", "RC4"),
];

/// Largest product of scrypt's memory and passes.
const MOST_SCRYPT_BYTES: u64 = 1 << 28;
/// The bytes of scrypt that take about as long as a round of PBKDF2.
const SCRYPT_BYTES_A_ROUND: u64 = 512;
