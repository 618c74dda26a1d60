//! Questions to authenticators, and their verdicts.
//!
//! A Hello that an authenticator has to decide becomes a [`Question`] in its port. The link stays a guest meanwhile,
//! and the tick goes on. The [`Verdict`] comes back as an input of a later tick.
//!
//! What can go wrong ends that login and nothing else:
//!
//! - No verdict within [`VERDICT_TIMEOUT`]: the client is denied as THROTTLED. A verdict that comes later is dropped.
//! - The link is lost meanwhile: the verdict is dropped, and no session is opened.
//! - An authenticator does not keep up: it may have [`QUESTIONS_MAX`] open questions, and as many may wait in its port.
//!   Further clients are denied as THROTTLED, and come again.
//! - One network asks without end: it may have [`QUESTIONS_PER_NETWORK`] open questions with each authenticator.
//!
//! Data flow: Hello → [`Authenticators`] → [`AuthPort`] → authenticator → [`AuthPort`] →
//! [`TickInput::verdicts`] → the guest → the session.

use std::collections::{BTreeMap, VecDeque};
use std::net::SocketAddr;
use std::time::Duration;

use bevy_ecs::prelude::*;

use super::hello::Denial;
use super::lobby::Lobby;
use crate::ident::LinkKey;
use crate::identity::{CredentialKind, Credentials};
use crate::proxy::Network;
use crate::proxy::port::{Budget, PortReceiver, PortSender, UNBOUNDED, Weigh, port};
use crate::tick::{Answer, QuestionId, Replay, TickInput, TickTime, Verdict};
use crate::wire::retry;
use crate::wire::v1::Reason;

/// A question about a client that has said Hello. The answer is a [`Verdict`].
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Question {
    /// Names the question in the answer.
    pub id: QuestionId,
    /// What the client shows.
    pub credentials: Credentials,
    /// The user whom the client's link or its ticket names. The verdict has to name the same one.
    pub known_as: Option<String>,
    /// The client's address, if its link has one.
    pub address: Option<SocketAddr>,
}

/// The authenticator's end of its ports. [`serve_authenticator`](super::serve_authenticator) serves it on a thread of
/// its own.
#[derive(Debug)]
pub struct AuthPort {
    /// Questions of the gate.
    pub questions: PortReceiver<Question>,
    /// Answers to the gate. The authenticator keeps those for which the port has no room.
    pub answers: PortSender<Answer>,
}

/// The authenticators of a server, by the kind of credentials that each decides.
#[derive(Resource, Debug, Default)]
pub struct Authenticators {
    attached: Vec<Attached>,
    by_kind: BTreeMap<CredentialKind, usize>,
    /// Questions without a verdict, oldest first.
    open: BTreeMap<QuestionId, OpenQuestion>,
    /// How many of these each network has with each authenticator.
    by_network: BTreeMap<(usize, Network), usize>,
    asked_count: u64,
}

/// What the gate holds of an authenticator.
#[derive(Debug)]
struct Attached {
    questions: PortSender<Question>,
    answers: PortReceiver<Answer>,
    batch: VecDeque<Question>,
    /// Questions since the start.
    given: u64,
    /// Questions that it had not taken when the tick began, and those asked since.
    waiting: u64,
    /// Questions without a verdict.
    open_count: usize,
}

#[derive(Debug)]
struct OpenQuestion {
    authenticator: usize,
    link: LinkKey,
    network: Option<Network>,
    /// On the uncapped clock.
    deadline: Duration,
}

/// Which authenticator.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct AuthenticatorId(usize);

