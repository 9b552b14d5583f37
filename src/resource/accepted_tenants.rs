use std::collections::BTreeSet;

use crate::authority::{AuthorityKind, PERSONAL_ACCOUNTS, Tenant};
use crate::error::Error;
use crate::jwt::{self, is_guid};

/// The tenants whose tokens a validator accepts.
#[derive(Clone, Debug)]
pub(super) enum AcceptedTenants {
    /// The authority's tenant, or the issuer of an authority without tenants.
    Single,
    /// Tenant ids in lower case.
    Listed(BTreeSet<String>),
    Any {
        with_personal_accounts: bool,
    },
}

impl AcceptedTenants {
    pub(super) fn listed(tenants: impl IntoIterator<Item = String>) -> Self {
        let lower_case = tenants
            .into_iter()
            .map(|tenant| tenant.to_ascii_lowercase());
        Self::Listed(lower_case.collect())
    }

    /// Returns whether a token of `tenant` is accepted.
    ///
    /// `is_multi_tenant` says that the identity provider publishes one issuer for all tenants.
    pub(super) fn accepts(&self, tenant: Option<&str>, is_multi_tenant: bool) -> bool {
        match self {
            Self::Single => !is_multi_tenant,
            Self::Listed(listed) => tenant.is_some_and(|tenant| listed.contains(tenant)),
            Self::Any {
                with_personal_accounts,
            } => tenant.is_some_and(|tenant| *with_personal_accounts || !is_personal(tenant)),
        }
    }

    /// Returns a description for the operator.
    pub(super) fn description(&self) -> String {
        match self {
            Self::Single => "the authority's tenant alone is accepted".to_owned(),
            Self::Listed(listed) => format!("the accepted tenants are {}", jwt::listed(listed)),
            Self::Any {
                with_personal_accounts: true,
            } => "every tenant is accepted".to_owned(),
            Self::Any { .. } => {
                "every organization is accepted, and no personal account".to_owned()
            }
        }
    }

    /// Checks the tenants against the authority.
    ///
    /// Returns the tenant whose keys are fetched, if the keys of the authority's tenant are not
    /// enough.
    pub(super) fn check(
        &mut self,
        kind: &AuthorityKind,
        authority_tenant: Option<&Tenant>,
    ) -> Result<Option<Tenant>, Error> {
        let is_multi_tenant = authority_tenant.is_some_and(Tenant::is_multi_tenant);
        if let Self::Single = self {
            return match authority_tenant {
                Some(tenant) if is_multi_tenant => Err(Error::config(format!(
                    "single_tenant() accepts the authority's tenant, and '{}' stands for many tenants; name one tenant in the authority, or call tenants(..) or any_tenant()",
                    tenant.as_str()
                ))),
                _ => Ok(None),
            };
        }
        if !matches!(kind, AuthorityKind::Entra { .. }) {
            return Err(Error::config(
                "the authority has no tenants to choose from; call single_tenant() to accept the tokens of its issuer",
            ));
        }
        let has = |name: &str| authority_tenant.is_some_and(|tenant| tenant.is(name));
        let of_personal_accounts = has(CONSUMERS) || has(PERSONAL_ACCOUNTS);
        match self {
            Self::Any { .. } if of_personal_accounts => {
                return Err(Error::config(
                    "any_tenant() accepts organizations, and the authority's tenant is that of personal accounts; call single_tenant() for personal accounts, or use the authority's tenant 'common' for both",
                ));
            }
            Self::Listed(listed) if listed.is_empty() => {
                return Err(Error::config(
                    "tenants(..) got an empty list, and every token would be rejected; list the ids of the accepted tenants",
                ));
            }
            Self::Listed(listed) => {
                if let Some(other) = listed.iter().find(|tenant| !is_guid(tenant)) {
                    return Err(Error::config(format!(
                        "the tenant {other:?} is not a tenant id, and a token names its tenant by the id alone; pass the directory's GUID to tenants(..)"
                    )));
                }
                let other = listed.iter().find(|tenant| !is_personal(tenant));
                if let (true, Some(other)) = (of_personal_accounts, other) {
                    return Err(Error::config(format!(
                        "tenants(..) lists '{other}', and the authority's tenant is that of personal accounts alone; use the authority's tenant 'common', or call single_tenant()"
                    )));
                }
                if has(ORGANIZATIONS) && listed.iter().any(|tenant| is_personal(tenant)) {
                    return Err(Error::config(
                        "tenants(..) lists the tenant of personal accounts, and the authority's tenant 'organizations' has none; use the authority's tenant 'common'",
                    ));
                }
            }
            Self::Any {
                with_personal_accounts,
            } => *with_personal_accounts = has(COMMON),
            Self::Single => {}
        }
        match is_multi_tenant {
            true => Ok(None),
            // The metadata of `common` has the keys and the issuer template of every tenant.
            false => Tenant::parse(COMMON).map(Some),
        }
    }
}

fn is_personal(tenant: &str) -> bool {
    tenant.eq_ignore_ascii_case(PERSONAL_ACCOUNTS)
}

const COMMON: &str = "common";
const CONSUMERS: &str = "consumers";
const ORGANIZATIONS: &str = "organizations";
