//! Handles the frames of the bound link, and answers them like an arena in which nothing moves.

use std::time::Duration;

use bytes::Bytes;

use super::exam::{Exam, Halt, TICK_HZ, ZONE};
use super::ledger::Taken;
use super::moves::EARLY;
use crate::arena::v1::{Echo, Input, Pellets, Say, Score, Scores, Snapshot, You};
use crate::wire::v1::{Ack, Bye, Hello, Join, Joined, Part, Parted, Ping, Probe, Reason, Refused};
use crate::wire::{ACK_EVERY_FRAMES, FRAME_MAX_CLIENT, Frame, FrameError, Lane, WireMessage as _};

impl Exam {
    /// Handles a frame of the bound link.
    pub(super) fn take(&mut self, lane: Lane, bytes: Bytes) -> Result<(), Halt> {
        let gap = self.now.saturating_sub(self.heard_at);
        if gap > IDLE_MAX {
            self.fail("idle", format!("it sent no frame for {} ms", gap.as_millis()));
        }
        self.heard_at = self.now;
        let taken = self.take_frame(lane, bytes);
        taken.unwrap_or_else(|error| {
            self.fail("frames", error.to_string());
            Ok(())
        })
    }

    fn take_frame(&mut self, lane: Lane, bytes: Bytes) -> Result<Result<(), Halt>, FrameError> {
        let frame = Frame::parse(bytes.clone())?;
        if lane == Lane::Unreliable && frame.id.lane() == Lane::Reliable {
            self.fail("frames", format!("it sent message {} on the unreliable lane", frame.id));
        }
        if bytes.len() > FRAME_MAX_CLIENT {
            self.fail("frames", format!("it sent message {} of {} bytes", frame.id, bytes.len()));
        }
        if self.first.is_none() && frame.id.lane() == Lane::Reliable {
            self.first = Some((frame.id, frame.decode::<Ack>().ok().map(|ack| ack.received)));
        }
        if frame.id.is_counted() {
            self.count(&frame, &bytes);
            if let Some(link) = self.link.filter(|_| self.ledger.is_full()) {
                self.fail("messages", "it sent too many calls");
                self.close(link, Reason::Protocol, 0);
                return Ok(Err(Halt::Lost("its link was closed, because it sent too many calls".to_owned())));
            }
        }
        match frame.id {
            Ack::ID => self.acknowledged(frame.decode::<Ack>()?.received),
            Ping::ID => {
                let ping: Ping = frame.decode()?;
                if ping.id <= self.beacon_count || ping.id == EARLY {
                    self.pings.insert(ping.id);
                }
                self.acknowledged(ping.received);
            }
            Hello::ID => self.fail("one-hello", "it sent a Hello after Welcome"),
            Probe::ID => {
                let probe = frame.decode()?;
                if let Some(link) = self.link {
                    self.reply(link, &probe);
                }
            }
            Bye::ID => return Ok(Err(Halt::Left)),
            Input::ID => drop(frame.decode::<Input>()?),
            Join::ID => self.join(&frame.decode()?),
            Part::ID => self.part(&frame.decode()?),
            Say::ID => self.echo(&frame.decode()?),
            id => self.fail("messages", format!("it sent message {id}, which clients do not send")),
        }
        Ok(Ok(()))
    }

    fn count(&mut self, frame: &Frame, bytes: &Bytes) {
        let is_known_join = frame.id == Join::ID && self.ledger.has_counted(bytes);
        match self.ledger.take(bytes) {
            Taken::New if is_known_join => {
                self.fail("no-resend", "it sent a Join again that was counted");
            }
            Taken::New => {}
            Taken::Again => self.report.pass("outbox"),
            Taken::Other => {
                let number = self.ledger.received;
                self.fail("outbox", format!("it sent counted frame {number} again with other contents"));
            }
        }
        if !self.withholds && self.ledger.received - self.ledger.told >= ACK_EVERY_FRAMES {
            self.ledger.told = self.ledger.received;
            self.send(&Ack { received: self.ledger.received });
        }
    }

    fn acknowledged(&mut self, received: u64) {
        if !self.ledger.acknowledge(received) {
            let sent = self.ledger.sent;
            self.fail("acks", format!("it acknowledged {received} frames, but {sent} were sent"));
        }
    }

    fn join(&mut self, join: &Join) {
        if join.request == 0 {
            self.fail("join", "its request id is 0");
        } else if join.zone != ZONE {
            self.fail("join", format!("it asked to join the zone {:?}", join.zone));
            let request = join.request;
            self.send(&Refused { request, reason: Reason::NoSuchZone.into(), ..Refused::default() });
            return;
        } else {
            self.report.pass("join");
        }
        if !self.withholds {
            self.put_into_zone(join.request);
        }
    }

    /// Puts the session into the zone: sends Joined and the state of the arena.
    pub(super) fn put_into_zone(&mut self, request: u32) {
        self.ledger.joined = true;
        self.send(&Joined {
            request,
            zone: ZONE.to_owned(),
            zone_id: 1,
            tick_hz: TICK_HZ,
            ..Joined::default()
        });
        let score = Score { id: AVATAR, session: self.ledger.id, name: "you".to_owned(), ..Score::default() };
        self.send(&You { id: AVATAR, width: 100, height: 100 });
        self.send(&Scores { scores: vec![score] });
        self.send(&Pellets { id: vec![0], x: vec![1_000], y: vec![-1_000] });
        self.send_snapshot();
    }

    pub(super) fn send_snapshot(&mut self) {
        let tick = self.zone_ticks;
        self.send(&Snapshot {
            tick,
            chunks: 1,
            id: vec![AVATAR],
            x: vec![0],
            y: vec![0],
            flags: vec![0],
            ..Snapshot::default()
        });
    }

    fn part(&mut self, part: &Part) {
        let request = part.request;
        if self.ledger.joined {
            self.ledger.joined = false;
            let zone = ZONE.to_owned();
            self.send(&Parted { request, zone, reason: Reason::Left.into(), ..Parted::default() });
        } else {
            self.send(&Refused { request, reason: Reason::NotInZone.into(), ..Refused::default() });
        }
    }

    fn echo(&mut self, say: &Say) {
        self.send(&Echo { number: say.number, taken: say.number });
    }
}

/// The id of the only avatar.
const AVATAR: u32 = 1;
/// The longest time without a frame: half of the link timeout, and 0.5 s more for clients with a coarse clock.
pub(super) const IDLE_MAX: Duration = Duration::from_millis(3_000);
