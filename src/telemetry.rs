//! What an operator sees: a status once a second, and a summary at the end.
//!
//! It reads what the other rooms count and adds nothing to a tick but that. It is not a metrics
//! exporter, and it does not print: whoever starts the server gives it a [`Sink`].
//!
//! Data flow: counts and session markers → [`Status`], once a second of the clock, in `Measure`
//! → the sink; at the end, [`Summary::of`] the world.

use std::fmt;
use std::time::Duration;

use bevy_app::{App, Last, Plugin};
use bevy_ecs::prelude::*;

use crate::proxy::{Counter, Proxies, Traffic};
use crate::session::{Active, Agent, Closing, Connected, Disconnected, Session, SessionCounts};
use crate::tick::{Load, LoadLevel, Shed, TickStats, TickSummary, TickSystems, TickTime};
use crate::zone::Zone;

/// What happened in the last second, and what there is now. Its `Display` is one line of
/// `name=value`, which stays as it is for the sake of whoever parses it.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct Status {
    /// The second's ticks. Its overruns and skipped ticks are those since the start.
    pub ticks: TickSummary,
    /// Sessions with a link and in no zone; agents are counted apart, in all of these.
    pub connected_count: usize,
    /// Sessions with a link and in a zone.
    pub active_count: usize,
    /// Sessions without a link.
    pub disconnected_count: usize,
    /// Agents, in whatever state.
    pub agent_count: usize,
    /// Zones.
    pub zone_count: usize,
    /// Frames from clients in the second, link control included.
    pub in_count: u64,
    /// Frames to clients in the second, link control included.
    pub out_count: u64,
    /// What the server leaves out, for the load of it.
    pub load: LoadLevel,
    /// Ticks of zones that were left out in the second.
    pub skipped_zone_tick_count: u64,
    /// Links, by the proxy that has them.
    pub links: LinkCounts,
}

/// How many links each of the first [`PROXIES_SHOWN`](Self::PROXIES_SHOWN) proxies has, by its name.
/// Its `Display` is `udp:3,quic:0`, or `none` where there is no proxy.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct LinkCounts([Option<(&'static str, usize)>; Self::PROXIES_SHOWN]);

impl LinkCounts {
    /// More than there are transports, few enough for a line.
    pub const PROXIES_SHOWN: usize = 8;

    /// The counts of all that is shown, in the order of the proxies' ids.
    pub fn iter(&self) -> impl Iterator<Item = (&'static str, usize)> {
        self.0.iter().copied().flatten()
    }

    fn of(proxies: &Proxies) -> Self {
        let mut counts = Self::default();
        for (shown, count) in counts.0.iter_mut().zip(proxies.link_counts()) {
            *shown = Some(count);
        }
        counts
    }
}

impl fmt::Display for LinkCounts {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let counts: Vec<String> = self.iter().map(|(name, count)| format!("{name}:{count}")).collect();
        if counts.is_empty() { f.write_str("none") } else { f.write_str(&counts.join(",")) }
    }
}

impl fmt::Display for Status {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(
            f,
            "tick_p50_ms={:.2} tick_p99_ms={:.2} connected={} active={} disconnected={} agents={} zones={} \
             in={} out={} load={} skipped_zone_ticks={} links={}",
            milliseconds(self.ticks.p50),
            milliseconds(self.ticks.p99),
            self.connected_count,
            self.active_count,
            self.disconnected_count,
            self.agent_count,
            self.zone_count,
            self.in_count,
            self.out_count,
            self.load,
            self.skipped_zone_tick_count,
            self.links,
        )
    }
}

/// All that happened since the start. Its `Display` is one line of `name=value`.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct Summary {
    /// The ticks.
    pub ticks: TickSummary,
    /// What became of sessions.
    pub sessions: SessionCounts,
    /// Frames that crossed the ports.
    pub traffic: Traffic,
    /// What was left out for the load of it.
    pub shed: Shed,
    /// What the adapters have counted. The line has those that are above 0, as `proxy.name=value`.
    pub counters: Vec<Counter>,
}

impl Summary {
    /// The summary of a server; of what its world does not have, zeros.
    #[must_use]
    pub fn of(world: &World) -> Self {
        Self {
            ticks: world.get_resource::<TickStats>().map(TickStats::summary).unwrap_or_default(),
            sessions: world.get_resource::<SessionCounts>().copied().unwrap_or_default(),
            traffic: world.get_resource::<Traffic>().copied().unwrap_or_default(),
            shed: world.get_resource::<Shed>().copied().unwrap_or_default(),
            counters: world.get_resource::<Proxies>().map(Proxies::counters).unwrap_or_default(),
        }
    }
}

