//! One client of a run: it drives a bot, and cuts its links.

use std::time::Duration;

use super::check::EchoCheck;
use super::membership::{Membership, Quoted};
use super::plan::{CutKind, CutPlan};
use super::play::Play;
use super::rng::BotRng;
use super::rows::RoundTrips;
use super::{Bot, BotReport};
use crate::client::v1::{Joined, Parted, Refused};
use crate::client::{Client, ClientEvent, ClientState, Dial, Frame, SessionId, Transport};

/// A function that returns the transport of a link.
pub(super) type TransportOf<D> = fn(&<D as Dial>::Link) -> Option<Transport>;

/// A bot and its client.
pub(super) struct Player<D: Dial> {
    bot: Box<dyn Bot>,
    name: String,
    client: Client<D>,
    transport_of: TransportOf<D>,
    /// The transport of the session's last link.
    over: Option<Transport>,
    plan: Option<CutPlan>,
    check: EchoCheck,
    membership: Membership,
    rng: BotRng,
    /// When the first update was.
    started_at: Option<Duration>,
    /// Why the client has stopped.
    closed: Option<String>,
    /// The loss of the link, until the session is resumed.
    cut: Option<Cutting>,
    /// True if the next [`ClientEvent::LinkLost`] is the bot's own cut.
    cutting: bool,
}

/// A step of the run.
pub(super) struct Step<'a> {
    pub(super) now: Duration,
    pub(super) dt: Duration,
    /// False if the run is at its end, where bots send nothing new.
    pub(super) is_playing: bool,
    pub(super) report: &'a mut BotReport,
    pub(super) trips: &'a mut RoundTrips,
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
    pub(super) fn new(
        bot: Box<dyn Bot>,
        name: String,
        client: Client<D>,
        transport_of: TransportOf<D>,
        plan: Option<CutPlan>,
        rng: BotRng,
    ) -> Self {
        Self {
            bot,
            name,
            client,
            transport_of,
            over: None,
            plan,
            check: EchoCheck::default(),
            membership: Membership::default(),
            rng,
            started_at: None,
            closed: None,
            cut: None,
            cutting: false,
        }
    }

    /// Advances the client, and handles its events.
    pub(super) fn update(&mut self, step: &mut Step<'_>) {
        self.started_at.get_or_insert(step.now);
        self.client.update(step.dt);
        while let Some(event) = self.client.poll() {
            match event {
                ClientEvent::Message(frame) => self.take(&frame, step),
                event => self.happened(event, step.now, step.report),
            }
        }
        if self.membership.is_due(step.now) {
            self.with_bot(step, |bot, play| {
                play.ask(bot.zone(), bot.join_payload());
            });
        }
    }

    fn happened(&mut self, event: ClientEvent, now: Duration, report: &mut BotReport) {
        match event {
            ClientEvent::Connected { .. } => {
                self.bound(report);
                self.membership.connected(now);
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
                let is_member = self.client.welcome().is_some_and(|welcome| !welcome.zone.is_empty());
                self.membership.resumed(is_member, resync, self.client.acked_count(), now);
                if let Some(plan) = &mut self.plan {
                    plan.resumed(now);
                }
            }
            ClientEvent::SessionLost { unacked_count, .. } => {
                report.sessions_lost += 1;
                report.unacked_count += unacked_count;
                self.cut = None;
                self.membership.ended();
                self.settle(unacked_count, report);
            }
            ClientEvent::Closed { reason, detail } => {
                tracing::debug!(?reason, detail, "the client of a bot has stopped");
                self.closed = Some(match reason {
                    Some(reason) => format!("closed {reason}{}", Quoted(&detail)),
                    None => format!("closed{}", Quoted(&detail)),
                });
                report.turned_away.get_or_insert_with(|| match reason {
                    Some(reason) => format!("{reason}: {detail}"),
                    None => detail,
                });
                self.membership.ended();
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

    fn take(&mut self, frame: &Frame, step: &mut Step<'_>) {
        if let Ok(joined) = frame.decode::<Joined>() {
            let is_first = !self.membership.has_ever_joined();
            if !self.membership.joined(&joined) {
                return;
            }
            if is_first {
                step.report.joined += 1;
                step.report.last_joined_at = step.now;
            }
            self.with_bot(step, |bot, play| bot.on_join(&joined, play));
            return;
        }
        if frame.decode::<Parted>().is_ok() {
            self.membership.parted(step.now);
        } else if let Ok(refused) = frame.decode::<Refused>() {
            self.membership.refused(&refused, step.now);
        }
        self.with_bot(step, |bot, play| bot.on_message(frame, play));
    }

    fn with_bot(&mut self, step: &mut Step<'_>, act: impl FnOnce(&mut dyn Bot, &mut Play<'_>)) {
        let mut play = Play {
            client: &mut self.client,
            check: &mut self.check,
            membership: &mut self.membership,
            rng: &mut self.rng,
            name: &self.name,
            now: step.now,
            dt: step.dt,
            is_playing: step.is_playing,
            over: self.over,
            trips: step.trips,
            unsendable: &mut step.report.unsendable,
        };
        act(&mut *self.bot, &mut play);
    }

    /// Lets the bot act, and makes the cut that is due.
    pub(super) fn play(&mut self, step: &mut Step<'_>) {
        if !self.membership.is_in_zone() {
            return;
        }
        let is_linked = self.client.state() == ClientState::Connected;
        self.with_bot(step, |bot, play| bot.on_tick(play));
        if is_linked
            && self.cut.is_none()
            && let Some((kind, cut)) = self.plan.as_mut().and_then(|plan| plan.due(step.now))
        {
            self.lost(Some(kind), step.now, step.report);
            self.cutting = true;
            self.client.cut(cut);
        }
    }

    /// Returns true if the session has a link and all calls are acknowledged and answered, or if the client has
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
    pub(super) fn leave(&mut self, now: Duration, report: &mut BotReport) {
        report.stopped += u64::from(self.is_stopped());
        report.unsettled += u64::from(!self.is_settled());
        if !self.membership.has_ever_joined() {
            let (closed, failure) = (self.closed.as_deref(), self.client.failure());
            let why = self.membership.why_absent(closed, failure, self.started_at, now);
            *report.never_joined.entry(why).or_default() += 1;
        }
        self.settle(self.client.sent_count() - self.client.acked_count(), report);
        self.client.bye();
    }

    fn settle(&mut self, unacked: u64, report: &mut BotReport) {
        let lanes = std::mem::take(&mut self.check).finish(unacked);
        report.up.add(lanes.up);
        report.down.add(lanes.down);
        report.either.add(lanes.either);
    }

    /// Advances the client after [`leave`](Self::leave), until Bye is answered.
    pub(super) fn update_leaving(&mut self, dt: Duration) {
        self.client.update(dt);
        while self.client.poll().is_some() {}
    }
}
