//! The end of a server: everybody is told, what was sent is flushed, then it exits.

use std::time::Duration;

use bevy_app::AppExit;
use bevy_ecs::prelude::*;
use bevy_ecs::system::SystemParam;

use super::Lobby;
use crate::proxy::{Proxies, ProxyCommand};
use crate::session::{Closing, EndCause, Session, SessionTable};
use crate::tick::{StopRequested, TickTime};
use crate::wire::CLOSE_TIMEOUT;
use crate::wire::v1::Reason;
use crate::zone::{Change, Changes};

/// The server takes nobody new.
#[derive(Resource, Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct Draining(pub bool);

/// When the server began to stop, on the uncapped clock.
#[derive(Resource, Debug, Clone, Copy, PartialEq, Eq, Default)]
pub(super) struct Stopping(Option<Duration>);

/// When the server is asked to stop, ends all sessions with SHUTDOWN, and in each tick from then on
/// those that came since. Whoever knocks is told at first, and cut later.
pub(super) fn begin_stop(
    stop: Res<StopRequested>,
    mut begun: ResMut<Stopping>,
    mut draining: ResMut<Draining>,
    sessions: Query<Entity, (With<Session>, Without<Closing>)>,
    mut changes: ResMut<Changes>,
    mut guests: Guests,
) {
    if !stop.0 {
        return;
    }
    guests.dismiss(begun.0.is_none());
    begun.0 = begun.0.or(Some(guests.time.now()));
    draining.0 = true;
    for session in &sessions {
        changes.push(u64::MAX, session, Change::End(EndCause::Shutdown));
    }
}

/// Exits when the last link is gone, and at the latest when those that were there at first have
/// been held for as long as any is.
pub(super) fn finish_stop(
    begun: Res<Stopping>,
    table: Res<SessionTable>,
    proxies: Res<Proxies>,
    time: Res<TickTime>,
    mut exits: MessageWriter<AppExit>,
) {
    let Some(begun) = begun.0 else { return };
    let is_done = table.link_count() == 0 && proxies.closing_count() == 0;
    if is_done || time.now() > begun + CLOSE_TIMEOUT {
        exits.write(AppExit::Success);
    }
}

/// Links without a session, and what it takes to be rid of them.
#[derive(SystemParam)]
pub(super) struct Guests<'w> {
    lobby: ResMut<'w, Lobby>,
    proxies: ResMut<'w, Proxies>,
    time: Res<'w, TickTime>,
}

impl Guests<'_> {
    fn dismiss(&mut self, kindly: bool) {
        for link in std::mem::take(&mut self.lobby.guests).into_keys() {
            if kindly {
                self.proxies.close(link, Reason::Shutdown, self.time.now());
            } else {
                self.proxies.command(link.proxy, ProxyCommand::Cut { link: link.link });
            }
        }
    }
}
