//! Reports the status of the server once a second, and a summary at the end.
//!
//! The module reads what other modules count. It prints nothing itself: the code that starts the server
//! supplies a [`Sink`]. It is not a metrics exporter.
//!
//! Data flow: counts and session markers → [`Status`], once a second of the clock, in `Measure` → the sink;
//! at the end, [`Summary::of`] the world.

use std::fmt;
use std::time::Duration;

use bevy_app::{App, Last, Plugin};
use bevy_ecs::prelude::*;

use crate::proxy::{Counter, Proxies, Traffic};
use crate::session::{Active, Agent, Closing, Connected, Disconnected, Session, SessionCounts};
use crate::tick::{
    Load, LoadCounts, LoadLevel, ReturnedErrors, TickStats, TickSummary, TickSystems, TickTime,
};
use crate::zone::Zone;

/// The current state of the server, and what happened in the last second. Its `Display` is one line of
/// `name=value` pairs. This format is stable, so that programs can parse it.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct Status {
    /// Summary of the ticks in the last second. Its overruns and skipped ticks count since the start.
    pub ticks: TickSummary,
    /// Number of sessions with a link and in no zone, without agents.
    pub connected_count: usize,
    /// Number of sessions with a link and in a zone, without agents.
    pub active_count: usize,
    /// Number of sessions without a link.
    pub disconnected_count: usize,
    /// Number of agents.
    pub agent_count: usize,
    /// Number of zones.
    pub zone_count: usize,
    /// Number of frames from clients in the last second, including link control.
    pub in_count: u64,
    /// Number of frames to clients in the last second, including link control.
    pub out_count: u64,
    /// Level of the load, which determines what the server leaves out.
    pub load: LoadLevel,
    /// Number of ticks of zones that were left out in the last second.
    pub skipped_zone_tick_count: u64,
    /// Number of links by proxy.
    pub links: LinkCounts,
}

/// Number of links of each of the first [`PROXIES_SHOWN`](Self::PROXIES_SHOWN) proxies, by the name of the
/// proxy. Its `Display` is like `udp:3,quic:0`, or `none` if there are no proxies.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct LinkCounts([Option<(&'static str, usize)>; Self::PROXIES_SHOWN]);

impl LinkCounts {
    /// Maximum number of proxies that are shown: more than there are transports, and few enough for one
    /// line.
    pub const PROXIES_SHOWN: usize = 8;

    /// Returns the name and the number of links of each proxy that is shown, in the order of proxy ids.
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

/// What happened since the start of the server. Its `Display` is one line of `name=value` pairs.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct Summary {
    /// Summary of all ticks.
    pub ticks: TickSummary,
    /// Counts of what happened to sessions.
    pub sessions: SessionCounts,
    /// Number of frames that crossed the ports.
    pub traffic: Traffic,
    /// Work that was left out under load.
    pub shed: LoadCounts,
    /// Number of errors that systems, run conditions, observers and commands have returned.
    pub error_count: u64,
    /// Counters of the adapters. The `Display` shows those above 0, as `proxy.name=value`.
    pub counters: Vec<Counter>,
}

impl Summary {
    /// Returns the summary of a server. Counts of resources that the world does not have are 0.
    #[must_use]
    pub fn of(world: &World) -> Self {
        Self {
            ticks: world.get_resource::<TickStats>().map(TickStats::summary).unwrap_or_default(),
            sessions: world.get_resource::<SessionCounts>().copied().unwrap_or_default(),
            traffic: world.get_resource::<Traffic>().copied().unwrap_or_default(),
            shed: world.get_resource::<LoadCounts>().copied().unwrap_or_default(),
            error_count: world.get_resource::<ReturnedErrors>().map_or(0, ReturnedErrors::count),
            counters: world.get_resource::<Proxies>().map(Proxies::counters).unwrap_or_default(),
        }
    }
}

impl fmt::Display for Summary {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self { ticks, sessions, traffic, shed, error_count, counters } = self;
        write!(
            f,
            "ticks={} tick_p50_ms={:.2} tick_p99_ms={:.2} tick_max_ms={:.2} overruns={} skipped={} \
             registered={} resumed={} resynced={} disconnected={} unregistered={} expired={} denied={} slow={} \
             protocol_errors={} in={} out={} skipped_zone_ticks={} turned_away={} \
             errors={} unknown_ids={} nonmember_calls={} unread_calls={} undelivered={} misdirected={}",
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
            shed.refused_count,
            error_count,
            sessions.stray_frame_count,
            sessions.nonmember_call_count,
            sessions.unread_call_count,
            sessions.undelivered_count,
            sessions.misdirected_count,
        )?;
        counters.iter().filter(|counter| counter.value > 0).try_for_each(|counter| write!(f, " {counter}"))
    }
}

/// A function that takes each [`Status`]. It runs on the thread of the tick and must not block.
pub type Sink = fn(&Status);

/// Reports a [`Status`] once a second.
pub struct TelemetryPlugin<S = Sink> {
    sink: S,
}

impl<S: Fn(&Status) + Clone + Send + Sync + 'static> TelemetryPlugin<S> {
    /// Returns a plugin that reports to `sink`.
    #[must_use]
    pub fn new(sink: S) -> Self {
        Self { sink }
    }
}

impl Default for TelemetryPlugin {
    /// Returns a plugin that logs each status at `info`.
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

/// Start of the current second, and the counts at that time.
#[derive(Resource, Debug, Default)]
struct Second {
    begun: Duration,
    traffic: Traffic,
    shed: LoadCounts,
}

type State = (Has<Agent>, Has<Connected>, Has<Active>, Has<Disconnected>);

/// Returns the status once a second, and `None` in other ticks.
fn measure(
    mut second: ResMut<Second>,
    time: Res<TickTime>,
    (traffic, proxies): (Res<Traffic>, Res<Proxies>),
    (load, shed): (Res<Load>, Res<LoadCounts>),
    mut ticks: ResMut<TickStats>,
    sessions: Query<State, (With<Session>, Without<Closing>)>,
    zones: Query<(), With<Zone>>,
) -> Option<Status> {
    if time.now() < second.begun + REPORT_EVERY {
        return None;
    }
    let before = std::mem::replace(&mut second.traffic, *traffic);
    let shed_before = std::mem::replace(&mut second.shed, *shed);
    // The next report is due one second after the time at which this one was due, unless the server has
    // stalled.
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

/// Interval of the reports.
const REPORT_EVERY: Duration = Duration::from_secs(1);
