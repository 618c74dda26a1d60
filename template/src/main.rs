//! Runs the game: `cargo run` serves it, and `cargo run -- help` lists the other commands.

use std::process::ExitCode;

use game::GamePlugin;
use game::bot::Firefly;

fn main() -> ExitCode {
    waystation::launch(env!("CARGO_PKG_NAME"), env!("CARGO_PKG_VERSION"))
        .plugin(GamePlugin)
        .pages(waystation::pages!("web/dist"))
        .bot(Firefly::default)
        .run()
}
