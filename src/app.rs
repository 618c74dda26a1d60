//! Runs a game from its command line: [`launch`].
//!
//! A game passes its plugins, pages, routes and bot to [`launch`], and gets the commands that run, test and configure
//! a server. The `waystation` binary launches the arena in this way. This module contains no rules of a game and no
//! protocol.
//!
//! Data flow: the command line → the configuration → bound listeners → an app with the plugins of the server and of
//! the game → [`tick::run`](crate::tick::run) → the summary and the exit status.

mod bots;
mod bound;
mod cli;
mod config;
mod descriptors;
mod dev;
mod examine;
mod key;
mod listen;
mod log;
mod new;
mod pid;
mod reload;
mod serve;
mod show;
mod signals;

use std::any;
use std::ffi::OsString;
use std::fmt;
use std::io::{self, Write as _};
use std::process::{ExitCode, Termination};

use axum::Router;
use bevy_app::{App, Plugins};

use crate::admin::Pages;
use crate::bot::{Bot, BotFactory};

/// Returns a [`Launch`], which describes a game and runs it from its command line.
///
/// `name` is the name of the game. `--help` prints it, and discovery reports it.
/// `--version` prints `version`.
///
/// ```no_run
/// use std::process::ExitCode;
///
/// use bevy_app::{App, Plugin, Startup};
/// use bevy_ecs::prelude::*;
/// use waystation::zone::Zone;
///
/// struct DicePlugin;
///
/// impl Plugin for DicePlugin {
///     fn build(&self, app: &mut App) {
///         app.add_systems(Startup, |mut commands: Commands| {
///             commands.spawn(Zone::new("table"));
///         });
///     }
/// }
///
/// fn main() -> ExitCode {
///     waystation::launch("dice", env!("CARGO_PKG_VERSION")).plugin(DicePlugin).run()
/// }
/// ```
pub fn launch(name: &'static str, version: &'static str) -> Launch {
    Launch {
        name,
        version,
        about: "A game server whose sessions outlive their connections",
        crates: Vec::new(),
        setups: Vec::new(),
        pages: None,
        routes: Router::new(),
        bot: None,
    }
}

/// Converts the result of a program into its exit status. Prints an error to standard error with its
/// [`Display`](fmt::Display).
///
/// Use this in the `main` of a program that does not call [`launch`].
///
/// ```
/// use std::process::ExitCode;
///
/// fn run() -> Result<(), std::num::ParseIntError> {
///     let _count: u32 = "20".parse()?;
///     Ok(())
/// }
///
/// fn main() -> ExitCode {
///     waystation::exit(run())
/// }
/// ```
pub fn exit<T: Termination>(result: Result<T, impl fmt::Display>) -> ExitCode {
    match result {
        Ok(done) => done.report(),
        Err(error) => {
            // If standard error is closed, the exit status still reports the error.
            let _ = writeln!(io::stderr(), "error: {error:#}");
            ExitCode::FAILURE
        }
    }
}

/// A game that is run from its command line. [`launch`] returns it.
///
/// | command | purpose |
/// | --- | --- |
/// | `serve` | runs the server; it is the default command |
/// | `bot` | plays with many clients whose links are cut, and checks that no message is lost; for games with a [`bot`](Self::bot) |
/// | `config` | checks the configuration, or prints it with a comment for each key |
/// | `reload` | asks a running server to reload its configuration |
/// | `token` | prints a connect token or a ticket |
/// | `completions` | prints a script that completes the commands and options in a shell |
/// | `conformance` | examines a client in another language |
///
/// The binary of this crate also lists the commands `new`, which writes a game, and `dev`, which builds and runs the
/// server of a game again after each change.
#[must_use = "call `run` to start the game"]
pub struct Launch {
    name: &'static str,
    version: &'static str,
    about: &'static str,
    /// The crates whose logs are printed.
    crates: Vec<&'static str>,
    setups: Vec<Setup>,
    pages: Option<io::Result<Pages>>,
    routes: Router,
    bot: Option<BotFactory>,
}

/// Code that adds a part of a game to its app.
type Setup = Box<dyn FnOnce(&mut App)>;

