//! Decides who may open a new session.

use super::auth::{AuthenticatorId, Authenticators};
use super::hello::Denial;
use super::ticket::Proofs;
use crate::identity::{Credentials, Principal};
use crate::settings::Choice;
use crate::wire::v1::Reason;

/// The policy that determines who may open a new session. An existing session is resumed by its resume token alone,
/// under each policy.
///
/// If there is an [authenticator](super::Authenticator) for a kind of credentials, it decides about them
/// under each policy. A password or a bearer token for which there is no authenticator is denied as
/// UNAUTHENTICATED.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Hash)]
pub enum GatePolicy {
    /// Every client. For a server that only this machine or a trusted network can reach.
    #[default]
    Open,
    /// Only a client that shows a proof: credentials that an authenticator accepts, a ticket in its Hello,
    /// or a link over a transport that opens links only with a proof, such as UDP with its connect tokens.
    /// Other clients are denied as UNAUTHENTICATED.
    Identified,
    /// Only a client that an authenticator accepts. Tickets and links are not accepted as proof. Anonymous
    /// clients are denied unless there is an authenticator for them.
    Custom,
}

impl Choice for GatePolicy {
    const NAMES: &'static [(&'static str, Self)] =
        &[("open", Self::Open), ("identified", Self::Identified), ("custom", Self::Custom)];
}

/// Outcome of a Hello for a new session.
#[derive(Debug, PartialEq, Eq)]
pub(super) enum Decision {
    /// The session opens for this principal.
    Open(Principal),
    /// This authenticator decides.
    Ask(AuthenticatorId),
}

impl GatePolicy {
    /// Decides about the credentials of a Hello.
    pub(super) fn decide(
        self,
        authenticators: &Authenticators,
        credentials: &Credentials,
        proofs: &Proofs,
    ) -> Result<Decision, Denial> {
        if let Some(authenticator) = authenticators.find(credentials.kind()) {
            return Ok(Decision::Ask(authenticator));
        }
        match (self, credentials) {
            (Self::Custom, _) | (_, Credentials::Password { .. } | Credentials::Bearer { .. }) => {
                Err(UNKNOWN_KIND)
            }
            (Self::Identified, _) if !proofs.is_proof => Err(NO_PROOF),
            (Self::Open | Self::Identified, Credentials::Anonymous { name }) => Ok(Decision::Open(
                proofs.user.as_deref().map_or_else(|| Principal::anonymous(name), Principal::named),
            )),
        }
    }
}

const UNKNOWN_KIND: Denial = Denial::new(
    Reason::Unauthenticated,
    "this server does not accept credentials of this kind: ask its operator how to log in",
);
const NO_PROOF: Denial = Denial::new(
    Reason::Unauthenticated,
    "a new session needs a ticket: get one from the server's discovery (GET /v1/connect, with a bearer if the \
     server requires it) and send it in the Hello",
);

#[cfg(test)]
mod tests {
    use super::*;
    use crate::identity::CredentialKind;

    fn decide(
        policy: GatePolicy,
        asked: &[CredentialKind],
        credentials: &Credentials,
        proofs: &Proofs,
    ) -> String {
        let mut authenticators = Authenticators::default();
        let _port = authenticators.attach(asked.iter().copied());
        match policy.decide(&authenticators, credentials, proofs) {
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
        let (nothing, vouched) = (Proofs::default(), Proofs { is_proof: true, ..Proofs::default() });
        let named = Proofs { user: Some("ada".to_owned()), ..vouched.clone() };
        let denied = "denied";

        let decided = |policy, asked: &[CredentialKind], credentials| {
            [&nothing, &vouched, &named].map(|proofs| decide(policy, asked, credentials, proofs))
        };

        assert_eq!(decided(Open, &[], &anonymous), ["~bob", "~bob", "ada"]);
        assert_eq!(decided(Identified, &[], &anonymous), [denied, "~bob", "ada"]);
        assert_eq!(decided(Custom, &[], &anonymous), [denied; 3]);
        for policy in [Open, Identified, Custom] {
            assert_eq!(decided(policy, &[Password], &bearer), [denied; 3], "no authenticator for this kind");
            assert_eq!(decided(policy, &[Anonymous, Password], &anonymous), ["ask"; 3]);
        }
    }
}
