//! One bot: a client that plays, talks, and is cut.

use std::time::Duration;

use super::BotReport;
use super::check::EchoCheck;
use super::plan::{CutKind, CutPlan};
use super::proto::{Echo, Input, Say};
use super::rows::RoundTrips;
use crate::client::v1::{Joined, Parted, Refused};
use crate::client::{Client, ClientEvent, ClientState, Dial, Frame, SessionId, Transport};

/// What a link says of its transport.
pub(super) type TransportOf<D> = fn(&<D as Dial>::Link) -> Option<Transport>;

/// A bot, and what it is in the middle of.
#[derive(Debug)]
pub(super) struct Player<D: Dial> {
    client: Client<D>,
    transport_of: TransportOf<D>,
    /// The transport that the session's last link said it has.
    over: Option<Transport>,
    plan: Option<CutPlan>,
    check: EchoCheck,
    /// The bot has joined, in this session and in any.
    in_zone: bool,
    ever_joined: bool,
    /// When to ask for the zone; none while it is there or asked for.
    join_at: Option<Duration>,
    inputs: u64,
    input_at: Duration,
    say_at: Duration,
    /// A cut that is not resumed yet.
    cut: Option<Cutting>,
    /// A loss of the link that the bot did itself is still to be polled.
    cutting: bool,
}

/// A link that is gone.
#[derive(Debug)]
struct Cutting {
    /// How; none if nobody asked for it.
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

    /// Lets time pass and takes in what happened.
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
                tracing::debug!(?reason, detail, "a bot has stopped");
                report.turned_away.get_or_insert_with(|| match reason {
                    Some(reason) => format!("{reason}: {detail}"),
                    None => detail,
                });
                self.join_at = None;
            }
            ClientEvent::Message(_) => {}
        }
    }

    /// The session has a link, which says what carries it.
    fn bound(&mut self, report: &mut BotReport) {
        let before = self.over;
        self.over = self.client.link().and_then(self.transport_of);
        report.bound(before, self.over);
    }

    /// The link is gone.
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

    /// Moves, talks, and is cut, as is due.
    pub(super) fn play(&mut self, now: Duration, report: &mut BotReport) {
        if !self.in_zone {
            return;
        }
        let linked = self.client.state() == ClientState::Connected;
        if now >= self.input_at {
            self.input_at = (self.input_at + INPUT_EVERY).max(now);
            self.inputs += 1;
            // Walks in circles, a few seconds each. While the link is away it is lost, as it may be.
            #[allow(clippy::cast_precision_loss, reason = "an angle: the last bits do not matter")]
            let angle = self.inputs as f32 / 20.0;
            let _ = self.client.send(&Input { tick: self.inputs, x: angle.cos(), y: angle.sin() });
        }
        if now >= self.say_at {
            self.say_at = (self.say_at + SAY_EVERY).max(now);
            let say = Say { number: self.check.next_number() };
            // A full outbox refuses; the number is said later.
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

    /// Whether nothing more is to come: all acknowledged, all echoed, back from every cut.
    pub(super) fn is_settled(&self) -> bool {
        let all_there = self.client.state() == ClientState::Connected
            && self.client.sent_count() == self.client.acked_count()
            && self.check.is_settled();
        all_there || self.is_stopped()
    }

    pub(super) fn is_stopped(&self) -> bool {
        self.client.state() == ClientState::Stopped
    }

    /// Closes the books and says Bye.
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

    /// Lets time pass after [`leave`](Self::leave): the Bye goes out and is answered.
    pub(super) fn update_leaving(&mut self, dt: Duration) {
        self.client.update(dt);
        while self.client.poll().is_some() {}
    }
}

/// Where bots play.
const ZONE: &str = "arena";
/// The zone's own rate.
const INPUT_EVERY: Duration = Duration::from_millis(50);
/// Often enough that each cut has calls under way in both directions.
const SAY_EVERY: Duration = Duration::from_millis(200);
/// A bot that was parted or refused asks again.
const REJOIN: Duration = Duration::from_secs(1);
