//! Describes why a link over QUIC did not open or why it ended.

use std::net::SocketAddr;

use quinn_proto::ConnectionError;

use crate::client::link::LinkStatus;
use crate::wire::quic::Ended;
use crate::wire::v1::Reason;

/// Returns the message for a server that does not answer.
pub(super) fn no_answer(peer: SocketAddr) -> String {
    format!("{peer} does not answer over QUIC: is it the server's QUIC port, and does the network pass UDP?")
}

/// Returns the message for the end of a link. `status` is the link's status before its end.
pub(super) fn of_end(
    ended: Ended,
    error: Option<&ConnectionError>,
    peer: SocketAddr,
    status: LinkStatus,
) -> String {
    match (ended, error) {
        (Ended::Silent, _) if status == LinkStatus::Opening => no_answer(peer),
        (Ended::Silent, _) => format!("{peer} sent nothing for too long"),
        (Ended::ByPeer(Some(code)), _) => {
            let reason = i32::try_from(code).ok().and_then(|code| Reason::try_from(code).ok());
            match reason {
                Some(reason) => format!("{peer} closed the link: {reason}"),
                None => format!("{peer} closed the link with the code {code}"),
            }
        }
        (Ended::ByPeer(None) | Ended::Failed, Some(error)) => format!("no link with {peer}: {error}"),
        (Ended::ByPeer(None), None) => format!("{peer} closed the link without a reason"),
        (Ended::Failed, None) => {
            format!("{peer} does not open a WebTransport session: check the path")
        }
    }
}
