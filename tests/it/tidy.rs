//! Checks the rules that no lint checks: the order of modules, the length of files, a test for each row of
//! `docs/sessions.md` that [`DONE`] lists, and planted bugs that apply to the current code.

use std::collections::{BTreeMap, BTreeSet};
use std::fmt::Write as _;
use std::fs;
use std::path::{Path, PathBuf};
use std::process::Command;

/// The rows of `docs/sessions.md` that this crate keeps: `row_…` of the state table, and `ow_…`, `cc_…`, `oz_…` and
/// `pr_…` of the other rows. The name of a test of a row begins with the row: `row_01_a_hello_opens_…`.
pub(crate) const DONE: &[&str] = &[
    "row_01", "row_02", "row_03", "row_04", "row_05", "row_06", "row_06a", "row_06b", "row_07", "row_08",
    "row_09", "row_10", "row_11", "row_11a", "row_12", "row_13", "row_14", "row_14a", "row_15", "row_16",
    "row_16a", "row_17", "row_18", "row_19", "row_20", "row_22", "ow_01", "ow_02", "ow_03", "ow_04", "ow_05",
    "ow_06", "ow_07", "ow_08", "ow_09", "ow_10", "ow_11", "ow_12", "ow_13", "ow_14", "ow_15", "ow_16",
    "ow_17", "ow_18", "ow_19", "ow_20", "ow_21", "ow_22", "ow_23", "ow_24", "ow_25", "cc_01", "cc_02",
    "cc_03", "cc_05", "cc_06", "cc_07", "cc_08", "cc_09", "cc_10", "cc_11", "cc_12", "cc_13", "cc_14",
    "oz_01", "oz_02", "oz_05", "oz_08", "oz_10", "pr_01", "pr_13", "pr_15",
];

/// The order of modules: a module may import those before it.
const ORDER: &[&str] = &[
    "settings",
    "ident",
    "wire",
    "identity",
    "tick",
    "proxy",
    "session",
    "zone",
    "gate",
    "rpc",
    "presence",
    "replication",
    "record",
    "cluster",
    "telemetry",
    "admin",
    "config",
    "server",
    "arena",
];

/// Modules outside the order, and the modules that each may import.
const BESIDE: &[(&str, &[&str])] = &[
    ("client", &["settings", "ident", "wire"]),
    ("app", APP),
    ("bot", &["client", "ident", "wire"]),
    ("build", &[]),
    ("conformance", &["ident", "wire", "tick", "proxy", "arena"]),
    ("prelude", &["identity", "proxy", "session", "zone", "rpc", "tick", "wire", "config", "server", "app"]),
];

/// The modules that `app` may import: it composes them all, and knows no game.
const APP: &[&str] = &[
    "settings",
    "wire",
    "tick",
    "proxy",
    "gate",
    "telemetry",
    "admin",
    "config",
    "server",
    "client",
    "bot",
    "conformance",
];

/// Modules with code that runs only within a tick.
const PURE: &[&str] = &["session", "zone", "gate", "rpc", "arena"];

/// Code that reads a clock or data of another thread.
const LOOKS: &[&str] =
    &["clock().now(", "Atomic", "OnceLock", "Mutex", "RwLock", "mpsc", "StopHandle", "TickCost", "Instant"];

/// The module that may import all others, and that no other module may import.
const TESTING: &str = "testing";

/// The structs of a session core.
const CORE: &[&str] = &["Core", "Player", "Link", "Beacons", "Inbox", "Meter", "Outbox", "Tokens"];

/// The maximum length of a file, in lines.
const LINES_MAX: usize = 500;

/// An example has fewer lines than this.
const EXAMPLE_LINES: usize = 120;

/// The folders in which the length of files is checked.
const FOLDERS: &[&str] = &["src", "tests", "examples", "benches"];

#[test]
fn every_import_follows_the_order_of_modules() {
    let mut wrong = String::new();
    for (path, text) in rust_files(&["src"]) {
        let Some(module) = module_of(&path) else { continue };
        let is_test = path.file_stem().is_some_and(|stem| stem == "tests");
        for (line, target) in imports(&text, is_test) {
            if let Err(reason) = allowed(&module, &target) {
                let _ = writeln!(wrong, "{}:{line}: crate::{target}: {reason}", path.display());
            }
        }
    }

    assert!(wrong.is_empty(), "imports against the order of modules (ARCHITECTURE.md):\n{wrong}");
}

