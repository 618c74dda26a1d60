//! The task of one link: reads from its client, and continues to write when the socket has room.

use std::future::poll_fn;
use std::net::SocketAddr;
use std::pin::Pin;
use std::task::{Poll, ready};
use std::time::Duration;

use tokio::io::{AsyncRead, AsyncWrite, ReadBuf};
use tokio::sync::Notify;
use tokio::task::coop::consume_budget;
use tokio::time::timeout;

use super::decoder::{Decoder, Fault, Message, READ_MAX_BYTES};
use super::hub::{Hub, NORMAL, Reading, SharedHub};
use crate::ident::LinkId;
use crate::proxy::LinkEnd;

/// Serves an upgraded connection until its link ends.
pub(super) async fn serve<S>(hub: SharedHub, socket: S, address: Option<SocketAddr>)
where
    S: AsyncRead + AsyncWrite + Unpin + 'static,
{
    let (mut input, output) = tokio::io::split(socket);
    let (id, wakers) = hub.borrow_mut().open(address, Box::new(output));
    // The guard reports the end to the tick even after a panic or when the runtime is dropped.
    let mut ending = Ending { hub: &hub, id, end: LinkEnd::Failed };
    let reader = Reader { hub: &hub, id, wake: &wakers.read, input: &mut input };
    ending.end = tokio::select! {
        end = reader.run() => end,
        end = write(&hub, id, &wakers.write) => end,
    };
}

struct Ending<'a> {
    hub: &'a SharedHub,
    id: LinkId,
    end: LinkEnd,
}

impl Drop for Ending<'_> {
    fn drop(&mut self) {
        if std::thread::panicking() {
            tracing::error!(link = %self.id, "the task of a link failed and the link is lost; please report this bug");
        }
        // The hub is borrowed only during a panic within the hub. Then all links end together.
        if let Ok(mut hub) = self.hub.try_borrow_mut() {
            hub.end(self.id, self.end);
        }
    }
}

/// Reads what one client sends. While the hub does not accept a frame, the frame waits and further data stays in
/// the socket.
struct Reader<'a, R> {
    hub: &'a SharedHub,
    id: LinkId,
    /// Notified when the hub may accept more.
    wake: &'a Notify,
    input: &'a mut R,
}

impl<R: AsyncRead + Unpin> Reader<'_, R> {
    /// Reads until the link ends, and returns how it ended.
    async fn run(mut self) -> LinkEnd {
        let mut decoder = Decoder::default();
        loop {
            // Yields to other tasks after a number of frames.
            consume_budget().await;
            let decoded = decoder.next();
            if decoded == Ok(None) {
                if !self.fill(&mut decoder).await {
                    return LinkEnd::ByPeer;
                }
                continue;
            }
            if !self.granted(Hub::may_take).await {
                return LinkEnd::ByServer;
            }
            match decoded {
                Ok(Some(Message::Binary(frame))) => self.hub.borrow_mut().frame(self.id, frame),
                Ok(Some(Message::Ping(said))) => self.hub.borrow_mut().ping(self.id, said),
                Ok(Some(Message::Part | Message::Pong) | None) => {}
                Ok(Some(Message::Close(code))) => {
                    tracing::debug!(link = %self.id, code, "the client closed its link");
                    drop(decoder);
                    return self.conclude(NORMAL, LinkEnd::ByPeer).await;
                }
                Err(Fault::ProtocolViolation(what)) => {
                    drop(decoder);
                    self.hub.borrow_mut().violation(self.id, what);
                    self.discard().await;
                    return LinkEnd::ByPeer;
                }
                Err(Fault::Malformed { code, what }) => {
                    tracing::debug!(link = %self.id, what, "the client violated RFC 6455");
                    drop(decoder);
                    self.hub.borrow_mut().tally.violation_count += 1;
                    return self.conclude(code, LinkEnd::Failed).await;
                }
            }
        }
    }

    /// Ends the link for the tick, sends the client this close code, and discards what the client sends for up to
    /// [`LINGER_MAX`].
    async fn conclude(mut self, code: u16, end: LinkEnd) -> LinkEnd {
        self.hub.borrow_mut().conclude(self.id, code, end);
        let _ = timeout(LINGER_MAX, self.discard()).await;
        end
    }

    /// Reads and discards what a client sends until it disconnects.
    async fn discard(&mut self) {
        while self.read(READ_MAX_BYTES, |_| {}).await {}
    }

    /// Reads bytes into the decoder. Returns false if the client has disconnected or the link has ended.
    async fn fill(&mut self, decoder: &mut Decoder) -> bool {
        // Pings that arrived together get one answer.
        self.hub.borrow_mut().answer_ping(self.id);
        self.read(decoder.room(), |bytes| decoder.feed(bytes)).await
    }

    /// Reads up to `room` bytes when the hub allows it. Returns false if the client has disconnected or the link
    /// has ended.
    async fn read(&mut self, room: usize, take: impl FnOnce(&[u8])) -> bool {
        if !self.granted(Hub::may_read).await {
            return false;
        }
        let mut take = Some(take);
        let read = poll_fn(|context| {
            // The buffer is on the stack, so an idle client occupies no buffer.
            let mut bytes = [0; READ_MAX_BYTES];
            let mut buffer = ReadBuf::new(&mut bytes[..room.min(READ_MAX_BYTES)]);
            ready!(Pin::new(&mut *self.input).poll_read(context, &mut buffer))?;
            let filled = buffer.filled();
            if let Some(take) = take.take() {
                take(filled);
            }
            Poll::Ready(std::io::Result::Ok(filled.len()))
        });
        let count = read.await.unwrap_or_default();
        self.hub.borrow_mut().has_read(self.id, count);
        count > 0
    }

    /// Waits until the hub allows the next step. Returns false if the link has ended.
    async fn granted(&self, ask: fn(&mut Hub, LinkId) -> Reading) -> bool {
        loop {
            let reading = ask(&mut self.hub.borrow_mut(), self.id);
            match reading {
                Reading::Go => return true,
                Reading::Wait => {}
                Reading::Over => return false,
            }
            self.hub.borrow_mut().answer_ping(self.id);
            self.wake.notified().await;
        }
    }
}

/// Continues to write whenever the socket has room again.
async fn write(hub: &SharedHub, id: LinkId, wake: &Notify) -> LinkEnd {
    loop {
        let written = poll_fn(|context| match hub.borrow_mut().poll_write(id, context) {
            Some(Poll::Pending) => Poll::Pending,
            Some(Poll::Ready(written)) => Poll::Ready(Some(written)),
            None => Poll::Ready(None),
        });
        tokio::select! {
            written = written => match written {
                Some(Ok(())) => wake.notified().await,
                Some(Err(_)) => return LinkEnd::ByPeer,
                None => return LinkEnd::ByServer,
            },
            // The hub has written meanwhile. The socket wakes only the last writer, so this task must poll again.
            () = wake.notified() => {}
        }
    }
}

/// How long the task waits for a client to disconnect after its link has ended. The time covers a slow round trip,
/// so data that was under way has arrived.
const LINGER_MAX: Duration = Duration::from_secs(1);

#[cfg(test)]
mod tests;
