//! One of the transports' links, and what dials it.

use super::url::Transport;
use crate::client::link::{DialError, Link, LinkStatus};
use crate::client::udp::UdpLink;
use crate::wire::discovery::Discovery;
use crate::wire::udp::token_from_text;

/// All that a transport needs to open a link.
#[derive(Clone)]
pub(super) enum Target {
    /// A connect token, good for one link.
    Udp {
        /// In base64.
        token: String,
    },
}

/// A link of one of the transports.
#[derive(Debug)]
pub(super) enum Carrier {
    Udp(UdpLink),
}

impl Target {
    /// What a discovery offers; none if it does not.
    pub(super) fn offered(offer: &Discovery, transport: Transport) -> Option<Self> {
        match transport {
            Transport::Udp => Some(Self::Udp { token: offer.udp.as_ref()?.token.clone() }),
            _ => None,
        }
    }

    /// Whether it opens more than one link.
    pub(super) fn is_reusable(&self) -> bool {
        !matches!(self, Self::Udp { .. })
    }
}

impl Carrier {
    /// Begins to open a link.
    pub(super) fn open(target: &Target) -> Result<Self, DialError> {
        match target {
            Target::Udp { token } => {
                let token = token_from_text(token).map_err(|error| DialError::Token(error.to_string()))?;
                Ok(Self::Udp(UdpLink::open(token)?))
            }
        }
    }

    pub(super) fn as_link(&mut self) -> &mut dyn Link {
        match self {
            Self::Udp(link) => link,
        }
    }

    fn as_link_ref(&self) -> &dyn Link {
        match self {
            Self::Udp(link) => link,
        }
    }

    pub(super) fn status(&self) -> LinkStatus {
        self.as_link_ref().status()
    }

    pub(super) fn failure(&self) -> Option<String> {
        self.as_link_ref().failure()
    }
}
