//! Zones: what sessions join and part; the unit of ticking, broadcast and interest.
//!
//! A zone is an entity with [`Zone`]; its members are the sessions whose [`InZone`] points to it.
//! Membership changes in one place only, `settle`, after the game's systems have run, so that
//! no system sees it change under its feet. This module knows no transports.
//!
//! Data flow: Join, Part and the end of a session → a queue, in order of arrival → `settle` →
//! [`Members`], frames to the session, and [`ZoneJoined`], [`ZoneParted`] for the game in the next
//! tick. Zones tick when `pace` says so, by [`ZoneTicked`].

mod announce;
mod ask;
mod changes;
mod commands;
mod member_list;
mod members;
mod membership;
mod pace;
mod repair;
mod settle;

use std::collections::BTreeMap;
use std::sync::Arc;

use bevy_app::{App, Plugin, PostUpdate, PreUpdate};
use bevy_ecs::lifecycle::HookContext;
use bevy_ecs::prelude::*;
use bevy_ecs::world::DeferredWorld;
use bevy_platform::collections::HashMap;

use crate::ident::ZoneId;
pub use crate::session::journal::{
    JoinCancelled, JoinRequested, MemberDisconnected, MemberResumed, ZoneJoined, ZoneParted,
};
use crate::session::{Delivered, Dispatch, FIRST, Next, SessionCore, edit, find_expired};
use crate::tick::{TickRate, TickSystems};
use crate::wire::WireMessage as _;
use crate::wire::v1::{self, Join, Joined, Part, Parted, Reason, Refused};

use announce::Roster;
use ask::DroppedAsk;

pub(crate) use ask::cancel_all;
pub use ask::{ASK_TIMEOUT, JoinPending};
pub(crate) use changes::{Change, Changes};
pub use commands::{MembershipCommands, MembershipError, MembershipRefused, PAYLOAD_MAX_BYTES};
pub use member_list::MemberList;
pub use members::{InZone, Members};
pub(crate) use membership::{live_zone, zone_name};
pub use pace::{ZoneClock, ZoneTicked};
pub(crate) use settle::{disconnect, resumed};

/// A zone. Spawn it to open one; sessions join it by its name. Insert it anew to change its
/// capacity or pace; despawn it to close it: its members are parted as of ZONE_CLOSED.
///
/// ```
/// use bevy_ecs::prelude::*;
/// use waystation::zone::Zone;
///
/// fn open_arena(mut commands: Commands) {
///     commands.spawn(Zone::new("arena").capacity(64).hz(10));
/// }
/// ```
#[derive(Component, Debug, Clone)]
#[component(on_insert = open, on_remove = forget)]
#[require(ZoneClock, Roster)]
pub struct Zone {
    name: Arc<str>,
    id: ZoneId,
    capacity: usize,
    hz: u32,
    is_hard: bool,
    is_asking: bool,
    announces: Option<bool>,
}

impl Zone {
    /// A zone of that name, for [`CAPACITY_DEFAULT`] members, at [`HZ_DEFAULT`].
    #[must_use]
    pub fn new(name: &str) -> Self {
        Self {
            name: name.into(),
            id: ZoneId(0),
            capacity: CAPACITY_DEFAULT,
            hz: HZ_DEFAULT,
            is_hard: false,
            is_asking: false,
            announces: None,
        }
    }

    /// How many members it takes; further Joins are refused as FULL.
    #[must_use]
    pub fn capacity(mut self, members: usize) -> Self {
        self.capacity = members;
        self
    }

    /// How often it ticks a second, at most: a zone ticks at the server's rate divided by a whole
    /// number, the fastest such rate that is not above this. 0 is taken as 1.
    #[must_use]
    pub fn hz(mut self, hz: u32) -> Self {
        self.hz = hz.max(1);
        self
    }

    /// A member that loses its link is parted at once, as of DROPPED, though its session may still be
    /// resumed. A zone that does not say so is soft: it keeps the member until its session expires.
    #[must_use]
    pub fn hard(mut self) -> Self {
        self.is_hard = true;
        self
    }

    /// Who wants to join is not let in before the game has said so: see [`JoinRequested`].
    #[must_use]
    pub fn asks(mut self) -> Self {
        self.is_asking = true;
        self
    }