impl Authenticators {
    /// Adds an authenticator that decides these kinds of credentials. Returns its end.
    ///
    /// # Panics
    ///
    /// Panics if there is an authenticator for one of the kinds already.
    pub fn attach(&mut self, kinds: impl IntoIterator<Item = CredentialKind>) -> AuthPort {
        let authenticator = self.attached.len();
        for kind in kinds {
            let before = self.by_kind.insert(kind, authenticator);
            assert!(
                before.is_none_or(|before| before == authenticator),
                "two authenticators for {kind:?} credentials: add one, which may ask the other"
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

    /// Returns how many questions have no verdict yet.
    #[must_use]
    pub fn open_count(&self) -> usize {
        self.open.len()
    }

    /// Asks a question. Returns its id.
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
                Some("too many players log in just now")
            } else if of_network.is_some_and(|count| *count >= QUESTIONS_PER_NETWORK) {
                Some("too many players of your network log in just now")
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

    /// Closes a question. Returns the link that it was about; `None` if it is closed already.
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

    /// Closes the questions whose time is up, oldest first. All have the same time.
    fn close_overdue(&mut self, now: Duration) -> Vec<(QuestionId, LinkKey)> {
        let overdue = self.open.iter().take_while(|(_, open)| open.deadline <= now);
        let ids: Vec<QuestionId> = overdue.map(|(id, _)| *id).collect();
        ids.into_iter().filter_map(|id| Some((id, self.close(id)?))).collect()
    }
}

/// Gathers what the authenticators have said. What an authenticator says of questions that it was not asked is dropped.
pub(super) fn gather(world: &mut World, input: &mut TickInput) {
    let Authenticators { attached, open, .. } = &mut *world.resource_mut::<Authenticators>();
    for (index, authenticator) in attached.iter_mut().enumerate() {
        input.authenticators.push(authenticator.questions.taken());
        authenticator.answers.drain(ANSWER_BUDGET, |answer| {
            if open.get(&answer.question).is_some_and(|open| open.authenticator == index) {
                input.verdicts.push(answer);
            } else {
                tracing::debug!(question = %answer.question, "a verdict that nobody waits for is dropped");
            }
        });
    }
}

/// Takes in verdicts, and closes questions that have had none for too long. A guest that has left meanwhile is not
/// told.
pub(super) fn receive(
    input: Res<TickInput>,
    time: Res<TickTime>,
    mut authenticators: ResMut<Authenticators>,
    mut lobby: ResMut<Lobby>,
) {
    for (authenticator, taken) in authenticators.attached.iter_mut().zip(&input.authenticators) {
        authenticator.waiting = authenticator.given.saturating_sub(taken.count);
    }
    for Answer { question, verdict } in &input.verdicts {
        let link = authenticators.close(*question);
        if !link.is_some_and(|link| lobby.decide(link, *question, verdict.clone())) {
            tracing::debug!(%question, "a verdict about a link that is gone is dropped");
        }
    }
    for (question, link) in authenticators.close_overdue(time.now()) {
        tracing::debug!(%link, %question, "no verdict in time");
        lobby.decide(link, question, Verdict::Later(retry::NO_VERDICT));
    }
}

/// Hands the questions of this tick to their authenticators. A replay has the verdicts already, and asks nobody.
pub(super) fn send(mut authenticators: ResMut<Authenticators>, replay: Option<Res<Replay>>) {
    for authenticator in &mut authenticators.bypass_change_detection().attached {
        if replay.is_some() {
            authenticator.batch.clear();
        } else if !authenticator.batch.is_empty() {
            authenticator.questions.send(&mut authenticator.batch, |_| {});
        }
    }
}

impl Weigh for Question {
    fn weight(&self) -> usize {
        let shown = match &self.credentials {
            Credentials::Anonymous { name } => name.len(),
            Credentials::Password { user, realm, password, slot } => {
                user.len() + realm.len() + password.len() + slot.len()
            }
            Credentials::Bearer { token, slot } => token.len() + slot.len(),
        };
        shown + self.known_as.as_ref().map_or(0, String::len)
    }
}

impl Weigh for Answer {
    fn weight(&self) -> usize {
        match &self.verdict {
            Verdict::Accept(principal) => principal
                .user()
                .map_or(principal.name().len(), |user| user.name.len() + user.realm.len() + user.slot.len()),
            Verdict::Deny(detail) => detail.len(),
            Verdict::Later(_) => 0,
        }
    }
}

/// How long an authenticator has for a verdict: as long as a link may be silent before its Hello, so that a login
/// takes no place for longer than a link that says nothing.
pub const VERDICT_TIMEOUT: Duration = Duration::from_secs(5);

/// Questions that an authenticator may have open at a time, and that may wait in its port: as many as the lobby has
/// guests by default. A Hello has at most 4 KiB, so they take 16 MiB at most.
pub const QUESTIONS_MAX: usize = 4_096;

/// Open questions of one [network](Network) with one authenticator. With a verdict after 100 ms that is 640 logins a second.
pub const QUESTIONS_PER_NETWORK: usize = 64;

/// What an authenticator may answer in one tick, and what waits for the tick: each open question twice.
const ANSWER_BUDGET: Budget = Budget { count: 2 * QUESTIONS_MAX, bytes: 16 * 1024 * 1024 };
