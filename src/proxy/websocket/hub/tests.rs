//! Tests of the hub over sockets that accept everything or nothing.

use super::*;
use crate::proxy::port::{Budget, port};

fn new_hub(clock: &Clock) -> Hub {
    Hub::new(clock.clone(), crate::wire::OUTBOX_MAX_BYTES, Rc::new(Notify::new()))
}

/// Reads `length` bytes at a time as often as the hub allows. Returns the number of reads.
fn read_all(hub: &mut Hub, id: LinkId, length: usize) -> usize {
    let reads = (0..100_000).take_while(|_| {
        let may = hub.may_read(id) == Reading::Go;
        if may {
            hub.has_read(id, length);
        }
        may
    });
    reads.count()
}

/// Takes frames as often as the hub allows. Returns the number of frames.
fn take_all(hub: &mut Hub, id: LinkId) -> usize {
    (0..100_000).take_while(|_| hub.may_take(id) == Reading::Go).count()
}

#[test]
fn a_client_that_floods_is_limited_per_batch_and_leaves_room_for_others() {
    let mut hub = new_hub(&Clock::manual());
    let (flooding, _) = hub.open(None, Box::new(tokio::io::sink()));
    let (trickling, _) = hub.open(None, Box::new(tokio::io::sink()));
    let (chattering, _) = hub.open(None, Box::new(tokio::io::sink()));
    let (honest, _) = hub.open(None, Box::new(tokio::io::sink()));

    let flooded = read_all(&mut hub, flooding, 4 * 1024);
    let trickled = read_all(&mut hub, trickling, 1);
    let chattered = take_all(&mut hub, chattering);

    assert_eq!((flooded, trickled, chattered), (16, 1_024, 1_024));
    assert_eq!((take_all(&mut hub, flooding), read_all(&mut hub, chattering, 1)), (0, 0));
    assert_eq!(hub.may_take(honest), Reading::Go);
    hub.begin_batch();
    assert_eq!(read_all(&mut hub, flooding, 4 * 1024), 16, "it is read again in the next tick");
}

#[test]
fn a_link_that_has_ended_for_the_tick_is_read_no_faster_than_others() {
    let mut hub = new_hub(&Clock::manual());
    let (closed, _) = hub.open(None, Box::new(tokio::io::sink()));
    let (malformed, _) = hub.open(None, Box::new(tokio::io::sink()));
    hub.command(ProxyCommand::Close { link: closed, frame: Bytes::from_static(&[0, 2]) });
    hub.conclude(malformed, 1_002, LinkEnd::Failed);

    for id in [closed, malformed] {
        assert_eq!((take_all(&mut hub, id), read_all(&mut hub, id, 1)), (1_024, 0));
    }
}

#[test]
fn a_paused_link_is_read_and_its_frames_wait_unless_it_is_closing() {
    let mut hub = new_hub(&Clock::manual());
    let (id, _) = hub.open(None, Box::new(tokio::io::sink()));
    hub.command(ProxyCommand::Pause { link: id });

    assert_eq!((hub.may_read(id), hub.may_take(id)), (Reading::Go, Reading::Wait));
    hub.command(ProxyCommand::Close { link: id, frame: Bytes::from_static(&[0, 2]) });

    assert_eq!(hub.may_take(id), Reading::Go);
}

#[test]
fn the_tick_is_notified_of_an_end_once() {
    let clock = Clock::manual();
    let (events, mut told) = port(Budget { count: 100, bytes: 10_000 });
    let mut hub = new_hub(&clock);
    let (id, _) = hub.open(None, Box::new(tokio::io::sink()));

    hub.conclude(id, 1_002, LinkEnd::Failed);
    hub.frame(id, Bytes::from_static(&[0, 1]));
    hub.violation(id, "too late");
    assert!(!hub.is_empty(), "its last bytes may wait to be written");
    hub.command(ProxyCommand::Cut { link: id });
    hub.end(id, LinkEnd::ByPeer);
    hub.deliver(&events);

    let mut ends = Vec::new();
    told.drain_all(|event| ends.push(event.kind));
    assert_eq!(ends.len(), 2, "{ends:?}");
    assert!(matches!(ends[1], ProxyEventKind::Closed(LinkEnd::Failed)), "{ends:?}");
    assert!(hub.is_empty());
    assert_eq!((hub.tally.opened_count, hub.tally.closed_count), (1, 1));
}

