//! Compiles a game's `.proto` files to Rust in a build script, and implements `WireMessage` for its messages.
//!
//! `protoc` is not needed. Each message with the option `(waystation.v1.id)` gets an implementation of
//! `WireMessage` in addition to the code of `prost`. Services are ignored. A message with an id must not be nested in
//! another message.
//!
//! A game's protos follow these rules:
//!
//! - They import `waystation/v1/options.proto`. The compiler finds this file without a copy.
//! - Each message that is sent as a frame has an id from the game's ranges: 0x0100 to 0x7fff for the reliable lane,
//!   and 0x8100 to 0xffff for the unreliable lane.
//! - A message that is only a field of other messages needs no id.
//! - A message that is neither a frame nor a field has `option (waystation.v1.id) = 0;`.
//!
//! `include!(concat!(env!("OUT_DIR"), "/my.package.rs"))` includes the code of the package `my.package`.
//!
//! Data flow: `.proto` files → `protox` → a descriptor pool → the ids are read and checked → `prost-build` writes
//! one `<package>.rs` per package into `OUT_DIR` → the implementations are appended, with a check for NaN and
//! infinities for messages that contain floats.
//!
//! [`pages`] lists the files of a game's pages, which a release build contains.
//!
//! The build script of a game:
//!
//! ```no_run
//! fn main() -> Result<(), waystation::build::BuildError> {
//!     waystation::build::compile(&["proto/game.proto"], &["proto"])?;
//!     waystation::build::pages("web/dist")
//! }
//! ```
//!
//! and its `Cargo.toml`, where the feature `build` alone does not depend on bevy:
//!
//! ```toml
//! [build-dependencies]
//! waystation = { path = "../waystation", default-features = false, features = ["build"] }
//! ```
//!
//! The folder `template` of the repository is such a game, and `waystation new` writes it.

#[path = "build/finite.rs"]
mod finite;
#[path = "build/pages.rs"]
mod pages;

use std::collections::{BTreeMap, BTreeSet};
use std::fs::OpenOptions;
use std::io::Write as _;
use std::ops::RangeInclusive;
use std::path::{Path, PathBuf};
use std::{env, io};

use prost_reflect::{DescriptorPool, ExtensionDescriptor, Kind, MessageDescriptor, Value};

use finite::Floats;
pub use pages::pages;

/// The error of compiling protos, or of listing pages.
#[derive(Debug, thiserror::Error)]
pub enum BuildError {
    /// A file does not parse, or an import is missing. The text is that of the compiler and names the place.
    #[error("{0}")]
    Proto(String),
    /// The id or a field of a message is wrong.
    #[error("{file}: message {message}: {problem}")]
    Id {
        /// The file, as it was imported.
        file: String,
        /// The full name of the message.
        message: String,
        /// The problem and the cure.
        problem: String,
    },
    /// A file or folder of the pages cannot be part of them.
    #[error("{}: {problem}", path.display())]
    Pages {
        /// The file or folder.
        path: PathBuf,
        /// The problem and the cure.
        problem: String,
    },
    /// The generated code could not be written.
    #[error("cannot write the generated code: {0}; check that OUT_DIR is a writable folder")]
    Io(#[from] io::Error),
    /// The environment variable `OUT_DIR` is not set.
    #[error("OUT_DIR is not set: call this from a build script")]
    NoOutDir,
}

/// The owner of protos. It decides which ids they may use and by which path they refer to this crate.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Owner {
    /// This crate. The package `waystation.v1` may use the core's ids.
    #[allow(dead_code, reason = "used by this crate's own build script, which shares this file")]
    Core,
    /// A game. All ids must be in the game's ranges.
    Game,
}

/// Compiles a game's `files` into `OUT_DIR`. Imports are searched in the folders `includes`.
///
/// Call this in a game's `build.rs`. Cargo runs the script again when one of the files or their imports changes.
///
/// # Errors
///
/// - [`BuildError::Proto`] if a file is not valid protobuf.
/// - [`BuildError::Id`] if the id of a message is missing, taken, too large or outside the game's ranges, if a
///   message with an id is nested in another message, or if a frame contains floats that cannot be checked.
/// - [`BuildError::Io`] and [`BuildError::NoOutDir`] if the code cannot be written.
pub fn compile(files: &[impl AsRef<Path>], includes: &[impl AsRef<Path>]) -> Result<(), BuildError> {
    compile_for(Owner::Game, files, includes)
}

/// As [`compile`], for protos of any owner.
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

