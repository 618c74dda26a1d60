//! Reports the errors that systems, run conditions, observers and commands return. They never end the server.
//!
//! Bevy's default handler panics. The handler of this module logs a warning that names the place, and counts the error.
//! A panic is not an error in this sense: it reaches [`run`](super::run), which ends the server.
//!
//! Data flow: bevy calls [`note`], a function without a world → a list of the thread → [`report`], after `Measure` →
//! [`ReturnedErrors`] and the log.

use std::cell::RefCell;
use std::collections::BTreeMap;
use std::panic::resume_unwind;
use std::time::Duration;

use bevy_ecs::error::{BevyError, ErrorContext, FallbackErrorHandler, Severity};
use bevy_ecs::prelude::*;
use bevy_ecs::system::SystemParamValidationError;

use super::TickTime;

/// Counts the errors that systems, run conditions, observers and commands have returned since the start of the
/// server.
///
/// An error that is returned does not end the server. It is logged as a warning with the place, which is the system or
/// the command, and the error. Examples are a system that returns `Err`, a system that did not run because a resource
/// does not exist, and a command on an entity that was despawned in the meantime. If errors of one place repeat, at
/// most one warning is logged every 10 s.
///
/// An error with a [`Severity`] below `Warning` is logged at its severity and not counted. A panic ends the server:
/// see [`run`](super::run).
///
/// To replace this handler, insert bevy's [`FallbackErrorHandler`] after the plugins of the server, or call
/// `App::set_error_handler` before them.
///
/// ```
/// use bevy_app::Update;
/// use bevy_ecs::prelude::*;
/// use waystation::testing::Harness;
/// use waystation::tick::ReturnedErrors;
///
/// fn pay_out() -> Result {
///     Err("the bank is closed")?
/// }
///
/// let mut game = Harness::new();
/// game.allow_errors();
/// game.app.add_systems(Update, pay_out);
/// game.run_ms(100);
///
/// let errors = game.resource::<ReturnedErrors>();
/// assert_eq!(errors.count(), 2);
/// assert!(errors.places().next().is_some_and(|(place, _)| place.ends_with("pay_out")));
/// ```
#[derive(Resource, Debug, Default)]
pub struct ReturnedErrors {
    count: u64,
    places: BTreeMap<String, Place>,
}

/// The errors of one place.
#[derive(Debug, Default)]
struct Place {
    count: u64,
    /// Number of errors since the last warning.
    silent_count: u64,
    /// Text of the newest error in `silent_count`.
    error: String,
    cure: &'static str,
    /// Time of the last warning.
    warned_at: Option<Duration>,
}

impl ReturnedErrors {
    /// Returns the number of errors.
    #[must_use]
    pub fn count(&self) -> u64 {
        self.count
    }

    /// Returns the places of the errors in sorted order, each with the number of its errors. A place is a kind and
    /// a name, such as `system game::pay_out`. At most [`PLACES_MAX`](Self::PLACES_MAX) places are listed.
    pub fn places(&self) -> impl Iterator<Item = (&str, u64)> {
        self.places.iter().map(|(name, place)| (name.as_str(), place.count))
    }

    /// Maximum number of places that are listed and logged. A game has far fewer places that return errors.
    pub const PLACES_MAX: usize = 256;

    /// Returns a text for each listed place: its newest error, and what to do.
    pub fn texts(&self) -> impl Iterator<Item = String> {
        self.places.iter().map(|(name, place)| format!("{name}: {} ({})", place.error, place.cure))
    }

    fn add(&mut self, noted: Noted) {
        self.count += noted.count;
        for (name, errors) in noted.places {
            let is_new = !self.places.contains_key(&name);
            if is_new && self.places.len() >= Self::PLACES_MAX {
                continue;
            }
            let place = self.places.entry(name).or_default();
            place.count += errors.count;
            place.silent_count += errors.count;
            (place.error, place.cure) = (errors.first, errors.cure);
        }
    }

