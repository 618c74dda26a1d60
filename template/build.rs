//! Compiles the messages of the game, and lists the files of its page for release builds.

use waystation::build::{self, BuildError};

fn main() -> Result<(), BuildError> {
    build::compile(&["proto/game.proto"], &["proto"])?;
    build::pages("web/dist")
}
