//! The claims by which an API recognizes the agent identities of Microsoft Entra ID.

use super::claims::Claims;

/// # Agent identities
impl Claims {
    /// The facet of an agent identity, in the [facets](Self::actor_facets) of a token.
    pub const AGENT_IDENTITY_FACET: u32 = 11;
    /// The facet of the user account of an agent identity, in the
    /// [facets](Self::subject_facets) of a token.
    pub const AGENT_USER_FACET: u32 = 13;

    /// Returns the client ID of the blueprint (`xms_par_app_azp`), if the client that requested the
    /// token is an agent identity.
    ///
    /// The agent identity itself is the [`client_id`](Self::client_id).
    #[doc(alias("xms_par_app_azp", "GetParentAgentBlueprint"))]
    pub fn parent_application_id(&self) -> Option<&str> {
        self.string("xms_par_app_azp").filter(|id| !id.is_empty())
    }

    /// Returns the facets of the party that acts (`xms_act_fct`), such as
    /// [`AGENT_IDENTITY_FACET`](Self::AGENT_IDENTITY_FACET).
    ///
    /// The claim is a string of integers with spaces between them. A part that is no integer is
    /// skipped, and so is a claim that is no string.
    ///
    /// ```
    /// use confidential_client::resource::Claims;
    ///
    /// /// Returns whether an agent identity called the API, for itself or for a user.
    /// fn is_from_agent(token: &Claims) -> bool {
    ///     token.actor_facets().any(|facet| facet == Claims::AGENT_IDENTITY_FACET)
    /// }
    /// # let _ = is_from_agent;
    /// ```
    #[doc(alias = "xms_act_fct")]
    pub fn actor_facets(&self) -> impl Iterator<Item = u32> {
        self.integers("xms_act_fct")
    }

    /// Returns the facets of the subject (`xms_sub_fct`), such as
    /// [`AGENT_USER_FACET`](Self::AGENT_USER_FACET).
    ///
    /// The form of the claim is that of [`actor_facets`](Self::actor_facets).
    #[doc(alias("xms_sub_fct", "IsAgentUserIdentity"))]
    pub fn subject_facets(&self) -> impl Iterator<Item = u32> {
        self.integers("xms_sub_fct")
    }

    /// Returns the facets of the tenant (`xms_tnt_fct`).
    ///
    /// The form of the claim is that of [`actor_facets`](Self::actor_facets).
    #[doc(alias = "xms_tnt_fct")]
    pub fn tenant_facets(&self) -> impl Iterator<Item = u32> {
        self.integers("xms_tnt_fct")
    }

    /// Returns the relations of the subject to the tenant of the API (`xms_idrel`), such as 1 for a
    /// member and 7 for a service principal.
    ///
    /// The form of the claim is that of [`actor_facets`](Self::actor_facets).
    #[doc(alias = "xms_idrel")]
    pub fn identity_relations(&self) -> impl Iterator<Item = u32> {
        self.integers("xms_idrel")
    }

    /// Returns the kind of identity that the token names (`idtyp`), such as `app` or `user`.
    ///
    /// [`holder`](Self::holder) decides with this claim and further evidence.
    #[doc(alias = "idtyp")]
    pub fn identity_type(&self) -> Option<&str> {
        self.string("idtyp")
    }

    /// Returns the integers of a claim that is a string with spaces.
    fn integers(&self, name: &str) -> impl Iterator<Item = u32> {
        let text = self.string(name).unwrap_or_default();
        let parts = text.split_ascii_whitespace();
        // A sign is no digit.
        let is_number = |part: &&str| part.bytes().all(|byte| byte.is_ascii_digit());
        parts.filter(is_number).filter_map(|part| part.parse().ok())
    }
}
