use cryptoki::error::RvError;
use sha2::{Digest, Sha256, Sha384};

use super::super::module::{KeyFamily, ObjectKind, Pkcs11Mechanism};
use super::double::{Double, key, sign, sign_with};
use crate::credential::{Signer, SigningAlgorithm};

/// The encoded object identifiers of the curves.
const P256: &[u8] = b"\x06\x08\x2a\x86\x48\xce\x3d\x03\x01\x07";
const P384: &[u8] = b"\x06\x05\x2b\x81\x04\x00\x22";

#[tokio::test]
async fn a_token_that_cannot_hash_gets_the_digest() {
    use Pkcs11Mechanism::{Ecdsa, RsaPkcs, RsaPss, Sha256RsaPkcs, Sha256RsaPss};
    use SigningAlgorithm::{ES256, ES384, PS256, RS256};
    let all = [Sha256RsaPss, RsaPss, Sha256RsaPkcs, RsaPkcs, Ecdsa];
    let sha256 = Sha256::digest(b"message").to_vec();
    let sha384 = Sha384::digest(b"message").to_vec();
    // openssl dgst -sha256 -sign signs this prefix and the digest.
    let info = b"\x30\x31\x30\x0d\x06\x09\x60\x86\x48\x01\x65\x03\x04\x02\x01\x05\x00\x04\x20";
    let info = [&info[..], &sha256].concat();
    let message = b"message".to_vec();
    for (algorithm, supported, curve, expected) in [
        (PS256, &all[..], None, Ok((Sha256RsaPss, message.clone()))),
        (
            PS256,
            &[RsaPss, RsaPkcs],
            None,
            Ok((RsaPss, sha256.clone())),
        ),
        (
            PS256,
            &[RsaPkcs],
            None,
            Err("neither CKM_SHA256_RSA_PKCS_PSS nor CKM_RSA_PKCS_PSS"),
        ),
        (RS256, &all, None, Ok((Sha256RsaPkcs, message))),
        (RS256, &[RsaPkcs, RsaPss], None, Ok((RsaPkcs, info))),
        (
            RS256,
            &[RsaPss],
            None,
            Err("neither CKM_SHA256_RSA_PKCS nor CKM_RSA_PKCS"),
        ),
        (ES256, &all, Some(P256), Ok((Ecdsa, sha256.clone()))),
        (ES256, &[], Some(P256), Err("no mechanism CKM_ECDSA")),
        (ES384, &all, Some(P384), Ok((Ecdsa, sha384))),
        (ES384, &[], Some(P384), Err("no mechanism CKM_ECDSA")),
    ] {
        let double = Double::default();
        double.state().mechanisms = supported.to_vec();
        if let Some(curve) = curve {
            let key = &mut double.state().objects[0].1.key;
            (key.family, key.curve) = (KeyFamily::EllipticCurve, Some(curve.to_vec()));
        }
        let result = sign_with(&double.token(), algorithm).await;
        match (result, expected) {
            (Ok(_), Ok(expected)) => assert_eq!(double.state().signatures, [expected]),
            (Err(error), Err(expected)) => {
                let error = error.to_string();
                let start = format!(
                    "the private key 'signing' on the token 'daemon' cannot sign with {algorithm}"
                );
                assert!(
                    error.starts_with(&start) && error.contains(expected),
                    "{error}"
                );
            }
            (result, _) => panic!("{algorithm}, {supported:?}: {result:?}"),
        }
    }
}