#[test]
fn the_wall_clock_is_read_in_one_place_of_the_server_and_in_one_of_the_client() {
    let readers: Vec<PathBuf> = rust_files(&["src"])
        .into_iter()
        .filter(|(_, text)| {
            let code = without_comments(text);
            ["SystemTime::now(", "UNIX_EPOCH.elapsed(", "UnixTime::now("]
                .iter()
                .any(|call| code.contains(call))
        })
        .map(|(path, _)| path)
        .collect();

    let expected = ["src/client/udp.rs", "src/tick/unix.rs"].map(|path| root().join(path));
    assert_eq!(readers, expected, "Unix time comes from `tick::UnixClock`");
}

#[test]
fn no_system_of_a_tick_reads_more_than_its_inputs() {
    let mut wrong = String::new();
    for (path, text) in rust_files(&["src"]) {
        if module_of(&path).is_none_or(|module| !PURE.contains(&module.as_str())) {
            continue;
        }
        let code = without_comments(&text);
        let code = code.split("#[cfg(test)]").next().unwrap_or_default();
        for look in LOOKS.iter().filter(|look| code.contains(**look)) {
            let _ = writeln!(wrong, "{}: {look}", path.display());
        }
    }

    assert!(wrong.is_empty(), "a tick may read only the inputs in `tick::TickInput`:\n{wrong}");
}

#[test]
fn the_fields_of_a_session_core_are_written_in_session_alone() {
    let mut open = String::new();
    let mut seen = BTreeSet::new();
    for (path, text) in rust_files(&["src/session"]) {
        for (name, field) in fields(&text) {
            if !CORE.contains(&name.as_str()) {
                continue;
            }
            if field.starts_with("pub ") || field.starts_with("pub(crate) ") {
                let _ = writeln!(open, "{}: {name}: {field}", path.display());
            }
            seen.insert(name);
        }
    }

    assert!(open.is_empty(), "fields that other modules could write:\n{open}");
    assert_eq!(seen.len(), CORE.len(), "only these were found: {seen:?}");
}

#[test]
fn no_file_is_longer_than_500_lines() {
    let mut long = String::new();
    for (path, text) in rust_files(FOLDERS) {
        let count = text.lines().count();
        if count > LINES_MAX {
            let _ = writeln!(long, "{}: {count} lines", path.display());
        }
    }

    assert!(long.is_empty(), "files over {LINES_MAX} lines: split each by feature\n{long}");
}

#[test]
fn an_example_is_shorter_than_120_lines() {
    let long: Vec<String> = rust_files(&["examples"])
        .iter()
        .map(|(path, text)| (path, text.lines().count()))
        .filter(|(_, count)| *count >= EXAMPLE_LINES)
        .map(|(path, count)| format!("{}: {count} lines", path.display()))
        .collect();

    assert!(long.is_empty(), "examples must be shorter than {EXAMPLE_LINES} lines: {long:?}");
}

#[test]
fn the_arena_has_at_most_500_lines_without_tests() {
    let count: usize = rust_files(&["src"])
        .iter()
        .filter(|(path, _)| module_of(path).as_deref() == Some("arena"))
        .map(|(_, text)| text.lines().take_while(|line| *line != "#[cfg(test)]").count())
        .sum();

    assert!(count > 0 && count <= LINES_MAX, "the default game has {count} lines: it is there to be read");
}

#[test]
fn every_row_that_is_listed_as_kept_has_a_test() {
    let names: BTreeSet<String> = rust_files(FOLDERS).iter().flat_map(|(_, text)| test_names(text)).collect();

    let missing: Vec<&str> =
        DONE.iter().copied().filter(|row| !names.iter().any(|name| is_named_after(name, row))).collect();

    assert!(missing.is_empty(), "rows in DONE without a test of their name: {missing:?}");
    let rows: BTreeSet<&str> = DONE.iter().copied().collect();
    assert_eq!(rows.len(), DONE.len(), "a row is in the list twice");
}

#[test]
fn every_planted_bug_applies_and_is_in_the_table() {
    let folder = root().join("tests/planted");
    let table = fs::read_to_string(folder.join("README.md")).expect("a table");
    let mut patches: Vec<PathBuf> = fs::read_dir(&folder)
        .expect("a readable folder")
        .map(|entry| entry.expect("a readable entry").path())
        .filter(|path| path.extension().is_some_and(|extension| extension == "patch"))
        .collect();
    patches.sort();

    let mut wrong = String::new();
    for patch in &patches {
        let name = patch.file_stem().and_then(|stem| stem.to_str()).expect("a name");
        if !table.contains(&format!("\n| `{name}` |")) {
            let _ = writeln!(wrong, "{name}: not in the table");
        }
        let mut apply = Command::new("git");
        let applied = apply.args(["apply", "--check"]).arg(patch).current_dir(root()).output().expect("git");
        if !applied.status.success() {
            let _ = writeln!(wrong, "{name}: {}", String::from_utf8_lossy(&applied.stderr));
        }
    }

    assert!(wrong.is_empty(), "rewrite these patches (tests/planted/README.md):\n{wrong}");
    assert_eq!(table.matches("\n| `").count(), patches.len(), "rows of the table, patches");
}

