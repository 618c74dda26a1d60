//! The headless server, its bots, and its connect tokens: all in [`cli`].

mod cli;

use std::process::ExitCode;

fn main() -> ExitCode {
    cli::run()
}
