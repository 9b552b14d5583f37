use std::collections::HashMap;

use uuid::Uuid;

use super::pushed::PushedRequests;
use super::request::SignInRequest;
use crate::testing::token::random_secret;

/// Sign-ins that wait for a form of the user, by the id in the form, and pushed requests that wait
/// for the user.
#[derive(Default)]
pub(crate) struct PendingSignIns {
    forms: HashMap<String, PendingSignIn>,
    pub(crate) pushed: PushedRequests,
}

/// An authorization request that waits for the user.
pub(crate) struct PendingSignIn {
    pub(crate) request: SignInRequest,
    /// Object id of the chosen user.
    pub(crate) user: Option<Uuid>,
}

impl PendingSignIns {
    /// Stores a sign-in and returns the id for the next form.
    pub(crate) fn add(&mut self, pending: PendingSignIn) -> String {
        let id = random_secret();
        self.forms.insert(id.clone(), pending);
        id
    }

    /// Removes a sign-in. Each form can be sent once.
    pub(crate) fn take(&mut self, id: &str) -> Option<PendingSignIn> {
        self.forms.remove(id)
    }
}