    fn warn(&mut self, now: Duration) {
        for (name, place) in &mut self.places {
            let is_due = place.warned_at.is_none_or(|at| now >= at + WARN_EVERY);
            if place.silent_count == 0 || !is_due {
                continue;
            }
            let (count, error, cure) = (std::mem::take(&mut place.silent_count), &*place.error, place.cure);
            place.warned_at = Some(now);
            tracing::warn!(place = %name, count, ?error, "an error was returned, and the server goes on: {cure}");
        }
    }
}

/// The errors of this thread since the last report.
#[derive(Debug, Default)]
struct Noted {
    count: u64,
    places: BTreeMap<String, NotedPlace>,
}

#[derive(Debug)]
struct NotedPlace {
    count: u64,
    first: String,
    cure: &'static str,
}

thread_local! {
    static NOTED: RefCell<Noted> = RefCell::default();
}

/// Installs [`note`] as bevy's handler of errors, unless the game has installed a handler before.
pub(super) fn install(world: &mut World) {
    world.init_resource::<ReturnedErrors>();
    world.get_resource_or_insert_with(|| FallbackErrorHandler(note));
}

/// Notes an error, or resumes a panic. This function has no access to the world, so [`report`] counts and logs the
/// error later, on the same thread.
fn note(mut error: BevyError, context: ErrorContext) {
    if let Some(panic) = error.take_payload() {
        resume_unwind(panic);
    }
    let place = format!("{} {}", context.kind(), context.name());
    match error.severity() {
        Severity::Ignore => return,
        Severity::Trace => return tracing::trace!(%place, error = ?text(&error), "an error was returned"),
        Severity::Debug => return tracing::debug!(%place, error = ?text(&error), "an error was returned"),
        Severity::Info => return tracing::info!(%place, error = ?text(&error), "an error was returned"),
        Severity::Warning | Severity::Error | Severity::Panic => {}
    }
    let is_known = NOTED.with_borrow_mut(|noted| {
        noted.count += 1;
        noted.places.get_mut(&place).map(|place| place.count += 1).is_some()
    });
    if is_known {
        return;
    }
    // The text is made outside of the borrow, because that runs code of the game.
    let noted = NotedPlace { count: 1, first: text(&error), cure: cure(&error, &context) };
    NOTED.with_borrow_mut(|all| {
        if all.places.len() < ReturnedErrors::PLACES_MAX {
            all.places.insert(place, noted);
        }
    });
}

/// Counts the errors that were noted since the last report, and logs those that are due.
pub(super) fn report(mut errors: ResMut<ReturnedErrors>, time: Res<TickTime>) {
    errors.add(NOTED.take());
    errors.warn(time.now());
}

/// Does the same as [`report`], in a world in which a system has panicked.
pub(super) fn report_now(world: &mut World) {
    let now = world.get_resource::<TickTime>().map(TickTime::now).unwrap_or_default();
    if let Some(mut errors) = world.get_resource_mut::<ReturnedErrors>() {
        errors.add(NOTED.take());
        errors.warn(now);
    }
}

/// Returns the text of an error, cut to [`TEXT_MAX_CHARS`].
fn text(error: &BevyError) -> String {
    error.to_string().trim_end().chars().take(TEXT_MAX_CHARS).collect()
}

fn cure(error: &BevyError, context: &ErrorContext) -> &'static str {
    if error.is::<SystemParamValidationError>() {
        if error.to_string().contains(NO_MESSAGES) {
            return "the code did not run, because it reads or writes messages of a type that is not registered; \
                    register `Call<M>` by `add_call`, `Delivered<M>` by `add_delivery`, and others by `add_message`";
        }
        return "the code did not run, because a parameter was missing; insert the resource, or use `Option` or `If`";
    }
    match context {
        ErrorContext::Command { .. } => {
            "if the entity was despawned before the command, use a command that allows this, such as `try_insert`"
        }
        _ => "the code after the error did not run; fix the cause, or handle the error where it occurs",
    }
}

/// Minimum time between two warnings of one place, so that a system that fails in each tick does not flood the log.
const WARN_EVERY: Duration = Duration::from_secs(10);
/// The text of bevy's error about a reader or a writer of messages that are not registered.
const NO_MESSAGES: &str = "Message not initialized";
/// Maximum length of the text of an error in the log, in characters.
const TEXT_MAX_CHARS: usize = 512;
