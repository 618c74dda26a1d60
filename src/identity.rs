//! Principals, which own sessions, and the credentials that clients show.
//!
//! The gate checks credentials. This module does not.

use std::fmt;
use std::sync::Arc;

use bevy_ecs::prelude::*;

pub use crate::wire::{CredentialKind, Credentials};

/// The owner of a session: a user, or an anonymous player with a name to show. Cheap to clone.
///
/// ```
/// use waystation::identity::{Principal, User};
///
/// let ada = Principal::of(User { name: "ada".into(), realm: "club".into(), slot: "phone".into() });
/// assert!(ada.is_authenticated());
/// assert_eq!(ada.to_string(), "ada@club/phone");
/// assert_eq!(Principal::anonymous("bob").to_string(), "~bob");
/// ```
#[derive(Component, Debug, Clone, PartialEq, Eq)]
#[component(immutable, clone_behavior = Ignore)]
pub struct Principal(Who);

#[derive(Debug, Clone, PartialEq, Eq)]
enum Who {
    Anonymous(Arc<str>),
    User(Arc<User>),
}

/// A user whose name was authenticated.
#[derive(Debug, Clone, Default, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct User {
    /// Name of the user within the realm.
    pub name: String,
    /// Realm in which the name is valid. Empty for a server with one realm.
    pub realm: String,
    /// Slot of the user, such as a device or a character. Empty for a user with one slot.
    pub slot: String,
}

impl Principal {
    /// Returns an anonymous principal. The name is only for display and proves nothing.
    #[must_use]
    pub fn anonymous(name: &str) -> Self {
        Self(Who::Anonymous(name.into()))
    }

    /// Returns a user with this authenticated name, an empty realm and an empty slot.
    #[must_use]
    pub fn named(name: &str) -> Self {
        Self::of(User { name: name.to_owned(), ..User::default() })
    }

    /// Returns a principal for an authenticated user.
    #[must_use]
    pub fn of(user: User) -> Self {
        Self(Who::User(Arc::new(user)))
    }

    /// Returns the name, for display.
    #[must_use]
    pub fn name(&self) -> &str {
        match &self.0 {
            Who::Anonymous(name) => name,
            Who::User(user) => &user.name,
        }
    }

    /// Returns the user, or `None` if the principal is anonymous.
    #[must_use]
    pub fn user(&self) -> Option<&User> {
        match &self.0 {
            Who::Anonymous(_) => None,
            Who::User(user) => Some(user),
        }
    }

    /// Returns true if the name was authenticated.
    #[must_use]
    pub fn is_authenticated(&self) -> bool {
        self.user().is_some()
    }
}

impl fmt::Display for Principal {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match &self.0 {
            Who::Anonymous(name) => write!(f, "~{name}"),
            Who::User(user) => user.fmt(f),
        }
    }
}

impl fmt::Display for User {
    /// Writes `name`, `name@realm`, `name/slot` or `name@realm/slot`.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.name)?;
        if !self.realm.is_empty() {
            write!(f, "@{}", self.realm)?;
        }
        if !self.slot.is_empty() {
            write!(f, "/{}", self.slot)?;
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_user_is_displayed_without_empty_parts() {
        let user = |realm: &str, slot: &str| {
            User { name: "ada".into(), realm: realm.into(), slot: slot.into() }.to_string()
        };

        assert_eq!(
            [user("", ""), user("club", ""), user("", "phone"), user("club", "phone")],
            ["ada", "ada@club", "ada/phone", "ada@club/phone"]
        );
    }
}
