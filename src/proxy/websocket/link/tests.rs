//! Tests of a link's task over a pipe. The tests run the ticks.

use std::rc::Rc;

use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _, DuplexStream, duplex};
use tokio::task::{LocalSet, spawn_local, yield_now};

use super::*;
use crate::proxy::ProxyCommand;
use crate::tick::Clock;

/// The client's end of a link, and the hub that the link is in.
struct Client {
    hub: SharedHub,
    id: LinkId,
    pipe: DuplexStream,
}

impl Client {
    fn new() -> Self {
        let hub = Hub::new(Clock::manual(), crate::wire::OUTBOX_MAX_BYTES, Rc::new(Notify::new()));
        let hub: SharedHub = Rc::new(hub.into());
        let (pipe, server) = duplex(PIPE_BYTES);
        spawn_local(serve(Rc::clone(&hub), server, None));
        // A hub counts its links from 1.
        Self { hub, id: LinkId(1), pipe }
    }

    /// Writes copies of `frames` until the server reads nothing more, has disconnected, or has read
    /// [`FLOOD_BYTES`]. Returns how many bytes it has read.
    async fn pour(&mut self, frames: &[u8]) -> usize {
        let (mut taken, mut idle_turns) = (0, 0);
        while taken < FLOOD_BYTES && idle_turns < IDLE_TURNS {
            let rest = &frames[taken % frames.len()..];
            let written = poll_fn(|context| Poll::Ready(Pin::new(&mut self.pipe).poll_write(context, rest)));
            match written.await {
                Poll::Ready(Ok(count)) => (taken, idle_turns) = (taken + count, 0),
                // The link has ended.
                Poll::Ready(Err(_)) => return taken,
                Poll::Pending => idle_turns += 1,
            }
            yield_now().await;
        }
        taken
    }

    fn tick(&self) {
        self.hub.borrow_mut().begin_batch();
    }
}

/// Runs a test in a runtime of its own.
fn run(test: impl Future<Output = ()>) {
    let runtime = tokio::runtime::Builder::new_current_thread().enable_time().build().expect("a runtime");
    LocalSet::new().block_on(&runtime, test);
}

/// Returns a masked frame of a client. The mask is zero, so the payload is unchanged.
fn masked(first: u8, payload: &[u8]) -> Vec<u8> {
    let length = u8::try_from(payload.len()).expect("a short payload");
    [&[first, 0x80 | length, 0, 0, 0, 0], payload].concat()
}

#[test]
fn between_two_ticks_no_more_frames_are_read_than_a_batch_allows() {
    let kinds = [
        ("messages", vec![], masked(0x82, &[1; 100])),
        ("empty messages", vec![], masked(0x82, b"")),
        ("empty parts of a message", masked(0x02, b""), masked(0x00, b"")),
        ("pings", vec![], masked(0x89, &[1; 125])),
        ("pongs", vec![], masked(0x8A, b"")),
        ("what follows a text", masked(0x81, b"text"), masked(0x81, b"t")),
        ("what follows a Close", masked(0x88, b""), masked(0x88, b"")),
        ("what follows a malformed frame", vec![0x82, 0], vec![0]),
    ];
    for (what, first, again) in kinds {
        run(async {
            let mut client = Client::new();
            client.pipe.write_all(&first).await.expect("room");

            let taken = client.pour(&again.repeat(100)).await;
            client.tick();
            let with_the_next = client.pour(&again.repeat(100)).await;

            assert!(taken < HELD_MAX, "{taken} bytes were read of {what} without a tick");
            assert!(with_the_next < HELD_MAX, "{with_the_next} bytes were read of {what} in one tick");
            // The task of a link that has ended may have finished.
            let is_over = client.hub.borrow().is_empty();
            assert!(with_the_next > 0 || is_over, "nothing more was read of {what}");
        });
    }
}

#[test]
fn a_closing_link_is_read_no_faster_than_an_open_link() {
    run(async {
        let mut client = Client::new();
        yield_now().await;
        let last = bytes::Bytes::from_static(&[0, 2]);
        client.hub.borrow_mut().command(ProxyCommand::Close { link: client.id, frame: last });

        let taken = client.pour(&masked(0x82, b"").repeat(100)).await;

        assert!(taken < HELD_MAX, "{taken} bytes were read without a tick");
    });
}

#[test]
fn a_client_that_violates_rfc_6455_gets_a_close_code_and_its_link_ends() {
    run(async {
        let mut client = Client::new();
        client.pipe.write_all(&[&[0x82, 0][..], &[7; 5_000]].concat()).await.expect("room");

        let mut told = Vec::new();
        client.pipe.read_to_end(&mut told).await.expect("a pipe");
        client.pipe.write_all(&[7; 1_000]).await.expect("the server reads on");
        while !client.hub.borrow().is_empty() {
            yield_now().await;
        }

        assert_eq!(told, [0x88, 2, 0x03, 0xEA]);
    });
}

/// Capacity of the pipe in each direction, in bytes.
const PIPE_BYTES: usize = 64 * 1024;
/// Upper bound of [`Client::pour`] in bytes. It should never be reached.
const FLOOD_BYTES: usize = 8 * 1024 * 1024;
/// Bytes that the pipe, a batch and the decoder hold together.
const HELD_MAX: usize = PIPE_BYTES + 64 * 1024 + 2 * READ_MAX_BYTES;
/// Number of turns of all tasks without a change, after which no data is under way.
const IDLE_TURNS: usize = 200;
