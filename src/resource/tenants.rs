use std::collections::BTreeSet;

use crate::authority::{AuthorityKind, PERSONAL_ACCOUNTS, Tenant};
use crate::error::Error;
use crate::jwt::is_guid;

/// Of which tenants tokens are taken.
#[derive(Clone, Debug)]
pub(super) enum Tenants {
    /// The authority's own, or its issuer where it has no tenants.
    Single,
    /// By their ids, folded.
    Listed(BTreeSet<String>),
    Any {
        with_personal_accounts: bool,
    },
}

impl Tenants {
    pub(super) fn listed(tenants: impl IntoIterator<Item = String>) -> Self {
        let folded = tenants
            .into_iter()
            .map(|tenant| tenant.to_ascii_lowercase());
        Self::Listed(folded.collect())
    }

    /// Whether tokens of `tenant` are taken; `is_multi_tenant` if the issuer is whichever tenant's.
    pub(super) fn takes(&self, tenant: Option<&str>, is_multi_tenant: bool) -> bool {
        match self {
            Self::Single => !is_multi_tenant,
            Self::Listed(listed) => tenant.is_some_and(|tenant| listed.contains(tenant)),
            Self::Any {
                with_personal_accounts,
            } => {
                tenant.is_some_and(|tenant| *with_personal_accounts || tenant != PERSONAL_ACCOUNTS)
            }
        }
    }

    /// Checks that they go with the authority, and gives the tenant whose keys are looked up where
    /// it is not the authority's own.
    pub(super) fn check(
        &mut self,
        kind: &AuthorityKind,
        own: Option<&Tenant>,
    ) -> Result<Option<Tenant>, Error> {
        let is_multi_tenant = own.is_some_and(Tenant::is_multi_tenant);
        if let Self::Single = self {
            return match own {
                Some(own) if is_multi_tenant => Err(Error::config(format!(
                    "single_tenant() is the authority's own, and '{}' stands for many; name one, or call tenants(..) or any_tenant()",
                    own.as_str()
                ))),
                _ => Ok(None),
            };
        }
        if !matches!(kind, AuthorityKind::Entra { .. }) {
            return Err(Error::config(
                "the authority has no tenants to choose from; call single_tenant(), which takes the tokens of its issuer",
            ));
        }
        match self {
            Self::Listed(listed) if listed.is_empty() => {
                return Err(Error::config(
                    "tenants(..) names none, so that no token would be taken; name those that are let in by their ids",
                ));
            }
            Self::Listed(listed) => {
                if let Some(other) = listed.iter().find(|tenant| !is_guid(tenant)) {
                    return Err(Error::config(format!(
                        "the tenant {other:?} is no id; tokens name their tenant by its id alone, so give tenants(..) the directory's GUID"
                    )));
                }
            }
            Self::Any {
                with_personal_accounts,
            } => *with_personal_accounts = own.is_some_and(|own| own.is(COMMON)),
            Self::Single => {}
        }
        match is_multi_tenant {
            true => Ok(None),
            // Its keys and its issuer are those of every tenant.
            false => Tenant::parse(COMMON).map(Some),
        }
    }
}

const COMMON: &str = "common";
