//! Which pages may open links: the allow-list of origins, for transports that browsers speak.

/// The origins whose pages may open links. Who sends no `Origin` is no browser, and may.
///
/// It guards players, not the server: a browser says truly which page asks, anybody else may say
/// what they like.
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
    /// Of all pages: where a link grants nothing that its client does not prove by itself.
    #[default]
    Any,
    /// Of these, each as a browser writes it: scheme, host and, unless it is the default, port.
    Only(Vec<String>),
}

impl Origins {
    /// Whether a page of this origin may open a link.
    #[must_use]
    pub fn allow(&self, origin: Option<&str>) -> bool {
        match (self, origin) {
            (Self::Any, _) | (_, None) => true,
            (Self::Only(allowed), Some(origin)) => {
                allowed.iter().any(|allowed| allowed.eq_ignore_ascii_case(origin))
            }
        }
    }

    /// Whether a page of this origin may open a link at this host, as its request names it. To a page
    /// of the very same host, however the list is.
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
    fn pages_of_the_host_that_they_ask_and_of_the_list_may_and_no_others() {
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
