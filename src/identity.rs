//! Identity: who somebody is, and what they show to prove it.
//!
//! It does not know how a proof is checked: that is the gate's.

use std::fmt;
use std::sync::Arc;

use bevy_ecs::prelude::*;

pub use crate::wire::{CredentialKind, Credentials};

/// Who a session belongs to. Cheap to clone.
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

/// Somebody whose name was authenticated.
#[derive(Debug, Clone, Default, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct User {
    /// The user's name within the realm.
    pub name: String,
    /// Where the name is valid; empty for a server with one realm.
    pub realm: String,
    /// Which of the user's places this is, such as a device or a character; empty for a user with one.
    pub slot: String,
}

impl Principal {
    /// Nobody in particular. The name is for show and proves nothing.
    #[must_use]
    pub fn anonymous(name: &str) -> Self {
        Self(Who::Anonymous(name.into()))
    }

    /// A user whose name was authenticated, in the realm and the slot without a name.
    #[must_use]
    pub fn named(name: &str) -> Self {
        Self::of(User { name: name.to_owned(), ..User::default() })
    }

    /// A user whose name was authenticated.
    #[must_use]
    pub fn of(user: User) -> Self {
        Self(Who::User(Arc::new(user)))
    }

    /// Returns the name, to show.
    #[must_use]
    pub fn name(&self) -> &str {
        match &self.0 {
            Who::Anonymous(name) => name,
            Who::User(user) => &user.name,
        }
    }

    /// Returns the user; `None` if the principal is anonymous.
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
    /// `name`, `name@realm`, `name/slot` or `name@realm/slot`.
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
    fn a_user_is_shown_with_the_parts_that_have_names() {
        let user = |realm: &str, slot: &str| {
            User { name: "ada".into(), realm: realm.into(), slot: slot.into() }.to_string()
        };

        assert_eq!(
            [user("", ""), user("club", ""), user("", "phone"), user("club", "phone")],
            ["ada", "ada@club", "ada/phone", "ada@club/phone"]
        );
    }
}
