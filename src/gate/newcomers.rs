//! New sessions: what one network may take of them, and what is kept free for those who resume.
//!
//! Nothing here is asked for a resume. A player is denied as THROTTLED with the time at which to come again,
//! and takes no place until then.
//!
//! Data flow: a Hello without a token, whose claims were verified → [`check`] → the session is registered, and
//! counts to its network until it ends.

use std::collections::BTreeMap;
use std::time::Duration;

use bevy_ecs::prelude::*;

use super::hello::Denial;
use super::lobby::limited;
use super::{GateConfig, Lobby};
use crate::ident::ProxyId;
use crate::proxy::{LinkInfo, Network, Proxies};
use crate::session::{SessionConfig, SessionTable};
use crate::tick::TickTime;
use crate::wire::retry;
use crate::wire::v1::Reason;

/// How many sessions each network has opened recently.
#[derive(Resource, Debug, Default)]
pub(super) struct Newcomers {
    networks: BTreeMap<Network, Recent>,
}

/// What a network has used of its rate.
#[derive(Debug, Clone, Copy, Default)]
struct Recent {
    /// When all that it took will have been refilled.
    refilled_at: Duration,
    /// The latest time that a newcomer of it was told to come again.
    promised: Duration,
}

/// How fast sessions may be opened from one network.
#[derive(Debug, Clone, Copy)]
struct Rate {
    per_second: u32,
    burst: u32,
}

/// Checks whether a link may open a session. Returns the network that the session counts to, if it is limited.
pub(super) fn check(world: &mut World, proxy: ProxyId, info: &LinkInfo) -> Result<Option<Network>, Denial> {
    if is_full(world, proxy) {
        let detail = "the links of this transport are all in use";
        return Err(Denial::later(Reason::Full, detail, retry::NO_ROOM));
    }
    let now = world.resource::<TickTime>().now();
    let config = world.resource::<GateConfig>();
    let Some(network) = limited(info, config) else { return Ok(None) };
    let rate =
        Rate { per_second: config.sessions_per_second_per_network, burst: config.sessions_burst_per_network };
    let max = config.sessions_of_a_network(world.resource::<SessionConfig>());
    if world.resource::<SessionTable>().count_from(network) >= max {
        let detail = "your network has as many sessions as it may have";
        return Err(Denial::later(Reason::Throttled, detail, retry::IN_USE));
    }
    match world.resource_mut::<Newcomers>().admit(network, now, rate) {
        Ok(()) => Ok(Some(network)),
        Err(wait) => Err(Denial::later(Reason::Throttled, "your network opens sessions too fast", wait)),
    }
}

/// Returns true if a proxy has only so many places left as are kept for resumes and for guests.
fn is_full(world: &World, proxy: ProxyId) -> bool {
    let proxies = world.resource::<Proxies>();
    let Some(places) = proxies.places(proxy) else { return false };
    let taken = proxies.link_count(proxy).saturating_sub(world.resource::<Lobby>().count_on(proxy));
    taken >= places - places / KEPT_SHARE
}

impl Denial {
    /// A denial that says when to come again.
    pub(super) const fn later(reason: Reason, detail: &'static str, wait: Duration) -> Self {
        Self { retry_after_ms: retry::in_ms(wait), ..Self::new(reason, detail) }
    }
}

impl GateConfig {
    /// How many sessions one network may have.
    fn sessions_of_a_network(&self, sessions: &SessionConfig) -> usize {
        self.max_sessions_per_network.unwrap_or_else(|| {
            let share = sessions.max_sessions / NETWORK_SHARE;
            SESSIONS_PER_NETWORK.min(share.max(SESSIONS_PER_NETWORK_MIN))
        })
    }
}

impl Newcomers {
    /// Takes one session from the rate of a network, or says how long to wait for it. Those who wait are told
    /// different times, so that they come one by one.
    fn admit(&mut self, network: Network, now: Duration, rate: Rate) -> Result<(), Duration> {
        self.make_room(network, now);
        let interval = Duration::from_secs(1) / rate.per_second.max(1);
        let recent = self.networks.entry(network).or_default();
        let refilled_at = recent.refilled_at.max(now) + interval;
        let ahead_max = interval.saturating_mul(rate.burst.max(1));
        if refilled_at <= now + ahead_max {
            recent.refilled_at = refilled_at;
            return Ok(());
        }
        let free_at = refilled_at - ahead_max;
        recent.promised = free_at.max(recent.promised + interval).min(now + retry::RATE_MAX);
        Err((recent.promised - now).max(retry::RATE_MIN))
    }

