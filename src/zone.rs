//! Zones: the entities that sessions join and leave, and the units of ticking and broadcast.
//!
//! A zone is an entity with [`Zone`]. Its members are the sessions whose [`InZone`] points to it. Memberships
//! change in one place only, `settle`, after the game's systems have run, so [`Members`] stays the same while
//! they run. This module does not depend on transports.
//!
//! Data flow: Join, Part and the end of a session → a queue, in the order of arrival → `settle` →
//! [`Members`], frames to the session, and [`ZoneJoined`] and [`ZoneParted`] for the game in the next tick.
//! `pace` decides which zones tick, and writes [`ZoneTicked`].

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

use announce::MemberChanges;
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

/// A zone. Spawn an entity with this component to open a zone; sessions join it by its name. Insert the
/// component again to change the name or the settings. Despawn the entity to close the zone: its members
/// leave with the reason ZONE_CLOSED.
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
#[require(ZoneClock, MemberChanges)]
pub struct Zone {
    name: Arc<str>,
    id: ZoneId,
    capacity: usize,
    is_counting_agents: bool,
    hz: u32,
    is_hard: bool,
    is_asking: bool,
    announces: Option<bool>,
}

impl Zone {
    /// Creates a soft zone with a name, a capacity of [`CAPACITY_DEFAULT`] members, and a rate of
    /// [`HZ_DEFAULT`].
    ///
    /// If an open zone has the same name, an error is logged, and no Join reaches the new zone.
    #[must_use]
    pub fn new(name: &str) -> Self {
        Self {
            name: name.into(),
            id: ZoneId(0),
            capacity: CAPACITY_DEFAULT,
            is_counting_agents: false,
            hz: HZ_DEFAULT,
            is_hard: false,
            is_asking: false,
            announces: None,
        }
    }

    /// Sets the maximum number of members that are no agents. Further Joins are refused as FULL. Agents always find
    /// room, unless the zone [counts them](Self::counts_agents). Default: [`CAPACITY_DEFAULT`].
    #[must_use]
    pub fn capacity(mut self, members: usize) -> Self {
        self.capacity = members;
        self
    }

    /// Makes agents count to the capacity. Then they take the places of players, and a Join of an agent is refused as
    /// FULL like that of a player. By default, agents do not count.
    ///
    /// In an announcing zone, all members together are at most [`ANNOUNCED_CAPACITY_MAX`], with or without this.
    #[must_use]
    pub fn counts_agents(mut self) -> Self {
        self.is_counting_agents = true;
        self
    }

    /// Sets the maximum number of ticks per second. The rate of a zone is the server's rate divided by a
    /// whole number. It is the highest such rate that does not exceed `hz`. For example, with 60 server
    /// ticks per second and an `hz` of 25, the zone ticks 20 times per second. 0 is treated as 1. Default:
    /// [`HZ_DEFAULT`].
    #[must_use]
    pub fn hz(mut self, hz: u32) -> Self {
        self.hz = hz.max(1);
        self
    }

    /// Makes the zone hard: a member that loses its link leaves the zone in the same tick, with the reason
    /// DROPPED. Its session may still be resumed. By default a zone is soft: a member stays until its
    /// session expires.
    #[must_use]
    pub fn hard(mut self) -> Self {
        self.is_hard = true;
        self
    }

    /// Makes the zone ask the game about each Join: see [`JoinRequested`]. By default, sessions join without
    /// an ask.
    #[must_use]
    pub fn asks(mut self) -> Self {
        self.is_asking = true;
        self
    }

    /// Sets whether the zone announces its members. In an announcing zone, each Joined lists all members, and
    /// Members messages list later changes. By default, zones with a capacity of at most
    /// [`ANNOUNCED_CAPACITY_DEFAULT`] announce. A zone with a capacity above [`ANNOUNCED_CAPACITY_MAX`] never
    /// announces.
    #[must_use]
    pub fn announces(mut self, announces: bool) -> Self {
        self.announces = Some(announces);
        self
    }

    /// Returns true if members that lose their link leave the zone.
    #[must_use]
    pub fn is_hard(&self) -> bool {
        self.is_hard
    }

    /// Returns true if the zone asks the game about each Join.
    #[must_use]
    pub fn is_asking(&self) -> bool {
        self.is_asking
    }

    /// Returns true if the zone announces its members.
    #[must_use]
    pub fn is_announcing(&self) -> bool {
        let wanted = self.announces.unwrap_or(self.capacity <= ANNOUNCED_CAPACITY_DEFAULT);
        wanted && self.capacity <= ANNOUNCED_CAPACITY_MAX
    }

    /// Returns the name of the zone, which a Join uses.
    #[must_use]
    pub fn name(&self) -> &str {
        &self.name
    }

    /// Returns the id of the zone. It is 0 until the commands that spawn the zone have been applied.
    #[must_use]
    pub fn id(&self) -> ZoneId {
        self.id
    }

    /// Returns true if there is room for one more session beside this many members, some of which are agents.
    fn has_room(&self, members: usize, agents: usize, is_agent: bool) -> bool {
        if self.is_announcing() && members >= ANNOUNCED_CAPACITY_MAX {
            return false;
        }
        if self.is_counting_agents {
            members < self.capacity
        } else {
            is_agent || members - agents < self.capacity
        }
    }

    /// Returns the number of server ticks for each tick of the zone.
    pub(crate) fn every(&self, server: TickRate) -> u32 {
        server.hz().div_ceil(self.hz)
    }
}

