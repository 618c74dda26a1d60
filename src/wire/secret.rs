//! `Debug` of the messages that hold secrets. It shows the length of a secret in place of the secret.

use std::fmt;

use super::v1::{Bearer, Hello, Password, Resume, Welcome};

/// The length of a secret in bytes.
struct Hidden(usize);

impl fmt::Debug for Hidden {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "<{} secret bytes>", self.0)
    }
}

impl fmt::Debug for Hello {
    /// Hides the ticket.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Hello")
            .field("protocol", &self.protocol)
            .field("client", &self.client)
            .field("credentials", &self.credentials)
            .field("resume", &self.resume)
            .field("game", &self.game)
            .field("ticket", &Hidden(self.ticket.len()))
            .finish()
    }
}

impl fmt::Debug for Password {
    /// Hides the password.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Password")
            .field("user", &self.user)
            .field("realm", &self.realm)
            .field("password", &Hidden(self.password.len()))
            .field("slot", &self.slot)
            .finish()
    }
}

impl fmt::Debug for Bearer {
    /// Hides the token.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Bearer").field("token", &Hidden(self.token.len())).field("slot", &self.slot).finish()
    }
}

impl fmt::Debug for Resume {
    /// Hides the token.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Resume")
            .field("token", &Hidden(self.token.len()))
            .field("received", &self.received)
            .field("trimmed", &self.trimmed)
            .field("resync", &self.resync)
            .field("sent", &self.sent)
            .finish()
    }
}

impl fmt::Debug for Welcome {
    /// Hides the token.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Welcome")
            .field("session", &self.session)
            .field("token", &Hidden(self.token.len()))
            .field("resumed", &self.resumed)
            .field("received", &self.received)
            .field("base", &self.base)
            .field("resync", &self.resync)
            .field("tick_hz", &self.tick_hz)
            .field("tick", &self.tick)
            .field("timeout_ms", &self.timeout_ms)
            .field("zone", &self.zone)
            .finish()
    }
}

#[cfg(test)]
mod tests {
    use super::super::v1::Credentials;
    use super::super::v1::credentials::Kind;
    use super::*;

    #[test]
    fn no_message_shows_its_secret() {
        let secret = "hunter2-hunter2";
        let credentials = |kind| Some(Credentials { kind: Some(kind) });
        let password =
            Password { user: "ada".to_owned(), password: secret.to_owned(), ..Password::default() };
        let bearer = Bearer { token: secret.to_owned(), ..Bearer::default() };
        let hello = Hello {
            ticket: secret.to_owned(),
            credentials: credentials(Kind::Password(password)),
            resume: Some(Resume { token: secret.into(), ..Resume::default() }),
            ..Hello::default()
        };
        let other = Hello { credentials: credentials(Kind::Bearer(bearer)), ..Hello::default() };
        let welcome = Welcome { token: secret.into(), session: 7, ..Welcome::default() };

        let shown = format!("{hello:?} {other:?} {welcome:?}");

        assert!(!shown.contains("hunter2"), "{shown}");
        assert!(shown.contains("<15 secret bytes>") && shown.contains("ada"), "{shown}");
        assert!(shown.contains("session: 7"), "{shown}");
    }
}
