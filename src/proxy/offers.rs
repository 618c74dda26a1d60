//! What a server's transports tell clients by discovery.

use std::error::Error;
use std::fmt;
use std::sync::{Arc, PoisonError, RwLock};
use std::time::Duration;

use bevy_ecs::prelude::*;

use crate::wire::discovery::Offer;

/// Makes the offers of one transport, for each answer of discovery anew.
///
/// A transport whose offers are the same for each client uses a `Vec<Offer>`.
pub trait OfferSource: Send + Sync {
    /// The offers for a client. It is called on the thread that serves HTTP, so it must not block.
    ///
    /// # Errors
    ///
    /// The transport has no offer to give, as without randomness for a token. The error is logged, and discovery
    /// answers without this transport.
    fn offers(&self, asked: &Asked<'_>) -> Result<Vec<Offer>, Box<dyn Error + Send + Sync>>;
}

impl OfferSource for Vec<Offer> {
    fn offers(&self, _asked: &Asked<'_>) -> Result<Vec<Offer>, Box<dyn Error + Send + Sync>> {
        Ok(self.clone())
    }
}

/// A question to discovery.
#[derive(Debug, Clone, Copy)]
pub struct Asked<'a> {
    /// The time since the Unix epoch.
    pub unix_now: Duration,
    /// The identity that the bearer of the question belongs to; `None` if nobody is known by it.
    pub identity: Option<&'a str>,
    /// The host, and the port if it is not the scheme's own, by which the client reached discovery.
    pub authority: &'a str,
    /// Whether discovery itself was reached by TLS. A relay may speak TLS in front of a server that does not.
    pub is_tls: bool,
}

/// The sources of all offers of a server, in the order in which they were added. Clones share their sources.
#[derive(Resource, Clone, Default)]
pub struct Offers(Arc<RwLock<Vec<Box<dyn OfferSource>>>>);

impl Offers {
    /// Adds a source. Answers that are given from now on contain its offers.
    pub fn add(&self, source: Box<dyn OfferSource>) {
        self.0.write().unwrap_or_else(PoisonError::into_inner).push(source);
    }

    /// The offers of all sources. A source that fails is logged and left out.
    pub(crate) fn for_client(&self, asked: &Asked<'_>) -> Vec<Offer> {
        let sources = self.0.read().unwrap_or_else(PoisonError::into_inner);
        let mut offers = Vec::new();
        for source in &*sources {
            match source.offers(asked) {
                Ok(more) => offers.extend(more),
                Err(error) => tracing::warn!(%error, "discovery answers without the offer of a transport"),
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
        fn offers(&self, _asked: &Asked<'_>) -> Result<Vec<Offer>, Box<dyn Error + Send + Sync>> {
            Err("it has no tokens".into())
        }
    }

    #[test]
    fn a_source_that_fails_takes_no_other_transport_out_of_discovery() {
        let offers = Offers::default();
        for source in
            [Box::new(vec![Offer::new("a", "a://host:1")]) as Box<dyn OfferSource>, Box::new(Broken)]
        {
            offers.add(source);
        }
        offers.add(Box::new(vec![Offer::new("b", "b://host:2")]));
        let asked = Asked { unix_now: Duration::ZERO, identity: None, authority: "host", is_tls: false };

        let names: Vec<String> = offers.for_client(&asked).into_iter().map(|offer| offer.transport).collect();

        assert_eq!(names, ["a", "b"]);
    }
}
