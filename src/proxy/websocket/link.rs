//! The task of one link: it reads what its client sends, and writes on when its socket has room.

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

/// Serves a connection that speaks WebSocket by now, until its link ends.
pub(super) async fn serve<S>(hub: SharedHub, socket: S, address: Option<SocketAddr>)
where
    S: AsyncRead + AsyncWrite + Unpin + 'static,
{
    let (mut input, output) = tokio::io::split(socket);
    let (id, wakers) = hub.borrow_mut().open(address, Box::new(output));
    // However this ends, by a panic or with its runtime too, the tick is told.
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
            tracing::error!(link = %self.id, "the task of a link failed, and the link is lost: report a bug");
        }
        // Only a panic within the hub still holds it, and then all links are ended at once.
        if let Ok(mut hub) = self.hub.try_borrow_mut() {
            hub.end(self.id, self.end);
        }
    }
}

/// Reads what one client sends. What the hub does not want yet waits, and what is behind it stays in the
/// socket.
struct Reader<'a, R> {
    hub: &'a SharedHub,
    id: LinkId,
    /// Says that the hub may want more.
    wake: &'a Notify,
    input: &'a mut R,
}

impl<R: AsyncRead + Unpin> Reader<'_, R> {
    /// Reads until the link ends, and returns how it ended.
    async fn run(mut self) -> LinkEnd {
        let mut decoder = Decoder::default();
        loop {
            // After a number of frames, other tasks have their turn.
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
                Err(Fault::Breach(what)) => {
                    drop(decoder);
                    self.hub.borrow_mut().breach(self.id, what);
                    self.discard().await;
                    return LinkEnd::ByPeer;
                }
                Err(Fault::Malformed { code, what }) => {
                    tracing::debug!(link = %self.id, what, "the client broke WebSocket's rules");
                    drop(decoder);
                    self.hub.borrow_mut().tally.breach_count += 1;
                    return self.conclude(code, LinkEnd::Failed).await;
                }
            }
        }
    }

    /// Ends the link for the tick, answers the client with this code, and reads on for [`LINGER_MAX`] at
    /// most.
    async fn conclude(mut self, code: u16, end: LinkEnd) -> LinkEnd {
        self.hub.borrow_mut().conclude(self.id, code, end);
        let _ = timeout(LINGER_MAX, self.discard()).await;
        end
    }

    /// Reads and drops what a client sends, until it goes.
    async fn discard(&mut self) {
        while self.read(READ_MAX_BYTES, |_| {}).await {}
    }

    /// Reads bytes into the decoder. Returns false if the client, or the link, is gone.
    async fn fill(&mut self, decoder: &mut Decoder) -> bool {
        // All pings that came together have one answer.
        self.hub.borrow_mut().answer_ping(self.id);
        self.read(decoder.room(), |bytes| decoder.feed(bytes)).await
    }

    /// Reads at most `room` bytes, when the hub allows it. Returns false if the client, or the link, is
    /// gone.
    async fn read(&mut self, room: usize, take: impl FnOnce(&[u8])) -> bool {
        if !self.granted(Hub::may_read).await {
            return false;
        }
        let mut take = Some(take);
        let read = poll_fn(|context| {
            // On the stack, so that a client that sends nothing holds no buffer.
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

    /// Waits until the hub allows it. Returns false if the link is gone.
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

/// Writes what the socket did not take at once, whenever it has room.
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
            // The hub has tried meanwhile, and the socket tells only who tried last of its room.
            () = wake.notified() => {}
        }
    }
}

/// How long a client whose link is over may take to go. It covers a slow round trip, after which what the
/// client sent before it knew has come.
const LINGER_MAX: Duration = Duration::from_secs(1);

#[cfg(test)]
mod tests;