/// A socket that accepts nothing until it is opened.
#[derive(Clone, Default)]
struct Gate(Rc<RefCell<(bool, Vec<u8>)>>);

impl AsyncWrite for Gate {
    fn poll_write(
        self: std::pin::Pin<&mut Self>,
        _: &mut Context<'_>,
        bytes: &[u8],
    ) -> Poll<std::io::Result<usize>> {
        let (is_open, written) = &mut *self.0.borrow_mut();
        if !*is_open {
            return Poll::Pending;
        }
        written.extend_from_slice(bytes);
        Poll::Ready(Ok(bytes.len()))
    }

    fn poll_flush(self: std::pin::Pin<&mut Self>, _: &mut Context<'_>) -> Poll<std::io::Result<()>> {
        Poll::Ready(Ok(()))
    }

    fn poll_shutdown(self: std::pin::Pin<&mut Self>, _: &mut Context<'_>) -> Poll<std::io::Result<()>> {
        Poll::Ready(Ok(()))
    }
}

#[test]
fn a_blocked_socket_later_gets_the_newest_unreliable_frames_all_beacons_and_all_reliable_frames() {
    let clock = Clock::manual();
    let mut hub = Hub::new(clock.clone(), 512 * 1024, Rc::new(Notify::new()));
    let gate = Gate::default();
    let (id, _) = hub.open(None, Box::new(gate.clone()));
    hub.send(id, &Bytes::from_static(&[1, 0, 0]));
    hub.flush();

    for tag in 1..=100_u8 {
        hub.send(id, &Bytes::from(vec![0x81, 0, tag]));
        if tag % 10 == 0 {
            hub.send(id, &Bytes::from(vec![0x80, 1, tag]));
            hub.send(id, &Bytes::from(vec![1, 0, tag]));
        }
        hub.flush();
        clock.advance(Duration::from_millis(50));
    }
    gate.0.borrow_mut().0 = true;
    let _ = hub.poll_write(id, &mut Context::from_waker(Waker::noop()));

    let written = gate.0.borrow().1.clone();
    let frames: Vec<&[u8]> = written.chunks(5).map(|message| &message[2..]).collect();
    let of = |high: u8| -> Vec<u8> {
        frames.iter().filter(|frame| frame[0] == high).map(|frame| frame[2]).collect()
    };
    assert_eq!(of(0x80), [10, 20, 30, 40, 50, 60, 70, 80, 90, 100]);
    assert_eq!(of(1), [0, 10, 20, 30, 40, 50, 60, 70, 80, 90, 100]);
    assert_eq!(of(0x81), [99, 100], "what has waited for longer than 100 ms is dropped");
    assert_eq!(hub.tally.unreliable_dropped_count, 98);
}

#[test]
fn a_blocked_socket_later_gets_the_answer_to_the_newest_ping() {
    let mut hub = new_hub(&Clock::manual());
    let gate = Gate::default();
    let (id, _) = hub.open(None, Box::new(gate.clone()));

    for tag in 0..10_000_u16 {
        hub.ping(id, Bytes::copy_from_slice(&tag.to_be_bytes()));
        hub.answer_ping(id);
    }
    // The first answer was queued before the socket was known to be blocked.
    assert_eq!(hub.table[&id].output.waiting(), 4);
    gate.0.borrow_mut().0 = true;
    let _ = hub.poll_write(id, &mut Context::from_waker(Waker::noop()));

    assert_eq!(gate.0.borrow().1, [0x8A, 2, 0, 0, 0x8A, 2, 0x27, 0x0F]);
    assert_eq!(hub.tally.ping_skipped_count, 9_998);
}