#[tokio::test]
async fn a_key_that_does_not_fit_is_named() {
    use KeyFamily::{Edwards, EllipticCurve, Other, Rsa};
    use SigningAlgorithm::{ES256, ES384, EdDSA, PS256, RS256};
    for (algorithm, family, curve, expected) in [
        (
            ES256,
            Rsa,
            None,
            "is an RSA key, and ES256 needs a P-256 key",
        ),
        (
            ES384,
            Rsa,
            None,
            "is an RSA key, and ES384 needs a P-384 key",
        ),
        (
            PS256,
            EllipticCurve,
            Some(P256),
            "is a P-256 key, and PS256 needs an RSA key",
        ),
        (
            RS256,
            EllipticCurve,
            Some(P384),
            "is a P-384 key, and RS256 needs an RSA key",
        ),
        (
            ES256,
            EllipticCurve,
            Some(P384),
            "is a P-384 key, and ES256 needs a P-256 key",
        ),
        (
            ES384,
            EllipticCurve,
            Some(P256),
            "is a P-256 key, and ES384 needs a P-384 key",
        ),
        (
            PS256,
            EllipticCurve,
            None,
            "is a key of an elliptic curve, and PS256",
        ),
        (
            ES256,
            Edwards,
            None,
            "is an Edwards key, and ES256 needs a P-256 key",
        ),
        (
            PS256,
            Other,
            None,
            "is a key of another kind, and PS256 needs an RSA key",
        ),
        (
            EdDSA,
            Edwards,
            None,
            "cannot sign with EdDSA, which is not supported for PKCS#11",
        ),
    ] {
        let double = Double::default();
        {
            let key = &mut double.state().objects[0].1.key;
            (key.family, key.curve) = (family, curve.map(<[u8]>::to_vec));
        }
        let error = sign_with(&double.token(), algorithm).await.unwrap_err();
        let error = error.to_string();
        assert!(error.contains(expected), "{error}");
        assert_eq!(double.state().sign_calls, 0, "{error}");
    }
}

#[tokio::test]
async fn a_key_that_must_not_sign_is_named() {
    let double = Double::default();
    double.state().objects[0].1.key.can_sign = false;
    let error = sign(&double.token()).await.unwrap_err().to_string();
    assert!(
        error.contains("is not allowed to sign") && error.contains("CKA_SIGN"),
        "{error}"
    );
    double.state().objects[0].1.key.can_sign = true;
    double.state().objects[0].1.key.always_authenticate = true;
    let error = sign(&double.token()).await.unwrap_err().to_string();
    assert!(error.contains("CKA_ALWAYS_AUTHENTICATE"), "{error}");
    assert_eq!(double.state().sign_calls, 0);
}

#[tokio::test]
async fn a_missing_key_and_an_ambiguous_key_are_errors_that_list_the_keys() {
    let double = Double::default();
    let token = double.token();
    let error = |name: super::super::Pkcs11Key| async move {
        let signature = Signer::sign(&name, SigningAlgorithm::PS256, b"message".to_vec());
        signature.await.unwrap_err().to_string()
    };
    assert_eq!(
        error(token.key("sinning")).await,
        "the token 'daemon' has no private key 'sinning'; its private keys are 'signing' (id 01)"
    );
    assert_eq!(
        error(token.key_by_id([0xab, 0x01])).await,
        "the token 'daemon' has no private key with the id ab01; its private keys are 'signing' (id 01)"
    );
    for empty in [token.key(""), token.key_by_id([])] {
        assert!(error(empty).await.contains("is empty"));
    }
    let other = (ObjectKind::PrivateKey, key("signing", &[2], KeyFamily::Rsa));
    double.state().objects.push(other);
    let ambiguous = error(token.key("signing")).await;
    assert!(
        ambiguous.starts_with("the token 'daemon' has 2 private keys 'signing', which are 'signing' (id 01), 'signing' (id 02); select one with key_by_id(..)"),
        "{ambiguous}"
    );
    let by_id = token.key_by_id([2]);
    let signature = Signer::sign(&by_id, SigningAlgorithm::PS256, b"message".to_vec()).await;
    signature.unwrap();
    double.state().objects.clear();
    double.log_out();
    assert_eq!(
        error(token.key("signing")).await,
        "the token 'daemon' has no private key 'signing', and no other private key"
    );
}

#[tokio::test]
async fn a_label_that_is_padded_with_spaces_is_found() {
    let double = Double::default();
    double.state().objects[0].1.label = "signing   ".to_owned();
    sign(&double.token()).await.unwrap();
}

#[tokio::test]
async fn a_cached_key_is_looked_up_again_if_it_does_not_fit() {
    let double = Double::default();
    double.state().mechanisms.push(Pkcs11Mechanism::Ecdsa);
    let token = double.token();
    sign(&token).await.unwrap();
    // The key under the label is another one by now.
    double.state().objects[0].1.key.family = KeyFamily::EllipticCurve;
    sign_with(&token, SigningAlgorithm::ES256).await.unwrap();
}

#[tokio::test]
async fn a_search_is_cached_until_a_call_fails() {
    let double = Double::default();
    let token = double.token();
    for _ in 0..3 {
        sign(&token).await.unwrap();
    }
    assert_eq!(double.state().searches, 1);
    double.state().sign_errors.extend([RvError::DeviceError]);
    sign(&token).await.unwrap();
    assert_eq!(double.state().searches, 2);
}
