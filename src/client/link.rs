//! The seam to the transports: what a client needs of one.

use std::time::Duration;

use bytes::Bytes;

use crate::wire::Lane;

/// Opens links. A client asks for one at a time and drops it before it asks for the next.
///
/// A transport of one's own implements this and [`Link`]; the server's side of it is an adapter, as
/// the example `custom_proxy` shows. In a test, a link may be two queues:
///
/// ```
/// use std::sync::mpsc::{Receiver, Sender, channel};
/// use std::time::Duration;
/// use bytes::Bytes;
/// use waystation::client::{Client, ClientConfig, Dial, DialError, Link, LinkStatus};
/// use waystation::wire::{Frame, Lane, WireMessage as _, lane_of, v1::Hello};
///
/// /// Hands the server's end of each link to whoever plays the server.
/// struct QueueDial(Sender<QueueLink>);
/// struct QueueLink(Sender<Bytes>, Receiver<Bytes>);
///
/// impl Dial for QueueDial {
///     type Link = QueueLink;
///     fn dial(&mut self) -> Result<QueueLink, DialError> {
///         let ((up, from_client), (down, from_server)) = (channel(), channel());
///         let server = QueueLink(down, from_client);
///         self.0.send(server).map_err(|_| DialError::Other("the server is gone".to_owned()))?;
///         Ok(QueueLink(up, from_server))
///     }
/// }
///
/// impl Link for QueueLink {
///     fn update(&mut self, _dt: Duration) {}
///     fn status(&self) -> LinkStatus {
///         LinkStatus::Open
///     }
///     fn receive(&mut self) -> Option<(Lane, Bytes)> {
///         self.1.try_recv().ok().map(|frame| (lane_of(&frame), frame))
///     }
///     fn send(&mut self, frame: Bytes) -> bool {
///         self.0.send(frame).is_ok()
///     }
///     fn flush(&mut self) {}
///     fn close(&mut self) {}
/// }
///
/// let (links, accepted) = channel();
/// let mut client = Client::new(QueueDial(links), ClientConfig::default());
/// client.update(Duration::from_millis(16));
/// let mut server = accepted.recv()?;
/// let (_, hello) = server.receive().ok_or("the client says Hello")?;
/// assert_eq!(Frame::parse(hello)?.id, Hello::ID);
/// # Ok::<(), Box<dyn std::error::Error>>(())
/// ```
pub trait Dial {
    /// What it opens.
    type Link: Link;

    /// Starts to open a link; it need not be open yet. Called once a try, on the thread that
    /// updates the client, so it should not block for long.
    ///
    /// # Errors
    ///
    /// [`DialError`]; the try has then failed and another follows after a pause.
    fn dial(&mut self) -> Result<Self::Link, DialError>;
}

/// One end of a link.
///
/// Dropping it loses the link without a word, and silently where the system does not tell the peer
/// by itself, as it does over TCP; [`close`](Self::close) first where the peer is to know.
pub trait Link {
    /// Lets `dt` pass and takes in what the network brought.
    fn update(&mut self, dt: Duration);

    /// Where the link is in its life.
    fn status(&self) -> LinkStatus;

    /// The next frame that arrived and the lane it took. The reliable lane is in order. What arrived
    /// before the link closed can still be received.
    fn receive(&mut self) -> Option<(Lane, Bytes)>;

    /// Hands over a frame, whose id says which lane it takes; false if the link has no room now or
    /// is closed.
    fn send(&mut self, frame: Bytes) -> bool;

    /// Lets what was handed over leave. Called once an update.
    fn flush(&mut self);

    /// Closes the link and tells the peer, where the transport can. What was not flushed may be
    /// lost.
    fn close(&mut self);

    /// Why the link did not open, or ended, where the transport knows: a sentence with cause and
    /// remedy. It is logged, and the last one is told with
    /// [`ClientEvent::Closed`](super::ClientEvent::Closed). None unless a transport says so.
    fn failure(&self) -> Option<String> {
        None
    }

    /// How the server broke the rules of the wire, where the transport finds that out by itself, as it
    /// does of a frame too long to be received. It ends the session, not just the link: the server
    /// would do it again on the next one. None unless a transport says so.
    fn breach(&self) -> Option<String> {
        None
    }
}

/// Where a link is in its life.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum LinkStatus {
    /// It cannot carry frames yet.
    Opening,
    /// It carries frames.
    Open,
    /// It ended, or never opened.
    Closed,
}

/// A link that cannot be opened.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum DialError {
    /// The token source gave no connect token.
    #[error("no connect token: {0}; ask the server's discovery, or `waystation token`")]
    Token(String),
    /// A connect token that names no server, expired before it was made, or is of another protocol.
    #[error("the connect token is unusable: {0}; mint it with this version's `waystation token`")]
    UnusableToken(&'static str),
    /// The operating system gave no socket.
    #[error("no UDP socket to reach {peer}: {cause}; look at the network and the limit of open files")]
    Socket {
        /// The server's address.
        peer: std::net::SocketAddr,
        /// What the operating system said.
        cause: String,
    },
    /// A transport of one's own failed.
    #[error("the transport cannot open a link: {0}")]
    Other(String),
}
