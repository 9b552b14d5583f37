use std::fmt;
use std::sync::Arc;

use uuid::Uuid;

use crate::error::{Error, Escaped};
use crate::grant::UserName;
use crate::token::UserKey;

/// A user by object ID or by username, for [`acquire_token_by_user_fic`].
///
/// A `UserIdentifier` is cheap to clone. The client checks the identifier on use, before the
/// network. The user's tokens are cached under the identifier, so one user by ID and by name has
/// two cache entries. Prefer the object ID, because a username can change.
///
/// [`acquire_token_by_user_fic`]: crate::ConfidentialClient::acquire_token_by_user_fic
#[doc(alias("AgentUserIdentity", "user_id", "upn"))]
#[derive(Clone)]
pub struct UserIdentifier(Arc<IdentifierParts>);

struct IdentifierParts {
    name: Result<CheckedName, Error>,
    user: Arc<UserKey>,
}

/// A checked name of a user.
enum CheckedName {
    /// A GUID with hyphens, in lower case.
    ObjectId(String),
    Username(String),
}

impl UserIdentifier {
    /// Creates the identifier from an object ID, a GUID.
    pub fn object_id(object_id: impl AsRef<str>) -> Self {
        let text = object_id.as_ref();
        Self::new(match Uuid::try_parse(text) {
            Ok(id) => Ok(CheckedName::ObjectId(id.to_string())),
            Err(_) => Err(Error::config(format!(
                "the object id {text:?} is not a GUID; pass the object id of the user, or the user's name to UserIdentifier::username(..)"
            ))),
        })
    }

    /// Creates the identifier from a username (UPN), such as `adele@contoso.com`.
    ///
    /// The case of ASCII letters does not matter.
    pub fn username(username: impl Into<String>) -> Self {
        let text = username.into();
        Self::new(match Escaped(&text).is_visible_word() {
            true => Ok(CheckedName::Username(text)),
            false => Err(Error::config(format!(
                "the username {text:?} is empty or contains white space or an invisible character; pass the user principal name, such as 'adele@contoso.com'"
            ))),
        })
    }

    fn new(name: Result<CheckedName, Error>) -> Self {
        let key = match &name {
            Ok(CheckedName::ObjectId(id)) => format!("oid:{id}"),
            Ok(CheckedName::Username(name)) => format!("upn:{}", name.to_ascii_lowercase()),
            Err(_) => String::new(),
        };
        let user = Arc::new(UserKey::Federated(key.into()));
        Self(Arc::new(IdentifierParts { name, user }))
    }

    pub(crate) fn user(&self) -> &Arc<UserKey> {
        &self.0.user
    }

    /// Checks the identifier, and returns the name for a token request.
    pub(crate) fn name(&self) -> Result<UserName<'_>, Error> {
        match &self.0.name {
            Ok(CheckedName::ObjectId(id)) => Ok(UserName::ObjectId(id)),
            Ok(CheckedName::Username(name)) => Ok(UserName::Username(name)),
            Err(error) => Err(error.clone()),
        }
    }
}

/// Shows the kind of the identifier, and never the user.
impl fmt::Debug for UserIdentifier {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match &self.0.name {
            Ok(CheckedName::ObjectId(_)) => "UserIdentifier::ObjectId(..)",
            Ok(CheckedName::Username(_)) => "UserIdentifier::Username(..)",
            Err(_) => "UserIdentifier(invalid)",
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn spellings_of_one_user_have_one_key() {
        let id = "4F2B3E1A-0000-0000-0000-00000000000F";
        let by_id = UserIdentifier::object_id(id);
        let plain = UserIdentifier::object_id(id.replace('-', "").to_lowercase());
        assert!(by_id.user() == plain.user());
        let sent = UserName::ObjectId("4f2b3e1a-0000-0000-0000-00000000000f");
        assert_eq!(plain.name().unwrap(), sent);

        let by_name = UserIdentifier::username("Adele@contoso.com");
        assert!(by_name.user() == UserIdentifier::username("adele@CONTOSO.com").user());
        let sent = UserName::Username("Adele@contoso.com");
        assert_eq!(by_name.name().unwrap(), sent);
        // A username may look like an id.
        assert!(UserIdentifier::username(id).user() != by_id.user());
    }

    #[test]
    fn what_names_no_user_is_rejected_with_its_text() {
        for (user, text) in [
            (
                UserIdentifier::object_id("adele"),
                "\"adele\" is not a GUID",
            ),
            (UserIdentifier::object_id(""), "\"\" is not a GUID"),
            (UserIdentifier::username(""), "\"\" is empty"),
            (UserIdentifier::username("ad ele"), "\"ad ele\""),
            (UserIdentifier::username("adele\n"), "\"adele\\n\""),
            (
                UserIdentifier::username("adele\u{200b}@contoso.com"),
                "\"adele\\u{200b}@contoso.com\"",
            ),
        ] {
            let error = user.name().unwrap_err().to_string();
            assert!(error.contains(text), "{error}");
        }
    }
}
