//! One bot: a client that plays the arena and cuts its links.

use std::time::Duration;

use super::BotReport;
use super::check::EchoCheck;
use super::plan::{CutKind, CutPlan};
use super::proto::{Echo, Input, Say};
use super::rows::RoundTrips;
use crate::client::v1::{Joined, Parted, Refused};
use crate::client::{Client, ClientEvent, ClientState, Dial, Frame, SessionId, Transport};

/// A function that returns the transport of a link.
pub(super) type TransportOf<D> = fn(&<D as Dial>::Link) -> Option<Transport>;

/// A bot.
#[derive(Debug)]
pub(super) struct Player<D: Dial> {
    client: Client<D>,
    transport_of: TransportOf<D>,
    /// The transport of the session's last link.
    over: Option<Transport>,
    plan: Option<CutPlan>,
    check: EchoCheck,
    /// True if the session is in the zone.
    in_zone: bool,
    /// True if any session of the bot was in the zone.
    ever_joined: bool,
    /// When to send Join. `None` while the bot is in the zone or waits for an answer.
    join_at: Option<Duration>,
    inputs: u64,
    input_at: Duration,
    say_at: Duration,
    /// The loss of the link, until the session is resumed.
    cut: Option<Cutting>,
    /// True if the next [`ClientEvent::LinkLost`] is the bot's own cut.
    cutting: bool,
}

/// The loss of a link.
#[derive(Debug)]
struct Cutting {
    /// The kind of the cut. `None` if the bot did not cut the link.
    kind: Option<CutKind>,
    over: Option<Transport>,
    session: Option<SessionId>,
    since: Duration,
}

impl<D: Dial> Player<D> {
    pub(super) fn new(client: Client<D>, transport_of: TransportOf<D>, plan: Option<CutPlan>) -> Self {
        Self {
            client,
            transport_of,
            over: None,
            plan,
            check: EchoCheck::default(),
            in_zone: false,
            ever_joined: false,
            join_at: None,
            inputs: 0,
            input_at: Duration::ZERO,
            say_at: Duration::ZERO,
            cut: None,
            cutting: false,
        }
    }

    /// Advances the client by `dt`, and handles its events.
    pub(super) fn update(
        &mut self,
        dt: Duration,
        now: Duration,
        report: &mut BotReport,
        trips: &mut RoundTrips,
    ) {
        self.client.update(dt);
        while let Some(event) = self.client.poll() {
            match event {
                ClientEvent::Message(frame) => self.take(&frame, now, report, trips),
                event => self.happened(event, now, report),
            }
        }
        if self.join_at.is_some_and(|at| at <= now) && self.client.join(ZONE, "").is_ok() {
            self.join_at = None;
        }
    }

    fn happened(&mut self, event: ClientEvent, now: Duration, report: &mut BotReport) {
        match event {
            ClientEvent::Connected { .. } => {
                self.bound(report);
                self.join_at = Some(now);
            }
            ClientEvent::LinkLost => {
                self.check.link_lost();
                if !std::mem::take(&mut self.cutting) {
                    self.lost(None, now, report);
                }
            }
            ClientEvent::Resumed { session, resync } => {
                report.resync_count += u64::from(resync);
                if let Some(cut) = self.cut.take() {
                    report.resumed(cut.kind, cut.over, cut.session == Some(session));
                    report.longest_absence = report.longest_absence.max(now.saturating_sub(cut.since));
                }
                self.bound(report);
                if let Some(plan) = &mut self.plan {
                    plan.resumed(now);
                }
            }
            ClientEvent::SessionLost { unacked_count, .. } => {
                report.sessions_lost += 1;
                report.unacked_count += unacked_count;
                self.cut = None;
                self.in_zone = false;
                self.join_at = None;
                self.settle(unacked_count, report);
            }
            ClientEvent::Closed { reason, detail } => {
                tracing::debug!(?reason, detail, "the client of a bot has stopped");
                report.turned_away.get_or_insert_with(|| match reason {
                    Some(reason) => format!("{reason}: {detail}"),
                    None => detail,
                });
                self.join_at = None;
            }
            ClientEvent::Message(_) => {}
        }
    }

