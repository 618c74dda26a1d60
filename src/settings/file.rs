//! Parses the text of a file.

use std::sync::Arc;

use toml_edit::{Document, InlineTable, Item, Key, Table};

use super::mistake::{Mistake, Source};
use super::value::{Entry, Value};

/// Parses a file into the entries of its root table.
///
/// # Errors
///
/// Returns the first error of syntax, with its line and its column.
pub(super) fn parse(name: &str, text: &str) -> Result<Vec<Entry>, Mistake> {
    let lines = Lines::new(name, text);
    if text.len() > FILE_MAX_BYTES {
        let size = format!("the file has {} bytes, and may have at most {FILE_MAX_BYTES}", text.len());
        return Err(Mistake::new(lines.at(0), size));
    }
    let document = Document::parse(text).map_err(|error| {
        let at = error.span().map_or(0, |span| span.start);
        let cause = error.message().trim().replace('\n', ", ");
        Mistake::new(lines.at(at), format!("column {}: {cause}", lines.column(at)))
    })?;
    Ok(lines.table(document.as_table()))
}

/// The positions at which the lines of a file begin.
struct Lines<'a> {
    name: Arc<str>,
    text: &'a str,
    begins: Vec<usize>,
}

impl<'a> Lines<'a> {
    fn new(name: &str, text: &'a str) -> Self {
        let ends = text.match_indices('\n').map(|(end, _)| end + 1);
        Self { name: name.into(), text, begins: std::iter::once(0).chain(ends).collect() }
    }

    fn line(&self, at: usize) -> usize {
        self.begins.partition_point(|begin| *begin <= at)
    }

    /// Returns the column of a position, counted from 1 in characters.
    fn column(&self, at: usize) -> usize {
        let begin = self.begins[self.line(at) - 1];
        self.text.get(begin..at).map_or(0, |before| before.chars().count()) + 1
    }

    fn at(&self, at: usize) -> Source {
        Source::File { name: Arc::clone(&self.name), line: self.line(at) }
    }

    fn entry(&self, (key, item): (&Key, &Item)) -> Entry {
        let span = key.span().or_else(|| item.span());
        Entry {
            key: key.get().to_owned(),
            source: self.at(span.map_or(0, |span| span.start)),
            value: self.item(item),
        }
    }

    fn table(&self, table: &Table) -> Vec<Entry> {
        let pairs = table.iter().filter_map(|(key, _)| table.get_key_value(key));
        pairs.map(|pair| self.entry(pair)).collect()
    }

    fn inline(&self, table: &InlineTable) -> Vec<Entry> {
        let pairs = table.iter().filter_map(|(key, _)| table.get_key_value(key));
        pairs.map(|pair| self.entry(pair)).collect()
    }

    fn item(&self, item: &Item) -> Value {
        match item {
            Item::None => Value::Table(Vec::new()),
            Item::Value(value) => self.value(value),
            Item::Table(table) => Value::Table(self.table(table)),
            Item::ArrayOfTables(tables) => {
                Value::List(tables.iter().map(|table| Value::Table(self.table(table))).collect())
            }
        }
    }

    fn value(&self, value: &toml_edit::Value) -> Value {
        match value {
            toml_edit::Value::String(text) => Value::Text(text.value().clone()),
            toml_edit::Value::Integer(number) => Value::Integer((*number.value()).into()),
            toml_edit::Value::Float(number) => Value::Float(*number.value()),
            toml_edit::Value::Boolean(value) => Value::Bool(*value.value()),
            toml_edit::Value::Datetime(date) => Value::Date(date.value().to_string()),
            toml_edit::Value::Array(values) => {
                Value::List(values.iter().map(|value| self.value(value)).collect())
            }
            toml_edit::Value::InlineTable(table) => Value::Table(self.inline(table)),
        }
    }
}

/// Maximum size of a file in bytes. A file with all keys and their comments is far smaller. The limit bounds the time
/// that a file with many mistakes takes.
pub const FILE_MAX_BYTES: usize = 1024 * 1024;
