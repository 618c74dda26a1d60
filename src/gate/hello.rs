//! What a Hello asks for. What got past here has a type that says so.

use super::GateConfig;
use crate::proxy::LinkInfo;
use crate::session::{Principal, ResumePoint, TokenHash};
use crate::wire::PROTOCOL;
use crate::wire::v1::credentials::Kind;
use crate::wire::v1::{Hello, Reason};

/// A Hello that makes sense.
#[derive(Debug)]
pub(super) enum Request {
    /// A new session.
    Open(Principal),
    /// A session's next link.
    Resume(ResumeRequest),
}

/// Which session is to be resumed, and how far its client is.
#[derive(Debug)]
pub(super) struct ResumeRequest {
    pub(super) token: TokenHash,
    pub(super) point: ResumePoint,
    pub(super) trimmed: u64,
    /// Who the client says it is, where it says so: must be the session's principal.
    pub(super) claims: Vec<Principal>,
}

/// Why a Hello is denied, in words for the client.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Denial {
    pub(super) reason: Reason,
    pub(super) detail: &'static str,
    pub(super) retry_after_ms: u32,
}

impl Denial {
    pub(super) const fn new(reason: Reason, detail: &'static str) -> Self {
        Self {
            reason,
            detail,
            retry_after_ms: 0,
        }
    }

    /// One answer for every token that resumes nothing, whatever is wrong with it.
    pub(super) const TOKEN: Self = Self::new(Reason::Token, "this token resumes no session");
}

/// Reads what a Hello asks for.
pub(super) fn parse(hello: Hello, info: &LinkInfo, config: &GateConfig) -> Result<Request, Denial> {
    if hello.protocol != PROTOCOL {
        return Err(Denial::new(
            Reason::Version,
            "this server speaks version 1 of the protocol",
        ));
    }
    if !hello.game.is_empty() && !config.game.is_empty() && hello.game != config.game {
        return Err(Denial::new(
            Reason::Version,
            "this server runs another game or another version of it",
        ));
    }
    let identity = info.identity.as_deref().map(Principal::named);
    let kind = hello.credentials.and_then(|credentials| credentials.kind);
    if let Some(resume) = hello.resume {
        let named = match kind {
            Some(Kind::Anonymous(anonymous)) if identity.is_none() => {
                Some(Principal::anonymous(&shown(&anonymous.name)))
            }
            Some(Kind::Password(_) | Kind::Bearer(_)) => return Err(UNSUPPORTED),
            _ => None,
        };
        return Ok(Request::Resume(ResumeRequest {
            token: TokenHash::of(&resume.token),
            point: ResumePoint {
                received: resume.received,
                resync: resume.resync,
            },
            trimmed: resume.trimmed,
            claims: identity.into_iter().chain(named).collect(),
        }));
    }
    match (identity, kind) {
        (_, Some(Kind::Password(_) | Kind::Bearer(_))) => Err(UNSUPPORTED),
        (Some(principal), _) => Ok(Request::Open(principal)),
        (None, Some(Kind::Anonymous(anonymous))) => {
            Ok(Request::Open(Principal::anonymous(&shown(&anonymous.name))))
        }
        (None, None) => Ok(Request::Open(Principal::anonymous(""))),
    }
}

/// A name as it is shown: no control characters, and not longer than a name.
fn shown(name: &str) -> String {
    name.chars()
        .filter(|character| !character.is_control())
        .take(NAME_MAX_CHARS)
        .collect()
}

const UNSUPPORTED: Denial = Denial::new(
    Reason::Unauthenticated,
    "this server has no accounts: come as anonymous",
);
/// Longest name of an anonymous client, in characters: what fits above an avatar.
const NAME_MAX_CHARS: usize = 32;

#[cfg(test)]
mod tests {
    use super::*;
    use crate::wire::v1::{Anonymous, Credentials, Password};

    fn hello(kind: Option<Kind>) -> Hello {
        Hello {
            protocol: 1,
            credentials: kind.map(|kind| Credentials { kind: Some(kind) }),
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

        let Ok(Request::Open(principal)) = request else {
            panic!("denied")
        };
        assert_eq!(principal.name(), format!("ab{}", "c".repeat(30)));
        assert!(!principal.is_authenticated());
    }

    #[test]
    fn another_version_another_game_and_accounts_are_denied() {
        let config = GateConfig {
            game: "chess/2".to_owned(),
            ..GateConfig::default()
        };
        let info = LinkInfo::default();

        let version = parse(
            Hello {
                protocol: 2,
                ..hello(None)
            },
            &info,
            &config,
        );
        let game = parse(
            Hello {
                game: "chess/1".to_owned(),
                ..hello(None)
            },
            &info,
            &config,
        );
        let account = parse(hello(Some(Kind::Password(Password::default()))), &info, &config);
        let any = parse(hello(None), &info, &config);

        assert_eq!(version.expect_err("denied").reason, Reason::Version);
        assert_eq!(game.expect_err("denied").reason, Reason::Version);
        assert_eq!(account.expect_err("denied").reason, Reason::Unauthenticated);
        assert!(any.is_ok());
    }
}
