//! Tests that `waystation new` writes a game that works outside this repository: it is built against this working
//! tree, passes its tests, and bots play it. Tests also that the shortest examples compile with the dependencies that
//! README.md names.

use std::fs;
use std::path::{Path, PathBuf};
use std::process::{Command, Output};

use crate::binary::{Server, text, waystation};
use crate::stage::websocket::get;

/// The configuration of cargo for packages of these tests. With the profile of this crate, they use the libraries that
/// were compiled for this crate's tests.
const CARGO_CONFIG: &str = "[profile.dev.package.waystation]\nopt-level = 0\n";

/// The test that is added to the game: the list of pages for release builds is an expression that compiles.
const PAGES_TEST: &str = r#"
static PAGES: &[(&str, &[u8])] = include!(concat!(env!("OUT_DIR"), "/pages.rs"));

#[test]
fn a_release_build_contains_the_pages() {
    assert!(PAGES.iter().any(|(path, bytes)| *path == "index.html" && bytes.starts_with(b"<!doctype html>")));
}
"#;

/// A folder of a test below the target folder, where this crate's toolchain file applies. It is removed when this value
/// is dropped.
pub(crate) struct Scratch(PathBuf);

impl Scratch {
    pub(crate) fn new(test: &str) -> Self {
        let folder = Path::new(env!("CARGO_TARGET_TMPDIR")).join(format!("{test}-{}", std::process::id()));
        // A folder of an earlier process with the same id may be left.
        let _ = fs::remove_dir_all(&folder);
        fs::create_dir_all(&folder).expect("a folder");
        Self(folder)
    }

    pub(crate) fn path(&self) -> &Path {
        &self.0
    }

    pub(crate) fn write(&self, name: &str, text: impl AsRef<[u8]>) {
        let path = self.0.join(name);
        fs::create_dir_all(path.parent().expect("a folder")).expect("a folder");
        fs::write(path, text).expect("a file");
    }

    /// Replaces a part of a file.
    pub(crate) fn edit(&self, name: &str, old: &str, new: &str) {
        let text = fs::read_to_string(self.0.join(name)).expect("a file");
        assert!(text.contains(old), "{name} contains no {old}");
        self.write(name, text.replace(old, new));
    }

    /// Runs cargo without a network, in a folder of this one.
    fn cargo(&self, folder: &str, arguments: &[&str]) -> Output {
        let mut cargo = Command::new(env!("CARGO"));
        for (name, _) in std::env::vars().filter(|(name, _)| is_of_package(name)) {
            cargo.env_remove(name);
        }
        cargo.args(arguments).current_dir(self.0.join(folder)).env("CARGO_TARGET_DIR", target_dir());
        cargo.env("CARGO_NET_OFFLINE", "true").env("CARGO_TERM_COLOR", "never").output().expect("cargo runs")
    }
}

/// Returns true for the variables of this package, which cargo sets for its tests. If they change, build scripts of
/// dependencies run again.
fn is_of_package(variable: &str) -> bool {
    variable == "OUT_DIR" || variable.starts_with("CARGO_PKG_") || variable.starts_with("CARGO_MANIFEST_")
}

impl Drop for Scratch {
    fn drop(&mut self) {
        // A folder that cannot be removed does not fail the test.
        let _ = fs::remove_dir_all(&self.0);
    }
}

/// Returns the target folder of this test, which contains the compiled dependencies. Cargo holds no lock on it while
/// tests run.
fn target_dir() -> &'static Path {
    Path::new(env!("CARGO_TARGET_TMPDIR")).parent().expect("it is in the target folder")
}

/// Returns a file of this repository.
fn ours(path: &str) -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join(path)
}

