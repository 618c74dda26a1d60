//! The `waystation` binary: the arena, launched as any game.

use std::process::ExitCode;

use bevy_app::App;
use waystation::admin::Pages;
use waystation::arena::ArenaPlugin;
use waystation::bot::ArenaBot;
use waystation::config::AppGameConfig as _;

fn main() -> ExitCode {
    waystation::launch("waystation", env!("CARGO_PKG_VERSION"))
        .about("An authoritative game server whose sessions outlive their connections, with the arena as its game")
        .setup(add_arena)
        .pages(Pages::embedded(&PAGES).policy(POLICY))
        .bot(ArenaBot::default)
        .run()
}

/// Adds the arena with the options in the table `[game]` of the configuration.
fn add_arena(app: &mut App) {
    let arena = *app.game_config::<ArenaPlugin>().world().resource::<ArenaPlugin>();
    app.add_plugins(arena);
}

/// The arena's page, which is at `/` and at `/play`. Its files are built from `assets/src`: see `assets/README.md`.
const PAGES: [(&str, &[u8]); 4] = [
    ("index.html", include_bytes!("../assets/play/index.html")),
    ("play/index.html", include_bytes!("../assets/play/index.html")),
    ("play/play.js", include_bytes!("../assets/play/play.js")),
    ("play/play.css", include_bytes!("../assets/play/play.css")),
];
/// The content security policy of the page. It allows the page's own scripts and styles, and connections to any
/// address, because each transport has a port of its own.
const POLICY: &str = "default-src 'none'; script-src 'self'; style-src 'self'; img-src 'self' data:; \
                      connect-src *; worker-src blob:; base-uri 'none'; form-action 'none'; frame-ancestors 'none'";