/// As [`compile_for`], into `out_dir`. Returns all files that were read, without those that this crate ships.
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

/// Returns the paths of the pool's files that are in the folders `includes`.
fn sources(pool: &DescriptorPool, includes: &[impl AsRef<Path>]) -> Vec<PathBuf> {
    let found = |file: prost_reflect::FileDescriptor| {
        includes.iter().map(|include| include.as_ref().join(file.name())).find(|path| path.is_file())
    };
    pool.files().filter_map(found).collect()
}

/// Makes cargo run the build script again when a file changes.
#[allow(clippy::print_stdout, reason = "cargo reads the standard output of build scripts")]
fn tell_cargo(files: &[impl AsRef<Path>]) {
    for file in files {
        println!("cargo:rerun-if-changed={}", file.as_ref().display());
    }
}

/// A message that is sent as a frame.
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

/// Returns true if the owner has not written a message: it belongs to protobuf itself, is the entry of a map, or is
/// shipped with this crate and imported by a game.
fn is_foreign(message: &MessageDescriptor, owner: Owner) -> bool {
    let shipped = SHIPPED.iter().any(|(name, _)| *name == message.parent_file().name());
    message.package_name().starts_with("google.")
        || message.is_map_entry()
        || (owner == Owner::Game && shipped)
}

/// Returns the id of a message, or `None` if it is not a frame. An error is the problem and its cure.
fn checked_id(
    message: &MessageDescriptor,
    option: Option<&ExtensionDescriptor>,
    owner: Owner,
    parts: &BTreeSet<String>,
    taken: &mut BTreeMap<u16, String>,
) -> Result<Option<u16>, String> {
    let core = message.package_name() == CORE_PACKAGE;
    if core && owner == Owner::Game {
        return Err(format!("the package {CORE_PACKAGE} is reserved for the core: choose another"));
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
            "the message has no id, and no other message has it as a field: import \
             \"waystation/v1/options.proto\" and add `option ({ID_OPTION}) = …;`, with 0 if it is never sent \
             as a frame"
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
        return Err("a nested message cannot have an id: move the message to the top of its file".to_owned());
    }
    if let Some(other) = taken.insert(id, message.full_name().to_owned()) {
        return Err(format!("the id {id:#06x} is taken by {other}: choose another"));
    }
    Ok(Some(id))
}

/// Returns the id in the options of a message. Returns `None` if the options have no id.
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
            Err(format!("the id is {other:?}, not a uint32: use the shipped waystation/v1/options.proto"))
        }
    }
}

/// Returns the full names of the messages that are fields of this message.
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

/// Appends the implementations to the files that `prost-build` has written.
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

/// Returns a resolver that searches the includes, then the protos of this crate, then those of protobuf.
fn resolver(includes: &[impl AsRef<Path>]) -> protox::file::ChainFileResolver {
    let mut chain = protox::file::ChainFileResolver::new();
    for include in includes {
        chain.add(protox::file::IncludeFileResolver::new(include.as_ref().to_owned()));
    }
    chain.add(Shipped);
    chain.add(protox::file::GoogleFileResolver::new());
    chain
}

/// The resolver of the protos that this crate ships, so that games need no copies.
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

/// Decodes the descriptor set into the type that `prost-build` takes. It drops custom options.
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
/// The names and the texts of the protos that this crate ships.
const SHIPPED: &[(&str, &str)] = &[
    ("waystation/v1/options.proto", include_str!("../proto/waystation/v1/options.proto")),
    ("waystation/v1/reason.proto", include_str!("../proto/waystation/v1/reason.proto")),
];
/// The messages that hold secrets. `wire/secret.rs` implements their `Debug` without the secrets.
const SECRET_MESSAGES: &[&str] = &[
    ".waystation.v1.Hello",
    ".waystation.v1.Password",
    ".waystation.v1.Bearer",
    ".waystation.v1.Resume",
    ".waystation.v1.Welcome",
];
/// The package whose messages have the core's ids.
const CORE_PACKAGE: &str = "waystation.v1";
/// The ids of link control and session messages.
const CORE_RANGES: &[RangeInclusive<u16>] = &[0x0001..=0x00FF, 0x8000..=0x80FF];
/// The ids of the game's reliable and unreliable messages.
const GAME_RANGES: &[RangeInclusive<u16>] = &[0x0100..=0x7FFF, 0x8100..=0xFFFF];

#[cfg(test)]
#[path = "build/tests.rs"]
mod tests;