    /// Whether members are told who is in the zone, and who comes and goes. By default they are in
    /// zones of [`ANNOUNCED_CAPACITY_DEFAULT`] members at most; never in one whose capacity is above
    /// [`ANNOUNCED_CAPACITY_MAX`].
    #[must_use]
    pub fn announces(mut self, announces: bool) -> Self {
        self.announces = Some(announces);
        self
    }

    /// Whether it parts members that lose their link.
    #[must_use]
    pub fn is_hard(&self) -> bool {
        self.is_hard
    }

    /// Whether the game is asked who may join.
    #[must_use]
    pub fn is_asking(&self) -> bool {
        self.is_asking
    }

    /// Whether members are told of each other.
    #[must_use]
    pub fn is_announcing(&self) -> bool {
        let wanted = self.announces.unwrap_or(self.capacity <= ANNOUNCED_CAPACITY_DEFAULT);
        wanted && self.capacity <= ANNOUNCED_CAPACITY_MAX
    }

    /// The name that sessions join it by.
    #[must_use]
    pub fn name(&self) -> &str {
        &self.name
    }

    /// The id, given when it was spawned: 0 until the commands that spawn it are through.
    #[must_use]
    pub fn id(&self) -> ZoneId {
        self.id
    }

    /// Of how many server ticks it takes one.
    pub(crate) fn every(&self, server: TickRate) -> u32 {
        server.hz().div_ceil(self.hz)
    }
}

/// Zones by name.
#[derive(Resource, Debug, Default)]
pub struct Zones {
    by_name: BTreeMap<Arc<str>, Entity>,
    ids: HashMap<Entity, ZoneId>,
    opened: u64,
    /// Asks so far.
    asks: u64,
    /// Zones that close when the next settle begins.
    closing: Vec<Entity>,
    /// Zones that were despawned since the last one.
    closed: Vec<Entity>,
    /// Asks that the game has taken away since the last settle.
    dropped_asks: Vec<DroppedAsk>,
}

impl Zones {
    /// The zone of that name.
    #[must_use]
    pub fn find(&self, name: &str) -> Option<Entity> {
        self.by_name.get(name).copied()
    }

    /// The names of all zones, sorted; of as many as fit that many bytes.
    #[must_use]
    pub fn names(&self, max_bytes: usize) -> Vec<String> {
        let mut bytes = 0;
        let fitting = self.by_name.keys().take_while(|name| {
            bytes += name.len();
            bytes <= max_bytes
        });
        fitting.map(ToString::to_string).collect()
    }

    /// Closes a zone when the next settle begins; its name is free at once.
    fn close(&mut self, zone: Entity) {
        self.by_name.retain(|_, holder| *holder != zone);
        self.closing.push(zone);
    }

    /// How many zones there are.
    #[must_use]
    pub fn zone_count(&self) -> usize {
        self.by_name.len()
    }
}

/// Whether Joins of clients are refused everywhere, and why; as while the server drains.
#[derive(Resource, Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct JoinPolicy(pub Option<Reason>);

/// Adds zones: membership, pace and expiry.
#[derive(Debug, Clone, Copy, Default)]
pub struct ZonePlugin;

impl Plugin for ZonePlugin {
    fn build(&self, app: &mut App) {
        app.init_resource::<Zones>()
            .init_resource::<Changes>()
            .init_resource::<JoinPolicy>()
            .add_message::<ZoneTicked>()
            .add_message::<MembershipRefused>()
            .add_message::<Delivered<Joined>>()
            .add_message::<Delivered<Parted>>()
            .add_message::<Delivered<Refused>>()
            .add_message::<Delivered<v1::Members>>();
        register(&mut app.world_mut().get_resource_or_init::<Dispatch>());
        app.add_systems(PreUpdate, pace::pace_zones.in_set(TickSystems::Pace))
            .add_systems(PostUpdate, announce::announce_members.in_set(TickSystems::Replicate))
            .add_systems(
                PostUpdate,
                (repair::close_zones, repair::repair, settle::settle).chain().in_set(TickSystems::Settle),
            )
            .add_systems(
                PostUpdate,
                (
                    find_expired,
                    settle::expire,
                    ask::expire_asks,
                    repair::end_orphaned_agents,
                    repair::close_zones,
                    // What observers of the game's did while all this was done.
                    repair::repair,
                )
                    .chain()
                    .in_set(TickSystems::Expire),
            );
    }
}

