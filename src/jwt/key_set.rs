use std::borrow::Cow;
use std::sync::Arc;

use super::error::{Compared, JwtError};
use super::issuer::{Issuer, is_guid};
use super::key::PublishedKey;

/// The issuer of an authority's tokens, and the public keys that verify the tokens' signatures.
pub(crate) struct IssuerKeys {
    pub(crate) issuer: Issuer,
    /// Accepted issuers of access tokens. Microsoft's providers also use an older name.
    pub(crate) access_token_issuers: Vec<Issuer>,
    /// Tenant id in the issuer name, for a Microsoft authority with one tenant.
    pub(crate) tenant: Option<String>,
    pub(crate) keys: Vec<PublishedKey>,
    /// Page where users sign in.
    pub(crate) authorization_endpoint: Option<Arc<str>>,
    /// True if the metadata announce that authorization responses name the issuer ([RFC 9207]).
    ///
    /// [RFC 9207]: https://www.rfc-editor.org/rfc/rfc9207
    pub(crate) responses_name_issuer: bool,
}

impl IssuerKeys {
    /// Returns the names of the keys. A key may have no name.
    pub(super) fn names(&self) -> impl Iterator<Item = &str> {
        self.keys.iter().filter_map(PublishedKey::name)
    }

    /// Returns the keys with this name, or every key if the token names none.
    pub(super) fn named(&self, name: Option<&str>) -> impl Iterator<Item = &PublishedKey> {
        self.keys
            .iter()
            .filter(move |key| name.is_none_or(|name| key.is_named(name)))
    }

    /// Checks the issuer and the tenant of a token that `key` signed. `tid` is `None` for an issuer
    /// without tenants.
    pub(super) fn check_issuer(
        &self,
        iss: &str,
        tid: Option<&str>,
        key: &PublishedKey,
        is_access_token: bool,
    ) -> Result<(), JwtError> {
        let trusted = match is_access_token {
            true => self.access_token_issuers.as_slice(),
            false => std::slice::from_ref(&self.issuer),
        };
        // Microsoft's providers write tenant ids in lower case, and an API compares the ids as text.
        if let Some(tid) = tid
            && tid.contains(|c: char| c.is_ascii_uppercase())
            && is_guid(tid)
        {
            return Err(JwtError::TenantCase(tid.into()));
        }
        if !trusted.iter().any(|issuer| issuer.matches(iss, tid)) {
            let trusted = trusted.iter().map(|issuer| {
                let issuer_of_tenant = issuer.for_tenant(tid);
                issuer_of_tenant.unwrap_or(Cow::Borrowed(issuer.as_str()))
            });
            return Err(JwtError::Issuer(Compared::new(iss, trusted)));
        }
        // An authority with one tenant accepts no token of another tenant.
        match (&self.tenant, tid) {
            (Some(_), None) => return Err(JwtError::Claim("tid")),
            (Some(tenant), Some(tid)) if tenant != tid => {
                return Err(JwtError::Tenant(Compared::new(tid, [tenant])));
            }
            _ => {}
        }
        match &key.issuer {
            // A key names the current issuer, never the older one.
            Some(issuer) if issuer.for_tenant(tid) != self.issuer.for_tenant(tid) => {
                Err(JwtError::KeyIssuer(Compared::new(issuer.as_str(), [iss])))
            }
            _ => Ok(()),
        }
    }

    /// Returns whether the issuer's tokens name a tenant, as the tokens of Microsoft Entra ID do.
    pub(super) fn has_tenants(&self) -> bool {
        self.tenant.is_some() || self.issuer.is_template()
    }
}
