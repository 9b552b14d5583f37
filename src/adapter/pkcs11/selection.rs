//! The token among the slots of a module, and the names of objects.

use std::fmt;

use super::failure::{self, AttemptFailed};
use super::module::{FoundObject, ObjectKind, ObjectQuery, Pkcs11Module, TokenInfo};
use crate::error::{Error, Escaped};

/// The properties that select one token. A property that is `None` matches every token.
#[derive(Clone, Debug, Default)]
pub(super) struct TokenSelection {
    pub(super) label: Option<String>,
    pub(super) serial_number: Option<String>,
    pub(super) slot: Option<u64>,
}

impl TokenSelection {
    /// Finds the slot of the token.
    ///
    /// The error is [`AttemptFailed::Missing`] if the module cannot list its slots or its tokens,
    /// or if there is no such token.
    pub(super) fn find(
        &self,
        module: &dyn Pkcs11Module,
    ) -> Result<(u64, TokenInfo), AttemptFailed> {
        let failed = |call| match failure::is_finalized(&call) {
            true => AttemptFailed::of(call, &self.to_string(), None),
            false => AttemptFailed::Missing {
                error: failure::error_of(call, &self.to_string(), None),
                has_failed: true,
            },
        };
        let slots = match self.slot {
            Some(slot) => vec![slot],
            None => module.slots().map_err(failed)?,
        };
        let (mut tokens, mut others, mut failure) = (Vec::new(), Vec::new(), None);
        for slot in slots {
            match module.token_info(slot) {
                Ok(info) if !info.is_initialized => {}
                Ok(info) if self.matches(&info) => tokens.push((slot, info)),
                Ok(info) => others.push((slot, info)),
                // The token of another slot may be the one.
                Err(call) => failure = Some(call),
            }
        }
        if tokens.len() > 1 {
            return Err(AttemptFailed::Final(Error::config(format!(
                "{} matches several tokens, which are {}; select one with serial_number(..) or slot(..)",
                self.name(),
                list(&tokens)
            ))));
        }
        if let Some(token) = tokens.pop() {
            return Ok(token);
        }
        if let Some(call) = failure {
            return Err(failed(call));
        }
        let present = match others.is_empty() {
            true => "the module shows no token".to_owned(),
            false => format!("the module shows {}", list(&others)),
        };
        Err(AttemptFailed::Missing {
            error: failure::transient(format!(
                "{self} is not present: {present}; insert the token, or select another"
            )),
            has_failed: false,
        })
    }

    fn matches(&self, info: &TokenInfo) -> bool {
        // A module pads both texts with spaces.
        let is = |text: &Option<String>, value: &str| {
            text.as_ref()
                .is_none_or(|text| text.trim_end() == value.trim_end())
        };
        is(&self.label, &info.label) && is(&self.serial_number, &info.serial_number)
    }

    fn name(&self) -> String {
        match self {
            Self {
                label: None,
                serial_number: None,
                slot: None,
            } => "a choice without label".to_owned(),
            _ => self.to_string(),
        }
    }
}

impl fmt::Display for TokenSelection {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("the token")?;
        if let Some(label) = &self.label {
            write!(f, " '{}'", Escaped(label))?;
        }
        if let Some(serial_number) = &self.serial_number {
            write!(f, " with the serial number '{}'", Escaped(serial_number))?;
        }
        match self.slot {
            Some(slot) => write!(f, " in slot {slot}"),
            None => Ok(()),
        }
    }
}

fn list(tokens: &[(u64, TokenInfo)]) -> String {
    let texts = tokens.iter().take(MOST_LISTED).map(|(slot, info)| {
        let (label, serial) = (Escaped(&info.label), Escaped(&info.serial_number));
        format!("'{label}' (serial number '{serial}', slot {slot})")
    });
    texts.collect::<Vec<_>>().join(" and ")
}

/// The label, the id or both of a private key and of its certificate.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct ObjectName {
    pub(super) label: Option<String>,
    pub(super) id: Option<Vec<u8>>,
}

impl ObjectName {
    /// Returns the most exact name of an object.
    pub(super) fn of(object: &FoundObject) -> Self {
        Self {
            label: Some(object.label.clone()).filter(|label| !label.is_empty()),
            id: Some(object.id.clone()).filter(|id| !id.is_empty()),
        }
    }

    pub(super) fn query(&self, kind: ObjectKind) -> ObjectQuery {
        ObjectQuery {
            kind,
            label: self.label.clone(),
            id: self.id.clone(),
        }
    }

    /// Returns whether the name is that of the object, apart from spaces at the end of the label.
    pub(super) fn matches(&self, object: &FoundObject) -> bool {
        let label = |label: &String| label.trim_end() == object.label.trim_end();
        self.label.as_ref().is_none_or(label) && self.id.as_ref().is_none_or(|id| *id == object.id)
    }

    /// Checks a name that the caller chose.
    pub(super) fn check(&self) -> Result<(), Error> {
        let is_empty = self.label.as_ref().is_some_and(String::is_empty)
            || self.id.as_ref().is_some_and(Vec::is_empty);
        match is_empty {
            true => Err(Error::config(
                "the label or the id of the private key is empty; 'pkcs11-tool --list-objects' shows labels and ids",
            )),
            false => Ok(()),
        }
    }
}

impl fmt::Display for ObjectName {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match (&self.label, &self.id) {
            (Some(label), None) => write!(f, "'{}'", Escaped(label.trim_end())),
            (Some(label), Some(id)) => {
                write!(
                    f,
                    "'{}' (id {})",
                    Escaped(label.trim_end()),
                    hexadecimal(id)
                )
            }
            (None, Some(id)) => write!(f, "with the id {}", hexadecimal(id)),
            (None, None) => f.write_str("without label and id"),
        }
    }
}

/// Lists the names of objects for an error.
pub(super) fn names(objects: &[FoundObject]) -> String {
    let shown = objects.iter().take(MOST_LISTED);
    let mut names: Vec<_> = shown
        .map(|object| ObjectName::of(object).to_string())
        .collect();
    if objects.len() > MOST_LISTED {
        names.push(format!("{} more", objects.len() - MOST_LISTED));
    }
    names.join(", ")
}

fn hexadecimal(id: &[u8]) -> String {
    crate::certificate::hexadecimal(id).to_ascii_lowercase()
}

const MOST_LISTED: usize = 10;
