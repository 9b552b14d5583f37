use uuid::Uuid;

/// A user of a tenant, as [`LocalAuthority::register_user`](crate::testing::LocalAuthority::register_user)
/// takes it. There is no password: who is named is signed in.
#[derive(Clone, Debug)]
pub struct User {
    principal_name: String,
    name: String,
    object_id: Uuid,
}

impl User {
    /// A user of this principal name, such as `adele@contoso.onmicrosoft.com`, which is also the
    /// display name until [`name`](Self::name) sets one. The object id is new.
    pub fn new(principal_name: impl Into<String>) -> Self {
        let principal_name = principal_name.into();
        Self {
            name: principal_name.clone(),
            principal_name,
            object_id: Uuid::new_v4(),
        }
    }

    /// The display name: the `name` claim.
    pub fn name(mut self, name: impl Into<String>) -> Self {
        self.name = name.into();
        self
    }

    /// The `oid` of the user's tokens: a GUID, the same at every application.
    pub fn object_id(&self) -> String {
        self.object_id.to_string()
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

    /// A user answers to the principal name and to the object id.
    pub(crate) fn is(&self, name: &str) -> bool {
        let by_id = || Uuid::try_parse(name).is_ok_and(|id| id == self.object_id);
        self.principal_name.eq_ignore_ascii_case(name) || by_id()
    }
}
