use std::borrow::Cow;

use uuid::Uuid;

/// A published issuer name. The issuer of many tenants has `{tenantid}` in place of a tenant id.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Issuer(String);

impl Issuer {
    pub(crate) fn new(issuer: impl Into<String>) -> Self {
        Self(issuer.into())
    }

    pub(crate) fn as_str(&self) -> &str {
        &self.0
    }

    /// Returns true for the issuer of many tenants.
    pub(crate) fn is_template(&self) -> bool {
        self.0.contains(TENANT)
    }

    /// Returns the issuer name that version 1 tokens of the same tenant have after `base`.
    pub(crate) fn version_1(&self, base: &str) -> Option<Self> {
        let tenant = match self.is_template() {
            true => TENANT,
            false => self.tenant()?,
        };
        Some(Self(format!("{base}{tenant}/")))
    }

    /// Returns the tenant id in the issuer name.
    pub(crate) fn tenant(&self) -> Option<&str> {
        self.0.split('/').find(|segment| is_guid(segment))
    }

    /// Returns whether `issuer` is this issuer, or the issuer of one of the many tenants.
    pub(crate) fn accepts(&self, issuer: &str) -> bool {
        let tenant = issuer.split('/').find(|segment| is_guid(segment));
        self.matches(issuer, tenant)
    }

    /// Returns whether a token with this `iss` and `tid` comes from this issuer.
    pub(super) fn matches(&self, iss: &str, tid: Option<&str>) -> bool {
        self.for_tenant(tid).is_some_and(|issuer| issuer == iss)
    }

    /// Returns the issuer name with the tenant filled in. The tenant must be a directory id.
    pub(super) fn for_tenant(&self, tenant: Option<&str>) -> Option<Cow<'_, str>> {
        if !self.is_template() {
            return Some(Cow::Borrowed(&self.0));
        }
        let tenant = tenant.filter(|tenant| is_guid(tenant))?;
        Some(Cow::Owned(self.0.replace(TENANT, tenant)))
    }
}

/// Returns whether the whole text is a GUID with hyphens.
pub(crate) fn is_guid(text: &str) -> bool {
    text.len() == 36 && Uuid::try_parse(text).is_ok()
}

const TENANT: &str = "{tenantid}";