    /// Records the transport of the session's new link.
    fn bound(&mut self, report: &mut BotReport) {
        let before = self.over;
        self.over = self.client.link().and_then(self.transport_of);
        report.bound(before, self.over);
    }

    /// Records the loss of the link.
    fn lost(&mut self, kind: Option<CutKind>, now: Duration, report: &mut BotReport) {
        report.cut(kind, self.over);
        let session = self.client.session_id();
        self.cut = Some(Cutting { kind, over: self.over, session, since: now });
    }

    fn take(&mut self, frame: &Frame, now: Duration, report: &mut BotReport, trips: &mut RoundTrips) {
        if let Ok(echo) = frame.decode::<Echo>() {
            if let Some(took) = self.check.echoed(echo.number, echo.taken, now) {
                trips.record(took, self.over);
            }
        } else if frame.decode::<Joined>().is_ok() {
            self.in_zone = true;
            if !std::mem::replace(&mut self.ever_joined, true) {
                report.joined += 1;
                report.last_joined_at = now;
            }
        } else if frame.decode::<Parted>().is_ok() {
            self.in_zone = false;
            self.join_at = Some(now + REJOIN);
        } else if let Ok(refused) = frame.decode::<Refused>() {
            let retry_after = Duration::from_millis(refused.retry_after_ms.into());
            self.join_at = Some(now + retry_after.max(REJOIN));
        }
    }

    /// Sends the calls and makes the cuts that are due.
    pub(super) fn play(&mut self, now: Duration, report: &mut BotReport) {
        if !self.in_zone {
            return;
        }
        let linked = self.client.state() == ClientState::Connected;
        if now >= self.input_at {
            self.input_at = (self.input_at + INPUT_EVERY).max(now);
            self.inputs += 1;
            // The bot walks in circles of about 6 s. Without a link, the unreliable input is lost.
            #[allow(clippy::cast_precision_loss, reason = "the last bits of an angle do not matter")]
            let angle = self.inputs as f32 / 20.0;
            let _ = self.client.send(&Input { tick: self.inputs, x: angle.cos(), y: angle.sin() });
        }
        if now >= self.say_at {
            self.say_at = (self.say_at + SAY_EVERY).max(now);
            let say = Say { number: self.check.next_number() };
            // If the outbox is full, the call is sent later with the same number.
            if self.client.send(&say).is_ok() {
                self.check.said(now, linked);
            }
        }
        if linked
            && self.cut.is_none()
            && let Some((kind, cut)) = self.plan.as_mut().and_then(|plan| plan.due(now))
        {
            self.lost(Some(kind), now, report);
            self.cutting = true;
            self.client.cut(cut);
        }
    }

    /// Returns true if the session has a link and all calls are acknowledged and echoed, or if the client has
    /// stopped.
    pub(super) fn is_settled(&self) -> bool {
        let all_there = self.client.state() == ClientState::Connected
            && self.client.sent_count() == self.client.acked_count()
            && self.check.is_settled();
        all_there || self.is_stopped()
    }

    pub(super) fn is_stopped(&self) -> bool {
        self.client.state() == ClientState::Stopped
    }

    /// Adds the tallies to the report and sends Bye.
    pub(super) fn leave(&mut self, report: &mut BotReport) {
        report.stopped += u64::from(self.is_stopped());
        report.unsettled += u64::from(!self.is_settled());
        self.settle(self.client.sent_count() - self.client.acked_count(), report);
        self.client.bye();
    }

    fn settle(&mut self, unacked: u64, report: &mut BotReport) {
        let (up, down) = std::mem::take(&mut self.check).finish(unacked);
        report.up.add(up);
        report.down.add(down);
    }

    /// Advances the client after [`leave`](Self::leave), until Bye is answered.
    pub(super) fn update_leaving(&mut self, dt: Duration) {
        self.client.update(dt);
        while self.client.poll().is_some() {}
    }
}

/// The zone that bots join.
const ZONE: &str = "arena";
/// The time between two inputs: a tick of the zone.
const INPUT_EVERY: Duration = Duration::from_millis(50);
/// The time between two reliable calls. It is short enough that a cut often hits calls in flight.
const SAY_EVERY: Duration = Duration::from_millis(200);
/// How long a bot waits after Parted or Refused before it sends Join again.
const REJOIN: Duration = Duration::from_secs(1);
