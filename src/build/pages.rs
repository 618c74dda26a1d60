//! Lists the files of a game's pages for release builds, which contain them.

use std::fmt::Write as _;
use std::path::{Path, PathBuf};
use std::{env, fs};

use super::{BuildError, tell_cargo};

/// Writes the list of all files in `folder` to `pages.rs` in `OUT_DIR`, with the path of each file below the folder.
///
/// Call this in a game's `build.rs` with the folder that `waystation::pages!` names. A relative folder starts at the
/// folder of `Cargo.toml`. Cargo runs the script again when a file in the folder changes.
///
/// The segments of a path may consist of ASCII letters, digits, and `-`, `_`, `.`, `~`, `@` and `+`, and may not
/// begin with a dot. A folder may contain at most 1,000 files. A file may be 16 MiB at most, and all files together
/// 64 MiB.
///
/// # Errors
///
/// - [`BuildError::Pages`] if the folder or a file cannot be read, if a name is not allowed, if the files are too
///   large, or if there are too many files.
/// - [`BuildError::Io`] and [`BuildError::NoOutDir`] if the list cannot be written.
pub fn pages(folder: impl AsRef<Path>) -> Result<(), BuildError> {
    let out_dir = PathBuf::from(env::var_os("OUT_DIR").ok_or(BuildError::NoOutDir)?);
    let folder = folder.as_ref();
    tell_cargo(&[folder]);
    let root = folder.canonicalize().map_err(|error| {
        let problem = format!("cannot read the folder: {error}; create it, or name another folder");
        pages_error(folder, problem)
    })?;
    let list = list(&root)?;
    fs::write(out_dir.join("pages.rs"), list)?;
    Ok(())
}

/// Returns the list as a Rust expression: a slice of paths and contents.
fn list(root: &Path) -> Result<String, BuildError> {
    let mut found = Found::default();
    found.walk(root, root, "")?;
    let mut list = String::from("&[\n");
    for (name, file) in found.files {
        // Writing to a string does not fail.
        let _ = writeln!(list, "    ({name:?}, include_bytes!({file:?}) as &[u8]),");
    }
    list.push_str("]\n");
    Ok(list)
}

/// The files that were found: the path below the folder, and the absolute path.
#[derive(Default)]
struct Found {
    files: Vec<(String, String)>,
    bytes: u64,
}

impl Found {
    /// Adds all files in `folder`, sorted by name. `before` is the path of the folder with a slash at its end.
    fn walk(&mut self, root: &Path, folder: &Path, before: &str) -> Result<(), BuildError> {
        let unreadable =
            |error: std::io::Error| pages_error(folder, format!("cannot read the folder: {error}"));
        let mut entries: Vec<PathBuf> = fs::read_dir(folder)
            .and_then(|entries| entries.map(|entry| Ok(entry?.path())).collect())
            .map_err(unreadable)?;
        entries.sort();
        for path in entries {
            let name = path.file_name().and_then(|name| name.to_str()).filter(|name| is_allowed(name));
            let Some(name) = name else { return Err(pages_error(&path, NAME_RULE.to_owned())) };
            let name = format!("{before}{name}");
            if path.is_dir() && !path.is_symlink() {
                self.walk(root, &path, &format!("{name}/"))?;
            } else {
                self.add(root, &path, name)?;
            }
        }
        Ok(())
    }

    fn add(&mut self, root: &Path, path: &Path, name: String) -> Result<(), BuildError> {
        let wrong = |problem: String| pages_error(path, problem);
        let file = path.canonicalize().map_err(|error| wrong(format!("cannot read the file: {error}")))?;
        if !file.starts_with(root) || !file.is_file() {
            return Err(wrong(
                "this is not a regular file in the folder: remove it, or copy the file that it links to"
                    .to_owned(),
            ));
        }
        let bytes =
            fs::metadata(&file).map_err(|error| wrong(format!("cannot read the file: {error}")))?.len();
        self.bytes += bytes;
        if bytes > FILE_MAX_BYTES || self.bytes > ALL_MAX_BYTES || self.files.len() >= FILES_MAX {
            return Err(wrong(format!(
                "with this file of {bytes} bytes the pages are too large: a file may have {FILE_MAX_BYTES} bytes, \
                 all files {ALL_MAX_BYTES} bytes, and the folder {FILES_MAX} files"
            )));
        }
        let file =
            file.to_str().ok_or_else(|| wrong("the path is not UTF-8: rename its folders".to_owned()))?;
        self.files.push((name, file.to_owned()));
        Ok(())
    }
}

