//! What a client shows of itself in a Hello.

use std::fmt;

use super::v1;
use super::v1::credentials::Kind;

/// What a client shows of itself when it asks for a new session. A resume needs none of this. Passwords and tokens are
/// not shown by Debug.
#[derive(Clone, PartialEq, Eq)]
pub enum Credentials {
    /// Nothing but a name: nobody in particular, never in conflict with anybody.
    Anonymous {
        /// The name to show. It may be empty.
        name: String,
    },
    /// A user's name and password.
    Password {
        /// The user's name within the realm.
        user: String,
        /// Where the name is valid; empty: the server's own realm.
        realm: String,
        /// The password.
        password: String,
        /// Which of the user's places the session is for, such as a device or a character; empty: any.
        slot: String,
    },
    /// A signed token of an identity provider, such as a JWT.
    Bearer {
        /// The token.
        token: String,
        /// Which of the user's places the session is for; empty: any.
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
    fn what_a_client_shows_arrives_and_secrets_are_not_printed() {
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
