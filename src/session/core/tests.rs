//! Tests of cores as plain values, without an app, links or clocks.

use std::collections::VecDeque;

use bytes::Bytes;
use proptest::prelude::*;
use prost::Message as _;

use super::*;
use crate::ident::{LinkId, MessageId, ProxyId};
use crate::session::SessionRecord;
use crate::session::inbox::Inbound;
use crate::wire::Frame;

const NOW: Duration = Duration::from_secs(100);
const WINDOW: Duration = Duration::from_secs(5);
/// The id of a reliable message of the game.
const CALL: u16 = 0x0100;

fn link(number: u64) -> LinkKey {
    LinkKey { proxy: ProxyId(0), link: LinkId(number) }
}

fn bound(number: u64) -> BoundLink {
    BoundLink::new(link(number), "loopback", None)
}

fn terms() -> WelcomeTerms {
    WelcomeTerms { rate: TickRate::default(), tick: Tick(7), now: NOW, clock: NOW, timeout: WINDOW }
}

fn token(number: u8) -> Issued {
    Issued::fixed([number; 32])
}

fn opened() -> Core {
    Core::open(SessionId(9), Principal::anonymous("ada"), bound(1), &token(1), &terms()).0
}

fn frame(number: u64) -> Bytes {
    [&CALL.to_be_bytes()[..], &number.to_be_bytes()[..]].concat().into()
}

fn limits() -> Limits {
    Limits { inbox_max_frames: 512, ..Limits::default() }
}

fn number(frame: &[u8]) -> u64 {
    u64::from_be_bytes(frame[2..].try_into().expect("eight bytes"))
}

fn inbound(bytes: &Bytes) -> Inbound {
    let (length, frame) = (bytes.len(), Frame::parse(bytes.clone()));
    Inbound { order: 1, at: NOW, lane: crate::wire::Lane::Reliable, length, is_replayed: false, frame }
}

fn resume_with(
    core: &mut Core,
    link_number: u64,
    presented: &Issued,
    next: &Issued,
    point: ResumePoint,
) -> bool {
    let rebind = Rebind {
        link: bound(link_number),
        presented: presented.hash,
        point,
        trimmed: 0,
        sent: 0,
        zone: None,
    };
    core.resume(&rebind, next, &terms(), &SessionConfig::default()).expect("a player's").0
}

#[test]
fn the_state_follows_from_the_link_and_the_membership() {
    let mut core = opened();
    let membership = Membership { zone: Entity::PLACEHOLDER, zone_id: ZoneId(1), name: "hall".into() };
    assert_eq!(core.state(), Some(SessionState::Connected));

    core.set_membership(Some(membership));
    assert_eq!(core.state(), Some(SessionState::Active));
    core.ack(0, NOW).expect("nothing was sent");
    _ = core.lose(LossCause::Silent, WINDOW, NOW).expect("it had a link");
    assert_eq!((core.state(), core.expires_at()), (Some(SessionState::Disconnected), Some(NOW + WINDOW)));
    assert!(core.lose(LossCause::Silent, WINDOW, NOW).is_none(), "it has none to lose");
    let point = ResumePoint { received: 0, resync: false };
    assert!(!resume_with(&mut core, 2, &token(1), &token(2), point));
    assert_eq!((core.state(), core.expires_at()), (Some(SessionState::Active), None));
    assert_eq!((core.epoch(), core.link()), (Epoch(2), Some(link(2))));
    core.set_membership(None);
    _ = core.end(EndCause::Kicked, "", Tick(8)).expect("it lived");
    assert_eq!((core.state(), core.closed_since()), (None, Some(Tick(8))));
    assert!(core.end(EndCause::Kicked, "", Tick(9)).is_none(), "it ends once");
}

#[test]
fn a_takeover_has_all_its_effects_at_once_and_in_order() {
    let mut core = opened();
    let rebind = Rebind {
        link: bound(2),
        presented: token(1).hash,
        point: ResumePoint { received: 0, resync: false },
        trimmed: 0,
        sent: 0,
        zone: None,
    };

    let (_, effects) =
        core.resume(&rebind, &token(2), &terms(), &SessionConfig::default()).expect("a player's");

    let replaced = LossCause::Replaced;
    let expected = [
        Effect::Unbind(link(1)),
        Effect::Lose { link: link(1), cause: replaced },
        Effect::Note(News::Disconnected { cause: replaced, silent_ms: 0 }),
        Effect::Bind(link(2)),
        Effect::Issue(token(2).hash),
        Effect::Note(News::Resumed { resync: false }),
    ];
    assert_eq!(effects, expected.into());
    assert_eq!(core.ack(0, NOW), Ok(Some(token(1).hash)), "the token that was presented is void now");
}

