//! Parses Hellos into typed requests to open or resume a session.

use std::borrow::Cow;
use std::fmt;
use std::time::Duration;

use super::GateConfig;
use crate::identity::{Credentials, Principal};
use crate::proxy::LinkInfo;
use crate::session::{ResumePoint, TokenHash};
use crate::wire::v1::credentials::Kind;
use crate::wire::v1::{Hello, Reason};
use crate::wire::{PROTOCOL, retry};

/// A valid Hello.
#[derive(Debug)]
pub(super) enum Request {
    /// Opens a new session.
    Open(OpenRequest),
    /// Resumes a session over this link.
    Resume(ResumeRequest),
}

/// A request for a new session, with the client's proofs.
#[derive(Clone)]
pub(super) struct OpenRequest {
    /// The user that the transport has authenticated, if any.
    pub(super) identity: Option<String>,
    /// The credentials in the Hello.
    pub(super) credentials: Credentials,
    /// The ticket in the Hello. Empty if the Hello has no ticket.
    pub(super) ticket: String,
}

impl fmt::Debug for OpenRequest {
    /// Omits the ticket.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("OpenRequest")
            .field("identity", &self.identity)
            .field("credentials", &self.credentials)
            .finish_non_exhaustive()
    }
}

/// A request to resume a session, with the counts of the client.
#[derive(Debug)]
pub(super) struct ResumeRequest {
    pub(super) token: TokenHash,
    pub(super) point: ResumePoint,
    pub(super) trimmed: u64,
    pub(super) sent: u64,
    /// The user that the transport has authenticated, if any.
    identity: Option<String>,
    /// The name in anonymous credentials, if the Hello has them.
    name: Option<String>,
}

impl ResumeRequest {
    /// Returns true if the request does not contradict the principal of the session. An authenticated
    /// principal is compared with the identity of the link, if it has one. An anonymous principal is
    /// compared with the name in the Hello, if it has one. So a session can move between transports that
    /// authenticate clients and others that do not.
    pub(super) fn may_resume(&self, principal: &Principal) -> bool {
        let claim = if principal.is_authenticated() { &self.identity } else { &self.name };
        claim.as_deref().is_none_or(|claim| claim == principal.name())
    }
}

/// The contents of a Denied message.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Denial {
    pub(super) reason: Reason,
    pub(super) detail: Cow<'static, str>,
    pub(super) retry_after_ms: u32,
}

impl Denial {
    pub(super) const fn new(reason: Reason, detail: &'static str) -> Self {
        Self::later(reason, detail, Duration::ZERO)
    }

    /// Returns a denial after which the client waits for `wait` before its next Hello.
    pub(super) const fn later(reason: Reason, detail: &'static str, wait: Duration) -> Self {
        Self { reason, detail: Cow::Borrowed(detail), retry_after_ms: retry::in_ms(wait) }
    }

    /// The denial of every token that resumes no session. It does not show why.
    pub(super) const TOKEN: Self = Self::new(Reason::Token, "this token resumes no session");
}

/// Parses a Hello.
pub(super) fn parse(hello: Hello, info: &LinkInfo, config: &GateConfig) -> Result<Request, Denial> {
    if hello.protocol != PROTOCOL {
        return Err(Denial::new(Reason::Version, "this server requires version 1 of the protocol"));
    }
    if !hello.game.is_empty() && !config.game.is_empty() && hello.game != config.game {
        return Err(Denial::new(Reason::Version, "this server runs another game or another version of it"));
    }
    let identity = info.identity.clone();
    let credentials = hello.credentials.and_then(|credentials| credentials.kind).map(read);
    if let Some(resume) = hello.resume {
        let name = match credentials {
            Some(Credentials::Anonymous { name }) => Some(name),
            // A resume needs no password or bearer token.
            Some(Credentials::Password { .. } | Credentials::Bearer { .. }) | None => None,
        };
        return Ok(Request::Resume(ResumeRequest {
            token: TokenHash::of(&resume.token),
            point: ResumePoint { received: resume.received, resync: resume.resync },
            trimmed: resume.trimmed,
            sent: resume.sent,
            identity,
            name,
        }));
    }
    let credentials = credentials.unwrap_or(Credentials::Anonymous { name: String::new() });
    Ok(Request::Open(OpenRequest { identity, credentials, ticket: hello.ticket }))
}

/// Converts credentials. Cleans and cuts an anonymous name, which is only for display.
fn read(kind: Kind) -> Credentials {
    match Credentials::from(kind) {
        Credentials::Anonymous { name } => Credentials::Anonymous { name: shown(&name) },
        other => other,
    }
}

/// Returns a name without control characters, cut to [`NAME_MAX_CHARS`].
fn shown(name: &str) -> String {
    name.chars().filter(|character| !character.is_control()).take(NAME_MAX_CHARS).collect()
}

/// Longest name of an anonymous client, in characters: it fits above an avatar.
const NAME_MAX_CHARS: usize = 32;

#[cfg(test)]
mod tests {
    use super::*;
    use crate::wire::v1::{self, Anonymous, Resume};

    fn hello(kind: Option<Kind>) -> Hello {
        Hello {
            protocol: 1,
            credentials: kind.map(|kind| v1::Credentials { kind: Some(kind) }),
            ..Hello::default()
        }
    }

    #[test]
    fn names_are_cut_and_cleaned() {
        let name = format!("a\u{7}b{}", "c".repeat(100));

        let request = parse(
            hello(Some(Kind::Anonymous(Anonymous { name }))),
            &LinkInfo::default(),
            &GateConfig::default(),
        );

        let Ok(Request::Open(request)) = request else { panic!("denied") };
        let name = format!("ab{}", "c".repeat(30));
        assert_eq!(request.credentials, Credentials::Anonymous { name });
    }

    #[test]
    fn a_resume_must_not_contradict_the_principal_of_its_session() {
        let resumes = |identity: Option<&str>, name: Option<&str>, principal: &Principal| {
            let info = LinkInfo { identity: identity.map(str::to_owned), ..LinkInfo::default() };
            let kind = name.map(|name| Kind::Anonymous(Anonymous { name: name.to_owned() }));
            let hello = Hello { resume: Some(Resume::default()), ..hello(kind) };
            let Ok(Request::Resume(request)) = parse(hello, &info, &GateConfig::default()) else {
                panic!("denied")
            };
            request.may_resume(principal)
        };
        let (ada, anonymous) = (Principal::named("ada"), Principal::anonymous("ada"));

        for name in [None, Some("ada"), Some("countess")] {
            assert!(resumes(None, name, &ada), "over a link without an identity");
            assert!(resumes(Some("ada"), name, &ada));
            assert!(!resumes(Some("eve"), name, &ada));
        }
        for identity in [None, Some("ada"), Some("eve")] {
            assert!(resumes(identity, None, &anonymous), "over a link with or without an identity");
            assert!(resumes(identity, Some("ada"), &anonymous));
            assert!(!resumes(identity, Some("eve"), &anonymous));
        }
    }

    #[test]
    fn another_version_and_another_game_are_denied() {
        let config = GateConfig { game: "chess/2".to_owned(), ..GateConfig::default() };
        let info = LinkInfo::default();

        let version = parse(Hello { protocol: 2, ..hello(None) }, &info, &config);
        let game = parse(Hello { game: "chess/1".to_owned(), ..hello(None) }, &info, &config);
        let any = parse(hello(None), &info, &config);

        assert_eq!(version.expect_err("denied").reason, Reason::Version);
        assert_eq!(game.expect_err("denied").reason, Reason::Version);
        assert!(any.is_ok());
    }
}