/// Registers what clients ask of memberships: it takes effect when the tick settles.
fn register(dispatch: &mut Dispatch) {
    dispatch.register(Join::ID, |world, sent| {
        let (session, order) = (sent.session, sent.order);
        let Join { request, zone, payload } = sent.read()?;
        world.resource_mut::<Changes>().push(order, session, Change::Join { request, zone, payload });
        Ok(Next::Wait)
    });
    dispatch.register(Part::ID, |world, sent| {
        let (session, order) = (sent.session, sent.order);
        let Part { request, payload } = sent.read()?;
        world.resource_mut::<Changes>().push(order, session, Change::Part { request, payload });
        Ok(Next::Wait)
    });
}

/// A zone is spawned, or inserted anew with other limits: it gets its id once, and its name's place
/// in the index.
fn open(mut world: DeferredWorld, context: HookContext) {
    let entity = context.entity;
    world.commands().queue(move |world: &mut World| enroll(world, entity));
}

fn enroll(world: &mut World, entity: Entity) {
    if world.get::<Zone>(entity).is_none() {
        // An observer of the game's has despawned it meanwhile.
        return;
    }
    let mut zones = world.get_resource_or_init::<Zones>();
    let id = match zones.ids.get(&entity) {
        Some(id) => *id,
        None => {
            zones.opened += 1;
            ZoneId(zones.opened)
        }
    };
    zones.ids.insert(entity, id);
    zones.by_name.retain(|_, zone| *zone != entity);
    let Some(mut zone) = world.get_mut::<Zone>(entity) else { return };
    zone.id = id;
    let name = Arc::clone(&zone.name);
    let mut zones = world.resource_mut::<Zones>();
    let holder = *zones.by_name.entry(Arc::clone(&name)).or_insert(entity);
    if holder != entity {
        tracing::error!(
            zone = &*name,
            "a zone of this name exists: this one cannot be joined; choose another name"
        );
    }
    rename_members(world, entity, &name);
    drop_disconnected(world, entity);
}

/// A zone that was inserted anew may have another name.
fn rename_members(world: &mut World, zone: Entity, name: &Arc<str>) {
    let members: Vec<Entity> = world.get::<Members>(zone).into_iter().flat_map(Members::entities).collect();
    for member in members {
        edit(world, member, |core| core.rename_zone(name));
    }
}

/// A zone that is hard now may have members without a link: they part when this tick settles.
fn drop_disconnected(world: &mut World, zone: Entity) {
    if !world.get::<Zone>(zone).is_some_and(Zone::is_hard) {
        return;
    }
    let members: Vec<Entity> = world.get::<Members>(zone).into_iter().flat_map(Members::entities).collect();
    for member in members {
        if world.get::<SessionCore>(member).is_some_and(|core| !core.is_linked()) {
            world.resource_mut::<Changes>().push(FIRST, member, Change::Drop);
        }
    }
}

/// A zone is gone: it is found no more, and settle parts its members.
fn forget(mut world: DeferredWorld, context: HookContext) {
    let Some(name) = world.get::<Zone>(context.entity).map(|zone| Arc::clone(&zone.name)) else { return };
    let Some(mut zones) = world.get_resource_mut::<Zones>() else { return };
    zones.ids.remove(&context.entity);
    zones.closed.push(context.entity);
    if zones.find(&name) == Some(context.entity) {
        zones.by_name.remove(&name);
    }
}

/// A zone for at most so many members tells them of each other, unless it says otherwise: a hundred
/// comings and goings a second are about as much as a snapshot.
pub const ANNOUNCED_CAPACITY_DEFAULT: usize = 256;
/// Above this capacity no zone announces: a newcomer's list of members must fit one frame.
pub const ANNOUNCED_CAPACITY_MAX: usize = 4_096;
/// Members of a zone that does not say how many it takes: what one UDP socket can carry.
pub const CAPACITY_DEFAULT: usize = 1_000;
/// Pace of a zone that does not say how often it ticks.
pub const HZ_DEFAULT: u32 = 20;
