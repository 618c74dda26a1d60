//! Limits the new sessions of a network, and keeps places free for resumes.
//!
//! The limits do not apply to a resume. A client that is denied as THROTTLED gets the time after which it
//! may try again, and takes no place until then.
//!
//! Data flow: a Hello for a new session, after its proof was checked → [`check`] → the session is
//! registered, and counts toward the limits of its network until it ends.

use bevy_ecs::prelude::*;

use super::guests::limited;
use super::hello::Denial;
use super::{GateConfig, Guests};
use crate::ident::ProxyId;
use crate::proxy::rates::{NetworkRates, Rate};
use crate::proxy::{LinkInfo, Network, Proxies};
use crate::session::{SessionConfig, SessionTable};
use crate::tick::TickTime;
use crate::wire::retry;
use crate::wire::v1::Reason;

/// Rates at which networks open sessions.
#[derive(Resource, Debug, Default)]
pub(super) struct NewSessionRates(NetworkRates);

/// Checks that a link may open a session. Returns the network toward whose limits the session counts, or `None` if
/// no limit applies to it.
///
/// # Errors
///
/// Returns the [`Denial`] to send if the proxy has no place for a new session, or if the network has
/// reached a limit.
pub(super) fn check(world: &mut World, proxy: ProxyId, info: &LinkInfo) -> Result<Option<Network>, Denial> {
    if is_full(world, proxy) {
        let detail = "the server has no free link for a new session over this transport";
        return Err(Denial::later(Reason::Full, detail, retry::NO_ROOM));
    }
    let now = world.resource::<TickTime>().now();
    let config = world.resource::<GateConfig>();
    let Some(network) = limited(info, config) else { return Ok(None) };
    let rate =
        Rate { per_second: config.sessions_per_second_per_network, burst: config.sessions_burst_per_network };
    let max = config.sessions_of_a_network(world.resource::<SessionConfig>());
    if world.resource::<SessionTable>().count_from(network) >= max {
        let detail = "your network has reached its limit of sessions";
        return Err(Denial::later(Reason::Throttled, detail, retry::IN_USE));
    }
    match world.resource_mut::<NewSessionRates>().0.admit(network, now, rate) {
        Ok(()) => Ok(Some(network)),
        Err(wait) => Err(Denial::later(Reason::Throttled, "your network opens new sessions too fast", wait)),
    }
}

/// Returns true if the places that a proxy has left are reserved for resumes. Links without a session do
/// not count as taken.
fn is_full(world: &World, proxy: ProxyId) -> bool {
    let proxies = world.resource::<Proxies>();
    let Some(places) = proxies.places(proxy) else { return false };
    let taken = proxies.link_count(proxy).saturating_sub(world.resource::<Guests>().count_on(proxy));
    taken >= places - places / KEPT_SHARE
}

impl GateConfig {
    /// Returns the maximum number of sessions of one network.
    fn sessions_of_a_network(&self, sessions: &SessionConfig) -> usize {
        self.max_sessions_per_network.unwrap_or_else(|| {
            let share = sessions.max_sessions / NETWORK_SHARE;
            SESSIONS_PER_NETWORK.min(share.max(SESSIONS_PER_NETWORK_MIN))
        })
    }
}

/// One in this many places of a proxy is reserved for resumes, so that a client can resume while others
/// open new sessions.
const KEPT_SHARE: usize = 8;
/// Default maximum number of sessions of one network: a school behind one address.
const SESSIONS_PER_NETWORK: usize = 512;
/// By default one network has at most one in this many of all sessions, so that no network can take all
/// places.
const NETWORK_SHARE: usize = 4;
/// Lower bound of the default maximum, so that friends in one house can fill a small server.
const SESSIONS_PER_NETWORK_MIN: usize = 32;

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_default_limit_of_a_network_is_a_share_of_all_sessions() {
        let share = |max_sessions| {
            let sessions = SessionConfig { max_sessions, ..SessionConfig::default() };
            GateConfig::default().sessions_of_a_network(&sessions)
        };

        assert_eq!([10, 100, 200, 1_000, 10_000].map(share), [32, 32, 50, 250, 512]);
        let chosen = GateConfig { max_sessions_per_network: Some(7), ..GateConfig::default() };
        assert_eq!(chosen.sessions_of_a_network(&SessionConfig::default()), 7);
    }
}
