use std::borrow::Cow;
use std::sync::Arc;

use uuid::Uuid;

use super::error::JwtError;
use super::key::PublishedKey;

/// Who issues an authority's tokens, and what they are signed with.
pub(crate) struct IssuerKeys {
    pub(crate) issuer: Issuer,
    /// What access tokens call it, any of these: Microsoft's providers have an older name, too.
    pub(crate) of_access_tokens: Vec<Issuer>,
    /// The tenant that the issuer's name has in it, where it is Microsoft's and of one tenant.
    pub(crate) tenant: Option<String>,
    pub(crate) keys: Vec<PublishedKey>,
    /// Where a user signs in.
    pub(crate) authorization_endpoint: Option<Arc<str>>,
}

/// An issuer as it is published: where it has many tenants, with `{tenantid}` for the tenant.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Issuer(String);

impl IssuerKeys {
    pub(crate) fn has(&self, name: &str) -> bool {
        self.keys.iter().any(|key| key.is_named(name))
    }

    /// Checks the issuer of a token that `key` signed.
    pub(super) fn check(
        &self,
        found: &str,
        tenant: Option<&str>,
        key: &PublishedKey,
        is_access_token: bool,
    ) -> Result<(), JwtError> {
        let issuers = match is_access_token {
            true => self.of_access_tokens.as_slice(),
            false => std::slice::from_ref(&self.issuer),
        };
        if !issuers.iter().any(|issuer| issuer.is(found, tenant)) {
            return Err(JwtError::Issuer(found.into()));
        }
        // Whoever asks a tenant's token for its tenant is told of that one.
        match (&self.tenant, tenant) {
            (Some(_), None) => return Err(JwtError::Claim("tid")),
            (Some(own), Some(tenant)) if own != tenant => {
                return Err(JwtError::Issuer(found.into()));
            }
            _ => {}
        }
        match &key.issuer {
            // Keys never name the older one.
            Some(of_key) if of_key.filled(tenant) != self.issuer.filled(tenant) => {
                Err(JwtError::KeyIssuer)
            }
            _ => Ok(()),
        }
    }
}

impl Issuer {
    pub(crate) fn new(issuer: impl Into<String>) -> Self {
        Self(issuer.into())
    }

    pub(crate) fn as_str(&self) -> &str {
        &self.0
    }

    /// Whether it is that of many tenants.
    pub(crate) fn is_template(&self) -> bool {
        self.0.contains(TENANT)
    }

    /// How tokens of version 1 call the same tenant, behind `base`.
    pub(crate) fn version_1(&self, base: &str) -> Option<Self> {
        let tenant = match self.is_template() {
            true => TENANT,
            false => self.tenant()?,
        };
        Some(Self(format!("{base}{tenant}/")))
    }

    /// The tenant whose it is, where it is one's.
    pub(crate) fn tenant(&self) -> Option<&str> {
        self.0.split('/').find(|segment| is_guid(segment))
    }

    fn is(&self, issuer: &str, tenant: Option<&str>) -> bool {
        self.filled(tenant).is_some_and(|filled| filled == issuer)
    }

    /// With the tenant in its place, which has to be a directory's id.
    fn filled(&self, tenant: Option<&str>) -> Option<Cow<'_, str>> {
        if !self.is_template() {
            return Some(Cow::Borrowed(&self.0));
        }
        let tenant = tenant.filter(|tenant| is_guid(tenant))?;
        Some(Cow::Owned(self.0.replace(TENANT, tenant)))
    }
}

/// In the one form that has hyphens, and nothing around it.
pub(crate) fn is_guid(text: &str) -> bool {
    text.len() == 36 && Uuid::try_parse(text).is_ok()
}

const TENANT: &str = "{tenantid}";
