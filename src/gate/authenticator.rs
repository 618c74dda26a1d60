//! Authenticators of a game's own, which decide off the tick.

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

/// Decides who a client is, off the tick.
///
/// Questions are checked side by side on one thread, so `check` must not block it: what blocks, such as hashing a
/// password, goes to [`tokio::task::spawn_blocking`], which has [`BLOCKING_THREADS`] threads here. A check that panics
/// denies that login. A check that takes longer than [`VERDICT_TIMEOUT`] is dropped, and its client comes again.
///
/// Work that was given to `spawn_blocking` is not dropped with its check. Take a permit of a
/// [`tokio::sync::Semaphore`] before, and give it back when the work is done: then a check whose time is up while it
/// waits for the permit leaves no work behind.
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
    /// Answers a question.
    fn check(&self, question: Question) -> impl Future<Output = Verdict> + Send;
}

/// Adds authenticators to an app.
pub trait AddAuthenticator {
    /// Asks `authenticator` about clients that show these kinds of credentials, under each policy. It runs on a thread
    /// of its own, which ends soon after the app.
    ///
    /// # Panics
    ///
    /// Panics if there is an authenticator for one of the kinds already, or if the operating system gives no thread.
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
            panic!("no thread for an authenticator: {error}");
        }
        self
    }
}

/// Lets an authenticator answer the questions of a port on a thread of its own, until the gate is gone.
///
/// # Errors
///
/// The error of the operating system if it gives no thread.
pub fn serve_authenticator(port: AuthPort, authenticator: impl Authenticator) -> io::Result<JoinHandle<()>> {
    let mut builder = tokio::runtime::Builder::new_current_thread();
    let runtime = builder.enable_all().max_blocking_threads(BLOCKING_THREADS).build()?;
    thread::Builder::new().name("authenticator".to_owned()).spawn(move || {
        runtime.block_on(answer_all(port, Arc::new(authenticator)));
        // Work that blocks may never return.
        runtime.shutdown_background();
    })
}

/// Answers questions until the gate is gone.
async fn answer_all(AuthPort { mut questions, answers }: AuthPort, authenticator: Arc<impl Authenticator>) {
    let asked = Arc::new(Notify::new());
    let waker = Arc::clone(&asked);
    questions.set_waker(move || waker.notify_one());
    let (mut checks, mut batch, mut fresh) = (JoinSet::new(), VecDeque::new(), Vec::new());
    loop {
        // The tick may wait for the port: checks begin when it is free again.
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

/// Decides one question.
async fn decide(authenticator: Arc<impl Authenticator>, question: Question) -> Answer {
    let id = question.id;
    // A task of its own: a check that panics ends nothing else.
    let check = tokio::spawn(async move { authenticator.check(question).await });
    let abort = check.abort_handle();
    let verdict = match tokio::time::timeout(VERDICT_TIMEOUT, check).await {
        Ok(Ok(verdict)) => verdict,
        Ok(Err(_)) => failed(id),
        Err(_) => {
            abort.abort();
            tracing::warn!(question = %id, "an authenticator gave no verdict in time");
            Verdict::Later(retry::NO_VERDICT)
        }
    };
    Answer { question: id, verdict }
}

/// A check has panicked.
fn failed(id: QuestionId) -> Verdict {
    tracing::error!(question = %id, "an authenticator has panicked: its client is denied");
    Verdict::Deny("the login has failed".to_owned())
}

/// Threads for work that blocks. More of it waits.
pub const BLOCKING_THREADS: usize = 16;

/// How long the thread outlives the gate at most, and how long answers for which the port had no room wait.
const LOOK_EVERY: Duration = Duration::from_millis(100);
