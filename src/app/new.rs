//! The command `new`: writes a game that is ready to be built, tested, served and opened in a browser.
//!
//! The files are those of the folder `template`, and the client library for browsers. They are compiled into the
//! binary, so the command needs neither a network nor Node.

use std::fs;
use std::path::{Path, PathBuf};
use std::process::ExitCode;

use anyhow::{Context as _, bail, ensure};
use clap::Args;

use super::cli::say;

#[derive(Debug, Args)]
pub(super) struct NewArgs {
    /// The name of the game, of its folder and of its package
    #[arg(value_parser = game_name)]
    name: String,
    /// The folder of a checkout of waystation, on which the game depends. Without --path and --git it is the checkout
    /// from which this binary was built
    #[arg(long, value_name = "DIR", conflicts_with = "git")]
    path: Option<PathBuf>,
    /// The URL of a git repository of waystation, on which the game depends
    #[arg(long, value_name = "URL")]
    git: Option<String>,
}

/// Writes the files of a game, and prints the next steps.
pub(super) fn new(args: &NewArgs) -> anyhow::Result<ExitCode> {
    let source = source(args.path.as_deref(), args.git.as_deref())?;
    let folder = Path::new(&args.name);
    let is_used = fs::read_dir(folder).is_ok_and(|mut entries| entries.next().is_some());
    ensure!(!is_used, "the folder {0} exists and is not empty: choose another name, or remove it", args.name);
    let count = write(folder, &args.name, &source)?;
    say(&format!(
        "wrote {count} files into the folder {0}. The next steps:\n\n  \
         cd {0}\n  \
         cargo run     # serves the game: open http://127.0.0.1:7780/ in a browser\n  \
         cargo test    # tests the rules, without a network\n\n\
         The first build compiles all dependencies and takes some minutes.\n\
         README.md lists which file to edit for each change.",
        args.name
    ));
    Ok(ExitCode::SUCCESS)
}

/// Returns the source of the dependency, as `Cargo.toml` names it.
fn source(path: Option<&Path>, git: Option<&str>) -> anyhow::Result<String> {
    if let Some(url) = git {
        return Ok(format!("git = {}", toml_text(url)));
    }
    let folder = path.unwrap_or(Path::new(env!("CARGO_MANIFEST_DIR")));
    let cure = match path {
        Some(_) => "name the folder of a checkout of waystation",
        None => "give a checkout of waystation with --path DIR, or a repository with --git URL",
    };
    let is_checkout = fs::read_to_string(folder.join("Cargo.toml"))
        .is_ok_and(|manifest| manifest.lines().any(|line| line == "name = \"waystation\""));
    ensure!(is_checkout, "the sources of waystation are not in {}: {cure}", folder.display());
    let folder = folder.canonicalize().with_context(|| format!("cannot read {}", folder.display()))?;
    match folder.to_str() {
        Some(folder) => Ok(format!("path = {}", toml_text(folder))),
        None => bail!("the path {} is not UTF-8: rename its folders", folder.display()),
    }
}

/// Writes all files. Returns their number.
fn write(folder: &Path, name: &str, source: &str) -> anyhow::Result<usize> {
    let mut count = 0;
    for (path, text) in files() {
        let file = folder.join(path);
        let text = match path {
            "Cargo.toml" | "README.md" => text.replace("{name}", name).replace("{source}", source),
            _ => text.to_owned(),
        };
        let parent = file.parent().unwrap_or(folder);
        fs::create_dir_all(parent).and_then(|()| fs::write(&file, text)).with_context(|| {
            let (file, folder) = (file.display(), folder.display());
            format!("cannot write {file} ({count} files are in {folder}: remove the folder, and try again)")
        })?;
        count += 1;
    }
    Ok(count)
}

/// Returns the path and the text of each file of a game.
fn files() -> impl Iterator<Item = (&'static str, &'static str)> {
    // A file `Cargo.toml` would make the folder `template` a package of its own.
    FILES.iter().copied().flatten().map(|&(path, text)| (path.strip_suffix(".in").unwrap_or(path), text))
}

/// Checks the name of a game.
fn game_name(name: &str) -> Result<String, String> {
    let begins = name.starts_with(|c: char| c.is_ascii_lowercase());
    let is_plain = |c: char| c.is_ascii_lowercase() || c.is_ascii_digit() || c == '-' || c == '_';
    if !begins || !name.chars().all(is_plain) || name.len() > NAME_MAX_BYTES {
        return Err(format!(
            "the name of a game begins with a letter from a to z, and consists of such letters, digits, - and _; it has \
             at most {NAME_MAX_BYTES} characters"
        ));
    }
    if RESERVED.split(' ').any(|reserved| reserved == name) {
        return Err("Rust, cargo or a dependency of the game uses this name: choose another".to_owned());
    }
    Ok(name.to_owned())
}

/// Returns a text as a string in TOML.
fn toml_text(text: &str) -> String {
    let mut toml = String::from('"');
    for c in text.chars() {
        match c {
            '"' | '\\' => toml.extend(['\\', c]),
            c if c.is_control() => toml.push_str(&format!("\\u{:04X}", u32::from(c))),
            c => toml.push(c),
        }
    }
    toml.push('"');
    toml
}

