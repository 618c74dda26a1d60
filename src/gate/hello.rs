//! What a Hello asks for. What got past here has a type that says so.

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

/// A Hello that makes sense.
#[derive(Debug)]
pub(super) enum Request {
    /// A new session.
    Open(OpenRequest),
    /// A session's next link.
    Resume(ResumeRequest),
}

/// Who asks for a new session, and what is to prove it.
#[derive(Clone)]
pub(super) struct OpenRequest {
    /// Who the transport says the client is.
    pub(super) identity: Option<String>,
    /// What the client shows.
    pub(super) credentials: Credentials,
    /// Empty: none.
    pub(super) ticket: String,
}

impl fmt::Debug for OpenRequest {
    /// Without the ticket.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("OpenRequest")
            .field("identity", &self.identity)
            .field("credentials", &self.credentials)
            .finish_non_exhaustive()
    }
}

/// Which session is to be resumed, and how far its client is.
#[derive(Debug)]
pub(super) struct ResumeRequest {
    pub(super) token: TokenHash,
    pub(super) point: ResumePoint,
    pub(super) trimmed: u64,
    /// Who the transport says the client is.
    identity: Option<String>,
    /// The name that the client gives itself, if it does.
    name: Option<String>,
}

impl ResumeRequest {
    /// Whether nothing that is said of the client contradicts whose session it is. An authenticated
    /// principal is compared with the link's identity, if the link has one. Any other principal is
    /// compared with the name that the client gives itself, if it does. So a session moves between
    /// transports that know who their clients are and others.
    pub(super) fn may_resume(&self, principal: &Principal) -> bool {
        let claim = if principal.is_authenticated() { &self.identity } else { &self.name };
        claim.as_deref().is_none_or(|claim| claim == principal.name())
    }
}

/// Why a Hello is denied, in words for the client.
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

    /// A denial whose client comes again after this time.
    pub(super) const fn later(reason: Reason, detail: &'static str, wait: Duration) -> Self {
        Self { reason, detail: Cow::Borrowed(detail), retry_after_ms: retry::in_ms(wait) }
    }

    /// One answer for every token that resumes nothing, whatever is wrong with it.
    pub(super) const TOKEN: Self = Self::new(Reason::Token, "this token resumes no session");
}

/// Reads what a Hello asks for.
pub(super) fn parse(hello: Hello, info: &LinkInfo, config: &GateConfig) -> Result<Request, Denial> {
    if hello.protocol != PROTOCOL {
        return Err(Denial::new(Reason::Version, "this server speaks version 1 of the protocol"));
    }
    if !hello.game.is_empty() && !config.game.is_empty() && hello.game != config.game {
        return Err(Denial::new(Reason::Version, "this server runs another game or another version of it"));
    }
    let identity = info.identity.clone();
    let credentials = hello.credentials.and_then(|credentials| credentials.kind).map(read);
    if let Some(resume) = hello.resume {
        let name = match credentials {
            Some(Credentials::Anonymous { name }) => Some(name),
            // The token proves enough.
            Some(Credentials::Password { .. } | Credentials::Bearer { .. }) | None => None,
        };
        return Ok(Request::Resume(ResumeRequest {
            token: TokenHash::of(&resume.token),
            point: ResumePoint { received: resume.received, resync: resume.resync },
            trimmed: resume.trimmed,
            identity,
            name,
        }));
    }
    let credentials = credentials.unwrap_or(Credentials::Anonymous { name: String::new() });
    Ok(Request::Open(OpenRequest { identity, credentials, ticket: hello.ticket }))
}

/// Reads what a client shows. A name that is only for show is cut to what can be shown.
fn read(kind: Kind) -> Credentials {
    match Credentials::from(kind) {
        Credentials::Anonymous { name } => Credentials::Anonymous { name: shown(&name) },
        other => other,
    }
}

/// A name as it is shown: no control characters, and not longer than a name.
fn shown(name: &str) -> String {
    name.chars().filter(|character| !character.is_control()).take(NAME_MAX_CHARS).collect()
}

/// Longest name of an anonymous client, in characters: what fits above an avatar.
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
    fn a_resume_is_held_to_what_is_known_of_its_session() {
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
            assert!(resumes(None, name, &ada), "over a link that knows nobody");
            assert!(resumes(Some("ada"), name, &ada));
            assert!(!resumes(Some("eve"), name, &ada));
        }
        for identity in [None, Some("ada"), Some("eve")] {
            assert!(resumes(identity, None, &anonymous), "to a link that knows its client");
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