/// Returns true if a segment of a path may have this name. The server applies the same rule to requests.
fn is_allowed(name: &str) -> bool {
    !name.starts_with('.') && name.bytes().all(|c| c.is_ascii_alphanumeric() || b"-_.~@+".contains(&c))
}

fn pages_error(path: &Path, problem: String) -> BuildError {
    BuildError::Pages { path: path.to_owned(), problem }
}

const NAME_RULE: &str = "the name is not allowed in pages: use ASCII letters, digits and -_.~@+, and no dot at the \
                         beginning; rename or move the file";
/// Maximum number of files. The server searches the list for each request.
const FILES_MAX: usize = 1_000;
/// Maximum size of a file, in bytes. `Pages::folder`, which debug builds use, has the same limit.
const FILE_MAX_BYTES: u64 = 16 * 1024 * 1024;
/// Maximum size of all files, in bytes. The files are part of the binary, and may be in memory while the server runs.
const ALL_MAX_BYTES: u64 = 64 * 1024 * 1024;

#[cfg(test)]
mod tests {
    use super::*;

    /// Lists a new folder with these empty files.
    fn list_of(test: &str, names: &[&str]) -> Result<String, String> {
        let folder = env::temp_dir().join(format!("waystation-pages-{}-{test}", std::process::id()));
        for name in names {
            let path = folder.join(name);
            fs::create_dir_all(path.parent().expect("a folder")).expect("a temporary folder");
            fs::write(path, "").expect("a file");
        }
        let root = folder.canonicalize().expect("the folder exists");

        let list = list(&root).map_err(|error| error.to_string());

        fs::remove_dir_all(&folder).expect("the folder can be removed");
        let root = root.to_str().expect("UTF-8").to_owned();
        list.map(|list| list.replace(&root, "ROOT"))
    }

    #[test]
    fn all_files_are_listed_with_their_paths_in_order() {
        let list = list_of("all", &["index.html", "img/a-1.png", "game.js"]);

        let expected = "&[\n    (\"game.js\", include_bytes!(\"ROOT/game.js\") as &[u8]),\n    \
                        (\"img/a-1.png\", include_bytes!(\"ROOT/img/a-1.png\") as &[u8]),\n    \
                        (\"index.html\", include_bytes!(\"ROOT/index.html\") as &[u8]),\n]\n";
        assert_eq!(list.as_deref(), Ok(expected));
    }

    #[test]
    fn a_file_that_the_server_would_not_serve_is_an_error_with_its_name() {
        for name in [".hidden", "img/a b.png", "img/.x/a.png", "è.png"] {
            let error = list_of("names", &["index.html", name]).expect_err("the name is not allowed");

            let wrong = name.split('/').find(|segment| !is_allowed(segment)).expect("a wrong segment");
            assert!(error.contains(wrong) && error.contains("rename"), "{error}");
        }
    }

    #[test]
    fn too_many_files_are_an_error() {
        let names: Vec<String> = (0..=FILES_MAX).map(|number| format!("{number}.png")).collect();
        let many = list_of("many", &names.iter().map(String::as_str).collect::<Vec<_>>());

        let error = many.expect_err("one file too many");
        assert!(error.contains("1000 files") && error.contains("999.png"), "{error}");
    }

    #[test]
    #[cfg(unix)]
    fn a_link_out_of_the_folder_is_an_error() {
        let folder = env::temp_dir().join(format!("waystation-pages-{}-link", std::process::id()));
        fs::create_dir_all(&folder).expect("a temporary folder");
        std::os::unix::fs::symlink("/", folder.join("everything")).expect("a link");

        let error = list(&folder.canonicalize().expect("it exists")).expect_err("a link").to_string();

        fs::remove_dir_all(&folder).expect("the folder can be removed");
        assert!(error.contains("everything"), "{error}");
    }
}
