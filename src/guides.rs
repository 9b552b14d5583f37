//! Guides to longer questions, also in the repository's folder `docs`.

/// Chooses the [`Authority`](crate::Authority) for each kind of identity provider.
#[doc = include_str!("../docs/which-authority.md")]
pub mod which_authority {}

/// Lists what to write for Keycloak, Auth0, Okta, Ping, Amazon Cognito and Google.
#[doc = include_str!("../docs/other-providers.md")]
pub mod other_providers {}

/// Finds the cause of an API's 401 or 403, and attaches tokens to API calls.
#[doc = include_str!("../docs/401-and-403.md")]
pub mod rejected_tokens {}

/// Tests a program without an Azure account.
#[doc = include_str!("../docs/testing-your-daemon.md")]
pub mod testing_your_daemon {}

/// Calls APIs in a user's name, signs users in and out, and validates users' tokens in an API.
#[doc = include_str!("../docs/acting-for-a-user.md")]
pub mod acting_for_a_user {}

/// Acquires tokens as the agent identities of a blueprint.
#[doc = include_str!("../docs/agent-identities.md")]
pub mod agent_identities {}

/// Maps the names of azure_identity to the names of this crate.
#[doc = include_str!("../docs/coming-from-azure-identity.md")]
pub mod coming_from_azure_identity {}

/// Maps the names of MSAL Python and MSAL.NET to the names of this crate.
#[doc = include_str!("../docs/coming-from-msal.md")]
pub mod coming_from_msal {}

/// Binds tokens to a proof key (DPoP), so that a stolen token is useless.
#[doc = include_str!("../docs/proof-keys.md")]
pub mod proof_keys {}

/// Uses a certificate or a key in Azure Key Vault, and follows its rotation.
#[doc = include_str!("../docs/key-vault.md")]
pub mod key_vault {}

/// Configures a program in Kubernetes and in GitHub Actions.
#[doc = include_str!("../docs/kubernetes-and-github-actions.md")]
pub mod kubernetes_and_github_actions {}

/// Signs with a private key in an HSM or on a smart card.
#[doc = include_str!("../docs/keys-in-an-hsm.md")]
pub mod keys_in_an_hsm {}

/// Describes alarms, logs, metrics, times and rotation.
#[doc = include_str!("../docs/operating.md")]
pub mod operating {}

/// Lists the metrics for OpenTelemetry and for the `metrics` facade, with a dashboard.
#[doc = include_str!("../docs/metrics.md")]
#[doc = include_str!("../docs/metrics-of-a-day.svg")]
pub mod metrics {}

/// Shares tokens and users' sessions between the processes of an application.
#[doc = include_str!("../docs/more-than-one-replica.md")]
pub mod more_than_one_replica {}

/// Binds tokens to a client certificate, and authenticates by the connection.
#[doc = include_str!("../docs/mutual-tls.md")]
pub mod mutual_tls {}

/// Describes the records of a shared cache.
#[doc = include_str!("../docs/shared-cache.md")]
pub mod shared_cache {}

/// Lists what works, what does not, and the examples.
#[doc = include_str!("../docs/overview.md")]
pub mod overview {}
