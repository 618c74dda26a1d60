//! Sends questions to authenticators and receives their verdicts.
//!
//! A Hello that an authenticator has to decide becomes a [`Question`] in the authenticator's port. The link
//! stays a guest, and the tick goes on. The [`Verdict`] is an input of a later tick.
//!
//! Failures have these effects:
//!
//! - No verdict arrives within [`VERDICT_TIMEOUT`]. The client is denied as THROTTLED, and a later verdict
//!   is dropped.
//! - The link is lost. The verdict is dropped, and no session opens.
//! - The authenticator is too slow. It may have [`QUESTIONS_MAX`] open questions, and as many may wait in
//!   its port. Further clients are denied as THROTTLED.
//! - One network asks too often. It may have [`QUESTIONS_PER_NETWORK`] open questions with each
//!   authenticator. Further clients of the network are denied as THROTTLED.
//!
//! Data flow: Hello → [`Authenticators`] → [`AuthPort`] → authenticator → [`AuthPort`] →
//! [`TickInput::verdicts`] → the guest → the session.

use std::collections::{BTreeMap, VecDeque};
use std::net::SocketAddr;
use std::time::Duration;

use bevy_ecs::prelude::*;

use super::guests::Guests;
use super::hello::Denial;
use crate::ident::LinkKey;
use crate::identity::{CredentialKind, Credentials};
use crate::proxy::Network;
use crate::proxy::port::{Budget, PortReceiver, PortSender, SizeInBytes, UNBOUNDED, port};
use crate::tick::{Answer, QuestionId, Replay, TickInput, TickTime, Verdict};
use crate::wire::retry;
use crate::wire::v1::Reason;

/// A question about a client that has sent a Hello. A [`Verdict`] answers it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Question {
    /// Id of the question, which its [`Answer`] repeats.
    pub id: QuestionId,
    /// The credentials in the Hello.
    pub credentials: Credentials,
    /// The name of the user that the link or the ticket names, or `None`. If a verdict accepts another
    /// name, the client is denied.
    pub user: Option<String>,
    /// The address of the client, if its link has one.
    pub address: Option<SocketAddr>,
}

/// The authenticator's ends of its two ports. [`serve_authenticator`](super::serve_authenticator) serves
/// them on a thread.
#[derive(Debug)]
pub struct AuthPort {
    /// Questions of the gate.
    pub questions: PortReceiver<Question>,
    /// Answers to the gate. The authenticator must keep the answers for which the port has no room, and
    /// send them later.
    pub answers: PortSender<Answer>,
}

/// The authenticators of a server, by the kind of credentials that each decides about.
#[derive(Resource, Debug, Default)]
pub struct Authenticators {
    attached: Vec<Attached>,
    by_kind: BTreeMap<CredentialKind, usize>,
    /// Questions without a verdict, the oldest first.
    open: BTreeMap<QuestionId, OpenQuestion>,
    /// Number of open questions by authenticator and network.
    by_network: BTreeMap<(usize, Network), usize>,
    asked_count: u64,
}

/// The state that the gate keeps for one authenticator.
#[derive(Debug)]
struct Attached {
    questions: PortSender<Question>,
    answers: PortReceiver<Answer>,
    batch: VecDeque<Question>,
    /// Number of questions since the authenticator was attached.
    given: u64,
    /// Number of questions in the authenticator's port when the tick began, plus those that were asked since then.
    waiting: u64,
    /// Number of questions without a verdict.
    open_count: usize,
}

#[derive(Debug)]
struct OpenQuestion {
    authenticator: usize,
    link: LinkKey,
    network: Option<Network>,
    /// Time at which the question is closed without a verdict, on the sampled clock.
    deadline: Duration,
}

/// Index of an authenticator in the order of attachment.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct AuthenticatorId(usize);

