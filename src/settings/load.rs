//! Loads a configuration from a file, variables and flags.

use std::collections::BTreeMap;
use std::ffi::{OsStr, OsString};

use super::ConfigError;
use super::define::{Content, Settings};
use super::file;
use super::keys::{Key, PREFIX, variable};
use super::mistake::{Mistake, Mistakes, Source};
use super::nearest::nearest;
use super::value::{Entry, Value};
use super::walk::{Assigned, Walk, cut};

/// The inputs that set a configuration, from the weakest to the strongest.
#[derive(Debug, Clone, Default)]
pub struct Inputs<'a> {
    /// Name and text of the file, in TOML.
    pub file: Option<(&'a str, &'a str)>,
    /// Environment variables. Variables whose names do not begin with [`PREFIX`] are ignored.
    pub variables: Vec<(OsString, OsString)>,
    /// Names of variables with the prefix that the caller reads itself.
    pub other_variables: &'a [&'a str],
    /// Flags. A later flag is stronger than an earlier one.
    pub flags: Vec<Flag>,
}

/// A flag that sets a key.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Flag {
    /// Name of the flag as the user writes it, such as `--link-timeout`.
    pub name: String,
    /// Path of the key, such as `session.link_timeout`.
    pub key: String,
    /// Texts that were given to the flag. Several texts are the items of a list. A flag without texts was not given:
    /// it sets nothing, and mistakes name it as a way to set its key.
    pub texts: Vec<String>,
}

/// A configuration, and the source of each value.
#[derive(Debug)]
pub struct Loaded<S> {
    /// The configuration.
    pub value: S,
    sources: BTreeMap<String, Source>,
    walk: Walk,
}

/// Loads a configuration. `check` returns an error for each value that has the right type and does not work: see
/// [`ServerConfig::check_all`](crate::config::ServerConfig::check_all).
///
/// # Errors
///
/// Returns all mistakes: unknown keys, variables and flags, values of wrong types, and the mistakes that `check`
/// returns. If the file is not valid TOML, the mistake has the line and the column of the first syntax error.
pub fn load<S: Settings + Default>(
    inputs: Inputs<'_>,
    check: impl FnOnce(&S) -> Vec<ConfigError>,
) -> Result<Loaded<S>, Mistakes> {
    let mut value = S::default();
    let mut walk = Walk::new(&value);
    walk.flags = Some(inputs.flags.iter().map(|flag| (flag.key.clone(), flag.name.clone())).collect());
    let mut assigned = Assigned::new();
    if let Some((name, text)) = inputs.file {
        match file::parse(name, text) {
            Ok(entries) => walk.table(&value, "", entries, &mut assigned),
            Err(mistake) => walk.other(mistake.source, mistake.text),
        }
    }
    for (name, text) in inputs.variables {
        read_variable(&mut walk, &name, text, inputs.other_variables, &mut assigned);
    }
    for flag in inputs.flags {
        read_flag(&mut walk, flag, &mut assigned);
    }
    walk.apply(&mut value, &assigned);
    let sources = assigned.into_iter().map(|(path, (_, source))| (path, source)).collect();
    let mut loaded = Loaded { value, sources, walk };
    for error in check(&loaded.value) {
        let mistake = loaded.refused(&error);
        if mistake.key.as_deref().is_none_or(|key| loaded.walk.is_right(key)) {
            loaded.walk.add(mistake);
        }
    }
    if loaded.walk.mistakes().is_empty() {
        return Ok(loaded);
    }
    Err(Mistakes::new(loaded.walk.into_mistakes()))
}

impl<S: Settings> Loaded<S> {
    /// Returns the source of the value of a key.
    #[must_use]
    pub fn source(&self, path: &str) -> &Source {
        self.sources.get(path).unwrap_or(&Source::Default)
    }

    /// Returns the paths of the keys whose values differ in another configuration, and the path of the game's table if
    /// it differs, in the order of their declaration.
    #[must_use]
    pub fn changed_keys(&self, other: &Self) -> Vec<String> {
        let (mut own, mut others) = (Vec::new(), Vec::new());
        collect(&self.value, "", &mut own);
        collect(&other.value, "", &mut others);
        let changed = own.into_iter().zip(others).filter(|(own, other)| own != other);
        changed.map(|((path, _), _)| path).collect()
    }

    /// Returns a mistake in the value of a key, for a check of the caller. `text` describes what is wrong and what the
    /// value must be.
    #[must_use]
    pub fn mistake(&self, path: &str, text: impl Into<String>) -> Mistake {
        self.walk.mistake(path, self.source(path).clone(), text.into())
    }

    /// Converts an error from a check of the configuration into a mistake. The mistake names the key instead of the
    /// struct, and the source of its value.
    #[must_use]
    pub fn refused(&self, error: &ConfigError) -> Mistake {
        let ConfigError { field, value, range, cure } = error;
        match self.walk.keys.keys.iter().find(|key| key.field == *field) {
            Some(Key { path, .. }) => {
                self.mistake(path, format!("{path} is {value}, and must be {range}: {cure}"))
            }
            None => Mistake::new(Source::Default, error.to_string()),
        }
    }

