//! Compiles `.proto` files to Rust in a build script, and gives every message its id.
//!
//! Runs in pure Rust: no `protoc` is needed. Each message that carries the option
//! `(waystation.v1.id)` gets an implementation of `WireMessage` beside what `prost` generates.
//! It is not a general protobuf compiler: services are ignored, and a message with an id must
//! stand at the top of its file.
//!
//! Data flow: `.proto` files → `protox` → a descriptor pool → the ids are read and checked →
//! `prost-build` writes one `<package>.rs` a package into `OUT_DIR` → the implementations are
//! appended to it, with a check for NaN and infinities where a frame holds floats.
//!
//! What a game's protos look like: import `waystation/v1/options.proto`, which needs no copy,
//! and give each message that is sent by itself an id of the game's ranges, 0x0100 to 0x7fff for
//! the reliable lane or 0x8100 to 0xffff for the unreliable one. A message that is only a field
//! of others needs none; one that is neither a frame nor a field says `option (waystation.v1.id) = 0;`.
//! The code of a package is included with `include!(concat!(env!("OUT_DIR"), "/my.package.rs"))`.
//!
#![doc = include_str!("build/game.md")]

#[path = "build/finite.rs"]
mod finite;

use std::collections::{BTreeMap, BTreeSet};
use std::fs::OpenOptions;
use std::io::Write as _;
use std::ops::RangeInclusive;
use std::path::{Path, PathBuf};
use std::{env, io};

use prost_reflect::{DescriptorPool, ExtensionDescriptor, Kind, MessageDescriptor, Value};

use finite::Floats;

/// Why protos did not compile. Its `Display` names the file and the message.
#[derive(Debug, thiserror::Error)]
pub enum BuildError {
    /// A file does not parse, or an import is missing: what the compiler said, with the place.
    #[error("{0}")]
    Proto(String),
    /// A message and what is wrong with its id, or with what it holds.
    #[error("{file}: message {message}: {problem}")]
    Id {
        /// The file, as it was imported.
        file: String,
        /// The full name of the message.
        message: String,
        /// What is wrong, and what to do.
        problem: String,
    },
    /// Generated code could not be written.
    #[error("generated code could not be written: {0}; is OUT_DIR a writable folder?")]
    Io(#[from] io::Error),
    /// Not run by cargo: the variable is missing.
    #[error("OUT_DIR is not set: call this from a build script")]
    NoOutDir,
}

/// Whose protos are compiled: it decides which ids they may use and how they name this crate.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Owner {
    /// This crate: the package `waystation.v1` may use the core's ids.
    #[allow(dead_code, reason = "used by this crate's own build script, which shares this file")]
    Core,
    /// A game: all its ids are in the game's ranges.
    Game,
}

/// Compiles a game's `files`, found below the folders `includes`, into `OUT_DIR`: the one line
/// of a game's `build.rs`. Cargo runs the script again when one of them changes, or what they import.
///
/// # Errors
///
/// [`BuildError::Proto`] for what is no valid protobuf, [`BuildError::Id`] for a message whose id
/// is missing, taken, too large or outside the game's ranges, or which has an id and is nested in
/// another, or holds numbers that cannot be checked; [`BuildError::Io`] and [`BuildError::NoOutDir`] if there is no place to write to.
pub fn compile(files: &[impl AsRef<Path>], includes: &[impl AsRef<Path>]) -> Result<(), BuildError> {
    compile_for(Owner::Game, files, includes)
}

/// As [`compile`], for whoever owns the protos.
pub(crate) fn compile_for(
    owner: Owner,
    files: &[impl AsRef<Path>],
    includes: &[impl AsRef<Path>],
) -> Result<(), BuildError> {
    let out_dir = PathBuf::from(env::var_os("OUT_DIR").ok_or(BuildError::NoOutDir)?);
    tell_cargo(files);
    tell_cargo(&compile_into(&out_dir, owner, files, includes)?);
    Ok(())
}

/// As [`compile_for`], into a folder of the caller's choice; the files that took part, but for those
/// that this crate ships.
fn compile_into(
    out_dir: &Path,
    owner: Owner,
    files: &[impl AsRef<Path>],
    includes: &[impl AsRef<Path>],
) -> Result<Vec<PathBuf>, BuildError> {
    let set = protox::Compiler::with_file_resolver(resolver(includes))
        .include_imports(true)
        .include_source_info(true)
        .open_files(files)
        .map_err(|error| BuildError::Proto(format!("{error:?}")))?
        .encode_file_descriptor_set();
    let pool =
        DescriptorPool::decode(set.as_slice()).map_err(|error| BuildError::Proto(error.to_string()))?;
    let ids = message_ids(&pool, owner)?;
    let floats = Floats::find(&pool, &ids).map_err(|(message, problem)| id_error(&message, problem))?;

    let mut config = prost_build::Config::new();
    config.out_dir(out_dir).bytes(["."]);
    let crate_path = match owner {
        Owner::Core => {
            config.skip_debug(SECRET_MESSAGES.iter().copied());
            "crate"
        }
        Owner::Game => {
            config.extern_path(".waystation.v1", "::waystation::wire::v1");
            config.prost_path("::waystation::wire::prost");
            "::waystation"
        }
    };
    config.compile_fds(pool_to_set(&set)?)?;
    append_code(out_dir, crate_path, &ids, &floats)?;
    Ok(sources(&pool, includes))
}

