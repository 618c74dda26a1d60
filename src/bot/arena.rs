//! The bot that plays the arena.

use std::time::Duration;

use super::{Bot, Play};
use crate::client::Frame;
use proto::{Echo, Input, Say};

/// The arena's messages, generated as in a client outside of this crate.
#[allow(dead_code, missing_docs, unreachable_pub, reason = "generated: the bots use a part of them")]
pub(super) mod proto {
    include!(concat!(env!("OUT_DIR"), "/arena.v1.rs"));
}

/// A bot that plays the arena, the default game.
///
/// It sends an unreliable `Input` 20 times a second and a reliable, numbered `Say` five times a second, and checks
/// each `Echo`.
#[derive(Debug, Clone, Default)]
pub struct ArenaBot {
    inputs: u64,
    input_at: Duration,
    say_at: Duration,
}

impl Bot for ArenaBot {
    fn zone(&self) -> &str {
        ZONE
    }

    fn on_message(&mut self, frame: &Frame, play: &mut Play<'_>) {
        if let Ok(echo) = frame.decode::<Echo>() {
            play.answered_with_count(echo.number, echo.taken);
        }
    }

    fn on_tick(&mut self, play: &mut Play<'_>) {
        let now = play.now();
        if now >= self.input_at {
            self.input_at = (self.input_at + INPUT_EVERY).max(now);
            self.inputs += 1;
            // The bot walks in circles of about 6 s. Without a link, the unreliable input is lost.
            #[allow(clippy::cast_precision_loss, reason = "the last bits of an angle do not matter")]
            let angle = self.inputs as f32 / 20.0;
            play.call(&Input { tick: self.inputs, x: angle.cos(), y: angle.sin() });
        }
        if now >= self.say_at {
            self.say_at = (self.say_at + SAY_EVERY).max(now);
            play.call_numbered(|number| Say { number });
        }
    }
}

/// The zone of the arena.
const ZONE: &str = "arena";
/// The time between two inputs: a tick of the zone.
const INPUT_EVERY: Duration = Duration::from_millis(50);
/// The time between two reliable calls. It is short enough that a cut often hits calls in flight.
const SAY_EVERY: Duration = Duration::from_millis(200);
