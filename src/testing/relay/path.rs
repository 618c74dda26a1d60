//! Decides which packets of one flow arrive, and when. This module uses no sockets and reads no clock.

use std::time::Duration;

use super::Direction;
use super::counts::Tally;
use super::dice::Dice;
use super::network::Network;

/// The state of one flow in the network, in both directions.
#[derive(Debug)]
pub(super) struct Path {
    /// 0 over UDP, and 1 over TCP. Together with `ordinal` it selects the random numbers of the flow.
    kind: u64,
    ordinal: u64,
    ways: [Way; 2],
    /// The times of rebindings and of resets.
    turns: [Turns; 2],
}

#[derive(Debug, Default)]
struct Way {
    /// The number of packets so far.
    count: u64,
    /// When the last packet arrives that is not reordered.
    ordered_until: Duration,
    /// When the rate permits another packet.
    free_at: Duration,
}

/// An event of a whole flow.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Event {
    Rebind,
    Reset,
}

/// The times of one kind of event.
#[derive(Debug, Default)]
struct Turns {
    /// How many times were set so far.
    count: u64,
    /// When the next event is due.
    at: Option<Duration>,
}

/// The network, the seed and the time at which a packet is sent.
#[derive(Debug, Clone, Copy)]
pub(super) struct Moment {
    pub(super) network: Network,
    pub(super) seed: u64,
    /// The time since the start of the relay.
    pub(super) now: Duration,
}

/// The result of sending a TCP segment.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum SegmentFate {
    /// The segment arrives at this time.
    Arrives(Duration),
    /// The segment is lost so many times that its sender gives up at this time.
    GivesUp(Duration),
}

impl Path {
    /// Returns the path of the UDP flow with this number.
    pub(super) fn of_flow(ordinal: u64) -> Self {
        Self::new(0, ordinal)
    }

    /// Returns the path of the TCP connection with this number.
    pub(super) fn of_connection(ordinal: u64) -> Self {
        Self::new(1, ordinal)
    }

    fn new(kind: u64, ordinal: u64) -> Self {
        Self { kind, ordinal, ways: Default::default(), turns: Default::default() }
    }

    /// Returns when a datagram arrives, and when its second copy arrives.
    pub(super) fn datagram(
        &mut self,
        direction: Direction,
        length: usize,
        moment: Moment,
        tally: &mut Tally,
    ) -> [Option<Duration>; 2] {
        let Moment { network, seed, now } = moment;
        // Each datagram draws the same count of random numbers. So a change of one field of the network does not change
        // the effects of the others.
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

    /// Decides when a TCP segment arrives. A sender sends a lost segment again after [`RESEND_AFTER`] and a round trip.
    /// During an outage the wait doubles with each try. After a random loss it does not, because the segments behind
    /// the lost one reveal the loss. Segments arrive in order.
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
            // The system has accepted the connection at once. Over a network this takes a round trip.
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

    /// Returns when the reset of a TCP connection arrives. A reset does not wait for the segments before it. A lost
    /// reset is sent again when the peer sends again.
    pub(super) fn reset(&mut self, direction: Direction, moment: Moment, tally: &mut Tally) -> Duration {
        let Moment { network, seed, now } = moment;
        let mut dice = self.dice(direction, seed);
        let under_way = network.delay + dice.duration(network.jitter);
        let (Ok(at) | Err(at)) = gets_through(direction, now, dice, moment, tally);
        at + under_way
    }

    /// Returns true if an event is due that occurs every `every` on average. Call this for each packet from the client.
    /// The first call sets the time of the first event.
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

    /// Returns the random numbers of the next packet.
    fn dice(&mut self, direction: Direction, seed: u64) -> Dice {
        let way = &mut self.ways[direction.index()];
        way.count += 1;
        Dice::new([seed, self.kind, self.ordinal * 2 + direction.index() as u64, way.count])
    }
}

impl Way {
    /// Returns when a packet has passed the limit of the rate.
    fn leaves_at(&self, length: usize, rate: Option<u32>, now: Duration) -> Duration {
        let Some(rate) = rate else { return now };
        #[allow(clippy::cast_precision_loss, reason = "the length of a packet is exact in a double")]
        let takes = Duration::from_secs_f64((length + HEADERS) as f64 / f64::from(rate));
        self.free_at.max(now) + takes
    }
}

/// Returns when the transmission of a TCP packet that arrives is sent. The first transmission is sent at `leaves_at`.
/// An error is the time at which the sender gives up.
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

/// The longest time for which a datagram is held back, and by which its second copy is late: two ticks of a server at
/// 20 Hz.
const HELD_MAX: Duration = Duration::from_millis(100);
/// The shortest time after which TCP sends a segment again, as in Linux.
const RESEND_AFTER: Duration = Duration::from_millis(200);
/// The longest time between two tries. Linux waits up to 120 s, but it also sends tail loss probes, which the relay
/// does not simulate.
const RESEND_AFTER_MAX: Duration = Duration::from_secs(4);
/// The number of tries before a sender gives up: about four minutes without a delivery.
const TRIES_MAX: u32 = 64;
/// The length of the IPv4 and UDP headers of a packet in bytes.
const HEADERS: usize = 28;
/// The kind of the random numbers for events. It makes them independent of those for packets.
const EVENTS: u64 = 4 << 32;