#[test]
fn a_client_that_closes_its_link_before_it_acknowledges_a_welcome_has_no_window() {
    for (cause, window) in [
        (LossCause::Link(LinkEnd::ByPeer), Duration::ZERO),
        (LossCause::Link(LinkEnd::Silent), WINDOW),
        (LossCause::Silent, WINDOW),
    ] {
        let mut core = opened();

        _ = core.lose(cause, WINDOW, NOW).expect("it had a link");

        assert_eq!(core.expires_at(), Some(NOW + window), "{cause:?}");
    }
}

#[test]
fn the_end_voids_the_tokens_and_sends_what_is_queued() {
    let mut core = opened();
    core.put(frame(1), NOW, &SessionConfig::default());

    let effects = core.end(EndCause::Shutdown, "bye", Tick(8)).expect("it lived");

    let Effects(effects) = effects;
    assert_eq!(effects[0], Effect::Retire(token(1).hash));
    let Effect::Close { last, reason, .. } = &effects[2] else { panic!("{effects:?}") };
    assert_eq!((last.len(), *reason), (2, crate::wire::v1::Reason::Shutdown), "the Welcome and the frame");
    let unacked_count = 1;
    assert_eq!(
        effects.last(),
        Some(&Effect::Note(News::Closed { cause: EndCause::Shutdown, unacked_count }))
    );
    assert_eq!(core.put(frame(2), NOW, &SessionConfig::default()), Put::Undelivered);
}

/// A client and the core of its session, with a queue of frames to the client between them.
struct Pair {
    core: Core,
    tokens: (u8, u8),
    links: u64,
    /// Frames on their way to the client.
    down: VecDeque<Bytes>,
    /// The numbers of the frames that the client has received, and those of the frames that were dispatched.
    taken: Vec<u64>,
    dispatched: Vec<u64>,
    /// The numbers of the frames that the client has sent and that are not acknowledged.
    outbox: VecDeque<u64>,
    trimmed: u64,
    /// The number of counted frames that the client has received.
    received: u64,
    next: (u64, u64),
    config: SessionConfig,
}

impl Pair {
    fn new() -> Self {
        let config =
            SessionConfig { messages_burst: 100_000, bytes_burst: 10_000_000, ..SessionConfig::default() };
        Self {
            core: opened(),
            tokens: (1, 1),
            links: 1,
            down: VecDeque::new(),
            taken: Vec::new(),
            dispatched: Vec::new(),
            outbox: VecDeque::new(),
            trimmed: 0,
            received: 0,
            next: (0, 0),
            config,
        }
    }

    fn step(&mut self, step: u8) {
        match step {
            0 => {
                self.next.0 += 1;
                assert_eq!(self.core.put(frame(self.next.0), NOW, &self.config), Put::Queued);
            }
            1 => {
                let mut out = Vec::new();
                self.core.flush(&mut out);
                self.down.extend(out);
            }
            2 => self.take(1),
            3 => self.take(usize::MAX),
            4 => {
                self.next.1 += 1;
                self.outbox.push_back(self.next.1);
                self.core.arrive(inbound(&frame(self.next.1)), &limits());
            }
            5 => self.dispatch(1),
            6 => self.dispatch(usize::MAX),
            7 => _ = self.core.ack(self.received, NOW).expect("it was given"),
            // The client receives a Beacon or an Ack.
            _ => self.trim(self.counted()),
        }
    }

    fn take(&mut self, count: usize) {
        let count = count.min(self.down.len());
        for bytes in self.down.drain(..count).collect::<Vec<_>>() {
            if bytes[..2] == CALL.to_be_bytes() {
                self.received += 1;
                self.taken.push(number(&bytes));
            }
        }
    }

    fn dispatch(&mut self, count: usize) {
        for _ in 0..count {
            let Some(inbound) = self.core.next_frame(NOW, &self.config, &mut 0) else { break };
            self.dispatched.push(number(&frame_of(&inbound)));
        }
    }

    fn trim(&mut self, counted: u64) {
        while self.trimmed < counted && self.outbox.pop_front().is_some() {
            self.trimmed += 1;
        }
    }

    /// Restores the session from a record on a new server. Frames on their way are lost.
    fn restart(&mut self, record: &SessionRecord) {
        let bytes = record.encode_to_vec();
        let record = SessionRecord::decode(&bytes[..]).expect("what was encoded");
        self.core = Core::from_record(&record, NOW, &self.config).expect("a good record").0;
        self.down.clear();
    }

