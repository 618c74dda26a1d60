//! The task of one link: it reads what its client sends, and writes on when its socket has room.

use std::cell::RefCell;
use std::future::poll_fn;
use std::net::SocketAddr;
use std::rc::Rc;
use std::task::Poll;

use tokio::io::{AsyncRead, AsyncReadExt as _, AsyncWrite};
use tokio::sync::Notify;

use super::hub::{MALFORMED, NORMAL, Reading, SharedHub};
use super::reader::{Input, Message, Reader, Unreadable};
use crate::ident::LinkId;
use crate::proxy::LinkEnd;

/// Serves a connection that speaks WebSocket by now, until its link ends.
pub(super) async fn serve<S>(hub: SharedHub, socket: S, address: Option<SocketAddr>)
where
    S: AsyncRead + AsyncWrite + Unpin + 'static,
{
    let (input, output) = tokio::io::split(socket);
    let (id, wakers) = hub.borrow_mut().open(address, Box::new(output));
    // However this ends, by a panic or with its runtime too, the tick is told.
    let mut ending = Ending { hub: &hub, id, end: LinkEnd::Failed };
    let input = Input(Rc::new(RefCell::new(input)));
    ending.end = tokio::select! {
        end = read(&hub, id, input, &wakers.read) => end,
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

/// Reads until the link ends, and says how. What may not be handed over waits, and with it what is
/// behind it in the socket.
async fn read<R>(hub: &SharedHub, id: LinkId, input: Input<R>, wake: &Notify) -> LinkEnd
where
    R: AsyncRead + Unpin,
{
    let mut reader = Reader::new(input.clone());
    loop {
        let message = reader.next().await;
        let bytes = if let Ok(Message::Binary(frame)) = &message { frame.len() } else { 0 };
        loop {
            let reading = hub.borrow_mut().reading(id, bytes);
            match reading {
                Reading::Go => break,
                Reading::Wait => wake.notified().await,
                Reading::Over => return LinkEnd::ByServer,
            }
        }
        match message {
            Ok(Message::Binary(frame)) => hub.borrow_mut().frame(id, frame),
            Ok(Message::Ping(payload)) => hub.borrow_mut().pong(id, &payload),
            Ok(Message::Pong) => {}
            Ok(Message::Close) => {
                hub.borrow_mut().say_close(id, NORMAL);
                return LinkEnd::ByPeer;
            }
            Err(Unreadable::Gone) => return LinkEnd::ByPeer,
            Err(Unreadable::Breach(what)) => {
                drop(reader);
                hub.borrow_mut().breach(id, what);
                return discard(input).await;
            }
            Err(Unreadable::Malformed(error)) => {
                tracing::debug!(link = %id, %error, "the client broke WebSocket's rules");
                let mut hub = hub.borrow_mut();
                hub.tally.breach_count += 1;
                hub.say_close(id, MALFORMED);
                return LinkEnd::Failed;
            }
        }
    }
}

/// Takes what a client sends that is not listened to any more, until it goes: what lay in the
/// socket when it is closed could cost the client the last that it was told.
async fn discard<R: AsyncRead + Unpin>(mut input: Input<R>) -> LinkEnd {
    let mut buffer = [0; 2_048];
    while input.read(&mut buffer).await.is_ok_and(|count| count > 0) {}
    LinkEnd::ByPeer
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
