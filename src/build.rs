//! Compiles `.proto` files to Rust in a build script, and gives every message its id.
//!
//! Runs in pure Rust: no `protoc` is needed. Each message that carries the option
//! `(waystation.v1.id)` gets an implementation of `WireMessage` beside what `prost` generates.
//! It is not a general protobuf compiler: services are ignored, and a message with an id must
//! stand at the top of its file.
//!
//! Data flow: `.proto` files → `protox` → a descriptor pool → the ids are read and checked →
//! `prost-build` writes one `<package>.rs` a package into `OUT_DIR` → the implementations are
//! appended to it.

use std::collections::{BTreeMap, HashSet};
use std::fs::OpenOptions;
use std::io::Write as _;
use std::path::{Path, PathBuf};
use std::{env, fmt, io};

use heck::ToUpperCamelCase as _;
use prost_reflect::{DescriptorPool, ExtensionDescriptor, Kind, MessageDescriptor, Value};

/// Why protos did not compile. Its `Display` names the file and the message.
#[derive(Debug)]
pub enum BuildError {
    /// A file does not parse, or an import is missing: what the compiler said.
    Proto(String),
    /// A message and what is wrong with its id.
    Id {
        /// The file, as it was imported.
        file: String,
        /// The full name of the message.
        message: String,
        /// What is wrong, and what to do.
        problem: String,
    },
    /// Generated code could not be written.
    Io(io::Error),
    /// Not run by cargo: the variable is missing.
    NoOutDir,
}

impl fmt::Display for BuildError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Proto(problem) => write!(f, "{problem}"),
            Self::Id {
                file,
                message,
                problem,
            } => write!(f, "{file}: message {message}: {problem}"),
            Self::Io(problem) => write!(f, "generated code could not be written: {problem}"),
            Self::NoOutDir => write!(f, "OUT_DIR is not set: call this from a build script"),
        }
    }
}

impl std::error::Error for BuildError {}

impl From<io::Error> for BuildError {
    fn from(error: io::Error) -> Self {
        Self::Io(error)
    }
}

/// Whose protos are compiled: it decides which ids they may use and how they name this crate.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Owner {
    /// This crate: the package `waystation.v1` may use the core's ids.
    #[allow(
        dead_code,
        reason = "used by this crate's own build script, which shares this file"
    )]
    Core,
    /// A game: all its ids are in the game's ranges.
    #[allow(
        dead_code,
        reason = "used by the library, not by this crate's own build script"
    )]
    Game,
}

/// Compiles `files`, found below `includes`, into `OUT_DIR`.
pub(crate) fn compile(
    owner: Owner,
    files: &[impl AsRef<Path>],
    includes: &[impl AsRef<Path>],
) -> Result<(), BuildError> {
    let out_dir = PathBuf::from(env::var_os("OUT_DIR").ok_or(BuildError::NoOutDir)?);
    compile_into(&out_dir, owner, files, includes)
}