/// Where the files of a pool lie below the includes.
fn sources(pool: &DescriptorPool, includes: &[impl AsRef<Path>]) -> Vec<PathBuf> {
    let found = |file: prost_reflect::FileDescriptor| {
        includes.iter().map(|include| include.as_ref().join(file.name())).find(|path| path.is_file())
    };
    pool.files().filter_map(found).collect()
}

/// Asks for another run when a file changes.
#[allow(clippy::print_stdout, reason = "standard output is how a build script speaks to cargo")]
fn tell_cargo(files: &[impl AsRef<Path>]) {
    for file in files {
        println!("cargo:rerun-if-changed={}", file.as_ref().display());
    }
}

/// A message that is a frame of its own.
struct Framed {
    package: String,
    rust_name: String,
    full_name: String,
    id: u16,
}

/// Finds and checks the ids of all messages of the owner's files.
fn message_ids(pool: &DescriptorPool, owner: Owner) -> Result<Vec<Framed>, BuildError> {
    let option = pool.get_extension_by_name(ID_OPTION);
    let parts: BTreeSet<String> = pool.all_messages().flat_map(|message| fields_of(&message)).collect();
    let mut taken: BTreeMap<u16, String> = BTreeMap::new();
    let mut framed = Vec::new();
    for message in pool.all_messages() {
        if is_foreign(&message, owner) {
            continue;
        }
        let id = checked_id(&message, option.as_ref(), owner, &parts, &mut taken)
            .map_err(|problem| id_error(&message, problem))?;
        if let Some(id) = id {
            framed.push(Framed {
                package: message.package_name().to_owned(),
                rust_name: finite::path_of(&message),
                full_name: message.full_name().to_owned(),
                id,
            });
        }
    }
    Ok(framed)
}

/// Whether a message is none of the owner's: protobuf's own, a map's entry, or shipped with this
/// crate and only imported.
fn is_foreign(message: &MessageDescriptor, owner: Owner) -> bool {
    let shipped = SHIPPED.iter().any(|(name, _)| *name == message.parent_file().name());
    message.package_name().starts_with("google.")
        || message.is_map_entry()
        || (owner == Owner::Game && shipped)
}

/// The id of a message, if it is a frame; or what is wrong with it, and what to do.
fn checked_id(
    message: &MessageDescriptor,
    option: Option<&ExtensionDescriptor>,
    owner: Owner,
    parts: &BTreeSet<String>,
    taken: &mut BTreeMap<u16, String>,
) -> Result<Option<u16>, String> {
    let core = message.package_name() == CORE_PACKAGE;
    if core && owner == Owner::Game {
        return Err(format!("the package {CORE_PACKAGE} is the core's: choose another"));
    }
    let id = match option {
        Some(option) => id_of(message, option)?,
        None => None,
    };
    let nested = message.parent_message().is_some();
    let Some(id) = id else {
        if nested || parts.contains(message.full_name()) {
            return Ok(None);
        }
        return Err(format!(
            "it has no id and no other message has it as a field: import \"waystation/v1/options.proto\" and \
             add `option ({ID_OPTION}) = …;`, or 0 for what is never a frame of its own"
        ));
    };
    if id == 0 {
        return Ok(None);
    }
    let (range, whose) = if core { (CORE_RANGES, "the core's") } else { (GAME_RANGES, "a game's") };
    if !range.iter().any(|range| range.contains(&id)) {
        return Err(format!("the id {id:#06x} is outside {whose} ranges {}", ranges_text(range)));
    }
    if nested {
        return Err(
            "it has an id and is nested in another message: move it to the top of its file".to_owned()
        );
    }
    if let Some(other) = taken.insert(id, message.full_name().to_owned()) {
        return Err(format!("the id {id:#06x} is taken by {other}: choose another"));
    }
    Ok(Some(id))
}