impl Authenticators {
    /// Adds an authenticator that decides about these kinds of credentials. Returns its ends of the ports.
    ///
    /// # Panics
    ///
    /// Panics if another authenticator decides about one of the kinds.
    pub fn attach(&mut self, kinds: impl IntoIterator<Item = CredentialKind>) -> AuthPort {
        let authenticator = self.attached.len();
        for kind in kinds {
            let before = self.by_kind.insert(kind, authenticator);
            assert!(
                before.is_none_or(|before| before == authenticator),
                "there are two authenticators for {kind:?} credentials: add only one, which may call the other"
            );
        }
        let (questions_in, questions) = port(UNBOUNDED);
        let (answers, answers_out) = port(ANSWER_BUDGET);
        self.attached.push(Attached {
            questions: questions_in,
            answers: answers_out,
            batch: VecDeque::new(),
            given: 0,
            waiting: 0,
            open_count: 0,
        });
        AuthPort { questions, answers }
    }

    /// Returns the authenticator for a kind of credentials.
    pub(super) fn find(&self, kind: CredentialKind) -> Option<AuthenticatorId> {
        self.by_kind.get(&kind).copied().map(AuthenticatorId)
    }

    /// Returns the number of questions that have no verdict.
    #[must_use]
    pub fn open_count(&self) -> usize {
        self.open.len()
    }

    /// Asks a question. Returns its id.
    ///
    /// # Errors
    ///
    /// Returns a denial as THROTTLED if the authenticator or the network has too many open questions.
    pub(super) fn ask(
        &mut self,
        AuthenticatorId(index): AuthenticatorId,
        link: LinkKey,
        network: Option<Network>,
        now: Duration,
        question: Question,
    ) -> Result<QuestionId, Denial> {
        let of_network = network.and_then(|network| self.by_network.get(&(index, network)));
        let authenticator = &mut self.attached[index];
        let busy =
            if authenticator.open_count >= QUESTIONS_MAX || authenticator.waiting >= QUESTIONS_MAX as u64 {
                Some("too many players are logging in")
            } else if of_network.is_some_and(|count| *count >= QUESTIONS_PER_NETWORK) {
                Some("too many players of your network are logging in")
            } else {
                None
            };
        if let Some(detail) = busy {
            return Err(Denial::later(Reason::Throttled, detail, retry::NO_VERDICT));
        }
        self.asked_count += 1;
        let id = QuestionId(self.asked_count);
        authenticator.given += 1;
        authenticator.waiting += 1;
        authenticator.open_count += 1;
        authenticator.batch.push_back(Question { id, ..question });
        let deadline = now.saturating_add(VERDICT_TIMEOUT);
        self.open.insert(id, OpenQuestion { authenticator: index, link, network, deadline });
        if let Some(network) = network {
            *self.by_network.entry((index, network)).or_default() += 1;
        }
        Ok(id)
    }

    /// Closes a question. Returns the link that it was about, or `None` if the question is already closed.
    fn close(&mut self, id: QuestionId) -> Option<LinkKey> {
        let OpenQuestion { authenticator, link, network, .. } = self.open.remove(&id)?;
        self.attached[authenticator].open_count -= 1;
        if let Some(network) = network
            && let Some(count) = self.by_network.get_mut(&(authenticator, network))
        {
            *count -= 1;
            if *count == 0 {
                self.by_network.remove(&(authenticator, network));
            }
        }
        Some(link)
    }

    /// Closes the questions whose deadline has passed, the oldest first. All questions have the same
    /// timeout.
    fn close_overdue(&mut self, now: Duration) -> Vec<(QuestionId, LinkKey)> {
        let overdue = self.open.iter().take_while(|(_, open)| open.deadline <= now);
        let ids: Vec<QuestionId> = overdue.map(|(id, _)| *id).collect();
        ids.into_iter().filter_map(|id| Some((id, self.close(id)?))).collect()
    }
}

