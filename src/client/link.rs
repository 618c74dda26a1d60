//! The seam to the transports: what a client needs of one.

use std::io;
use std::time::Duration;

use bytes::Bytes;

use super::config::ClientConfig;
use crate::wire::Lane;

/// Opens links. A client asks for one at a time and drops it before it asks for the next.
///
/// A transport of one's own implements this and [`Link`]; the server's side of it is an adapter, as
/// the example `custom_transport` shows. In a test, a link may be two queues:
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

    /// Lets `dt` pass and tells the state of the client. It is called once per update, before
    /// [`dial`](Self::dial) if the same update dials. A transport may open another link in advance
    /// while the current one is silent, and return it from the next `dial`. It must not send a frame
    /// on that link. The default does nothing.
    fn prepare(&mut self, dt: Duration, outlook: &Outlook) {
        let _ = (dt, outlook);
    }

    /// Returns true if another link may bring a [ticket](Link::ticket) that the last one did not. A
    /// client whose new session is denied as UNAUTHENTICATED then tries once more. The default is
    /// false.
    fn renews_tickets(&self) -> bool {
        false
    }
}

/// The state of a client, for the transport that opens its next link.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
#[non_exhaustive]
pub struct Outlook {
    /// How long the session's link has been silent, not counting the time of the current update: nothing
    /// was received on it, or it is a [stream](Link::is_stream) and the server says that it has received
    /// nothing. `None` if the session has no link.
    pub silence: Option<Duration>,
    /// How long the Hello that resumes the session has had no answer; `None` while none is said, and when the
    /// server keeps the session no longer, as far as the client can tell.
    pub unanswered: Option<Duration>,
    /// The silence after which a link is lost: [`ClientConfig::link_timeout`](super::ClientConfig).
    pub link_timeout: Duration,
    /// True if the session's last link was lost because it was silent.
    pub was_silent: bool,
    /// True if the next Hello resumes a session, false if it asks for a new one.
    pub resumes: bool,
    /// True if the session has no link and the server still keeps it, as far as the client can tell.
    pub is_urgent: bool,
    /// How long the next link may take to open.
    pub opening_timeout: Duration,
}

impl Default for Outlook {
    /// A client without a session, with the default timeouts.
    fn default() -> Self {
        let config = ClientConfig::default();
        Self {
            silence: None,
            unanswered: None,
            link_timeout: config.link_timeout,
            was_silent: false,
            resumes: false,
            is_urgent: false,
            opening_timeout: config.dial_timeout,
        }
    }
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

    /// Returns true if all frames share one stream, in order, as over TCP. There the word that the server
    /// has given the link up waits behind all that is late, so the client decides that by itself. The
    /// default is false.
    fn is_stream(&self) -> bool {
        false
    }

    /// Closes the link and tells the peer, where the transport can. What was not flushed may be
    /// lost.
    fn close(&mut self);

    /// What the Hello of a new session shows on this link, where the server wants a proof: a ticket, as
    /// discovery gives with its answer. The default is none.
    fn ticket(&self) -> Option<&str> {
        None
    }

    /// Why the link did not open, or ended, where the transport knows: a sentence with cause and
    /// remedy. It is logged, and the last one is told with
    /// [`ClientEvent::Closed`](super::ClientEvent::Closed). None unless a transport says so.
    fn failure(&self) -> Option<String> {
        None
    }

    /// Moves the link to another socket, for a game that learns that the machine's network has changed. The link goes
    /// on, and so does all that is under way on it. Returns false if the transport cannot do that; then
    /// [`Client::cut`](super::Client::cut) resumes the session at once. The default is false.
    ///
    /// # Errors
    ///
    /// The link is closed, or the operating system gives no socket. In the latter case the old socket stays.
    fn rebind(&mut self) -> io::Result<bool> {
        Ok(false)
    }

    /// Returns true if the link itself ends an opening that takes too long, so that the client does
    /// not. The default is false.
    fn times_opening(&self) -> bool {
        false
    }

    /// The round-trip time that was measured while the link opened. The default is `None`: the client
    /// then assumes half of the time that the opening took.
    fn round_trip(&self) -> Option<Duration> {
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