#[test]
fn a_new_game_builds_passes_its_tests_and_is_played_without_a_loss() {
    let scratch = Scratch::new("new");
    let made = waystation()
        .args(["new", "dice", "--path", env!("CARGO_MANIFEST_DIR")])
        .current_dir(scratch.path())
        .output()
        .expect("the binary starts");
    assert!(made.status.success(), "{}", text(&made));
    scratch.write("dice/.cargo/config.toml", CARGO_CONFIG);
    fs::copy(ours("Cargo.lock"), scratch.path().join("dice/Cargo.lock")).expect("Cargo.lock can be copied");

    let format = scratch.cargo("dice", &["fmt", "--check"]);
    scratch.write("dice/tests/pages.rs", PAGES_TEST);
    let tested = scratch.cargo("dice", &["test"]);
    let dice = target_dir().join("debug/dice");
    let server = Server::start_by(Command::new(&dice), &[]);
    let http = server.address("http").parse().expect("an address");
    let [page, script] = ["/", "/game.js"].map(|path| get(http, path, ""));
    let bots = [
        "bot",
        "--server",
        &format!("http://{http}"),
        "--clients",
        "6",
        "--seconds",
        "5",
        "--cut-every",
        "2",
    ]
    .map(str::to_owned);
    let played = Command::new(&dice).args(bots).output().expect("the game starts");
    let (stopped, summary, _) = server.stop();

    assert!(made_is_told(&made), "{}", text(&made));
    assert!(format.status.success(), "{}", text(&format));
    assert!(tested.status.success() && text(&tested).matches("... ok").count() == 3, "{}", text(&tested));
    assert!(page.starts_with("HTTP/1.1 200") && page.contains("<title>Fireflies"), "{page}");
    assert!(script.starts_with("HTTP/1.1 200") && script.contains("text/javascript"), "{}", &script[..200]);
    assert!(played.status.success(), "{}", text(&played));
    assert!(stopped && summary.contains(" registered=6 "), "{summary}");
}

fn made_is_told(made: &Output) -> bool {
    ["cd dice", "cargo test", "cargo run", "http://127.0.0.1:7780/"]
        .iter()
        .all(|step| text(made).contains(step))
}

#[test]
fn a_game_is_not_written_over_files_or_with_a_name_that_no_package_can_have() {
    let scratch = Scratch::new("refused");
    scratch.write("used/notes.txt", "mine");
    let new = |arguments: &[&str]| {
        let mut command = waystation();
        let output = command.arg("new").args(arguments).current_dir(scratch.path()).output();
        let output = output.expect("the binary starts");
        assert!(!output.status.success(), "{arguments:?}");
        text(&output)
    };

    let [used, keyword, nowhere] = [new(&["used"]), new(&["fn"]), new(&["dice", "--path", "nowhere"])];

    assert!(used.contains("used exists and is not empty"), "{used}");
    assert!(keyword.contains("choose another"), "{keyword}");
    assert!(nowhere.contains("nowhere") && nowhere.contains("checkout"), "{nowhere}");
    let left = fs::read_dir(scratch.path()).expect("a folder").count();
    assert_eq!(left, 1, "nothing was written");
}

#[test]
fn the_shortest_examples_compile_with_the_dependencies_that_the_readme_names() {
    let scratch = Scratch::new("examples");
    let readme = fs::read_to_string(ours("README.md")).expect("a file");
    let dependencies = fenced(&readme, "toml").replace(
        "waystation = { path = \"../waystation\" }",
        // The tests of this crate have compiled the library with these features.
        &format!(
            "waystation = {{ path = {:?}, features = [\"testing\", \"build\"] }}",
            env!("CARGO_MANIFEST_DIR")
        ),
    );
    let package = "[package]\nname = \"shortest\"\nedition = \"2024\"\n[workspace]\n";
    let profiles = ours_from("[profile.dev]");
    scratch.write("Cargo.toml", format!("{package}{dependencies}{profiles}"));
    scratch.write(".cargo/config.toml", CARGO_CONFIG);
    fs::copy(ours("Cargo.lock"), scratch.path().join("Cargo.lock")).expect("Cargo.lock can be copied");
    scratch.write("src/lib.rs", "mod front_page;\nmod hello;\n");
    let docs = fs::read_to_string(ours("src/lib.rs")).expect("a file");
    let docs: String = docs.lines().filter_map(|line| line.strip_prefix("//!")).map(after_space).collect();
    scratch.write("src/front_page.rs", fenced(&docs, "no_run"));
    fs::copy(ours("examples/hello.rs"), scratch.path().join("src/hello.rs"))
        .expect("the example can be copied");

    let built = scratch.cargo("", &["build"]);

    assert_eq!(dependencies.lines().filter(|line| line.contains(" = ")).count(), 3, "{dependencies}");
    assert!(built.status.success(), "{}", text(&built));
}

/// Returns the content of the first fenced block of a language.
fn fenced<'a>(text: &'a str, language: &str) -> &'a str {
    let (_, rest) = text.split_once(&format!("```{language}\n")).expect("a fenced block");
    rest.split_once("```").expect("the end of the block").0
}

fn after_space(line: &str) -> String {
    format!("{}\n", line.strip_prefix(' ').unwrap_or(line))
}

/// Returns the dev profiles of this crate.
fn ours_from(beginning: &str) -> String {
    let manifest = fs::read_to_string(ours("Cargo.toml")).expect("a file");
    let at = manifest.find(beginning).expect("the profile");
    let end = manifest.find("[lints").expect("the lints");
    manifest[at..end].to_owned()
}
