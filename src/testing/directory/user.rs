use uuid::Uuid;

/// A user of a tenant, for [`LocalAuthority::register_user`].
///
/// A user has no password. The name alone signs the user in.
///
/// [`LocalAuthority::register_user`]: crate::testing::LocalAuthority::register_user
#[derive(Clone, Debug)]
pub struct User {
    principal_name: String,
    name: String,
    object_id: Uuid,
    /// The client id of the agent identity that the user was created for.
    agent: Option<String>,
}

impl User {
    /// Creates a user with this principal name, such as `adele@contoso.onmicrosoft.com`.
    ///
    /// The display name defaults to the principal name; see [`name`](Self::name). The object id is
    /// random.
    pub fn new(principal_name: impl Into<String>) -> Self {
        let principal_name = principal_name.into();
        Self {
            name: principal_name.clone(),
            principal_name,
            object_id: Uuid::new_v4(),
            agent: None,
        }
    }

    /// Sets the display name, which is the `name` claim.
    pub fn name(mut self, name: impl Into<String>) -> Self {
        self.name = name.into();
        self
    }

    /// Makes the user the user account of an agent identity, by its client id.
    ///
    /// The agent identity acts as the user without a sign-in
    /// ([`acquire_token_by_user_fic`](crate::AgentIdentity::acquire_token_by_user_fic)).
    pub fn of_agent_identity(mut self, agent_id: impl Into<String>) -> Self {
        self.agent = Some(agent_id.into());
        self
    }

    /// Returns the object id (`oid`), a GUID. The `oid` is the same in the tokens of all
    /// applications.
    pub fn object_id(&self) -> String {
        self.object_id.to_string()
    }

    /// Returns whether the user was created for the agent identity.
    pub(crate) fn is_of_agent(&self, agent_id: &str) -> bool {
        let agent = self.agent.as_deref();
        agent.is_some_and(|agent| agent.eq_ignore_ascii_case(agent_id))
    }

    pub(crate) fn id(&self) -> Uuid {
        self.object_id
    }

    pub(crate) fn principal_name(&self) -> &str {
        &self.principal_name
    }

    pub(crate) fn display_name(&self) -> &str {
        &self.name
    }

    /// Returns whether `name` is the principal name or the object id of this user.
    pub(crate) fn is(&self, name: &str) -> bool {
        let has_id = || Uuid::try_parse(name).is_ok_and(|id| id == self.object_id);
        self.principal_name.eq_ignore_ascii_case(name) || has_id()
    }
}
