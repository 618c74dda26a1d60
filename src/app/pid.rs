//! The file with the process id of a running server.

use std::fs::{self, File, OpenOptions, TryLockError};
use std::io::{Read as _, Write as _};
use std::path::Path;

use anyhow::{Context as _, bail};

/// The file with the process id of this server. It is locked while the server runs, and removed when this value is
/// dropped.
#[derive(Debug)]
pub(super) struct PidFile<'a> {
    path: &'a Path,
    /// Holds the lock. The operating system releases the lock even if the process is killed.
    _file: File,
}

impl<'a> PidFile<'a> {
    /// Writes and locks the file.
    ///
    /// # Errors
    ///
    /// Returns an error if another running server has the file.
    pub(super) fn write(path: &'a Path) -> anyhow::Result<Self> {
        let cannot = || format!("cannot write the process id to {}", path.display());
        // The file is not truncated before it is locked, because it may belong to another server.
        let options = OpenOptions::new().read(true).write(true).create(true).truncate(false).to_owned();
        let mut file = options.open(path).with_context(cannot)?;
        match file.try_lock() {
            Ok(()) => {}
            Err(TryLockError::WouldBlock) => {
                bail!("another server runs with the pid_file {}: name another file", path.display())
            }
            Err(TryLockError::Error(error)) => return Err(error).with_context(cannot),
        }
        file.set_len(0).with_context(cannot)?;
        writeln!(file, "{}", std::process::id()).with_context(cannot)?;
        Ok(Self { path, _file: file })
    }
}

impl Drop for PidFile<'_> {
    fn drop(&mut self) {
        if let Err(error) = fs::remove_file(self.path) {
            tracing::warn!(%error, file = %self.path.display(), "cannot remove the file with the process id");
        }
    }
}

/// Returns the process id of the running server that has written a file. The file of a server that was killed names a
/// process that may be another program by now, so it is not used.
#[cfg(unix)]
pub(super) fn running(path: &Path) -> anyhow::Result<rustix::process::Pid> {
    let ended = || format!("the server of the pid_file {} does not run", path.display());
    let mut file = File::open(path).with_context(ended)?;
    match file.try_lock_shared() {
        Err(TryLockError::WouldBlock) => {}
        Err(TryLockError::Error(error)) => return Err(error).with_context(ended),
        Ok(()) => bail!("{}: it has left the file behind", ended()),
    }
    let mut text = String::new();
    file.read_to_string(&mut text).with_context(ended)?;
    let id = text.trim().parse().ok().and_then(rustix::process::Pid::from_raw);
    id.with_context(|| format!("{} does not contain a process id", path.display()))
}

#[cfg(test)]
#[cfg(unix)]
mod tests {
    use super::*;

    #[test]
    fn a_file_belongs_to_one_running_server() {
        let path = std::env::temp_dir().join(format!("waystation-{}.pid", std::process::id()));

        let held = PidFile::write(&path).expect("a free file");
        let (other, id) = (PidFile::write(&path).map(drop), running(&path));
        drop(held);
        let gone = running(&path);
        fs::write(&path, "1\n").expect("a file of a server that was killed");
        let stale = running(&path);
        let next = PidFile::write(&path).map(drop);

        assert!(other.is_err_and(|error| error.to_string().contains("another server runs")));
        assert_eq!(id.expect("it runs").as_raw_nonzero().get().unsigned_abs(), std::process::id());
        assert!(gone.is_err_and(|error| error.to_string().contains("does not run")));
        assert!(stale.is_err_and(|error| error.to_string().contains("left the file behind")));
        assert!(next.is_ok(), "the file of a server that was killed is replaced");
    }
}
