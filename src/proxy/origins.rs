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
}
