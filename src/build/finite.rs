//! Which messages hold floats, and the code that looks whether these are numbers.
//!
//! Only what a frame can hold is looked at, and only where there is a float: each such message,
//! and each such oneof, gets an implementation of `Finite`, whose calls follow the fields down.

use std::collections::BTreeSet;

use heck::{ToSnakeCase as _, ToUpperCamelCase as _};
use prost_reflect::{DescriptorPool, FieldDescriptor, Kind, MessageDescriptor, OneofDescriptor};

use super::Framed;

/// The messages of frames that hold floats.
pub(super) struct Floats {
    /// Full names of all messages that hold floats, at whatever depth; entries of maps included.
    holders: BTreeSet<String>,
    /// Those that a frame can hold.
    reached: Vec<MessageDescriptor>,
}

impl Floats {
    /// Finds them. An error names the message of a frame that holds numbers which no code of ours
    /// can look at, and says what to do.
    pub(super) fn find(
        pool: &DescriptorPool,
        framed: &[Framed],
    ) -> Result<Self, (MessageDescriptor, String)> {
        let mut floats = Self { holders: holders(pool), reached: Vec::new() };
        let mut seen = BTreeSet::new();
        for root in framed.iter().filter_map(|framed| pool.get_message_by_name(&framed.full_name)) {
            let mut waiting = vec![root.clone()];
            while let Some(message) = waiting.pop() {
                if !floats.holders.contains(message.full_name())
                    || !seen.insert(message.full_name().to_owned())
                {
                    continue;
                }
                let name = message.full_name();
                if UNSEEN.contains(&name) {
                    let problem = format!(
                        "it holds a {name}, whose numbers cannot be checked for NaN: give them fields of their own"
                    );
                    return Err((root, problem));
                }
                waiting.extend(message.fields().filter_map(|field| message_of(&field)));
                if !message.is_map_entry() && !name.starts_with("google.") {
                    floats.reached.push(message);
                }
            }
        }
        Ok(floats)
    }

    /// Whether a message holds floats.
    pub(super) fn are_in(&self, full_name: &str) -> bool {
        self.holders.contains(full_name)
    }

    /// The implementations, each with the package that it belongs to.
    pub(super) fn checks(&self, crate_path: &str) -> impl Iterator<Item = (String, String)> {
        self.reached.iter().map(move |message| {
            let mut code = self.message(message, crate_path);
            for oneof in self.oneofs(message) {
                code.push_str(&self.oneof(message, &oneof, crate_path));
            }
            (message.package_name().to_owned(), code)
        })
    }

    fn message(&self, message: &MessageDescriptor, crate_path: &str) -> String {
        let fields = message
            .fields()
            .filter(|field| real_oneof(field).is_none() && self.has_floats(field))
            .map(|field| snake(field.name()));
        let oneofs = self.oneofs(message).into_iter().map(|oneof| snake(oneof.name()));
        let checks: Vec<String> = fields
            .chain(oneofs)
            .map(|field| format!("{crate_path}::wire::Finite::all_finite(&self.{field})"))
            .collect();
        implementation(crate_path, &path_of(message), &checks.join("\n            && "))
    }

    fn oneof(&self, message: &MessageDescriptor, oneof: &OneofDescriptor, crate_path: &str) -> String {
        let arms: String = oneof
            .fields()
            .map(|field| {
                let variant = upper_camel(field.name());
                if self.has_floats(&field) {
                    format!("Self::{variant}(value) => {crate_path}::wire::Finite::all_finite(value),\n            ")
                } else {
                    format!("Self::{variant}(_) => true,\n            ")
                }
            })
            .collect();
        let path = format!("{}::{}", module_of(message), oneof_type(message, oneof));
        implementation(crate_path, &path, &format!("match self {{\n            {arms}}}"))
    }

    /// The oneofs of a message that hold floats. What is merely optional is none.
    fn oneofs(&self, message: &MessageDescriptor) -> Vec<OneofDescriptor> {
        let real = message.oneofs().filter(|oneof| !oneof.is_synthetic());
        real.filter(|oneof| oneof.fields().any(|field| self.has_floats(&field))).collect()
    }

