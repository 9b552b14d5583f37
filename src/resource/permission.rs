use super::claims::Claims;
use super::rejection::TokenRejection;

/// A named permission of a route, for [`Claims::require`] and for the axum extractor
/// `PermittedToken`.
///
/// ```
/// use confidential_client::resource::Permission;
///
/// struct ReadFiles;
///
/// impl Permission for ReadFiles {
///     const SCOPES: &'static [&'static str] = &["Files.Read", "Files.ReadWrite"];
///     const ROLES: &'static [&'static str] = &["Files.Read.All"];
/// }
/// ```
#[doc(alias("protect", "RequiredScopeOrAppPermission"))]
pub trait Permission {
    /// The accepted scopes of a client that acts for a user.
    ///
    /// One of the scopes is enough. An empty list rejects every user token.
    const SCOPES: &'static [&'static str];
    /// The accepted application roles of a client that acts without a user.
    ///
    /// One of the roles is enough. The default is an empty list, which rejects every application
    /// token.
    const ROLES: &'static [&'static str] = &[];
}

impl Claims {
    /// Requires one of the scopes or application roles of the permission `P`.
    ///
    /// The rules are the rules of [`require_any`](Self::require_any).
    ///
    /// # Errors
    ///
    /// Returns a 403 rejection with `insufficient_scope` and the scopes.
    pub fn require<P: Permission>(&self) -> Result<(), TokenRejection> {
        self.require_any(P::SCOPES, P::ROLES)
    }
}