    /// Forgets networks if there are too many to know another one: those that have used nothing of their rate,
    /// and if that is not enough, the half that has used least.
    fn make_room(&mut self, network: Network, now: Duration) {
        if self.networks.len() < NETWORKS_MAX || self.networks.contains_key(&network) {
            return;
        }
        self.networks.retain(|_, recent| recent.refilled_at > now);
        if self.networks.len() < NETWORKS_MAX {
            return;
        }
        let mut by_use: Vec<(Duration, Network)> =
            self.networks.iter().map(|(network, recent)| (recent.refilled_at, *network)).collect();
        by_use.sort_unstable();
        for (_, network) in by_use.into_iter().take(NETWORKS_MAX / 2) {
            self.networks.remove(&network);
        }
    }
}

/// Of a proxy's places, one in this many is kept free of new sessions, so that a link that resumes one finds
/// a place while others come and go.
const KEPT_SHARE: usize = 8;
/// Sessions of one network, unless the configuration says otherwise: a school behind one address.
const SESSIONS_PER_NETWORK: usize = 512;
/// Unless that is more than one in this many of all sessions: no network keeps all others out.
const NETWORK_SHARE: usize = 4;
/// But no fewer than this, so that friends in one house fill a small server.
const SESSIONS_PER_NETWORK_MIN: usize = 32;
/// Networks whose use is known at a time, some 1 MiB. With so many, an attacker has a burst of each anyway,
/// and `max_sessions` is the limit.
const NETWORKS_MAX: usize = 16_384;

#[cfg(test)]
mod tests {
    use super::*;

    const RATE: Rate = Rate { per_second: 10, burst: 5 };

    fn network(number: u32) -> Network {
        Network::of(std::net::Ipv4Addr::from_bits(number).into())
    }

    #[test]
    fn a_network_has_a_burst_and_then_a_rate_and_those_who_wait_come_one_by_one() {
        let mut newcomers = Newcomers::default();
        let now = Duration::from_secs(100);

        let first: Vec<_> = (0..8).map(|_| newcomers.admit(network(1), now, RATE)).collect();
        let other = newcomers.admit(network(2), now, RATE);

        let wait = |ms| Err(Duration::from_millis(ms));
        assert_eq!(first, [Ok(()), Ok(()), Ok(()), Ok(()), Ok(()), wait(100), wait(200), wait(300)]);
        assert_eq!(other, Ok(()));
        for waited_ms in [100, 200, 300] {
            let now = now + Duration::from_millis(waited_ms);
            assert_eq!(
                newcomers.admit(network(1), now, RATE),
                Ok(()),
                "it waited for {waited_ms} ms as told"
            );
        }
        assert!(newcomers.admit(network(1), now + Duration::from_millis(300), RATE).is_err());
    }

    #[test]
    fn no_wait_is_longer_than_the_longest() {
        let mut newcomers = Newcomers::default();

        let waits: Vec<_> = (0..1_000).map(|_| newcomers.admit(network(1), Duration::ZERO, RATE)).collect();

        assert_eq!(waits.last(), Some(&Err(retry::RATE_MAX)));
    }

    #[test]
    fn the_networks_that_are_known_are_bounded_and_the_busiest_are_kept() {
        let mut newcomers = Newcomers::default();
        let now = Duration::from_secs(100);
        for _ in 0..5 {
            assert_eq!(newcomers.admit(network(0), now, RATE), Ok(()));
        }

        for number in 1..100_000 {
            assert_eq!(
                newcomers.admit(network(number), now, RATE),
                Ok(()),
                "a network that is not known yet"
            );
            assert!(newcomers.networks.len() <= NETWORKS_MAX);
        }

        assert!(newcomers.admit(network(0), now, RATE).is_err(), "the busy one is still known");
        let later = now + Duration::from_secs(10);
        newcomers.admit(network(200_000), later, RATE).expect("room");
        newcomers.make_room(network(200_001), later);
        assert!(newcomers.networks.len() <= NETWORKS_MAX);
    }

    #[test]
    fn a_network_has_a_share_of_the_sessions_with_room_for_a_school() {
        let share = |max_sessions| {
            let sessions = SessionConfig { max_sessions, ..SessionConfig::default() };
            GateConfig::default().sessions_of_a_network(&sessions)
        };

        assert_eq!([10, 100, 200, 1_000, 10_000].map(share), [32, 32, 50, 250, 512]);
        let chosen = GateConfig { max_sessions_per_network: Some(7), ..GateConfig::default() };
        assert_eq!(chosen.sessions_of_a_network(&SessionConfig::default()), 7);
    }
}