/// The id that a message's options give it, if they give one.
fn id_of(message: &MessageDescriptor, option: &ExtensionDescriptor) -> Result<Option<u16>, String> {
    let options = message.options();
    if !options.has_extension(option) {
        return Ok(None);
    }
    match options.get_extension(option).as_ref() {
        Value::U32(id) => u16::try_from(*id).map(Some).map_err(|_| {
            format!("the id {id:#x} does not fit 16 bits: use 0x0100 to 0x7fff or 0x8100 to 0xffff")
        }),
        other => {
            Err(format!("its id is {other:?}, not a uint32: import waystation/v1/options.proto as shipped"))
        }
    }
}

/// Names of the messages that are fields of this one.
fn fields_of(message: &MessageDescriptor) -> Vec<String> {
    message
        .fields()
        .filter_map(|field| match field.kind() {
            Kind::Message(part) => Some(part.full_name().to_owned()),
            _ => None,
        })
        .collect()
}

fn id_error(message: &MessageDescriptor, problem: String) -> BuildError {
    BuildError::Id {
        file: message.parent_file().name().to_owned(),
        message: message.full_name().to_owned(),
        problem,
    }
}

/// Writes the implementations behind what `prost-build` wrote for each package.
fn append_code(out_dir: &Path, crate_path: &str, ids: &[Framed], floats: &Floats) -> Result<(), BuildError> {
    for Framed { package, rust_name, full_name, id } in ids {
        let check = if floats.are_in(full_name) {
            format!("    fn is_finite(&self) -> bool {{ {crate_path}::wire::Finite::all_finite(self) }}\n")
        } else {
            String::new()
        };
        let implementation = format!(
            "impl {crate_path}::wire::WireMessage for {rust_name} {{\n    \
             const ID: {crate_path}::ident::MessageId = {crate_path}::ident::MessageId::new({id:#06x});\n    \
             const NAME: &'static str = \"{full_name}\";\n{check}}}"
        );
        append(out_dir, package, &implementation)?;
    }
    for (package, check) in floats.checks(crate_path) {
        append(out_dir, &package, &check)?;
    }
    Ok(())
}

fn append(out_dir: &Path, package: &str, code: &str) -> Result<(), BuildError> {
    let mut file = OpenOptions::new().append(true).open(out_dir.join(format!("{package}.rs")))?;
    Ok(writeln!(file, "{code}")?)
}

/// Looks below the includes first, then among the protos that this crate ships.
fn resolver(includes: &[impl AsRef<Path>]) -> protox::file::ChainFileResolver {
    let mut chain = protox::file::ChainFileResolver::new();
    for include in includes {
        chain.add(protox::file::IncludeFileResolver::new(include.as_ref().to_owned()));
    }
    chain.add(Shipped);
    chain.add(protox::file::GoogleFileResolver::new());
    chain
}

/// The protos that games import, so that they need no copy of them.
struct Shipped;

impl protox::file::FileResolver for Shipped {
    fn open_file(&self, name: &str) -> Result<protox::file::File, protox::Error> {
        let (name, source) = SHIPPED
            .iter()
            .find(|(shipped, _)| *shipped == name)
            .ok_or_else(|| protox::Error::file_not_found(name))?;
        protox::file::File::from_source(name, source)
    }
}

/// `prost-build` wants the descriptor set as its own type; it has no use for custom options.
fn pool_to_set(bytes: &[u8]) -> Result<prost_types::FileDescriptorSet, BuildError> {
    prost::Message::decode(bytes).map_err(|error| BuildError::Proto(error.to_string()))
}

fn ranges_text(ranges: &[RangeInclusive<u16>]) -> String {
    let texts: Vec<String> =
        ranges.iter().map(|range| format!("{:#06x} to {:#06x}", range.start(), range.end())).collect();
    texts.join(" and ")
}

/// The option that carries a message's id.
const ID_OPTION: &str = "waystation.v1.id";
/// The protos that this crate ships to games, and their text.
const SHIPPED: &[(&str, &str)] = &[
    ("waystation/v1/options.proto", include_str!("../proto/waystation/v1/options.proto")),
    ("waystation/v1/reason.proto", include_str!("../proto/waystation/v1/reason.proto")),
];
/// Messages with secrets in them: the crate writes their `Debug` by hand, without the secrets.
const SECRET_MESSAGES: &[&str] = &[
    ".waystation.v1.Hello",
    ".waystation.v1.Password",
    ".waystation.v1.Bearer",
    ".waystation.v1.Resume",
    ".waystation.v1.Welcome",
];
/// The package that owns the core's ids.
const CORE_PACKAGE: &str = "waystation.v1";
/// Link control and session messages.
const CORE_RANGES: &[RangeInclusive<u16>] = &[0x0001..=0x00FF, 0x8000..=0x80FF];
/// The game's reliable and unreliable messages.
const GAME_RANGES: &[RangeInclusive<u16>] = &[0x0100..=0x7FFF, 0x8100..=0xFFFF];

#[cfg(test)]
#[path = "build/tests.rs"]
mod tests;
