//! A link over TCP, which both ends use, and the function that dials it.

use std::io::{ErrorKind, Read as _, Result, Write as _};
use std::net::{Shutdown, SocketAddr, TcpStream};
use std::sync::mpsc::{Receiver, SyncSender, sync_channel};
use std::thread::{self, JoinHandle};
use std::time::Duration;

use waystation::client::{DialError, Link, LinkStatus, Offer};
use waystation::proxy::Outflow;
use waystation::wire::{FRAME_MAX_SERVER, Lane, lane_of, prost::bytes::Bytes};

/// A link. One thread reads its socket and another one writes it, with blocking calls.
pub(crate) struct Tcp {
    pub(crate) socket: TcpStream,
    reader: JoinHandle<()>,
    pub(crate) inbox: Receiver<Bytes>,
    /// `None` when the link is closing. The writer then writes the frames that are queued, and ends.
    pub(crate) outbox: Option<SyncSender<Bytes>>,
    /// Counts the bytes that the writer has written. The adapter reports them to the tick.
    pub(crate) outflow: Outflow,
}

impl Tcp {
    pub(crate) fn new(socket: TcpStream) -> Result<Self> {
        socket.set_nonblocking(false)?;
        let (input, output, outflow) = (socket.try_clone()?, socket.try_clone()?, Outflow::default());
        let ((arrived, inbox), (outbox, leaving)) =
            (sync_channel(ARRIVED_MAX), sync_channel::<Bytes>(LEAVING_MAX));
        let reader =
            thread::spawn(move || while read_frame(&input).is_ok_and(|frame| arrived.send(frame).is_ok()) {});
        let written = outflow.clone();
        thread::spawn(move || {
            while let Ok(frame) = leaving.recv()
                && write_frame(&output, &frame).is_ok()
            {
                written.passed_on(frame.len());
            }
            output.shutdown(Shutdown::Write)
        });
        Ok(Self { socket, reader, inbox, outbox: Some(outbox), outflow })
    }

    /// Returns true if the other end has closed the link or the link is broken.
    pub(crate) fn is_over(&self) -> bool {
        self.reader.is_finished()
    }

    /// Queues a frame. Returns false if the queue is full or the link is closing.
    pub(crate) fn push(&self, frame: Bytes) -> bool {
        self.outbox.as_ref().is_some_and(|outbox| outbox.try_send(frame).is_ok())
    }
}

/// Opens a link to an offer of `tcp`. It blocks until the connection is open. A real game would connect on a thread.
pub(crate) fn dial(offer: &Offer) -> std::result::Result<Box<dyn Link + Send>, DialError> {
    let failed = |what: String| DialError::Other(format!("{}: {what}", offer.url));
    let address = offer.url.trim_start_matches("tcp://").parse::<SocketAddr>();
    let address = address.map_err(|error| failed(error.to_string()))?;
    let socket = TcpStream::connect_timeout(&address, CONNECT_TIMEOUT);
    let link = socket.and_then(Tcp::new).map_err(|error| failed(error.to_string()))?;
    Ok(Box::new(link))
}

impl Link for Tcp {
    fn update(&mut self, _dt: Duration) {}

    fn status(&self) -> LinkStatus {
        if self.is_over() { LinkStatus::Closed } else { LinkStatus::Open }
    }

    fn receive(&mut self) -> Option<(Lane, Bytes)> {
        self.inbox.try_recv().ok().map(|frame| (lane_of(&frame), frame))
    }

    fn send(&mut self, frame: Bytes) -> bool {
        self.push(frame)
    }

    fn flush(&mut self) {}

    fn is_stream(&self) -> bool {
        true
    }

    fn close(&mut self) {
        self.outbox = None;
    }
}

fn read_frame(mut socket: &TcpStream) -> Result<Bytes> {
    let mut length = [0; 4];
    socket.read_exact(&mut length)?;
    let length = Some(u32::from_be_bytes(length) as usize).filter(|length| *length <= FRAME_MAX_SERVER);
    let mut frame = vec![0; length.ok_or(ErrorKind::InvalidData)?];
    socket.read_exact(&mut frame)?;
    Ok(frame.into())
}

fn write_frame(mut socket: &TcpStream, frame: &[u8]) -> Result<()> {
    socket.write_all(&[&(frame.len() as u32).to_be_bytes(), frame].concat())
}

/// Received frames that may wait for the tick or the game. Then the reader waits, and TCP slows the sender down.
pub(crate) const ARRIVED_MAX: usize = 64;
/// Frames that may wait for the network: twice the frames of an outbox.
const LEAVING_MAX: usize = 1_024;
/// The longest time for which opening a link blocks the caller.
const CONNECT_TIMEOUT: Duration = Duration::from_millis(250);