#[test]
fn the_checks_find_violations() {
    let upward = "use crate::ident::Tick;\nuse crate::{wire::Lane, session};\nfn f() { crate::zone::x() }\n";
    let targets: Vec<(usize, String)> = imports(upward, false);
    assert_eq!(
        targets,
        [(1, "ident"), (2, "session"), (2, "wire"), (3, "zone")]
            .map(|(line, module)| (line, module.to_owned()))
    );
    let split = "use crate::{\n    tick::{Clock, TickTime},\n    zone,\n};\n// crate::arena::is no import\n";
    assert_eq!(
        imports(split, false),
        [(1, "tick"), (1, "zone")].map(|(line, module)| (line, module.to_owned()))
    );
    let test_only = "fn f() {}\n#[cfg(test)]\nmod tests {\n    use crate::testing::Scenario;\n    use crate::zone::Zone;\n}\n";
    assert_eq!(imports(test_only, false), [(5, "zone".to_owned())]);
    assert!(imports("use crate::testing::Scenario;", true).is_empty());

    assert!(allowed("tick", "ident").is_ok() && allowed("zone", "zone").is_ok());
    assert!(allowed("tick", "session").is_err());
    assert!(allowed("client", "wire").is_ok() && allowed("client", "tick").is_err());
    assert!(allowed("bot", "client").is_ok() && allowed("bot", "session").is_err());
    assert!(allowed("arena", "client").is_err() && allowed("arena", TESTING).is_err());
    assert!(allowed(TESTING, "client").is_ok() && allowed("elsewhere", "ident").is_err());

    let names = test_names(
        "#[test]\nfn row_06a_join_again() {}\n#[test]\n#[allow(dead_code)]\nfn ow_16() {}\nfn row_07_x() {}",
    );
    assert_eq!(names, ["row_06a_join_again", "ow_16"]);
    assert!(is_named_after("row_06a_join_again", "row_06a") && is_named_after("ow_16", "ow_16"));
    assert!(!is_named_after("row_06a_join_again", "row_06"));
}

/// Returns `Ok` if `module` may import `target`, or else the reason why it may not.
fn allowed(module: &str, target: &str) -> Result<(), String> {
    if module == target || module == TESTING {
        return Ok(());
    }
    if let Some((_, targets)) = BESIDE.iter().find(|(name, _)| *name == module) {
        if targets.contains(&target) {
            return Ok(());
        }
        return Err(format!("`{module}` imports {targets:?} only"));
    }
    let place = |name: &str| ORDER.iter().position(|module| *module == name);
    match (place(module), place(target)) {
        (Some(own), Some(other)) if other < own => Ok(()),
        (Some(_), Some(_)) => Err(format!("`{target}` comes after `{module}`")),
        (None, _) => Err(format!("`{module}` has no place in the order: give it one in tidy.rs")),
        (_, None) => Err(format!("`{target}` is not in the order of modules")),
    }
}

/// Returns the module of a file under `src`, or `None` for the crate's root and its binary.
fn module_of(path: &Path) -> Option<String> {
    let below = path.strip_prefix(root().join("src")).ok()?;
    let first = below.components().next()?.as_os_str().to_str()?;
    let module = first.strip_suffix(".rs").unwrap_or(first);
    (!matches!(module, "lib" | "main")).then(|| module.to_owned())
}

/// Returns the modules that a file names as `crate::module`, with the line of each, in order. Test files, and code
/// after `#[cfg(test)]` in other files, may use the harness.
fn imports(text: &str, is_test: bool) -> Vec<(usize, String)> {
    let code = without_comments(text);
    let tests_begin = if is_test { 0 } else { code.find("#[cfg(test)]").unwrap_or(code.len()) };
    let mut found: BTreeMap<usize, BTreeSet<String>> = BTreeMap::new();
    for (at, _) in code.match_indices("crate::") {
        let before = code[..at].chars().next_back();
        if before.is_some_and(|c| c.is_alphanumeric() || c == '_' || c == '$') {
            continue;
        }
        let line = code[..at].matches('\n').count() + 1;
        for module in heads(&code[at + "crate::".len()..]) {
            if at >= tests_begin && module == TESTING {
                continue;
            }
            found.entry(line).or_default().insert(module);
        }
    }
    found
        .into_iter()
        .flat_map(|(line, modules)| modules.into_iter().map(move |module| (line, module)))
        .collect()
}