/// As [`compile`], into a folder of the caller's choice.
pub(crate) fn compile_into(
    out_dir: &Path,
    owner: Owner,
    files: &[impl AsRef<Path>],
    includes: &[impl AsRef<Path>],
) -> Result<(), BuildError> {
    for file in files {
        println!("cargo:rerun-if-changed={}", file.as_ref().display());
    }
    let set = protox::Compiler::with_file_resolver(resolver(includes))
        .include_imports(true)
        .include_source_info(true)
        .open_files(files)
        .map_err(|error| BuildError::Proto(format!("{error:?}")))?
        .encode_file_descriptor_set();
    let pool =
        DescriptorPool::decode(set.as_slice()).map_err(|error| BuildError::Proto(error.to_string()))?;
    let ids = message_ids(&pool, owner)?;

    let mut config = prost_build::Config::new();
    config.out_dir(out_dir).bytes(["."]);
    let crate_path = match owner {
        Owner::Core => "crate",
        Owner::Game => {
            config.extern_path(".waystation.v1", "::waystation::wire::v1");
            config.prost_path("::waystation::wire::prost");
            "::waystation"
        }
    };
    config.compile_fds(pool_to_set(&set)?)?;
    append_ids(out_dir, crate_path, &ids)
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
    let Some(option) = pool.get_extension_by_name(ID_OPTION) else {
        return Ok(Vec::new());
    };
    let parts: HashSet<String> = pool
        .all_messages()
        .flat_map(|message| fields_of(&message))
        .collect();
    let mut taken: BTreeMap<u16, String> = BTreeMap::new();
    let mut framed = Vec::new();
    for message in pool.all_messages() {
        let package = message.package_name().to_owned();
        let core = package == CORE_PACKAGE;
        if package.starts_with("google.") || message.is_map_entry() || (core && owner == Owner::Game) {
            continue;
        }
        let fail = |problem: String| BuildError::Id {
            file: message.parent_file().name().to_owned(),
            message: message.full_name().to_owned(),
            problem,
        };
        let Some(id) = id_of(&message, &option).map_err(&fail)? else {
            let is_part = parts.contains(message.full_name()) || message.parent_message().is_some();
            if is_part {
                continue;
            }
            return Err(fail(format!(
                "it has no id and no other message has it as a field: add `option ({ID_OPTION}) = …;`, \
                 or 0 for what is never a frame of its own"
            )));
        };
        if id == 0 {
            continue;
        }
        let range = if core { CORE_RANGES } else { GAME_RANGES };
        if !range.iter().any(|range| range.contains(&id)) {
            let whose = if core { "the core's" } else { "a game's" };
            return Err(fail(format!(
                "the id {id:#06x} is outside {whose} ranges {}",
                ranges_text(range)
            )));
        }
        if message.parent_message().is_some() {
            return Err(fail(
                "a message with an id must stand at the top of its file".to_owned(),
            ));
        }
        if let Some(other) = taken.insert(id, message.full_name().to_owned()) {
            return Err(fail(format!("the id {id:#06x} is taken by {other}")));
        }
        framed.push(Framed {
            package,
            rust_name: message.name().to_upper_camel_case(),
            full_name: message.full_name().to_owned(),
            id,
        });
    }
    Ok(framed)
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
        other => Err(format!(
            "its id is {other:?}, not a uint32: import waystation/v1/options.proto as shipped"
        )),
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

/// Writes the implementations behind what `prost-build` wrote for each package.
fn append_ids(out_dir: &Path, crate_path: &str, ids: &[Framed]) -> Result<(), BuildError> {
    for Framed {
        package,
        rust_name,
        full_name,
        id,
    } in ids
    {
        let mut file = OpenOptions::new()
            .append(true)
            .open(out_dir.join(format!("{package}.rs")))?;
        writeln!(
            file,
            "impl {crate_path}::wire::WireMessage for {rust_name} {{\n    \
             const ID: {crate_path}::ident::MessageId = {crate_path}::ident::MessageId::new({id:#06x});\n    \
             const NAME: &'static str = \"{full_name}\";\n}}"
        )?;
    }
    Ok(())
}

/// Looks below the includes first, then among the protos that this crate ships.
fn resolver(includes: &[impl AsRef<Path>]) -> protox::file::ChainFileResolver {
    let mut chain = protox::file::ChainFileResolver::new();
    for include in includes {
        chain.add(protox::file::IncludeFileResolver::new(
            include.as_ref().to_owned(),
        ));
    }
    chain.add(Shipped);
    chain.add(protox::file::GoogleFileResolver::new());
    chain
}

/// The protos that games import, so that they need no copy of them.
struct Shipped;

impl protox::file::FileResolver for Shipped {
    fn open_file(&self, name: &str) -> Result<protox::file::File, protox::Error> {
        let source = match name {
            "waystation/v1/options.proto" => include_str!("../proto/waystation/v1/options.proto"),
            "waystation/v1/reason.proto" => include_str!("../proto/waystation/v1/reason.proto"),
            _ => return Err(protox::Error::file_not_found(name)),
        };
        protox::file::File::from_source(name, source)
    }
}

/// `prost-build` wants the descriptor set as its own type; it has no use for custom options.
fn pool_to_set(bytes: &[u8]) -> Result<prost_types::FileDescriptorSet, BuildError> {
    prost::Message::decode(bytes).map_err(|error| BuildError::Proto(error.to_string()))
}

fn ranges_text(ranges: &[std::ops::RangeInclusive<u16>]) -> String {
    let texts: Vec<String> = ranges
        .iter()
        .map(|range| format!("{:#06x} to {:#06x}", range.start(), range.end()))
        .collect();
    texts.join(" and ")
}

/// The option that carries a message's id.
const ID_OPTION: &str = "waystation.v1.id";
/// The package that owns the core's ids.
const CORE_PACKAGE: &str = "waystation.v1";
/// Link control and session messages.
const CORE_RANGES: &[std::ops::RangeInclusive<u16>] = &[0x0001..=0x00FF, 0x8000..=0x80FF];
/// The game's reliable and unreliable messages.
const GAME_RANGES: &[std::ops::RangeInclusive<u16>] = &[0x0100..=0x7FFF, 0x8100..=0xFFFF];