/// The look-up of open zones by name.
#[derive(Resource, Debug, Default)]
pub struct Zones {
    by_name: BTreeMap<Arc<str>, Entity>,
    ids: HashMap<Entity, ZoneId>,
    opened: u64,
    /// Number of asks since the start of the server.
    asks: u64,
    /// Zones to close when the next settle begins.
    closing: Vec<Entity>,
    /// Zones that were despawned since the last settle.
    closed: Vec<Entity>,
    /// Asks whose component or session the game has removed since the last settle.
    dropped_asks: Vec<DroppedAsk>,
}

impl Zones {
    /// Returns the entity of the open zone with this name, or `None` if there is no such zone.
    #[must_use]
    pub fn find(&self, name: &str) -> Option<Entity> {
        self.by_name.get(name).copied()
    }

    /// Returns the names of the open zones in sorted order. The list ends before the first name that would
    /// make the total length exceed `max_bytes`.
    #[must_use]
    pub fn names(&self, max_bytes: usize) -> Vec<String> {
        let mut bytes = 0;
        let fitting = self.by_name.keys().take_while(|name| {
            bytes += name.len();
            bytes <= max_bytes
        });
        fitting.map(ToString::to_string).collect()
    }

    /// Closes a zone when the next settle begins. Its name is free at once.
    fn close(&mut self, zone: Entity) {
        self.by_name.retain(|_, holder| *holder != zone);
        self.closing.push(zone);
    }

    /// Returns the number of zones that can be joined.
    #[must_use]
    pub fn zone_count(&self) -> usize {
        self.by_name.len()
    }
}

/// The reason for which Joins of clients and agents are refused, for example while the server drains. With
/// `None`, the default, they are not refused. If a session is already in the zone that its Join names, the
/// Join is never refused for this reason.
#[derive(Resource, Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct JoinPolicy(pub Option<Reason>);

/// Adds zones: memberships, asks, pace, and the expiry of sessions.
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
                    // Repairs the changes that observers of the game have made in the systems above.
                    repair::repair,
                )
                    .chain()
                    .in_set(TickSystems::Expire),
            );
    }
}

/// Registers Join and Part. They are queued, and take effect when the tick settles.
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

/// Queues the registration of a zone that was spawned, or whose component was inserted again.
fn open(mut world: DeferredWorld, context: HookContext) {
    let entity = context.entity;
    world.commands().queue(move |world: &mut World| enroll(world, entity));
}

fn enroll(world: &mut World, entity: Entity) {
    if world.get::<Zone>(entity).is_none() {
        // An observer of the game has despawned the zone in the meantime.
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
            "a zone with this name exists, so this zone cannot be joined; choose another name"
        );
    }
    rename_members(world, entity, &name);
    drop_disconnected(world, entity);
}

/// Copies the name of a zone to its members' cores, because an inserted component may have a new name.
fn rename_members(world: &mut World, zone: Entity, name: &Arc<str>) {
    let members: Vec<Entity> = world.get::<Members>(zone).into_iter().flat_map(Members::entities).collect();
    for member in members {
        edit(world, member, |core| core.rename_zone(name));
    }
}

/// Queues the removal of members without a link, if the zone is hard. The inserted component may have made it hard.
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

/// Removes a closed zone from the look-up. Its members leave when the tick settles.
fn forget(mut world: DeferredWorld, context: HookContext) {
    let Some(name) = world.get::<Zone>(context.entity).map(|zone| Arc::clone(&zone.name)) else { return };
    let Some(mut zones) = world.get_resource_mut::<Zones>() else { return };
    zones.ids.remove(&context.entity);
    zones.closed.push(context.entity);
    if zones.find(&name) == Some(context.entity) {
        zones.by_name.remove(&name);
    }
}

/// Highest capacity, in members, with which a zone announces its members by default. With 256 members, about
/// a hundred changes a second take as much bandwidth as a snapshot.
pub const ANNOUNCED_CAPACITY_DEFAULT: usize = 256;
/// Highest capacity, in members, with which a zone can announce its members, and the highest number of members of an
/// announcing zone, agents included. The list of members in a Joined must fit one frame.
pub const ANNOUNCED_CAPACITY_MAX: usize = 4_096;
/// Default capacity of a zone, in members that are no agents. One UDP socket can carry about this many members.
pub const CAPACITY_DEFAULT: usize = 1_000;
/// Default rate of a zone, in ticks per second.
pub const HZ_DEFAULT: u32 = 20;

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn agents_count_to_the_capacity_of_a_zone_that_counts_them_and_to_the_limit_of_an_announcing_zone() {
        let zone = || Zone::new("den").capacity(2);
        let (player, agent) = (false, true);

        for (zone, members, agents, newcomer, has_room) in [
            (zone(), 2, 1, player, true),
            (zone(), 3, 1, player, false),
            (zone(), 3, 1, agent, true),
            (zone().counts_agents(), 2, 1, player, false),
            (zone().counts_agents(), 2, 1, agent, false),
            (zone().counts_agents(), 1, 1, agent, true),
            (zone(), ANNOUNCED_CAPACITY_MAX, ANNOUNCED_CAPACITY_MAX, agent, false),
            (zone(), ANNOUNCED_CAPACITY_MAX, ANNOUNCED_CAPACITY_MAX, player, false),
            (zone().announces(false), ANNOUNCED_CAPACITY_MAX, ANNOUNCED_CAPACITY_MAX, player, true),
        ] {
            assert_eq!(
                zone.has_room(members, agents, newcomer),
                has_room,
                "{zone:?} with {members} members, {agents} of them agents, and an agent: {newcomer}"
            );
        }
    }
}