/// The first names of a path, or of each path of a group in braces. Items of the crate's root,
/// which are not lower case, are no modules.
fn heads(rest: &str) -> Vec<String> {
    let Some(group) = rest.strip_prefix('{') else {
        return name(rest).into_iter().collect();
    };
    let mut depth = 0_usize;
    let mut modules = Vec::new();
    let mut begins = true;
    for (at, character) in group.char_indices() {
        match character {
            '{' => depth += 1,
            '}' if depth == 0 => break,
            '}' => depth -= 1,
            ',' if depth == 0 => begins = true,
            _ if begins && !character.is_whitespace() => {
                modules.extend(name(&group[at..]));
                begins = false;
            }
            _ => {}
        }
    }
    modules
}

fn name(rest: &str) -> Option<String> {
    let end = rest
        .find(|c: char| !(c.is_ascii_lowercase() || c.is_ascii_digit() || c == '_'))
        .unwrap_or(rest.len());
    let next = rest[end..].chars().next();
    let ends = next.is_none_or(|c| !c.is_alphanumeric());
    (end > 0 && ends).then(|| rest[..end].to_owned())
}

/// Returns the declarations of all fields, with the name of each struct.
fn fields(text: &str) -> Vec<(String, String)> {
    let code = without_comments(text);
    let mut found = Vec::new();
    let mut inside: Option<String> = None;
    for line in code.lines() {
        let declared = line.split_once("struct ").filter(|_| line.ends_with(" {"));
        if let Some((_, rest)) = declared {
            inside = name_of(rest);
        } else if line == "}" {
            inside = None;
        } else if let (Some(name), true) = (&inside, line.contains(": ")) {
            found.push((name.clone(), line.trim().to_owned()));
        }
    }
    found
}

fn name_of(rest: &str) -> Option<String> {
    rest.split(|c: char| !c.is_alphanumeric()).next().map(str::to_owned)
}

/// Returns the text without comments, with the same number of lines.
fn without_comments(text: &str) -> String {
    let mut code = String::with_capacity(text.len());
    for line in text.lines() {
        code.push_str(line.split_once("//").map_or(line, |(before, _)| before));
        code.push('\n');
    }
    code
}

/// Returns the names of the test functions.
fn test_names(text: &str) -> Vec<String> {
    let mut names = Vec::new();
    let mut marked = false;
    for line in text.lines().map(str::trim) {
        if line == "#[test]" {
            marked = true;
        } else if let Some(rest) = line.strip_prefix("fn ") {
            if marked {
                names.extend(rest.split(['(', '<']).next().map(str::to_owned));
            }
            marked = false;
        }
    }
    names
}

/// Returns true if a test is named after a row.
/// A test may be named after several rows: `ow_02_and_ow_03_join_makes_active_…`.
pub(crate) fn is_named_after(name: &str, row: &str) -> bool {
    name.split("_and_")
        .any(|part| part.strip_prefix(row).is_some_and(|rest| rest.is_empty() || rest.starts_with('_')))
}

/// Returns all Rust files in the folders, in the order of their paths.
fn rust_files(folders: &[&str]) -> Vec<(PathBuf, String)> {
    let mut files = Vec::new();
    for folder in folders {
        let path = root().join(folder);
        if path.is_dir() {
            collect(&path, &mut files);
        }
    }
    assert!(!files.is_empty(), "no files below {folders:?}");
    files
}

fn collect(folder: &Path, files: &mut Vec<(PathBuf, String)>) {
    let mut paths: Vec<PathBuf> = fs::read_dir(folder)
        .expect("a readable folder")
        .map(|entry| entry.expect("a readable entry").path())
        .collect();
    paths.sort();
    for path in paths {
        if path.is_dir() {
            collect(&path, files);
        } else if path.extension().is_some_and(|extension| extension == "rs") {
            let text = fs::read_to_string(&path).expect("a readable file");
            files.push((path, text));
        }
    }
}

fn root() -> &'static Path {
    Path::new(env!("CARGO_MANIFEST_DIR"))
}
