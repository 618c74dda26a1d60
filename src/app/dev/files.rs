//! Lists the files that `dev` watches, and finds changes between two lists.

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};
use std::time::SystemTime;
use std::{fs, io};

use anyhow::{Context as _, ensure};

/// The files, each with its time and length.
#[derive(Debug, Default, PartialEq)]
pub(super) struct Files(BTreeMap<PathBuf, (SystemTime, u64)>);

impl Files {
    /// Finds the files of the game in `folder`.
    pub(super) fn find(folder: &Path) -> anyhow::Result<Self> {
        let mut files = Self::default();
        for name in WATCHED {
            files.add(folder, Path::new(name)).with_context(|| format!("cannot read {name}"))?;
        }
        Ok(files)
    }

    /// Adds a file, or the files of a folder. A file that does not exist is left out: an editor may be replacing it.
    fn add(&mut self, root: &Path, path: &Path) -> anyhow::Result<()> {
        let Some(data) = existing(fs::symlink_metadata(root.join(path)))? else { return Ok(()) };
        if !data.is_dir() {
            ensure!(
                self.0.len() < FILES_MAX,
                "there are more than {FILES_MAX} files: move files that are not sources to another folder"
            );
            self.0.insert(path.to_owned(), (data.modified()?, data.len()));
            return Ok(());
        }
        for entry in existing(fs::read_dir(root.join(path)))?.into_iter().flatten() {
            self.add(root, &path.join(entry?.file_name()))?;
        }
        Ok(())
    }

    /// Returns a file that was added, changed or removed, or `None` if the lists are equal.
    pub(super) fn changed_since<'a>(&'a self, old: &'a Self) -> Option<&'a Path> {
        let differs = |path: &&PathBuf| self.0.get(*path) != old.0.get(*path);
        self.0.keys().chain(old.0.keys()).find(differs).map(PathBuf::as_path)
    }
}

/// Returns `None` for a file or folder that does not exist.
fn existing<T>(found: io::Result<T>) -> io::Result<Option<T>> {
    match found {
        Ok(found) => Ok(Some(found)),
        Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(None),
        Err(error) => Err(error),
    }
}

/// The watched files and folders. After a change of one of them, the server is built and started again.
const WATCHED: &[&str] = &["Cargo.toml", "build.rs", "src", "proto", "waystation.toml"];
/// Maximum number of files. All of them are checked several times a second.
const FILES_MAX: usize = 10_000;

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_new_a_changed_and_a_removed_file_are_changes() {
        let folder = std::env::temp_dir().join(format!("waystation-dev-{}", std::process::id()));
        let write = |name: &str, text: &str| fs::write(folder.join(name), text).expect("a file");
        let find = || Files::find(&folder).expect("readable files");
        fs::create_dir_all(folder.join("src/deep")).expect("a folder");
        write("Cargo.toml", "");
        let begun = find();

        write("target", "is not watched");
        let same = find();
        write("src/deep/new.rs", "1");
        let added = find();
        write("src/deep/new.rs", "22");
        let changed = find();
        fs::remove_file(folder.join("Cargo.toml")).expect("the file exists");
        let removed = find();

        fs::remove_dir_all(&folder).expect("the folder exists");
        assert_eq!(same.changed_since(&begun), None);
        assert_eq!(added.changed_since(&begun), Some(Path::new("src/deep/new.rs")));
        assert_eq!(changed.changed_since(&added), Some(Path::new("src/deep/new.rs")));
        assert_eq!(removed.changed_since(&changed), Some(Path::new("Cargo.toml")));
    }
}
