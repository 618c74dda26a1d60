//! The offers of a server's transports, for discovery.

use std::error::Error;
use std::fmt;
use std::sync::{Arc, PoisonError, RwLock};
use std::time::Duration;

use bevy_ecs::prelude::*;

use crate::wire::discovery::Offer;

/// A source of the offers of one transport. It is called for each answer of discovery.
///
/// `Vec<Offer>` implements this trait for a transport that has the same offers for each client.
pub trait OfferSource: Send + Sync {
    /// Returns the offers for a client. The HTTP thread calls this method, so it must not block.
    ///
    /// # Errors
    ///
    /// Returns an error if the transport cannot make an offer, for example if no token can be minted. The error is
    /// logged, and the answer of discovery does not contain this transport.
    fn offers(&self, asked: &DiscoveryRequest<'_>) -> Result<Vec<Offer>, Box<dyn Error + Send + Sync>>;
}

impl OfferSource for Vec<Offer> {
    fn offers(&self, _asked: &DiscoveryRequest<'_>) -> Result<Vec<Offer>, Box<dyn Error + Send + Sync>> {
        Ok(self.clone())
    }
}

/// A request to discovery.
#[derive(Debug, Clone, Copy)]
pub struct DiscoveryRequest<'a> {
    /// The time of the request, as the time since the Unix epoch.
    pub unix_now: Duration,
    /// The identity of the client, which discovery derives from the bearer token of the request. `None` if the
    /// client has no identity.
    pub identity: Option<&'a str>,
    /// The host by which the client reached discovery, followed by the port unless it is the default port of the
    /// scheme.
    pub authority: &'a str,
    /// True if the client reached discovery over TLS. A reverse proxy may terminate TLS for a server without TLS.
    pub is_tls: bool,
}

/// The offer sources of a server, in the order in which they were added. Clones share their sources.
#[derive(Resource, Clone, Default)]
pub struct Offers(Arc<RwLock<Vec<Box<dyn OfferSource>>>>);

impl Offers {
    /// Adds a source. Later answers of discovery contain its offers.
    pub fn add(&self, source: Box<dyn OfferSource>) {
        self.0.write().unwrap_or_else(PoisonError::into_inner).push(source);
    }

    /// Returns the offers of all sources. If a source fails, logs the error and leaves the source out.
    pub(crate) fn for_client(&self, asked: &DiscoveryRequest<'_>) -> Vec<Offer> {
        let sources = self.0.read().unwrap_or_else(PoisonError::into_inner);
        let mut offers = Vec::new();
        for source in &*sources {
            match source.offers(asked) {
                Ok(more) => offers.extend(more),
                Err(error) => {
                    tracing::warn!(%error, "a transport is missing from discovery: it cannot make an offer")
                }
            }
        }
        offers
    }
}

impl fmt::Debug for Offers {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Offers").finish_non_exhaustive()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    struct Broken;

    impl OfferSource for Broken {
        fn offers(&self, _asked: &DiscoveryRequest<'_>) -> Result<Vec<Offer>, Box<dyn Error + Send + Sync>> {
            Err("it has no tokens".into())
        }
    }

    #[test]
    fn a_failing_source_does_not_affect_other_transports() {
        let offers = Offers::default();
        for source in
            [Box::new(vec![Offer::new("a", "a://host:1")]) as Box<dyn OfferSource>, Box::new(Broken)]
        {
            offers.add(source);
        }
        offers.add(Box::new(vec![Offer::new("b", "b://host:2")]));
        let asked =
            DiscoveryRequest { unix_now: Duration::ZERO, identity: None, authority: "host", is_tls: false };

        let names: Vec<String> = offers.for_client(&asked).into_iter().map(|offer| offer.transport).collect();

        assert_eq!(names, ["a", "b"]);
    }
}
