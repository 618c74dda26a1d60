//! New sessions: what one network may take of them, and what is kept free for those who resume.
//!
//! Nothing here is asked for a resume. A player is denied as THROTTLED with the time at which to come again,
//! and takes no place until then.
//!
//! Data flow: a Hello without a token, whose claims were verified → [`check`] → the session is registered, and
//! counts to its network until it ends.

use bevy_ecs::prelude::*;

use super::hello::Denial;
use super::lobby::limited;
use super::{GateConfig, Lobby};
use crate::ident::ProxyId;
use crate::proxy::rates::{NetworkRates, Rate};
use crate::proxy::{LinkInfo, Network, Proxies};
use crate::session::{SessionConfig, SessionTable};
use crate::tick::TickTime;
use crate::wire::retry;
use crate::wire::v1::Reason;

/// How many sessions each network has opened recently.
#[derive(Resource, Debug, Default)]
pub(super) struct Newcomers(NetworkRates);

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
    match world.resource_mut::<Newcomers>().0.admit(network, now, rate) {
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

impl GateConfig {
    /// How many sessions one network may have.
    fn sessions_of_a_network(&self, sessions: &SessionConfig) -> usize {
        self.max_sessions_per_network.unwrap_or_else(|| {
            let share = sessions.max_sessions / NETWORK_SHARE;
            SESSIONS_PER_NETWORK.min(share.max(SESSIONS_PER_NETWORK_MIN))
        })
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

#[cfg(test)]
mod tests {
    use super::*;

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
