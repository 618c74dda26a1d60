//! The `waystation` binary: the server, the bots, tokens, and the examiner of clients. See [`cli`].

mod cli;

use std::process::ExitCode;

fn main() -> ExitCode {
    cli::run()
}
