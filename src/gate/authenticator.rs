//! Runs the authenticators of a game, which decide about credentials off the tick.

use std::collections::VecDeque;
use std::future::Future;
use std::io;
use std::sync::Arc;
use std::thread::{self, JoinHandle};
use std::time::Duration;

use bevy_app::App;
use tokio::sync::Notify;
use tokio::task::JoinSet;

use super::auth::{AuthPort, Authenticators, Question, VERDICT_TIMEOUT};
use crate::identity::CredentialKind;
use crate::tick::{Answer, QuestionId, Verdict};
use crate::wire::retry;

/// Decides whether credentials are accepted, off the tick.
///
/// All checks run concurrently on one thread, so `check` must not block. Pass work that blocks, such as
/// hashing a password, to [`tokio::task::spawn_blocking`], which has [`BLOCKING_THREADS`] threads here. If
/// a check panics, its client is denied. If a check takes longer than [`VERDICT_TIMEOUT`], it is dropped,
/// and its client is denied as THROTTLED.
///
/// Work that was passed to `spawn_blocking` continues after its check was dropped. To bound this work,
/// acquire a permit of a [`tokio::sync::Semaphore`] first, and release it when the work is done. A check
/// that times out while it waits for the permit then starts no work.
///
/// ```
/// use bevy_app::App;
/// use waystation::gate::{AddAuthenticator as _, Authenticator, Question};
/// use waystation::identity::{CredentialKind, Credentials, Principal};
/// use waystation::server::ServerPlugins;
/// use waystation::tick::Verdict;
///
/// struct Guests;
///
/// impl Authenticator for Guests {
///     async fn check(&self, question: Question) -> Verdict {
///         match question.credentials {
///             Credentials::Password { user, password, .. } if password == "open sesame" => {
///                 Verdict::Accept(Principal::named(&user))
///             }
///             _ => Verdict::Deny("wrong name or password".to_owned()),
///         }
///     }
/// }
///
/// let mut app = App::new();
/// app.add_plugins(ServerPlugins::default());
/// app.add_authenticator([CredentialKind::Password], Guests);
/// ```
pub trait Authenticator: Send + Sync + 'static {
    /// Decides about the credentials of a question.
    fn check(&self, question: Question) -> impl Future<Output = Verdict> + Send;
}

/// Adds authenticators to an app.
pub trait AddAuthenticator {
    /// Lets `authenticator` decide about these kinds of credentials, under each policy. It runs on its own
    /// thread, which ends soon after the app is dropped.
    ///
    /// # Panics
    ///
    /// Panics if another authenticator decides about one of the kinds, or if the operating system cannot
    /// start a thread.
    fn add_authenticator(
        &mut self,
        kinds: impl IntoIterator<Item = CredentialKind>,
        authenticator: impl Authenticator,
    ) -> &mut Self;
}

impl AddAuthenticator for App {
    fn add_authenticator(
        &mut self,
        kinds: impl IntoIterator<Item = CredentialKind>,
        authenticator: impl Authenticator,
    ) -> &mut Self {
        let port = self.world_mut().get_resource_or_init::<Authenticators>().attach(kinds);
        if let Err(error) = serve_authenticator(port, authenticator) {
            panic!("cannot start the thread of an authenticator: {error}");
        }
        self
    }
}

/// Starts a thread on which an authenticator answers the questions of a port. The thread ends when the gate
/// is dropped.
///
/// # Errors
///
/// Returns the error of the operating system if it cannot start a thread.
pub fn serve_authenticator(port: AuthPort, authenticator: impl Authenticator) -> io::Result<JoinHandle<()>> {
    let mut builder = tokio::runtime::Builder::new_current_thread();
    let runtime = builder.enable_all().max_blocking_threads(BLOCKING_THREADS).build()?;
    thread::Builder::new().name("authenticator".to_owned()).spawn(move || {
        runtime.block_on(answer_all(port, Arc::new(authenticator)));
        // Blocking work may never return.
        runtime.shutdown_background();
    })
}

/// Answers questions until the gate is dropped.
async fn answer_all(AuthPort { mut questions, answers }: AuthPort, authenticator: Arc<impl Authenticator>) {
    let asked = Arc::new(Notify::new());
    let waker = Arc::clone(&asked);
    questions.set_waker(move || waker.notify_one());
    let (mut checks, mut batch, mut fresh) = (JoinSet::new(), VecDeque::new(), Vec::new());
    loop {
        // Checks start after the port is unlocked, because the tick may wait for its lock.
        questions.drain_all(|question| fresh.push(question));
        for question in fresh.drain(..) {
            checks.spawn(decide(Arc::clone(&authenticator), question));
        }
        while let Some(decided) = checks.try_join_next() {
            batch.extend(decided);
        }
        answers.send(&mut batch, |_| {});
        if questions.is_closed() {
            return;
        }
        tokio::select! {
            () = asked.notified() => {}
            Some(decided) = checks.join_next() => batch.extend(decided),
            () = tokio::time::sleep(LOOK_EVERY) => {}
        }
    }
}

/// Decides about one question.
async fn decide(authenticator: Arc<impl Authenticator>, question: Question) -> Answer {
    let id = question.id;
    // The check has its own task, so that a panic ends only this check.
    let check = tokio::spawn(async move { authenticator.check(question).await });
    let abort = check.abort_handle();
    let verdict = match tokio::time::timeout(VERDICT_TIMEOUT, check).await {
        Ok(Ok(verdict)) => verdict,
        Ok(Err(_)) => failed(id),
        Err(_) => {
            abort.abort();
            tracing::warn!(question = %id, "no verdict in time: the client is denied as THROTTLED");
            Verdict::RetryAfter(retry::NO_VERDICT)
        }
    };
    Answer { question: id, verdict }
}

/// Returns the verdict about a client whose check has panicked, and logs the panic.
fn failed(id: QuestionId) -> Verdict {
    tracing::error!(question = %id, "an authenticator has panicked: its client is denied");
    Verdict::Deny("the login failed".to_owned())
}

/// Maximum number of threads for blocking work. Further work waits.
pub const BLOCKING_THREADS: usize = 16;

/// Interval at which the thread checks whether the gate was dropped, and sends the answers for which the port had
/// no room before.
const LOOK_EVERY: Duration = Duration::from_millis(100);
