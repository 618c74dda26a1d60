//! Credentials: what a client shows in its Hello to say who it is.

use std::fmt;

use super::v1;
use super::v1::credentials::Kind;

/// What a client shows in the Hello for a new session to say who it is. A resume needs no credentials.
///
/// `Debug` omits passwords and tokens.
#[derive(Clone, PartialEq, Eq)]
pub enum Credentials {
    /// A name to show, without a proof.
    Anonymous {
        /// The name. It may be empty, and several sessions may have the same one.
        name: String,
    },
    /// A user's name and password.
    Password {
        /// The user's name within the realm.
        user: String,
        /// The realm in which the name is valid. Empty: the server's own realm.
        realm: String,
        /// The password.
        password: String,
        /// The slot of the user that the session is for, such as a device or a character. Empty: any slot.
        slot: String,
    },
    /// A signed token of an identity provider, such as a JWT.
    Bearer {
        /// The token.
        token: String,
        /// The slot of the user that the session is for. Empty: any slot.
        slot: String,
    },
}

/// The kinds of [`Credentials`].
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub enum CredentialKind {
    /// [`Credentials::Anonymous`].
    Anonymous,
    /// [`Credentials::Password`].
    Password,
    /// [`Credentials::Bearer`].
    Bearer,
}

impl Credentials {
    /// Returns the kind.
    #[must_use]
    pub fn kind(&self) -> CredentialKind {
        match self {
            Self::Anonymous { .. } => CredentialKind::Anonymous,
            Self::Password { .. } => CredentialKind::Password,
            Self::Bearer { .. } => CredentialKind::Bearer,
        }
    }
}

impl Default for Credentials {
    fn default() -> Self {
        Self::Anonymous { name: String::new() }
    }
}

impl fmt::Debug for Credentials {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Anonymous { name } => f.debug_struct("Anonymous").field("name", name).finish(),
            Self::Password { user, realm, slot, .. } => f
                .debug_struct("Password")
                .field("user", user)
                .field("realm", realm)
                .field("slot", slot)
                .finish_non_exhaustive(),
            Self::Bearer { slot, .. } => f.debug_struct("Bearer").field("slot", slot).finish_non_exhaustive(),
        }
    }
}

impl From<&Credentials> for v1::Credentials {
    fn from(credentials: &Credentials) -> Self {
        let kind = match credentials.clone() {
            Credentials::Anonymous { name } => Kind::Anonymous(v1::Anonymous { name }),
            Credentials::Password { user, realm, password, slot } => {
                Kind::Password(v1::Password { user, realm, password, slot })
            }
            Credentials::Bearer { token, slot } => Kind::Bearer(v1::Bearer { token, slot }),
        };
        Self { kind: Some(kind) }
    }
}

impl From<Kind> for Credentials {
    fn from(kind: Kind) -> Self {
        match kind {
            Kind::Anonymous(v1::Anonymous { name }) => Self::Anonymous { name },
            Kind::Password(v1::Password { user, realm, password, slot }) => {
                Self::Password { user, realm, password, slot }
            }
            Kind::Bearer(v1::Bearer { token, slot }) => Self::Bearer { token, slot },
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn credentials_survive_their_message_and_debug_shows_no_secrets() {
        let shown = [
            Credentials::Anonymous { name: "ada".to_owned() },
            Credentials::Password {
                user: "ada".to_owned(),
                realm: "club".to_owned(),
                password: "hunter2".to_owned(),
                slot: "phone".to_owned(),
            },
            Credentials::Bearer { token: "hunter2".to_owned(), slot: "phone".to_owned() },
        ];

        for credentials in shown {
            let sent = v1::Credentials::from(&credentials);
            assert_eq!(sent.kind.map(Credentials::from).as_ref(), Some(&credentials));
            assert!(!format!("{credentials:?}").contains("hunter2"));
        }
    }
}
