//! Defines the traits that a transport of the client implements: [`Dial`] and [`Link`].

use std::io;
use std::time::Duration;

use bytes::Bytes;

use super::config::ClientConfig;
use crate::wire::Lane;

/// Opens links. A client uses one link at a time.
///
/// A custom transport implements this trait and [`Link`]. Its counterpart in the server is an adapter: see the
/// example `custom_transport`. In a test, a link can be two queues:
///
/// ```
/// use std::sync::mpsc::{Receiver, Sender, channel};
/// use std::time::Duration;
/// use bytes::Bytes;
/// use waystation::client::{Client, ClientConfig, Dial, DialError, Link, LinkStatus};
/// use waystation::wire::{Frame, Lane, WireMessage as _, lane_of, v1::Hello};
///
/// /// Sends the server's end of each link to the test.
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
    /// The type of the links.
    type Link: Link;

    /// Begins to open a link, and returns it without waiting until it is open. The client calls this once per
    /// try, on the thread that updates the client, so it should not block for long.
    ///
    /// # Errors
    ///
    /// Returns a [`DialError`] if no link can be opened. The try has then failed, and the client tries again
    /// after a pause.
    fn dial(&mut self) -> Result<Self::Link, DialError>;

    /// Advances the transport's clock by `dt`. `state` is the state of the client. The client calls this once
    /// per update, before [`dial`](Self::dial) if the same update dials.
    ///
    /// A transport may open another link in advance while the current link is silent, and return it from the
    /// next `dial`. It must not send a frame on that link. The default does nothing.
    fn prepare(&mut self, dt: Duration, state: &DialState) {
        let _ = (dt, state);
    }

    /// Returns true if the next link may bring a new [ticket](Link::ticket). A client whose new session is
    /// denied as UNAUTHENTICATED then tries once more. The default returns false.
    fn renews_tickets(&self) -> bool {
        false
    }
}

/// The state of a client, as [`Dial::prepare`] receives it.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
#[non_exhaustive]
pub struct DialState {
    /// Time for which the session's link has been silent, up to the last update. A link is
    /// silent while nothing arrives on it. A [stream](Link::is_stream) is also silent while the server reports
    /// that it receives nothing. `None` if the session has no link.
    pub silence: Option<Duration>,
    /// Time for which the Hello that resumes the session has had no answer. `None` if no resume is waiting for its
    /// answer, or if the session has probably expired.
    pub unanswered: Option<Duration>,
    /// Silence after which a link is lost: [`ClientConfig::link_timeout`](super::ClientConfig).
    pub link_timeout: Duration,
    /// True if the session's last link was lost because it was silent.
    pub was_silent: bool,
    /// True if the next Hello resumes a session, false if it opens a new one.
    pub resumes: bool,
    /// True if the session has no link and can probably still be resumed.
    pub is_urgent: bool,
    /// Time that the next link may take to open.
    pub opening_timeout: Duration,
}

impl Default for DialState {
    /// Returns the state of a client without a session, with the default timeouts.
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

/// The client's end of a link.
///
/// Dropping a link sends nothing, unless the operating system informs the peer, as it does over TCP. To inform
/// the peer, call [`close`](Self::close) first.
pub trait Link {
    /// Advances the link's clock by `dt` and reads what has arrived from the network.
    fn update(&mut self, dt: Duration);

    /// Returns the status of the link.
    fn status(&self) -> LinkStatus;

    /// Returns the next frame that has arrived, and its lane. Frames of the reliable lane are in order. Frames
    /// that arrived before the link closed can still be received.
    fn receive(&mut self) -> Option<(Lane, Bytes)>;

    /// Queues a frame on the lane of its message id. Returns true if the frame was queued, and false if the link
    /// has no room now or is closed.
    fn send(&mut self, frame: Bytes) -> bool;

    /// Sends the queued frames. The client calls this once per update.
    fn flush(&mut self);

    /// Returns true if all frames share one stream, in order, as over TCP. On a stream, the client cannot learn
    /// that the server has closed the link until all delayed frames have arrived. It therefore also treats the
    /// link as lost if the server reports that it receives nothing. The default returns false.
    fn is_stream(&self) -> bool {
        false
    }