    fn record(&self) -> SessionRecord {
        self.core.to_record(WINDOW, NOW).expect("a player's")
    }

    /// Returns the number of counted frames that dispatch has taken.
    fn counted(&self) -> u64 {
        self.core.inbox().expect("a player's").received()
    }

    /// The client resumes, and sends again the frames that the server has not counted. Returns true for a
    /// resync, and the number of the client's frames that are lost.
    fn resume(&mut self) -> (bool, u64) {
        self.links += 1;
        let presented = self.tokens.0;
        let next = u8::try_from(self.links).unwrap_or(u8::MAX);
        let point = ResumePoint { received: self.received, resync: false };
        let rebind = Rebind {
            link: bound(self.links),
            presented: token(presented).hash,
            point,
            trimmed: self.trimmed,
            sent: 0,
            zone: None,
        };
        let config = self.config.clone();
        let (resync, Effects(effects)) =
            self.core.resume(&rebind, &token(next), &terms(), &config).expect("a player's");
        let missed = effects.iter().find_map(|effect| match effect {
            Effect::Miss(count) => Some(*count),
            _ => None,
        });
        self.tokens.0 = next;
        if resync {
            // The client adopts the count of the Welcome.
            self.received = self.core.outbox().expect("a player's").acked();
        }
        self.trim(self.counted());
        for number in self.outbox.clone() {
            self.core.arrive(inbound(&frame(number)), &limits());
        }
        (resync, missed.unwrap_or_default())
    }

    /// Delivers all frames that are on their way.
    fn settle(&mut self) {
        for step in [1, 3, 6, 7, 1, 3, 7, 8] {
            self.step(step);
        }
    }
}

fn frame_of(inbound: &Inbound) -> Vec<u8> {
    let frame = inbound.frame.as_ref().expect("a whole frame");
    assert_eq!(frame.id, MessageId::new(CALL));
    [&CALL.to_be_bytes()[..], &frame.body[..]].concat()
}

fn is_gapless(numbers: &[u64], last: u64) -> bool {
    numbers.iter().copied().eq(1..=last)
}

proptest! {
    /// Repeatedly records, restores and resumes a session between any two steps.
    #[test]
    fn a_current_record_loses_and_duplicates_nothing(
        runs in prop::collection::vec(prop::collection::vec(0_u8..9, 0..40), 1..8),
    ) {
        let mut pair = Pair::new();
        for steps in runs {
            steps.into_iter().for_each(|step| pair.step(step));
            let record = pair.record();
            pair.restart(&record);
            prop_assert_eq!(pair.core.state(), Some(SessionState::Disconnected));
            prop_assert_eq!(pair.resume(), (false, 0));
        }
        pair.settle();

        prop_assert!(is_gapless(&pair.taken, pair.next.0), "{:?}", pair.taken);
        prop_assert!(is_gapless(&pair.dispatched, pair.next.1), "{:?}", pair.dispatched);
        prop_assert!(pair.outbox.is_empty());
    }

    /// If the record is older than the state of the client, the resume is a resync, and no frame arrives
    /// twice.
    #[test]
    fn an_older_record_leads_to_a_resync_if_something_is_missing(
        before in prop::collection::vec(0_u8..9, 0..40),
        after in prop::collection::vec(0_u8..9, 0..40),
    ) {
        let mut pair = Pair::new();
        before.into_iter().for_each(|step| pair.step(step));
        let record = pair.record();
        let sent_then = pair.core.outbox().expect("a player's").sent();
        after.into_iter().for_each(|step| pair.step(step));
        let (received, trimmed) = (pair.received, pair.trimmed);
        let dispatched = pair.dispatched.len();

        pair.restart(&record);
        let is_behind = received > sent_then || trimmed > record.received;
        let missed = trimmed.saturating_sub(record.received);
        // The game also returns to the time of the record.
        pair.next.0 = sent_then;
        let resync = pair.resume();
        pair.settle();

        prop_assert_eq!(resync, (is_behind, missed));
        let again = &pair.dispatched[dispatched..];
        prop_assert!(again.windows(2).all(|pair| pair[0] + 1 == pair[1]), "in order: {again:?}");
        prop_assert!(again.last().is_none_or(|last| *last == pair.next.1), "to the end: {again:?}");
        if !is_behind {
            prop_assert!(is_gapless(&pair.taken, sent_then), "{:?}", pair.taken);
        }
    }
}
