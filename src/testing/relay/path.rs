//! What the network decides for one flow: which packets arrive, and when. No sockets and no clock.

use std::time::Duration;

use super::Direction;
use super::counts::Tally;
use super::dice::Dice;
use super::network::Network;

/// The state of one flow's way through the network, in both directions.
#[derive(Debug)]
pub(super) struct Path {
    /// What makes the dice of this flow other ones than those of all others.
    kind: u64,
    ordinal: u64,
    ways: [Way; 2],
    /// The turns of rebindings and of resets.
    turns: [Turns; 2],
}

#[derive(Debug, Default)]
struct Way {
    /// Packets that came so far.
    count: u64,
    /// When the last one arrives that keeps its place.
    ordered_until: Duration,
    /// When the rate lets another packet pass.
    free_at: Duration,
}

/// What happens to a flow as a whole.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Event {
    Rebind,
    Reset,
}

/// How often an event of a flow was set a time, and the last such time.
#[derive(Debug, Default)]
struct Turns {
    count: u64,
    at: Option<Duration>,
}

/// The network and the time at which a packet meets it.
#[derive(Debug, Clone, Copy)]
pub(super) struct Moment {
    pub(super) network: Network,
    pub(super) seed: u64,
    /// Time since the relay's start.
    pub(super) now: Duration,
}

/// What becomes of a TCP segment.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum SegmentFate {
    /// It arrives then.
    Arrives(Duration),
    /// It is lost so often that its sender gives up then.
    GivesUp(Duration),
}

impl Path {
    /// The path of the flow of this number over UDP.
    pub(super) fn of_flow(ordinal: u64) -> Self {
        Self::new(0, ordinal)
    }

    /// The path of the connection of this number over TCP.
    pub(super) fn of_connection(ordinal: u64) -> Self {
        Self::new(1, ordinal)
    }

    fn new(kind: u64, ordinal: u64) -> Self {
        Self { kind, ordinal, ways: Default::default(), turns: Default::default() }
    }

    /// When a datagram arrives, and when a second copy does.
    pub(super) fn datagram(
        &mut self,
        direction: Direction,
        length: usize,
        moment: Moment,
        tally: &mut Tally,
    ) -> [Option<Duration>; 2] {
        let Moment { network, seed, now } = moment;
        // All dice are cast for each datagram, so that its fate does not change those of others.
        let mut dice = self.dice(direction, seed);
        let is_lost = dice.chance(network.loss);
        let is_reordered = dice.chance(network.reordered);
        let is_doubled = dice.chance(network.doubled);
        let under_way = network.delay + dice.duration(network.jitter);
        let (held, second) = (dice.duration(HELD_MAX), dice.duration(HELD_MAX));
        tally.way_mut(direction).datagram_count += 1;
        if let Some(outage) = network.outage(seed, direction, now) {
            tally.met(outage);
            tally.way_mut(direction).cut_count += 1;
            return [None, None];
        }
        let way = &mut self.ways[direction.index()];
        let counts = tally.way_mut(direction);
        if is_lost {
            counts.lost_count += 1;
            return [None, None];
        }
        let leaves_at = way.leaves_at(length, network.rate, now);
        if leaves_at > now + network.queue && network.rate.is_some() {
            counts.dropped_count += 1;
            return [None, None];
        }
        way.free_at = leaves_at;
        let mut at = leaves_at + under_way;
        if is_reordered {
            counts.reordered_count += 1;
            at += held;
        } else {
            at = at.max(way.ordered_until);
            way.ordered_until = at;
        }
        counts.doubled_count += u64::from(is_doubled);
        [Some(at), is_doubled.then_some(at + second)]
    }

    /// What becomes of a TCP segment. A sender tries again after [`RESEND_AFTER`] and a round trip. While
    /// nothing gets through it waits twice as long each further time; what is lost by chance is missed
    /// by the segments behind it, so it is not. Segments arrive in order.
    pub(super) fn segment(
        &mut self,
        direction: Direction,
        length: usize,
        moment: Moment,
        tally: &mut Tally,
    ) -> SegmentFate {
        let Moment { network, seed, now } = moment;
        let is_first = self.ways[direction.index()].count == 0;
        let mut dice = self.dice(direction, seed);
        let under_way = network.delay + dice.duration(network.jitter);
        tally.way_mut(direction).segment_count += 1;
        let way = &mut self.ways[direction.index()];
        let mut leaves_at = way.leaves_at(length, network.rate, now);
        way.free_at = leaves_at;
        if is_first && direction == Direction::Up {
            // The system accepted the connection at once; on a network that takes a round trip.
            leaves_at += under_way * 2;
        }
        match gets_through(direction, leaves_at, dice, moment, tally) {
            Ok(left_at) => {
                let way = &mut self.ways[direction.index()];
                way.ordered_until = way.ordered_until.max(left_at + under_way);
                SegmentFate::Arrives(way.ordered_until)
            }
            Err(at) => SegmentFate::GivesUp(at),
        }
    }

