//! Why a link over QUIC did not open or ended, in words for whoever has to mend it.

use std::net::SocketAddr;

use quinn_proto::ConnectionError;

use crate::client::link::LinkStatus;
use crate::wire::quic::Ended;
use crate::wire::v1::Reason;

/// Nothing came back.
pub(super) fn no_answer(peer: SocketAddr) -> String {
    format!("{peer} does not answer over QUIC: is it the server's port, and does UDP get there?")
}

/// Of how the link ended, what QUIC says of it, and how far the link had come.
pub(super) fn of_end(
    ended: Ended,
    error: Option<&ConnectionError>,
    peer: SocketAddr,
    status: LinkStatus,
) -> String {
    match (ended, error) {
        (Ended::Silent, _) if status == LinkStatus::Opening => no_answer(peer),
        (Ended::Silent, _) => format!("nothing was heard of {peer} for too long"),
        (Ended::ByPeer(Some(code)), _) => {
            let reason = i32::try_from(code).ok().and_then(|code| Reason::try_from(code).ok());
            match reason {
                Some(reason) => format!("{peer} closed the link: {reason}"),
                None => format!("{peer} closed the link with the code {code}"),
            }
        }
        (Ended::ByPeer(None) | Ended::Failed, Some(error)) => format!("no link with {peer}: {error}"),
        (Ended::ByPeer(None), None) => format!("{peer} closed the link and does not say why"),
        (Ended::Failed, None) => {
            format!("{peer} opens no WebTransport session: look at the path and what it serves there")
        }
    }
}
