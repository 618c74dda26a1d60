//! Shows a configuration as a file with comments.

use std::fmt::Write as _;

use super::define::{Content, Settings};
use super::keys::{Keys, plain};
use super::mistake::Source;
use super::units::size_to_text;
use super::value::Value;
use super::walk::is_size;

/// Returns the configuration as a file.
pub(super) fn show<'a>(settings: &dyn Settings, keys: &Keys, source: impl Fn(&str) -> &'a Source) -> String {
    let mut show = Show { text: HEAD.to_owned(), keys, source };
    show.table(settings, "");
    show.text
}

struct Show<'k, F> {
    text: String,
    keys: &'k Keys,
    source: F,
}

impl<'a, F: Fn(&str) -> &'a Source> Show<'_, F> {
    /// Writes the values of a table, and then the tables in it, as TOML requires.
    fn table(&mut self, table: &dyn Settings, prefix: &str) {
        let fields = table.fields();
        for field in &fields {
            if let Content::Value(value) = &field.content {
                self.docs(field.docs);
                self.value(&format!("{prefix}{}", field.key), field.key, value);
            }
        }
        for field in &fields {
            let path = format!("{prefix}{}", field.key);
            match &field.content {
                Content::Value(_) => {}
                Content::Table(inner) => {
                    self.header(&path, field.docs);
                    self.table(*inner, &format!("{path}."));
                }
                Content::Game(game) => {
                    self.header(&path, field.docs);
                    for entry in &game.entries {
                        let _ = writeln!(self.text, "{entry}{}", comment(&entry.source));
                    }
                }
            }
        }
    }

    fn header(&mut self, path: &str, docs: &[&str]) {
        self.docs(docs);
        let _ = writeln!(self.text, "[{path}]");
    }

    /// Writes a doc as a comment. Replaces the names of fields, such as `DoorConfig::count`, by their keys.
    fn docs(&mut self, docs: &[&str]) {
        self.text.push('\n');
        let mut text = plain(docs).join("\n");
        for key in &self.keys.keys {
            text = text.replace(&format!("`{}`", key.field), &format!("`{}`", key.path));
        }
        for line in wrapped(&text) {
            let _ = writeln!(self.text, "{}", format!("# {line}").trim_end());
        }
    }

    fn value(&mut self, path: &str, key: &str, value: &Value) {
        let source = (self.source)(path);
        let is_default = self.keys.find(path).is_some_and(|key| key.default == *value);
        let size = match value {
            Value::Integer(bytes) if is_size(path) => size_to_text(*bytes).map(Value::Text),
            _ => None,
        };
        let value = size.as_ref().unwrap_or(value);
        let off = if is_default && *source == Source::Default { "# " } else { "" };
        let _ = writeln!(self.text, "{off}{key} = {value}{}", comment(source));
    }
}

/// Wraps the lines of a text again, because lines are shorter without links. A text with a list, a table or code keeps
/// its lines.
fn wrapped(text: &str) -> Vec<String> {
    if text.lines().any(|line| line.starts_with([' ', '|', '-', '*', '#']) || line.starts_with("```")) {
        return text.lines().map(str::to_owned).collect();
    }
    let mut lines = Vec::new();
    for (at, paragraph) in text.split("\n\n").enumerate() {
        if at > 0 {
            lines.push(String::new());
        }
        let mut line = String::new();
        for word in paragraph.split_whitespace() {
            if !line.is_empty() && line.chars().count() + word.chars().count() >= COLUMNS {
                lines.push(std::mem::take(&mut line));
            }
            if !line.is_empty() {
                line.push(' ');
            }
            line.push_str(word);
        }
        lines.push(line);
    }
    lines
}

fn comment(source: &Source) -> String {
    match source {
        Source::Default => String::new(),
        source => format!("  # {source}"),
    }
}

/// The beginning of a file.
const HEAD: &str = "\
# Each key can also be set by an environment variable. Its name is WAYSTATION_ and the path of the key in upper case,
# joined by `_`: WAYSTATION_SESSION_TIMEOUT sets `timeout` in the table `[session]`.
# Keys that are not set have their default and are commented out.
";
/// Maximum number of columns of a comment, without the `# ` before it.
const COLUMNS: usize = 108;
