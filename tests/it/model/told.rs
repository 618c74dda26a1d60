//! Records the messages that the subject's game receives besides news, and shows frames as text.

use std::collections::BTreeMap;

use bevy_app::{App, Update};
use bevy_ecs::prelude::*;
use waystation::arena::v1::Echo;
use waystation::ident::SessionId;
use waystation::rpc::AppRpc as _;
use waystation::session::{Delivered, LossCause, OnDisconnect, ResumeTimeout, Session};
use waystation::wire::v1::{Closed, Denied, Joined, Notice, Parted, Refused, Welcome};
use waystation::wire::{Frame, WireMessage, encode};
use waystation::zone::{JoinCancelled, JoinRequested, MembershipError, MembershipRefused};

use super::parts::Asking;
use super::reference::HASTE;

/// The messages that the game received since the last comparison.
#[derive(Resource, Debug, Default)]
pub(super) struct Heeded {
    pub(super) asks: Vec<(SessionId, Asking)>,
    pub(super) refused: Vec<(Entity, MembershipError)>,
    /// The messages that agents received, as text.
    pub(super) delivered: Vec<(SessionId, String)>,
    pub(super) hooked: Vec<(SessionId, LossCause)>,
    /// The last ask of each session since the start.
    pub(super) requests: BTreeMap<SessionId, JoinRequested>,
}

/// Marks a session with a hook that sets a short resume timeout.
#[derive(Component)]
pub(super) struct Hasty;

/// Adds the systems that record the messages for the comparison.
pub(super) fn listen_to(app: &mut App) {
    app.init_resource::<Heeded>().add_delivery::<Echo>().add_systems(
        Update,
        (
            hear_of_asks,
            hear_of_refusals,
            hear_as_agent::<Echo>,
            hear_as_agent::<Joined>,
            hear_as_agent::<Parted>,
            hear_as_agent::<Refused>,
        ),
    );
}

/// Returns the hook of all sessions. It records each loss, and shortens the timeout of a [`Hasty`] session.
pub(super) fn hook() -> OnDisconnect {
    OnDisconnect::new(|session, cause| {
        let id = session.get::<Session>().map(Session::id);
        if session.contains::<Hasty>() {
            session.insert(ResumeTimeout(std::time::Duration::from_millis(HASTE)));
        }
        let mut heeded = session.resource_mut::<Heeded>();
        heeded.hooked.extend(id.map(|id| (id, cause)));
    })
}

fn hear_of_asks(
    mut requested: MessageReader<JoinRequested>,
    mut cancelled: MessageReader<JoinCancelled>,
    mut heeded: ResMut<Heeded>,
) {
    let mut asks: Vec<(u64, SessionId, Asking)> = Vec::new();
    for request in requested.read() {
        asks.push((request.sequence, request.session, Asking::Requested(request.ask)));
        heeded.requests.insert(request.session, request.clone());
    }
    asks.extend(cancelled.read().map(|over| (over.sequence, over.session, Asking::Cancelled(over.reason))));
    asks.sort_by_key(|(sequence, ..)| *sequence);
    heeded.asks.extend(asks.into_iter().map(|(_, session, asking)| (session, asking)));
}

fn hear_of_refusals(mut refused: MessageReader<MembershipRefused>, mut heeded: ResMut<Heeded>) {
    heeded.refused.extend(refused.read().map(|refused| (refused.entity, refused.error)));
}

fn hear_as_agent<M: WireMessage>(mut delivered: MessageReader<Delivered<M>>, mut heeded: ResMut<Heeded>) {
    for Delivered { session, message, .. } in delivered.read() {
        let frame = Frame::parse(encode(message.as_ref())).expect("a message encodes to a valid frame");
        heeded.delivered.push((*session, shown(&frame)));
    }
}

/// Returns a frame of the server as text.
pub(super) fn shown(frame: &Frame) -> String {
    if let Ok(Welcome { session, resumed, received, base, resync, zone, .. }) = frame.decode() {
        format!("Welcome {} {resumed} {received} {base} {resync} {zone:?}", SessionId(session))
    } else if let Ok(denied) = frame.decode::<Denied>() {
        format!("Denied {:?}", denied.reason())
    } else if let Ok(closed) = frame.decode::<Closed>() {
        format!("Closed {:?}", closed.reason())
    } else if let Ok(Joined { request, zone, zone_id, .. }) = frame.decode() {
        format!("Joined {request} {zone} {zone_id}")
    } else if let Ok(parted) = frame.decode::<Parted>() {
        format!("Parted {} {} {:?}", parted.request, parted.zone, parted.reason())
    } else if let Ok(refused) = frame.decode::<Refused>() {
        format!("Refused {} {:?}", refused.request, refused.reason())
    } else if let Ok(Echo { number, .. }) = frame.decode() {
        format!("Echo {number}")
    } else if let Ok(Notice { shutdown_in_ms, .. }) = frame.decode() {
        format!("Notice {shutdown_in_ms}")
    } else {
        format!("{frame:?}")
    }
}
