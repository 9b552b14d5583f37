use super::Application;

/// Agent identities.
impl Application {
    /// Makes the application an agent identity of a blueprint, which is another application of the
    /// tenant.
    ///
    /// The only credential of an agent identity is a token (T1) that the blueprint acquired with
    /// the client id of the agent identity as the `fmi_path`. An agent identity acts on behalf of
    /// the users who call its blueprint, and as the users that were
    /// [created for it](crate::testing::User::of_agent_identity). The roles and the consents are
    /// those of the agent identity.
    ///
    /// ```
    /// use confidential_client::ConfidentialClient;
    /// use confidential_client::testing::{Application, LocalAuthority};
    ///
    /// # #[tokio::main(flavor = "current_thread")]
    /// # async fn main() -> Result<(), Box<dyn std::error::Error>> {
    /// let local = LocalAuthority::start().await?;
    /// let blueprint = "11111111-2222-3333-4444-555555555555";
    /// let agent = "f47ac10b-58cc-4372-a567-0e02b2c3d479";
    /// local.register("contoso.com", Application::new(blueprint).secret("s3cret"));
    /// local.register(
    ///     "contoso.com",
    ///     Application::new(agent)
    ///         .agent_identity_of(blueprint)
    ///         .role("api://orders", "Orders.Read"),
    /// );
    ///
    /// let blueprint = ConfidentialClient::builder(blueprint)
    ///     .authority(local.authority("contoso.com"))
    ///     .client_secret("s3cret")
    ///     .build()?;
    /// let agent = blueprint.agent_identity(agent)?;
    /// agent.acquire_token_for_client("api://orders/.default").await?;
    /// # Ok(())
    /// # }
    /// ```
    pub fn agent_identity_of(mut self, blueprint_id: impl Into<String>) -> Self {
        self.blueprint = Some(blueprint_id.into());
        self
    }

    /// Returns the client id of the blueprint of an agent identity.
    pub(crate) fn blueprint_id(&self) -> Option<&str> {
        self.blueprint.as_deref()
    }
}