    /// Closes the link and informs the peer, if the transport can. Frames that were not flushed may be lost.
    fn close(&mut self);

    /// Returns the ticket for the Hello of a new session on this link. The default returns `None`.
    fn ticket(&self) -> Option<&str> {
        None
    }

    /// Returns why the link did not open or why it ended, if the transport detects the cause. The text is a sentence
    /// with the cause and the remedy. The client logs it. If the client stops after failed tries, the last text is
    /// the detail of [`ClientEvent::Closed`](super::ClientEvent::Closed). The default returns `None`.
    fn failure(&self) -> Option<String> {
        None
    }

    /// Moves the link to another socket, for a game that detects a change of the machine's network. Nothing
    /// that is in flight on the link is lost. Returns false if the transport cannot do this; the game can then
    /// call [`Client::cut`](super::Client::cut), and the client resumes the session. The default returns false.
    ///
    /// # Errors
    ///
    /// Returns an error if the link is closed, or if the operating system provides no socket. In the second
    /// case the link keeps its old socket.
    fn rebind(&mut self) -> io::Result<bool> {
        Ok(false)
    }

    /// Returns true if the link itself limits the time of its opening, so that the client does not. The default
    /// returns false.
    fn times_opening(&self) -> bool {
        false
    }

    /// Returns the round-trip time that was measured while the link opened. If it is `None`, the client
    /// assumes half of the time that the opening took. The default returns `None`.
    fn round_trip(&self) -> Option<Duration> {
        None
    }

    /// Returns how the server broke the protocol, if the transport detects it, for example by a frame that is
    /// too long to be received. A violation ends the session and not only the link, because the server would repeat
    /// it on the next link. The default returns `None`.
    fn violation(&self) -> Option<String> {
        None
    }
}

impl<L: Link + ?Sized> Link for Box<L> {
    fn update(&mut self, dt: Duration) {
        (**self).update(dt);
    }

    fn status(&self) -> LinkStatus {
        (**self).status()
    }

    fn receive(&mut self) -> Option<(Lane, Bytes)> {
        (**self).receive()
    }

    fn send(&mut self, frame: Bytes) -> bool {
        (**self).send(frame)
    }

    fn flush(&mut self) {
        (**self).flush();
    }

    fn is_stream(&self) -> bool {
        (**self).is_stream()
    }

    fn close(&mut self) {
        (**self).close();
    }

    fn ticket(&self) -> Option<&str> {
        (**self).ticket()
    }

    fn failure(&self) -> Option<String> {
        (**self).failure()
    }

    fn rebind(&mut self) -> io::Result<bool> {
        (**self).rebind()
    }

    fn times_opening(&self) -> bool {
        (**self).times_opening()
    }

    fn round_trip(&self) -> Option<Duration> {
        (**self).round_trip()
    }

    fn violation(&self) -> Option<String> {
        (**self).violation()
    }
}

/// The status of a link.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum LinkStatus {
    /// The link cannot carry frames yet.
    Opening,
    /// The link carries frames.
    Open,
    /// The link has ended or could not be opened.
    Closed,
}

/// The reason why a link cannot be opened.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum DialError {
    /// There is no connect token. The field is the cause.
    #[error("no connect token: {0}; get one from the server's discovery or from `waystation token`")]
    Token(String),
    /// The connect token cannot be used: it names no server, expired before it was minted, or belongs to another
    /// protocol.
    #[error("the connect token is unusable: {0}; mint it with this version's `waystation token`")]
    UnusableToken(&'static str),
    /// The operating system provides no socket.
    #[error("no UDP socket to reach {peer}: {cause}; check the network and the limit of open files")]
    Socket {
        /// Address of the server.
        peer: std::net::SocketAddr,
        /// Error of the operating system.
        cause: String,
    },
    /// Any other failure, including those of custom transports. The field is the cause.
    #[error("the transport cannot open a link: {0}")]
    Other(String),
}