/// Maximum length of a name, in bytes, as on crates.io.
const NAME_MAX_BYTES: usize = 64;
/// Names that a package or its binary cannot have, or that would be ambiguous in the code of a game: keywords, crates
/// of Rust, folders in `target`, dependencies of the template, and names of devices on Windows.
const RESERVED: &str = "abstract as async await become box break const continue crate do dyn else enum extern false final fn for gen if \
     impl in let loop macro match mod move mut override priv pub ref return self static struct super trait true try \
     type typeof unsafe unsized use virtual where while yield alloc core proc-macro proc_macro std test build deps \
     examples incremental bevy-app bevy-ecs bevy_app bevy_ecs serde waystation aux con nul prn";

/// Lists files of a folder, each with its path in a game.
macro_rules! files {
    ($from:literal => $to:literal: $($path:literal)*) => {
        &[$((concat!($to, $path), include_str!(concat!("../../", $from, "/", $path)))),*]
    };
}

/// The files of a game: the template, the client library for browsers, and the messages that the library uses.
const FILES: [&[(&str, &str)]; 3] = [
    files!("template" => "":
        ".gitignore" "Cargo.toml.in" "README.md" "buf.yaml" "build.rs" "proto/game.proto" "rustfmt.toml" "src/bot.rs"
        "src/lib.rs" "src/main.rs" "src/moths.rs" "tests/game.rs" "waystation.toml" "web/.npmrc"
        "web/buf.gen.yaml" "web/dist/game.js" "web/dist/index.html" "web/package-lock.json" "web/package.json"
        "web/src/draw.ts" "web/src/game.ts" "web/tsconfig.json"),
    files!("assets/src/waystation" => "web/src/waystation/":
        "absence.ts" "backoff.ts" "bound.ts" "claim.ts" "client.ts" "config.ts" "core.ts" "deframer.ts" "dialler.ts"
        "discovery.ts" "event.ts" "heard.ts" "hello.ts" "index.ts" "opening.ts" "outbox.ts" "pace.ts" "phase.ts"
        "race.ts" "session.ts" "store.ts" "ticker.ts" "transport.ts" "websocket.ts" "webtransport.ts" "wire.ts"),
    files!("proto/waystation/v1" => "web/src/waystation/proto/waystation/v1/":
        "link.proto" "options.proto" "reason.proto" "session.proto"),
];

#[cfg(test)]
mod tests {
    use std::collections::BTreeSet;

    use super::*;

    #[test]
    fn a_name_is_that_of_a_package() {
        for good in ["dice", "my-game", "a1_b"] {
            assert_eq!(game_name(good).as_deref(), Ok(good));
        }
        for wrong in ["", "1a", "Dice", "my game", "../up", "-a", "é", "a/b"] {
            let error = game_name(wrong).expect_err(wrong);
            assert!(error.contains("begins with a letter"), "{error}");
        }
        assert!(game_name(&"a".repeat(NAME_MAX_BYTES + 1)).is_err());
        for taken in ["waystation", "test", "core", "std", "fn", "bevy_ecs", "build"] {
            assert!(game_name(taken).expect_err(taken).contains("choose another"));
        }
    }

    #[test]
    fn the_source_of_the_dependency_is_a_checkout_or_a_repository() {
        let ours = source(None, None).expect("this checkout");
        let missing = source(Some(Path::new("/no/such")), None).expect_err("no folder").to_string();

        assert_eq!(ours, format!("path = {:?}", env!("CARGO_MANIFEST_DIR")));
        assert!(missing.contains("/no/such") && missing.contains("checkout"), "{missing}");
        assert_eq!(source(None, Some("https://h/w.git")).expect("a URL"), "git = \"https://h/w.git\"");
        assert_eq!(toml_text("C:\\a \"b\"\n"), "\"C:\\\\a \\\"b\\\"\\u000A\"");
    }

    #[test]
    fn all_files_of_the_template_and_of_the_client_are_in_a_game() {
        let root = Path::new(env!("CARGO_MANIFEST_DIR"));
        let known: BTreeSet<&str> = files().map(|(path, _)| path).collect();
        let template = tree(&root.join("template"), &["node_modules", "gen", "waystation", "target"]);
        let client = tree(&root.join("assets/src/waystation"), &["test"]);
        let client = client.iter().map(|path| format!("web/src/waystation/{path}"));

        for path in template.iter().map(|path| path.trim_end_matches(".in").to_owned()).chain(client) {
            assert!(known.contains(path.as_str()), "{path} is not in the lists of this file");
        }
    }

    /// Returns the paths of all files below a folder, except those in the named folders.
    fn tree(folder: &Path, without: &[&str]) -> BTreeSet<String> {
        let entries = fs::read_dir(folder).expect("a folder").map(|entry| entry.expect("an entry").path());
        let entries = entries.filter_map(|path| Some((path.file_name()?.to_str()?.to_owned(), path)));
        entries
            .filter(|(name, _)| !without.contains(&name.as_str()))
            .flat_map(|(name, path)| match path.is_dir() {
                true => tree(&path, without).into_iter().map(|below| format!("{name}/{below}")).collect(),
                false => vec![name],
            })
            .collect()
    }

    #[test]
    fn a_game_depends_on_the_versions_of_bevy_that_this_crate_uses() {
        let ours = include_str!("../../Cargo.toml");
        let (_, theirs) = files().find(|(path, _)| *path == "Cargo.toml").expect("a manifest");

        for line in theirs.lines().filter(|line| line.starts_with("bevy_")) {
            let (name, rest) = line.split_once(" = { version = ").expect("a version");
            let version = rest.split(',').next().expect("a version");
            assert!(ours.contains(&format!("{name} = {{ version = {version},")), "{name} {version}");
        }
        assert_eq!(theirs.matches("\nbevy_").count(), 2);
    }
}
