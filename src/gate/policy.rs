//! Who may open a new session.

use super::auth::{AuthenticatorId, Authenticators};
use super::hello::Denial;
use super::ticket::Shown;
use crate::identity::{Credentials, Principal};
use crate::wire::v1::Reason;

/// Who may open a new session. A session that is there already is resumed by its resume token alone.
///
/// An [authenticator](super::Authenticator) decides about all clients that show credentials of its kinds, under each policy.
/// A client that shows a password or a bearer token is denied as UNAUTHENTICATED if no authenticator takes that kind.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Hash)]
pub enum GatePolicy {
    /// Everybody may: for a server that only this machine or a trusted network reaches.
    #[default]
    Open,
    /// Only a client that proves that it may: by credentials, by a ticket in its Hello, or by a link whose transport has
    /// asked for a proof, as UDP has by its connect tokens. Others are denied as UNAUTHENTICATED.
    Identified,
    /// Only a client that an authenticator accepts. Tickets and transports are no proof. Anonymous clients are denied
    /// unless there is an authenticator for them.
    Custom,
}

/// What becomes of a Hello for a new session.
#[derive(Debug, PartialEq, Eq)]
pub(super) enum Decision {
    /// The session opens.
    Open(Principal),
    /// An authenticator is asked.
    Ask(AuthenticatorId),
}

impl GatePolicy {
    /// Decides about a Hello.
    pub(super) fn decide(
        self,
        authenticators: &Authenticators,
        credentials: &Credentials,
        shown: &Shown,
    ) -> Result<Decision, Denial> {
        if let Some(authenticator) = authenticators.find(credentials.kind()) {
            return Ok(Decision::Ask(authenticator));
        }
        match (self, credentials) {
            (Self::Custom, _) | (_, Credentials::Password { .. } | Credentials::Bearer { .. }) => {
                Err(UNKNOWN_KIND)
            }
            (Self::Identified, _) if !shown.is_proof => Err(MISSING),
            (Self::Open | Self::Identified, Credentials::Anonymous { name }) => Ok(Decision::Open(
                shown.known_as.as_deref().map_or_else(|| Principal::anonymous(name), Principal::named),
            )),
        }
    }
}

const UNKNOWN_KIND: Denial = Denial::new(
    Reason::Unauthenticated,
    "this server takes no such credentials: ask its operator how to log in",
);
const MISSING: Denial = Denial::new(
    Reason::Unauthenticated,
    "a new session needs a ticket: ask the server's discovery (/v1/connect), with a bearer, and show it in the Hello",
);

#[cfg(test)]
mod tests {
    use super::*;
    use crate::identity::CredentialKind;

    fn decide(
        policy: GatePolicy,
        asked: &[CredentialKind],
        credentials: &Credentials,
        shown: &Shown,
    ) -> String {
        let mut authenticators = Authenticators::default();
        let _port = authenticators.attach(asked.iter().copied());
        match policy.decide(&authenticators, credentials, shown) {
            Ok(Decision::Open(principal)) => principal.to_string(),
            Ok(Decision::Ask(_)) => "ask".to_owned(),
            Err(denial) => {
                assert_eq!(denial.reason, Reason::Unauthenticated);
                "denied".to_owned()
            }
        }
    }

    #[test]
    fn each_policy_decides_about_each_kind_of_credentials() {
        use CredentialKind::{Anonymous, Password};
        use GatePolicy::{Custom, Identified, Open};
        let anonymous = Credentials::Anonymous { name: "bob".to_owned() };
        let bearer = Credentials::Bearer { token: String::new(), slot: String::new() };
        let (nothing, vouched) = (Shown::default(), Shown { is_proof: true, ..Shown::default() });
        let named = Shown { known_as: Some("ada".to_owned()), ..vouched.clone() };
        let denied = "denied";

        let decided = |policy, asked: &[CredentialKind], credentials| {
            [&nothing, &vouched, &named].map(|shown| decide(policy, asked, credentials, shown))
        };

        assert_eq!(decided(Open, &[], &anonymous), ["~bob", "~bob", "ada"]);
        assert_eq!(decided(Identified, &[], &anonymous), [denied, "~bob", "ada"]);
        assert_eq!(decided(Custom, &[], &anonymous), [denied; 3]);
        for policy in [Open, Identified, Custom] {
            assert_eq!(decided(policy, &[Password], &bearer), [denied; 3], "nobody knows the kind");
            assert_eq!(decided(policy, &[Anonymous, Password], &anonymous), ["ask"; 3]);
        }
    }
}
