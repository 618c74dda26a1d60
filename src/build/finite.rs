//! Finds the messages that hold floats, and generates the code that checks these for NaN and infinities.
//!
//! Each message and each oneof that a frame can contain and that holds a float gets an implementation of `Finite`.
//! The implementation checks the fields that hold floats, at any depth.

use std::collections::BTreeSet;

use heck::{ToSnakeCase as _, ToUpperCamelCase as _};
use prost_reflect::{DescriptorPool, FieldDescriptor, Kind, MessageDescriptor, OneofDescriptor};

use super::Framed;

/// The messages of frames that hold floats.
pub(super) struct Floats {
    /// The full names of all messages that hold floats at any depth, entries of maps included.
    holders: BTreeSet<String>,
    /// The messages among them that a frame can contain.
    reached: Vec<MessageDescriptor>,
}

impl Floats {
    /// Finds the messages. An error has the frame that contains floats which cannot be checked, the problem, and its
    /// cure.
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
                        "it contains a {name}, which cannot be checked for NaN: use fields of their own"
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

    /// Returns true if a message holds floats.
    pub(super) fn are_in(&self, full_name: &str) -> bool {
        self.holders.contains(full_name)
    }

    /// Returns the implementations, each with its package.
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

    /// Returns the oneofs of a message that hold floats. An optional field is not a oneof here.
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

/// Returns the full names of the messages that hold floats, at any depth.
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
        "#[allow(deprecated, reason = \"generated: deprecated fields are checked too\")]\n\
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

/// Returns the Rust path of a message within its package.
pub(super) fn path_of(message: &MessageDescriptor) -> String {
    let name = upper_camel(message.name());
    match message.parent_message() {
        Some(parent) => format!("{}::{name}", module_of(&parent)),
        None => name,
    }
}

/// Returns the path of the module for types that are nested in a message.
fn module_of(message: &MessageDescriptor) -> String {
    let name = snake(message.name());
    match message.parent_message() {
        Some(parent) => format!("{}::{name}", module_of(&parent)),
        None => name,
    }
}

/// Returns the type name of a oneof. `prost-build` adds a suffix if a nested type has the same name.
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

/// Returns a valid Rust identifier for a name, by the rules of `prost-build`.
fn sanitized(name: String) -> String {
    match name.as_str() {
        "super" | "self" | "Self" | "extern" | "crate" | "_" => format!("{name}_"),
        keyword if KEYWORDS.contains(&keyword) => format!("r#{name}"),
        number if number.starts_with(char::is_numeric) => format!("_{name}"),
        _ => name,
    }
}

/// The names that `prost-build` writes as raw identifiers.
const KEYWORDS: &[&str] = &[
    "abstract", "as", "async", "await", "become", "box", "break", "const", "continue", "do", "dyn", "else",
    "enum", "false", "final", "fn", "for", "gen", "if", "impl", "in", "let", "loop", "macro", "match", "mod",
    "move", "mut", "override", "priv", "pub", "ref", "return", "static", "struct", "trait", "true", "try",
    "type", "typeof", "unsafe", "unsized", "use", "virtual", "where", "while", "yield",
];
/// The messages of protobuf itself that hold floats and for which a game cannot implement a trait. The wrapper
/// messages are not in the list, because they are plain floats in Rust.
const UNSEEN: &[&str] = &["google.protobuf.Struct", "google.protobuf.Value", "google.protobuf.ListValue"];
