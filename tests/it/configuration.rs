//! The configuration of the binary: its file, `config check`, `config show`, and reloads.

use std::fs;
use std::path::PathBuf;
use std::process::{Command, Output};

use crate::binary::Server;

/// A working directory with a configuration file. It is removed when this value is dropped.
struct Folder(PathBuf);

impl Folder {
    fn new(name: &str, file: &str) -> Self {
        let path = PathBuf::from(env!("CARGO_TARGET_TMPDIR")).join(format!("{name}-{}", std::process::id()));
        fs::create_dir_all(&path).expect("a folder");
        let folder = Self(path);
        folder.write(file);
        folder
    }

    fn write(&self, file: &str) {
        fs::write(self.0.join("waystation.toml"), file).expect("a file");
    }

    fn command(&self) -> Command {
        let mut command = Command::new(env!("CARGO_BIN_EXE_waystation"));
        command.current_dir(&self.0);
        command
    }

    fn run(&self, words: &[&str]) -> Output {
        self.command().args(words).output().expect("the binary starts")
    }
}

impl Drop for Folder {
    fn drop(&mut self) {
        let _ = fs::remove_dir_all(&self.0);
    }
}

fn text(bytes: &[u8]) -> String {
    String::from_utf8_lossy(bytes).into_owned()
}

#[test]
fn a_check_lists_all_mistakes_and_what_cures_them() {
    let folder = Folder::new(
        "mistakes",
        "rat = 20\n[session]\ntimeout = 5\nlink_timeout = \"0s\"\n[quic]\nlisten = \"0.0.0.0:1\"\n",
    );

    let checked = folder.run(&["config", "check"]);
    let served = folder.run(&["serve", "--without", "tcp"]);

    assert_eq!((checked.status.code(), served.status.code()), (Some(1), Some(1)));
    let (checked, served) = (text(&checked.stderr), text(&served.stderr));
    for part in [
        "waystation.toml:1: unknown key `rat`; did you mean `rate`?",
        "waystation.toml:3: session.timeout is 5",
        "WAYSTATION_SESSION_TIMEOUT",
        "waystation.toml:4: session.link_timeout is 0ns",
        "waystation.toml:6: quic.listen is 0.0.0.0:1",
        "--quic-listen",
    ] {
        assert!(checked.contains(part) && served.contains(part), "{part} is not in:\n{checked}\n{served}");
    }
    assert!(served.contains("--without: without is \"tcp\""), "{served}");
}

#[test]
fn a_mistake_in_the_table_of_the_game_has_its_line() {
    let folder = Folder::new("game-mistake", "rate = 30\n[game]\nagent = 3\n");

    let checked = folder.run(&["config", "check"]);

    let error = text(&checked.stderr);
    assert!(error.contains("waystation.toml:3: unknown key `game.agent`; did you mean `agents`?"), "{error}");
}

#[test]
fn a_shown_configuration_has_no_mistakes_and_shows_the_same() {
    let folder = Folder::new("shown", "rate = 30\n[game]\nagents = 3\n");

    let shown = folder.run(&["config", "show", "--listen", "7070"]);
    folder.write(&text(&shown.stdout));
    let checked = folder.run(&["config", "check"]);
    let again = folder.run(&["config", "show"]);

    let shown = text(&shown.stdout);
    assert!(shown.contains("rate = 30") && shown.contains("agents = 3"), "{shown}");
    assert!(shown.contains("listen = \"127.0.0.1:7070\""), "{shown}");
    assert!(checked.status.success(), "{}", text(&checked.stderr));
    let keys = |shown: &str| -> Vec<String> {
        let set = shown.lines().filter(|line| !line.starts_with('#') && line.contains('='));
        set.map(|line| line.split('#').next().unwrap_or_default().trim().to_owned()).collect()
    };
    assert_eq!(keys(&text(&again.stdout)), keys(&shown));
}

#[test]
#[cfg(unix)]
fn a_running_server_reloads_its_log_and_names_what_needs_a_restart() {
    let folder = Folder::new("reload", "[game]\nagents = 0\n");
    let options = ["--pid-file", "server.pid"];
    let server = Server::start_by(folder.command(), &options);

    folder.write("rate = 30\nlog = [\"transitions\"]\n[game]\nagents = 1\n");
    let reloaded = folder.run(&["reload", "--pid-file", "server.pid"]);
    let log = server.stop_after_log("the table [game] was reloaded");

    assert!(reloaded.status.success(), "{}", text(&reloaded.stderr));
    assert!(log.contains("the configuration was reloaded"), "{log}");
    assert!(log.contains("keys=\"rate\""), "{log}");
    assert!(!folder.0.join("server.pid").exists(), "the server removes the file at its end");
    let late = folder.run(&["reload", "--pid-file", "server.pid"]);
    assert!(!late.status.success() && text(&late.stderr).contains("does not run"), "{}", text(&late.stderr));
}
