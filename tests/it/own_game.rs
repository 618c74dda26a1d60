//! Tests that the game in the docs of `build` works outside this repository. The test writes the game to a
//! temporary folder, builds it against this working tree, and runs its tests.

use std::path::{Path, PathBuf};
use std::process::Command;
use std::{env, fs};

/// The docs that contain the files of the game.
const DOCS: &str = include_str!("../../src/build/game.md");

/// The part of the game's `Cargo.toml` that the docs leave out. With the profiles of this crate, the game reuses
/// the dependencies that were compiled for this crate's tests.
const PROFILES: &str = r#"
[workspace]

[profile.dev]
debug = "line-tables-only"

[profile.dev.package."*"]
opt-level = 1

[profile.dev.package.waystation]
opt-level = 0
"#;

/// A folder that is removed when the test ends, passed or failed.
struct Folder(PathBuf);

impl Drop for Folder {
    fn drop(&mut self) {
        // A folder that cannot be removed does not fail the test.
        let _ = fs::remove_dir_all(&self.0);
    }
}

#[test]
fn the_game_of_the_docs_builds_and_passes_outside_this_repository() {
    let ours = Path::new(env!("CARGO_MANIFEST_DIR"));
    let game = Folder(env::temp_dir().join(format!("waystation-own-game-{}", std::process::id())));
    let files = files_of(DOCS);
    for (name, text) in &files {
        let path = game.0.join(name);
        fs::create_dir_all(path.parent().expect("a folder")).expect("a temporary folder");
        fs::write(path, adapted(name, text, ours)).expect("a file of the game");
    }
    fs::copy(ours.join("Cargo.lock"), game.0.join("Cargo.lock")).expect("Cargo.lock can be copied");

    let output = Command::new(env!("CARGO"))
        .args(["test", "--offline", "--color=never"])
        .current_dir(&game.0)
        .env("CARGO_TARGET_DIR", target_dir())
        .output()
        .expect("cargo runs");

    let said = String::from_utf8_lossy(&output.stdout);
    let log = String::from_utf8_lossy(&output.stderr);
    assert!(output.status.success(), "the game of src/build/game.md fails:\n{said}\n{log}");
    assert_eq!(files.len(), 6, "the docs contain six files of the game, each a name and a fenced block");
    assert_eq!(said.matches("... ok").count(), 2, "the game has two tests:\n{said}");
}

/// Returns the name and the text of each file in the docs: a name with a colon, then a fenced block.
fn files_of(docs: &str) -> Vec<(&str, &str)> {
    let parts: Vec<&str> = docs.split("\n```").collect();
    parts.windows(2).filter_map(|pair| Some((name_at_end(pair[0])?, pair[1].split_once('\n')?.1))).collect()
}

fn name_at_end(text: &str) -> Option<&str> {
    text.trim_end().lines().last()?.strip_prefix('`')?.strip_suffix("`:")
}

/// Returns the text of a file as it is written: `Cargo.toml` gets a path to this working tree, and its profiles.
fn adapted(name: &str, text: &str, ours: &Path) -> String {
    if name == "Cargo.toml" {
        let path = format!("path = {:?}", ours.display().to_string());
        text.replace("path = \"../waystation\"", &path) + PROFILES
    } else {
        text.to_owned()
    }
}

/// Returns the target folder of this test, which contains the compiled dependencies.
/// Cargo holds no lock on it while tests run.
fn target_dir() -> PathBuf {
    let scratch = Path::new(env!("CARGO_TARGET_TMPDIR"));
    scratch.parent().expect("it is in the target folder").to_owned()
}