    fn has_floats(&self, field: &FieldDescriptor) -> bool {
        match field.kind() {
            Kind::Float | Kind::Double => true,
            Kind::Message(message) => self.holders.contains(message.full_name()),
            _ => false,
        }
    }
}

/// The messages that hold floats: those with a float, then those with one of these, and so on.
fn holders(pool: &DescriptorPool) -> BTreeSet<String> {
    let mut floats = Floats { holders: BTreeSet::new(), reached: Vec::new() };
    loop {
        let found: Vec<String> = pool
            .all_messages()
            .filter(|message| !floats.holders.contains(message.full_name()))
            .filter(|message| message.fields().any(|field| floats.has_floats(&field)))
            .map(|message| message.full_name().to_owned())
            .collect();
        if found.is_empty() {
            return floats.holders;
        }
        floats.holders.extend(found);
    }
}

fn implementation(crate_path: &str, path: &str, body: &str) -> String {
    format!(
        "#[allow(deprecated, reason = \"generated: fields that are deprecated are checked as well\")]\n\
         impl {crate_path}::wire::Finite for {path} {{\n    \
             fn all_finite(&self) -> bool {{\n        {body}\n    }}\n}}\n"
    )
}

fn message_of(field: &FieldDescriptor) -> Option<MessageDescriptor> {
    match field.kind() {
        Kind::Message(message) => Some(message),
        _ => None,
    }
}

fn real_oneof(field: &FieldDescriptor) -> Option<OneofDescriptor> {
    field.containing_oneof().filter(|oneof| !oneof.is_synthetic())
}

/// The Rust name of a message, as seen from its package.
pub(super) fn path_of(message: &MessageDescriptor) -> String {
    let name = upper_camel(message.name());
    match message.parent_message() {
        Some(parent) => format!("{}::{name}", module_of(&parent)),
        None => name,
    }
}

/// The module of what is nested in a message.
fn module_of(message: &MessageDescriptor) -> String {
    let name = snake(message.name());
    match message.parent_message() {
        Some(parent) => format!("{}::{name}", module_of(&parent)),
        None => name,
    }
}

/// `prost-build` gives a oneof another name where a nested type has its own.
fn oneof_type(message: &MessageDescriptor, oneof: &OneofDescriptor) -> String {
    let name = upper_camel(oneof.name());
    let messages = message.child_messages().map(|child| upper_camel(child.name()));
    let enums = message.child_enums().map(|child| upper_camel(child.name()));
    if messages.chain(enums).any(|nested| nested == name) { format!("{name}OneOf") } else { name }
}

fn snake(name: &str) -> String {
    sanitized(name.to_snake_case())
}

fn upper_camel(name: &str) -> String {
    sanitized(name.to_upper_camel_case())
}

/// A name that Rust takes, by the rules of `prost-build`.
fn sanitized(name: String) -> String {
    match name.as_str() {
        "super" | "self" | "Self" | "extern" | "crate" | "_" => format!("{name}_"),
        keyword if KEYWORDS.contains(&keyword) => format!("r#{name}"),
        number if number.starts_with(char::is_numeric) => format!("_{name}"),
        _ => name,
    }
}

/// What `prost-build` writes as raw identifiers.
const KEYWORDS: &[&str] = &[
    "abstract", "as", "async", "await", "become", "box", "break", "const", "continue", "do", "dyn", "else",
    "enum", "false", "final", "fn", "for", "gen", "if", "impl", "in", "let", "loop", "macro", "match", "mod",
    "move", "mut", "override", "priv", "pub", "ref", "return", "static", "struct", "trait", "true", "try",
    "type", "typeof", "unsafe", "unsized", "use", "virtual", "where", "while", "yield",
];
/// Messages of protobuf's own with floats, for which a game cannot implement anything. Its
/// wrappers are plain floats in Rust.
const UNSEEN: &[&str] = &["google.protobuf.Struct", "google.protobuf.Value", "google.protobuf.ListValue"];
