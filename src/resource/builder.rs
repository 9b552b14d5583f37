use std::fmt;
use std::sync::Arc;
use std::time::Duration;

use super::tenants::Tenants;
use super::validator::{Parts, TokenValidator};
use crate::authority::Authority;
use crate::endpoint::Endpoints;
use crate::error::Error;
use crate::jwt::is_guid;
use crate::time::{Clock, TimeSource};
use crate::transport::Transport;
use crate::transport::TransportConfig;

/// Collects what a [`TokenValidator`] needs: an audience, and whose tokens are let in.
///
/// Nothing is checked before [`build`](Self::build).
#[must_use]
pub struct TokenValidatorBuilder {
    authority: Authority,
    audiences: Vec<String>,
    tenants: Vec<Tenants>,
    leeway: Duration,
    sending: TransportConfig,
    clock: TimeSource,
}

impl TokenValidatorBuilder {
    pub(super) fn new(authority: Authority) -> Self {
        Self {
            authority,
            audiences: Vec::new(),
            tenants: Vec::new(),
            leeway: LEEWAY,
            sending: TransportConfig::default(),
            clock: TimeSource::default(),
        }
    }

    /// What a token for this API has as its `aud`, to the letter. Call it again for another: Microsoft
    /// Entra ID writes the API's client id into tokens of version 2, and its application ID URI, such
    /// as `api://orders`, into those of version 1.
    pub fn audience(mut self, audience: impl Into<String>) -> Self {
        self.audiences.push(audience.into());
        self
    }

    /// Lets in the authority's own tenant alone; where there are no tenants, whoever the issuer
    /// does.
    pub fn single_tenant(mut self) -> Self {
        self.tenants.push(Tenants::Single);
        self
    }

    /// Lets in these tenants, by their ids (GUIDs): customers that were taken on.
    pub fn tenants<T: Into<String>>(mut self, tenants: impl IntoIterator<Item = T>) -> Self {
        let tenants = tenants.into_iter().map(Into::into);
        self.tenants.push(Tenants::listed(tenants));
        self
    }

    /// Lets in every organisation there is, and personal accounts where the authority's tenant is
    /// `common`: for an API that decides itself, by [`tenant_id`](super::Claims::tenant_id).
    pub fn any_tenant(mut self) -> Self {
        self.tenants.push(Tenants::Any {
            with_personal_accounts: false,
        });
        self
    }

    /// How far this machine's clock and the identity provider's may be apart: five minutes unless
    /// set, and ten at most. A token is taken for so long after its end.
    pub fn leeway(mut self, leeway: Duration) -> Self {
        self.leeway = leeway;
        self
    }

    /// Fetches keys by this transport instead of reqwest.
    pub fn transport(mut self, transport: impl Transport) -> Self {
        self.sending.transport = Some(Arc::new(transport));
        self
    }

    /// Configures the HTTP client that fetches keys, as
    /// [`ConfidentialClientBuilder::reqwest`](crate::ConfidentialClientBuilder::reqwest) does.
    #[cfg(feature = "reqwest")]
    #[cfg_attr(docsrs, doc(cfg(feature = "reqwest")))]
    pub fn reqwest(mut self, builder: reqwest::ClientBuilder) -> Self {
        self.sending.reqwest = Some(builder);
        self
    }

    /// Reads the time from `clock` instead of the operating system: for tests.
    pub fn clock(mut self, clock: impl Clock) -> Self {
        self.clock = TimeSource::Injected(Arc::new(clock));
        self
    }

    /// Checks everything and makes the validator. Does no I/O.
    ///
    /// # Errors
    ///
    /// [`Error::Config`], saying what to do: no audience, or one that is empty or has white space
    /// around it; none or several of [`single_tenant`](Self::single_tenant),
    /// [`tenants`](Self::tenants) and [`any_tenant`](Self::any_tenant), or one that does not go with
    /// the authority; an authority that cannot be used; a leeway over ten minutes; no transport, or
    /// no backend that verifies signatures compiled in.
    pub fn build(self) -> Result<TokenValidator, Error> {
        let endpoints = Endpoints::of(&self.authority)?;
        Endpoints::check_can_verify()?;
        let mut tenants = one(self.tenants)?;
        let keys_of = tenants.check(&self.authority.kind, endpoints.tenant())?;
        if self.leeway > LONGEST_LEEWAY {
            return Err(Error::config(
                "a leeway of over ten minutes would take tokens long after their end; correct the clocks (NTP)",
            ));
        }
        Ok(TokenValidator::new(Parts {
            audiences: audiences(self.audiences)?,
            transport: self.sending.transport(&endpoints)?,
            endpoints,
            keys_of,
            tenants,
            leeway: self.leeway,
            clock: self.clock,
        }))
    }
}

fn one(tenants: Vec<Tenants>) -> Result<Tenants, Error> {
    let mut tenants = tenants.into_iter();
    match (tenants.next(), tenants.next()) {
        (Some(tenants), None) => Ok(tenants),
        (None, _) => Err(Error::config(
            "no tenants; call single_tenant(), tenants(..) or any_tenant(): whose tokens are let in is never a default",
        )),
        (Some(_), Some(_)) => Err(Error::config(
            "tenants are given twice; call one of single_tenant(), tenants(..) and any_tenant(), once",
        )),
    }
}

fn audiences(audiences: Vec<String>) -> Result<Vec<String>, Error> {
    if audiences.is_empty() {
        return Err(Error::config(
            "no audience; call audience(..) with the API's client id, its application ID URI, or both",
        ));
    }
    for audience in &audiences {
        if audience.trim() != audience || audience.is_empty() {
            return Err(Error::config(format!(
                "the audience {audience:?} is empty or has white space around it; trim what was read"
            )));
        }
    }
    // Microsoft Entra ID writes ids in lower case, and portals do not always.
    let folded = audiences
        .into_iter()
        .map(|audience| match is_guid(&audience) {
            true => audience.to_ascii_lowercase(),
            false => audience,
        });
    Ok(folded.collect())
}

impl fmt::Debug for TokenValidatorBuilder {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("TokenValidatorBuilder")
            .field("authority", &self.authority)
            .field("audiences", &self.audiences)
            .field("tenants", &self.tenants)
            .finish_non_exhaustive()
    }
}

const LEEWAY: Duration = Duration::from_secs(5 * 60);
const LONGEST_LEEWAY: Duration = Duration::from_secs(10 * 60);