impl Launch {
    /// Sets the sentence about the game that `--help` prints.
    pub fn about(self, about: &'static str) -> Self {
        Self { about, ..self }
    }

    /// Adds plugins of the game, after the plugins of the server.
    /// The server also prints the log of the crate that defines the plugins.
    pub fn plugin<M: 'static, P: Plugins<M> + 'static>(mut self, plugins: P) -> Self {
        self.log_of::<P>();
        self.setups.push(Box::new(move |app| {
            app.add_plugins(plugins);
        }));
        self
    }

    /// Calls a function with the app, after the plugins of the server are added. Functions and [plugins](Self::plugin)
    /// are applied in the order of these calls.
    /// The server also prints the log of the crate that defines the function.
    pub fn setup<S: FnOnce(&mut App) + 'static>(mut self, setup: S) -> Self {
        self.log_of::<S>();
        self.setups.push(Box::new(setup));
        self
    }

    /// Adds the crate that defines a type to the crates whose logs are printed. For a tuple, adds the crate of its
    /// first type.
    fn log_of<T>(&mut self) {
        let name = any::type_name::<T>().trim_start_matches('(');
        let path = name.split("::").next().unwrap_or_default();
        if !self.crates.contains(&path) {
            self.crates.push(path);
        }
    }

    /// Serves pages at `/`: a folder such as `"web/dist"`, the result of [`pages!`](crate::pages), or [`Pages`].
    pub fn pages(self, pages: impl IntoPages) -> Self {
        Self { pages: Some(pages.into_pages()), ..self }
    }

    /// Adds routes to the HTTP server: see [`HttpServer::routes`](crate::admin::HttpServer::routes).
    ///
    /// # Panics
    ///
    /// Panics if one of the routes was added before.
    pub fn routes(self, routes: Router) -> Self {
        Self { routes: self.routes.merge(routes), ..self }
    }

    /// Sets the bot of the game, which the command `bot` runs. `make` returns a new bot.
    pub fn bot<B: Bot + 'static>(self, mut make: impl FnMut() -> B + Send + 'static) -> Self {
        Self { bot: Some(Box::new(move |_index| Box::new(make()))), ..self }
    }

    /// Runs the command that the arguments of the process name, and prints an error to standard error.
    ///
    /// The exit status is 0 after a regular end, 1 after an error or a failed check, and 2 if the command line is
    /// wrong.
    #[must_use]
    pub fn run(self) -> ExitCode {
        self.run_with(std::env::args_os())
    }

    /// Runs the command that these arguments name. The first argument is the name of the program.
    fn run_with(self, arguments: impl IntoIterator<Item = OsString>) -> ExitCode {
        cli::run(self, arguments)
    }
}

impl fmt::Debug for Launch {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Launch")
            .field("name", &self.name)
            .field("version", &self.version)
            .finish_non_exhaustive()
    }
}

/// A source of the pages of a game, for [`Launch::pages`].
pub trait IntoPages {
    /// Returns the pages.
    ///
    /// # Errors
    ///
    /// Returns an error if the pages cannot be read.
    fn into_pages(self) -> io::Result<Pages>;
}

impl IntoPages for Pages {
    fn into_pages(self) -> io::Result<Pages> {
        Ok(self)
    }
}

impl IntoPages for io::Result<Pages> {
    fn into_pages(self) -> io::Result<Pages> {
        self
    }
}

impl IntoPages for &str {
    /// Returns the pages of a folder.
    fn into_pages(self) -> io::Result<Pages> {
        Pages::folder(self)
    }
}

#[cfg(test)]
mod tests {
    use bevy_app::Plugin;

    use super::*;

    struct Rules;

    impl Plugin for Rules {
        fn build(&self, _: &mut App) {}
    }

    #[test]
    fn the_logs_of_the_crates_of_plugins_and_code_are_printed() {
        let game =
            launch("dice", "1.0.0").plugin((Rules, Rules)).plugin(bevy_app::PanicHandlerPlugin).setup(|_| {});

        assert_eq!(game.crates, ["waystation", "bevy_app"]);
    }
}