    /// Returns the configuration as a file with comments, which can be loaded again. Keys that were not set and have
    /// their default are commented out.
    #[must_use]
    pub fn show(&self) -> String {
        super::show::show(&self.value, &self.walk.keys, |path| self.source(path))
    }
}

/// Collects the paths and the values of all fields. Two configurations of one type have the same paths.
fn collect(table: &dyn Settings, prefix: &str, into: &mut Vec<(String, Value)>) {
    for field in table.fields() {
        let path = format!("{prefix}{}", field.key);
        match field.content {
            Content::Value(value) => into.push((path, value)),
            Content::Table(inner) => collect(inner, &format!("{path}."), into),
            Content::Game(game) => into.push((path, Value::Table(game.entries.clone()))),
        }
    }
}

fn read_variable(
    walk: &mut Walk,
    name: &OsString,
    text: OsString,
    other_variables: &[&str],
    assigned: &mut Assigned,
) {
    let name = name.to_string_lossy();
    let Some(rest) = name.strip_prefix(PREFIX) else { return };
    if other_variables.contains(&name.as_ref()) {
        return;
    }
    let source = Source::Variable(name.to_string());
    let path = walk.keys.keys.iter().find(|key| key.variable == name).map(|key| key.path.clone());
    let in_game = walk.keys.game.as_deref().and_then(|game| {
        let key = name.strip_prefix(&variable(game))?.strip_prefix('_')?;
        Some(format!("{game}.{}", key.to_lowercase()))
    });
    let Some(path) = path.or(in_game) else {
        if !is_of_kubernetes(rest, &text) {
            let known = walk.keys.keys.iter().map(|key| &key.variable[PREFIX.len()..]);
            let hint = nearest(rest, known)
                .map_or_else(String::new, |near| format!("; did you mean `{PREFIX}{near}`?"));
            walk.other(source, format!("no key has this environment variable{hint}"));
        }
        return;
    };
    match text.into_string() {
        Ok(text) => assign(walk, path, source, Value::Word(text), assigned),
        Err(text) => {
            let text = cut(&text.to_string_lossy());
            walk.note(&path, source, format!("{path} is \"{text}\", and must be a text in UTF-8"));
        }
    }
}

/// Returns true for the variables that Kubernetes sets in each container for a service whose name begins with
/// `waystation`.
fn is_of_kubernetes(rest: &str, text: &OsStr) -> bool {
    let is_url = || text.to_str().is_some_and(|text| text.contains("://"));
    rest.ends_with("SERVICE_HOST")
        || rest.contains("SERVICE_PORT")
        || rest.ends_with("PORT") && is_url()
        || rest.split("PORT_").skip(1).any(|after| after.starts_with(|c: char| c.is_ascii_digit()))
}

fn read_flag(walk: &mut Walk, flag: Flag, assigned: &mut Assigned) {
    let source = Source::Flag(flag.name);
    let mut words: Vec<Value> = flag.texts.into_iter().map(Value::Word).collect();
    let value = match words.len() {
        0 => return,
        1 => words.remove(0),
        _ => Value::List(words),
    };
    let depth = flag.key.matches('.').count();
    if depth > DEPTH_MAX {
        walk.other(
            source,
            format!("`{}` has {depth} dots, and may have at most {DEPTH_MAX}", cut(&flag.key)),
        );
    } else if walk.keys.find(&flag.key).is_some() || walk.keys.in_game(&flag.key).is_some() {
        assign(walk, flag.key, source, value, assigned);
    } else {
        walk.unknown(&flag.key, source);
    }
}

/// Assigns a value to a key, or to a key of the game's table.
fn assign(walk: &Walk, path: String, source: Source, value: Value, assigned: &mut Assigned) {
    let Some(rest) = walk.keys.in_game(&path) else {
        assigned.insert(path, (value, source));
        return;
    };
    let game = path[..path.len() - rest.len() - 1].to_owned();
    let (table, _) = assigned.entry(game).or_insert_with(|| (Value::Table(Vec::new()), source.clone()));
    insert(table, rest, source, value);
}

/// Inserts a value into a table and the tables in it.
fn insert(table: &mut Value, path: &str, source: Source, value: Value) {
    if !matches!(table, Value::Table(_)) {
        *table = Value::Table(Vec::new());
    }
    let Value::Table(entries) = table else { return };
    let (key, rest) = path.split_once('.').map_or((path, None), |(key, rest)| (key, Some(rest)));
    let at = entries.iter().position(|entry| entry.key == key).unwrap_or_else(|| {
        let value = Value::Table(Vec::new());
        entries.push(Entry { key: key.to_owned(), source: source.clone(), value });
        entries.len() - 1
    });
    match rest {
        Some(rest) => insert(&mut entries[at].value, rest, source, value),
        None => entries[at] = Entry { key: key.to_owned(), source, value },
    }
}

/// Maximum number of dots in the key of a flag, which is the maximum depth of tables in a file. Each level of tables
/// uses stack space.
const DEPTH_MAX: usize = 80;
