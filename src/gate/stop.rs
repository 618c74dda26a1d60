//! The end of a server: everybody is told, what was sent is flushed, then it exits.

use bevy_app::AppExit;
use bevy_ecs::prelude::*;

use super::Lobby;
use crate::proxy::Proxies;
use crate::session::{Closing, EndCause, Session, SessionTable};
use crate::tick::{StopRequested, TickTime};
use crate::wire;
use crate::wire::v1::{Closed, Reason};
use crate::zone::{Change, Changes};

/// The server takes nobody new.
#[derive(Resource, Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct Draining(pub bool);

/// When the server is asked to stop, ends all sessions with SHUTDOWN.
pub(super) fn begin_stop(
    stop: Res<StopRequested>,
    mut draining: ResMut<Draining>,
    sessions: Query<Entity, (With<Session>, Without<Closing>)>,
    mut changes: ResMut<Changes>,
    mut lobby: ResMut<Lobby>,
    mut proxies: ResMut<Proxies>,
    time: Res<TickTime>,
) {
    if !stop.0 {
        return;
    }
    let closed = wire::encode(&Closed {
        reason: Reason::Shutdown.into(),
        ..Closed::default()
    });
    for link in std::mem::take(&mut lobby.guests).into_keys() {
        proxies.close(link, closed.clone(), time.now());
    }
    if !std::mem::replace(&mut draining.0, true) {
        for session in &sessions {
            changes.push(u64::MAX, session, Change::End(EndCause::Shutdown));
        }
    }
}

/// Exits when the last link is gone. None is held for longer than the proxies hold a closing one.
pub(super) fn finish_stop(
    stop: Res<StopRequested>,
    table: Res<SessionTable>,
    proxies: Res<Proxies>,
    mut exits: MessageWriter<AppExit>,
) {
    if stop.0 && table.session_count() == 0 && proxies.closing_count() == 0 {
        exits.write(AppExit::Success);
    }
}
