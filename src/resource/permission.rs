use super::claims::Claims;
use super::rejection::TokenRejection;

/// What a route takes, by a name of its own, for [`Claims::require`] and the axum adapter.
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
pub trait Permission {
    /// Any of these of a client that acts for a user; none for what is not done for users.
    const SCOPES: &'static [&'static str];
    /// Any of these of an application that acts for itself; none, unless set.
    const ROLES: &'static [&'static str] = &[];
}

impl Claims {
    /// Lets through what [`require_any`](Self::require_any) does of the permission's scopes and
    /// roles.
    ///
    /// # Errors
    ///
    /// 403 with `insufficient_scope` and the scopes.
    pub fn require<P: Permission>(&self) -> Result<(), TokenRejection> {
        self.require_any(P::SCOPES, P::ROLES)
    }
}
