//! The allow-list of page origins, for the transports that browsers support.

/// The origins whose pages may open links. A client that sends no `Origin` is not a browser and may open links.
///
/// The list protects players, not the server. A browser sends the true origin of the page; any other client can
/// send any origin.
///
/// ```
/// use waystation::proxy::Origins;
///
/// let origins = Origins::Only(vec!["https://play.example".to_owned()]);
/// assert!(origins.allow(None));
/// assert!(origins.allow(Some("https://play.example")));
/// assert!(!origins.allow(Some("https://elsewhere.example")));
/// ```
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub enum Origins {
    /// Pages of all origins may open links. Use this if a link grants nothing beyond what its client proves itself.
    #[default]
    Any,
    /// Pages of these origins may open links. Each origin is written as in the `Origin` header: scheme, host, and
    /// the port unless it is the default.
    Only(Vec<String>),
}

impl Origins {
    /// Returns true if a page of this origin may open a link. Letter case is ignored.
    #[must_use]
    pub fn allow(&self, origin: Option<&str>) -> bool {
        match (self, origin) {
            (Self::Any, _) | (_, None) => true,
            (Self::Only(allowed), Some(origin)) => {
                allowed.iter().any(|allowed| allowed.eq_ignore_ascii_case(origin))
            }
        }
    }

    /// Returns true if a page of this origin may open a link at `host`, the `Host` of its request. Besides the
    /// origins of the list, pages of the same host may open links.
    pub(crate) fn allow_at(&self, origin: Option<&str>, host: Option<&str>) -> bool {
        let own = origin.and_then(|origin| origin.split_once("://")).map(|(_, host)| host);
        let is_own = own.zip(host).is_some_and(|(own, host)| own.eq_ignore_ascii_case(host));
        is_own || self.allow(origin)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_pages_of_the_requested_host_and_of_the_list_are_allowed() {
        let origins = Origins::Only(vec!["https://play.example".to_owned()]);
        let host = Some("game.example:7780");

        assert!(origins.allow_at(None, host));
        assert!(origins.allow_at(Some("http://Game.example:7780"), host));
        assert!(origins.allow_at(Some("https://play.example"), host));
        assert!(!origins.allow_at(Some("http://game.example"), host), "another port is another origin");
        assert!(!origins.allow_at(Some("https://game.example:7780.evil.example"), host));
        assert!(!origins.allow_at(Some("null"), host));
        assert!(!origins.allow_at(Some("null"), None));
    }
}