    /// When the reset of a TCP connection arrives, which does not wait for the segments before it. One that
    /// is lost comes again when the peer has sent something again.
    pub(super) fn reset(&mut self, direction: Direction, moment: Moment, tally: &mut Tally) -> Duration {
        let Moment { network, seed, now } = moment;
        let mut dice = self.dice(direction, seed);
        let under_way = network.delay + dice.duration(network.jitter);
        let (Ok(at) | Err(at)) = gets_through(direction, now, dice, moment, tally);
        at + under_way
    }

    /// Whether an event is due that comes `every` so often: called for each packet from the client. The
    /// first call sets the time of the first one.
    pub(super) fn is_due(&mut self, event: Event, every: Option<Duration>, moment: Moment) -> bool {
        let Some(every) = every else { return false };
        let turns = &mut self.turns[event as usize];
        let is_due = turns.at.is_some_and(|at| moment.now >= at);
        if is_due || turns.at.is_none() {
            let kind = EVENTS + ((event as u64) << 1) + self.kind;
            let mut dice = Dice::new([moment.seed, kind, self.ordinal, turns.count]);
            turns.count += 1;
            turns.at = Some(moment.now + dice.gap(every));
        }
        is_due
    }

    /// The dice of the next packet.
    fn dice(&mut self, direction: Direction, seed: u64) -> Dice {
        let way = &mut self.ways[direction.index()];
        way.count += 1;
        Dice::new([seed, self.kind, self.ordinal * 2 + direction.index() as u64, way.count])
    }
}

impl Way {
    /// When a packet has passed the rate's limit.
    fn leaves_at(&self, length: usize, rate: Option<u32>, now: Duration) -> Duration {
        let Some(rate) = rate else { return now };
        #[allow(clippy::cast_precision_loss, reason = "a packet's length is exact in a double")]
        let takes = Duration::from_secs_f64((length + HEADERS) as f64 / f64::from(rate));
        self.free_at.max(now) + takes
    }
}

/// When a packet of TCP leaves that gets through, the first of them at `leaves_at`; or when its sender gives
/// up.
fn gets_through(
    direction: Direction,
    mut leaves_at: Duration,
    mut dice: Dice,
    moment: Moment,
    tally: &mut Tally,
) -> Result<Duration, Duration> {
    let Moment { network, seed, .. } = moment;
    let resend_after = RESEND_AFTER + network.round_trip_max();
    let mut again_after = resend_after;
    for _ in 0..TRIES_MAX {
        let is_lost = dice.chance(network.loss);
        let outage = network.outage(seed, direction, leaves_at);
        if !is_lost && outage.is_none() {
            return Ok(leaves_at);
        }
        tally.way_mut(direction).retransmitted_count += 1;
        leaves_at += again_after;
        let nothing_passes = outage.is_some() || network.loss >= 1.0;
        again_after = if nothing_passes {
            (again_after * 2).min(RESEND_AFTER_MAX.max(resend_after))
        } else {
            resend_after
        };
        outage.into_iter().for_each(|outage| tally.met(outage));
    }
    Err(leaves_at)
}

/// The longest that a datagram is held back to be overtaken, and that its second copy is late: two
/// frames of a server of 20 Hz.
const HELD_MAX: Duration = Duration::from_millis(100);
/// The least time after which TCP sends a segment again, as in Linux.
const RESEND_AFTER: Duration = Duration::from_millis(200);
/// The longest time between two tries. Linux goes up to 120 s, but probes for lost tails meanwhile,
/// which is not modelled.
const RESEND_AFTER_MAX: Duration = Duration::from_secs(4);
/// Tries before a sender gives up: some four minutes where nothing passes.
const TRIES_MAX: u32 = 64;
/// IPv4 and UDP headers of a packet.
const HEADERS: usize = 28;
/// What makes the dice of events other ones than those of packets.
const EVENTS: u64 = 4 << 32;
