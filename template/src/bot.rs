//! The bot of the game. `cargo run -- bot --clients 20 --cut-every 5` plays with 20 of them, cuts their connections,
//! and checks that no cheer is lost.

use std::time::Duration;

use waystation::bot::{Bot, Play};
use waystation::client::Frame;

use crate::ZONE;
use crate::messages::{Cheer, Cheered, Steer};

/// A bot that flies in circles and cheers every two seconds.
#[derive(Default)]
pub struct Firefly {
    cheer_at: Duration,
}

impl Bot for Firefly {
    fn zone(&self) -> &str {
        ZONE
    }

    fn on_message(&mut self, frame: &Frame, play: &mut Play<'_>) {
        if let Ok(cheered) = frame.decode::<Cheered>()
            && play.session().is_some_and(|session| session.0 == cheered.session)
        {
            play.answered(cheered.number);
        }
    }

    fn on_tick(&mut self, play: &mut Play<'_>) {
        let (sin, cos) = play.now().as_secs_f32().sin_cos();
        play.call(&Steer { x: 30.0 * cos, y: 30.0 * sin });
        if play.now() >= self.cheer_at {
            self.cheer_at = play.now() + Duration::from_secs(2);
            play.call_numbered(|number| Cheer { number });
        }
    }
}