impl fmt::Display for Summary {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self { ticks, sessions, traffic, shed, counters } = self;
        write!(
            f,
            "ticks={} tick_p50_ms={:.2} tick_p99_ms={:.2} tick_max_ms={:.2} overruns={} skipped={} \
             registered={} resumed={} resynced={} disconnected={} unregistered={} expired={} denied={} slow={} \
             protocol_errors={} in={} out={} skipped_zone_ticks={} turned_away={}",
            ticks.count,
            milliseconds(ticks.p50),
            milliseconds(ticks.p99),
            milliseconds(ticks.max),
            ticks.overrun_count,
            ticks.skipped_count,
            sessions.registered_count,
            sessions.resumed_count,
            sessions.resync_count,
            sessions.disconnected_count,
            sessions.unregistered_count,
            sessions.expired_count,
            sessions.denied_count,
            sessions.slow_count,
            sessions.protocol_count,
            traffic.in_count,
            traffic.out_count,
            shed.zone_tick_count,
            shed.newcomer_count,
        )?;
        counters.iter().filter(|counter| counter.value > 0).try_for_each(|counter| write!(f, " {counter}"))
    }
}

/// Takes each [`Status`], on the tick's thread: it must not block.
pub type Sink = fn(&Status);

/// Reports a [`Status`] each second.
pub struct TelemetryPlugin<S = Sink> {
    sink: S,
}

impl<S: Fn(&Status) + Clone + Send + Sync + 'static> TelemetryPlugin<S> {
    /// Reports to a sink.
    #[must_use]
    pub fn new(sink: S) -> Self {
        Self { sink }
    }
}

impl Default for TelemetryPlugin {
    /// Reports to the log, at info.
    fn default() -> Self {
        Self::new(|status| tracing::info!("{status}"))
    }
}

impl<S: Fn(&Status) + Clone + Send + Sync + 'static> Plugin for TelemetryPlugin<S> {
    fn build(&self, app: &mut App) {
        let sink = self.sink.clone();
        app.init_resource::<Second>().add_systems(
            Last,
            measure
                .pipe(move |status: In<Option<Status>>| {
                    if let Some(status) = *status {
                        sink(&status);
                    }
                })
                .in_set(TickSystems::Measure),
        );
    }
}

/// When the running second began, and what had crossed the ports and been left out by then.
#[derive(Resource, Debug, Default)]
struct Second {
    begun: Duration,
    traffic: Traffic,
    shed: Shed,
}

type State = (Has<Agent>, Has<Connected>, Has<Active>, Has<Disconnected>);

/// The status, once a second.
fn measure(
    mut second: ResMut<Second>,
    time: Res<TickTime>,
    (traffic, proxies): (Res<Traffic>, Res<Proxies>),
    (load, shed): (Res<Load>, Res<Shed>),
    mut ticks: ResMut<TickStats>,
    sessions: Query<State, (With<Session>, Without<Closing>)>,
    zones: Query<(), With<Zone>>,
) -> Option<Status> {
    if time.now() < second.begun + REPORT_EVERY {
        return None;
    }
    let before = std::mem::replace(&mut second.traffic, *traffic);
    let shed_before = std::mem::replace(&mut second.shed, *shed);
    // The next report is a second after this one should have been, unless the server stalled.
    second.begun = (second.begun + REPORT_EVERY).max(time.now().saturating_sub(REPORT_EVERY / 2));
    let mut status = Status {
        ticks: ticks.take_recent(),
        zone_count: zones.iter().count(),
        in_count: traffic.in_count - before.in_count,
        out_count: traffic.out_count - before.out_count,
        load: load.level(),
        skipped_zone_tick_count: shed.zone_tick_count - shed_before.zone_tick_count,
        links: LinkCounts::of(&proxies),
        ..Status::default()
    };
    for (is_agent, is_connected, is_active, is_disconnected) in &sessions {
        let is_client = !is_agent;
        status.agent_count += usize::from(is_agent);
        status.connected_count += usize::from(is_client && is_connected);
        status.active_count += usize::from(is_client && is_active);
        status.disconnected_count += usize::from(is_client && is_disconnected);
    }
    Some(status)
}

fn milliseconds(duration: Duration) -> f64 {
    duration.as_secs_f64() * 1_000.0
}

/// How often a status is reported.
const REPORT_EVERY: Duration = Duration::from_secs(1);
