//! Finds the fields of a configuration for the entries of tables, and sets them.

use std::collections::BTreeMap;

use super::define::{Content, Setting, Settings};
use super::keys::Keys;
use super::mistake::{MISTAKES_MAX, Mistake, Source};
use super::nearest::nearest;
use super::units::parse_size;
use super::value::{Entry, Value};

/// The strongest value of each path, and its source.
pub(super) type Assigned = BTreeMap<String, (Value, Source)>;

/// The keys of a configuration, and the mistakes that were found.
#[derive(Debug)]
pub(super) struct Walk {
    pub(super) keys: Keys,
    /// The flags that set keys, each with the path of its key and its name. `None` if neither flags nor variables can
    /// set keys.
    pub(super) flags: Option<Vec<(String, String)>>,
    mistakes: Vec<Mistake>,
}

impl Walk {
    pub(super) fn new(defaults: &dyn Settings) -> Self {
        Self { keys: Keys::of(defaults), flags: None, mistakes: Vec::new() }
    }

    /// Assigns the entries of a table to paths.
    pub(super) fn table(
        &mut self,
        table: &dyn Settings,
        prefix: &str,
        entries: Vec<Entry>,
        assigned: &mut Assigned,
    ) {
        let fields = table.fields();
        for Entry { key, source, value } in entries {
            let path = format!("{prefix}{key}");
            let content = fields.iter().find(|field| field.key == key).map(|field| &field.content);
            match (content, value) {
                (Some(Content::Table(inner)), Value::Table(entries)) => {
                    self.table(*inner, &format!("{path}."), entries, assigned);
                }
                (Some(Content::Table(_)), value) => self.wrong(&path, source, &value, "a table"),
                (Some(_), value) => {
                    assigned.insert(path, (value, source));
                }
                (None, _) => self.unknown(&path, source),
            }
        }
    }

    /// Sets all fields that are assigned.
    pub(super) fn apply(&mut self, root: &mut dyn Settings, assigned: &Assigned) {
        for (path, (value, source)) in assigned {
            // Only paths of fields are assigned.
            let Some(field) = field_at(root, path) else { continue };
            let size = size(path, value);
            if let Err(expected) = field.set(size.as_ref().unwrap_or(value)) {
                let hint = if is_size(path) { SIZE_HINT } else { "" };
                self.wrong(path, source.clone(), value, &format!("{expected}{hint}"));
            }
        }
    }

    /// Notes that a value is wrong.
    pub(super) fn wrong(&mut self, path: &str, source: Source, value: &Value, expected: &str) {
        let text = format!("{path} is {}, and must be {expected}", short(value));
        self.note(path, source, text);
    }

    /// Notes a mistake in the value of a path.
    pub(super) fn note(&mut self, path: &str, source: Source, text: String) {
        let mistake = self.mistake(path, source, text);
        self.mistakes.push(mistake);
    }

    /// Returns a mistake in the value of a path.
    pub(super) fn mistake(&self, path: &str, source: Source, text: String) -> Mistake {
        let stronger = self.stronger(path, &source);
        Mistake { key: Some(path.to_owned()), stronger, ..Mistake::new(source, text) }
    }

    /// Notes an unknown key.
    pub(super) fn unknown(&mut self, path: &str, source: Source) {
        let near = if self.mistakes.len() < MISTAKES_MAX { self.near(path) } else { None };
        let hint = near.map_or_else(String::new, |near| format!("; did you mean `{near}`?"));
        let text = format!("unknown key `{}`{hint}", cut(path));
        self.mistakes.push(Mistake::new(source, text));
    }

    /// Notes a mistake that is not in the value of a key.
    pub(super) fn other(&mut self, source: Source, text: String) {
        self.mistakes.push(Mistake::new(source, text));
    }

    /// Returns true if no mistake was noted for this key.
    pub(super) fn is_right(&self, path: &str) -> bool {
        self.mistakes.iter().all(|mistake| mistake.key.as_deref() != Some(path))
    }

    pub(super) fn add(&mut self, mistake: Mistake) {
        self.mistakes.push(mistake);
    }

    pub(super) fn mistakes(&self) -> &[Mistake] {
        &self.mistakes
    }

    pub(super) fn into_mistakes(self) -> Vec<Mistake> {
        self.mistakes
    }

    /// Returns the key that was probably meant: the nearest key of the same table, or else the only key with this name
    /// in another table, or else, if the table is unknown, the nearest path.
    fn near(&self, path: &str) -> Option<&str> {
        let (table, key) = split(path);
        let siblings = self.keys.paths().map(split).filter(|(of, _)| *of == table);
        if let Some(near) = nearest(key, siblings.map(|(_, key)| key)) {
            return self.keys.paths().find(|path| split(path) == (table, near));
        }
        let mut namesakes = self.keys.paths().filter(|path| split(path).1 == key);
        let namesake = namesakes.next().filter(|_| namesakes.next().is_none());
        let is_known = table.is_empty() || self.keys.tables.iter().any(|known| known == table);
        namesake.or_else(|| if is_known { None } else { nearest(path, self.keys.paths()) })
    }

    /// Returns the variable and the flag of a key, if they are stronger than a source.
    fn stronger(&self, path: &str, source: &Source) -> Vec<String> {
        let (Some(flags), Some(key)) = (&self.flags, self.keys.find(path)) else { return Vec::new() };
        let flags = flags.iter().filter(|(flagged, _)| flagged == path).map(|(_, name)| name.clone());
        let variable = key.variable.clone();
        match source {
            Source::Default | Source::File { .. } => std::iter::once(variable).chain(flags).collect(),
            Source::Variable(_) => flags.collect(),
            Source::Flag(_) => Vec::new(),
        }
    }
}

/// Splits a path into its table and its last key.
fn split(path: &str) -> (&str, &str) {
    path.rsplit_once('.').unwrap_or(("", path))
}

fn field_at<'a>(table: &'a mut dyn Settings, path: &str) -> Option<&'a mut dyn Setting> {
    match path.split_once('.') {
        None => table.field_mut(path),
        Some((first, rest)) => field_at(table.field_mut(first)?.table_mut()?, rest),
    }
}

/// Returns true if the value of this path is a number of bytes: one word of its key is `bytes`.
pub(super) fn is_size(path: &str) -> bool {
    split(path).1.split('_').any(|word| word == "bytes")
}

/// Returns the number of bytes of a text such as `64KiB`.
fn size(path: &str, value: &Value) -> Option<Value> {
    let (Value::Text(text) | Value::Word(text)) = value else { return None };
    parse_size(text).filter(|_| is_size(path)).map(Value::Integer)
}

/// Returns the text of a value, shortened if it is long.
fn short(value: &Value) -> String {
    cut(&value.to_string())
}

/// Shortens a long text, and replaces control characters.
pub(super) fn cut(text: &str) -> String {
    let mut short: String =
        text.chars().take(TEXT_MAX).map(|c| if c.is_control() { '\u{fffd}' } else { c }).collect();
    if text.chars().nth(TEXT_MAX).is_some() {
        short.push('…');
    }
    short
}

const SIZE_HINT: &str = ", or a size such as \"64KiB\"";
/// Maximum number of characters of a key or a value that the text of a mistake repeats.
const TEXT_MAX: usize = 60;
