//! The keys of a configuration.

use super::define::{Content, Settings};
use super::value::Value;

/// A key of a configuration.
#[derive(Debug, Clone, PartialEq)]
pub struct Key {
    /// Path in the file, such as `session.link_timeout`.
    pub path: String,
    /// Environment variable that sets the key, such as `WAYSTATION_SESSION_LINK_TIMEOUT`.
    pub variable: String,
    /// Struct and field, as in [`ConfigError::field`](super::ConfigError::field).
    pub field: String,
    /// Doc of the field, as plain text in lines.
    pub docs: Vec<String>,
    /// Default.
    pub default: Value,
}

/// Returns all keys of a configuration, in the order of their declaration. Tables are not listed.
///
/// ```
/// use waystation::config::ServerConfig;
///
/// let keys = waystation::settings::keys::<ServerConfig>();
/// let key = keys.iter().find(|key| key.field == "SessionConfig::link_timeout").expect("a key");
/// assert_eq!(key.path, "session.link_timeout");
/// assert_eq!(key.variable, "WAYSTATION_SESSION_LINK_TIMEOUT");
/// ```
#[must_use]
pub fn keys<S: Settings + Default>() -> Vec<Key> {
    Keys::of(&S::default()).keys
}

/// The keys of a configuration, and its tables.
#[derive(Debug, Clone, Default)]
pub(super) struct Keys {
    pub(super) keys: Vec<Key>,
    pub(super) tables: Vec<String>,
    /// The path of the game's table.
    pub(super) game: Option<String>,
}

impl Keys {
    pub(super) fn of(defaults: &dyn Settings) -> Self {
        let mut found = Self::default();
        found.collect(defaults, "");
        found
    }

    fn collect(&mut self, table: &dyn Settings, prefix: &str) {
        for field in table.fields() {
            let path = format!("{prefix}{}", field.key);
            match field.content {
                Content::Value(default) => self.keys.push(Key {
                    variable: variable(&path),
                    path,
                    field: format!("{}::{}", field.owner, field.key),
                    docs: plain(field.docs),
                    default,
                }),
                Content::Table(inner) => {
                    self.collect(inner, &format!("{path}."));
                    self.tables.push(path);
                }
                Content::Game(_) => self.game = Some(path),
            }
        }
    }

    pub(super) fn find(&self, path: &str) -> Option<&Key> {
        self.keys.iter().find(|key| key.path == path)
    }

    /// Returns the part of a path within the game's table, or `None` if the path is not in that table.
    pub(super) fn in_game<'a>(&self, path: &'a str) -> Option<&'a str> {
        path.strip_prefix(self.game.as_deref()?)?.strip_prefix('.').filter(|rest| !rest.is_empty())
    }

    /// Returns the paths of all keys and tables.
    pub(super) fn paths(&self) -> impl Iterator<Item = &str> {
        let keys = self.keys.iter().map(|key| key.path.as_str());
        keys.chain(self.tables.iter().map(String::as_str)).chain(self.game.as_deref())
    }
}

/// Returns the environment variable of a key.
pub(super) fn variable(path: &str) -> String {
    format!("{PREFIX}{}", path.replace('.', "_").to_uppercase())
}

/// Returns a doc in lines, in which each Markdown link is replaced by its label. Links in parentheses are left out.
pub(super) fn plain(docs: &[&str]) -> Vec<String> {
    let lines: Vec<&str> =
        docs.iter().map(|line| line.strip_prefix(' ').unwrap_or(line).trim_end()).collect();
    let text = lines.join("\n");
    let mut rest = text.as_str();
    let mut plain = String::new();
    while let Some((before, after)) = rest.split_once('[') {
        plain.push_str(before);
        let link = after.split_once(']').and_then(|(label, after)| match after.strip_prefix('(') {
            Some(target) => target.split_once(')').map(|(_, after)| (label, after)),
            None => label.starts_with('`').then_some((label, after)),
        });
        rest = link.map_or(after, |(_, after)| after);
        match link {
            // A link in parentheses refers to an item of Rust.
            Some(_) if rest.starts_with(')') && plain.ends_with('(') => {
                plain.truncate(plain.trim_end_matches('(').trim_end().len());
                rest = &rest[1..];
            }
            Some((label, _)) => plain.push_str(label),
            // Other brackets, as in an IPv6 address, are not a link.
            None => plain.push('['),
        }
    }
    plain.push_str(rest);
    plain.lines().map(str::to_owned).collect()
}

/// The prefix of all environment variables.
pub const PREFIX: &str = "WAYSTATION_";
