//! A CA that issues client certificates.

use std::time::{Duration, SystemTime};

use confidential_client::Certificate;
use rcgen::{
    BasicConstraints, CertificateParams, CertifiedIssuer, DnType, ExtendedKeyUsagePurpose, IsCa,
    KeyPair, KeyUsagePurpose, PKCS_RSA_SHA256, RsaKeySize,
};

pub struct ClientCa(CertifiedIssuer<'static, KeyPair>);

/// A certificate in PEM, and its private key in PEM.
#[derive(Clone)]
pub struct IssuedPem {
    pub certificate: String,
    pub key: String,
}

impl IssuedPem {
    pub fn whole(&self) -> String {
        format!("{}{}", self.certificate, self.key)
    }

    pub fn parsed(&self) -> Certificate {
        Certificate::from_pem(self.whole()).unwrap()
    }
}

impl ClientCa {
    pub fn new() -> Self {
        Self::named("Clients")
    }

    pub fn named(name: &str) -> Self {
        let mut params = CertificateParams::default();
        params.distinguished_name.push(DnType::CommonName, name);
        params.is_ca = IsCa::Ca(BasicConstraints::Unconstrained);
        params.key_usages = vec![KeyUsagePurpose::KeyCertSign];
        let key = KeyPair::generate().unwrap();
        Self(CertifiedIssuer::self_signed(params, key).unwrap())
    }

    pub fn pem(&self) -> String {
        self.0.as_ref().pem()
    }

    /// Issues a certificate with a P-256 key, whose subject and DNS name are `name`.
    pub fn issue(&self, name: &str) -> IssuedPem {
        self.issue_with(name, KeyPair::generate().unwrap(), |_| ())
    }

    /// Issues a certificate with an RSA key.
    pub fn issue_rsa(&self, name: &str) -> IssuedPem {
        let key = KeyPair::generate_rsa_for(&PKCS_RSA_SHA256, RsaKeySize::_2048);
        self.issue_with(name, key.unwrap(), |_| ())
    }

    /// Issues a certificate that expired yesterday.
    pub fn issue_expired(&self, name: &str) -> IssuedPem {
        self.issue_with(name, KeyPair::generate().unwrap(), |params| {
            let day = Duration::from_secs(24 * 60 * 60);
            params.not_before = (SystemTime::now() - 10 * day).into();
            params.not_after = (SystemTime::now() - day).into();
        })
    }

    pub fn issue_with(
        &self,
        name: &str,
        key: KeyPair,
        change: impl FnOnce(&mut CertificateParams),
    ) -> IssuedPem {
        let mut params = CertificateParams::new([name.to_owned()]).unwrap();
        params.distinguished_name.push(DnType::CommonName, name);
        params.extended_key_usages = vec![ExtendedKeyUsagePurpose::ClientAuth];
        change(&mut params);
        IssuedPem {
            certificate: params.signed_by(&key, &self.0).unwrap().pem(),
            key: key.serialize_pem(),
        }
    }
}