/// Gathers the answers of all authenticators. An answer is dropped if its question is not open, or was put to
/// another authenticator.
pub(super) fn gather(world: &mut World, input: &mut TickInput) {
    let Authenticators { attached, open, .. } = &mut *world.resource_mut::<Authenticators>();
    for (index, authenticator) in attached.iter_mut().enumerate() {
        input.authenticators.push(authenticator.questions.taken());
        authenticator.answers.drain(ANSWER_BUDGET, |answer| {
            if open.get(&answer.question).is_some_and(|open| open.authenticator == index) {
                input.verdicts.push(answer);
            } else {
                tracing::debug!(question = %answer.question, "verdict dropped: the question is not open");
            }
        });
    }
}

/// Stores verdicts with their guests, and closes the questions whose time has passed. The verdict about a
/// guest that has left is dropped.
pub(super) fn receive(
    input: Res<TickInput>,
    time: Res<TickTime>,
    mut authenticators: ResMut<Authenticators>,
    mut guests: ResMut<Guests>,
) {
    for (authenticator, taken) in authenticators.attached.iter_mut().zip(&input.authenticators) {
        authenticator.waiting = authenticator.given.saturating_sub(taken.count);
    }
    for Answer { question, verdict } in &input.verdicts {
        let link = authenticators.close(*question);
        if !link.is_some_and(|link| guests.decide(link, *question, verdict.clone())) {
            tracing::debug!(%question, "verdict dropped: its link is closed");
        }
    }
    for (question, link) in authenticators.close_overdue(time.now()) {
        tracing::debug!(%link, %question, "no verdict in time: the client is denied as THROTTLED");
        guests.decide(link, question, Verdict::RetryAfter(retry::NO_VERDICT));
    }
}

/// Sends the questions of this tick to the authenticators. In a replay they are discarded, because the
/// recording has the verdicts.
pub(super) fn send(mut authenticators: ResMut<Authenticators>, replay: Option<Res<Replay>>) {
    for authenticator in &mut authenticators.bypass_change_detection().attached {
        if replay.is_some() {
            authenticator.batch.clear();
        } else if !authenticator.batch.is_empty() {
            authenticator.questions.send(&mut authenticator.batch, |_| {});
        }
    }
}

impl SizeInBytes for Question {
    fn size_in_bytes(&self) -> usize {
        let shown = match &self.credentials {
            Credentials::Anonymous { name } => name.len(),
            Credentials::Password { user, realm, password, slot } => {
                user.len() + realm.len() + password.len() + slot.len()
            }
            Credentials::Bearer { token, slot } => token.len() + slot.len(),
        };
        shown + self.user.as_ref().map_or(0, String::len)
    }
}

impl SizeInBytes for Answer {
    fn size_in_bytes(&self) -> usize {
        match &self.verdict {
            Verdict::Accept(principal) => principal
                .user()
                .map_or(principal.name().len(), |user| user.name.len() + user.realm.len() + user.slot.len()),
            Verdict::Deny(detail) => detail.len(),
            Verdict::RetryAfter(_) => 0,
        }
    }
}

/// Time within which an authenticator must answer. If it does not, the client is denied as THROTTLED. The
/// time equals the default of [`GateConfig::hello_timeout`](super::GateConfig::hello_timeout), so a login
/// holds a place for no longer than a silent link does.
pub const VERDICT_TIMEOUT: Duration = Duration::from_secs(5);

/// Maximum number of open questions of an authenticator. As many may wait in its port. Further clients are
/// denied as THROTTLED. The number equals the default limit of guests. A Hello has at most 4 KiB, so the
/// questions in the port take at most 16 MiB.
pub const QUESTIONS_MAX: usize = 4_096;

/// Maximum number of open questions of one [network](Network) with one authenticator. Further clients of
/// the network are denied as THROTTLED. If each verdict takes 100 ms, a network can log in 640 players per
/// second.
pub const QUESTIONS_PER_NETWORK: usize = 64;

/// Limit of the answers that wait in the port of one authenticator, and of those that one tick takes from it: two
/// for each open question.
const ANSWER_BUDGET: Budget = Budget { count: 2 * QUESTIONS_MAX, bytes: 16 * 1024 * 1024 };
