use serde::Deserialize;

use super::*;
use crate::settings::{Flag, Inputs, load};

crate::settings! {
    /// A server.
    #[derive(Debug)]
    struct Server {
        /// The settings of the game.
        game: GameTable = GameTable::default(),
    }
}

#[derive(Debug, Default, Deserialize, PartialEq)]
#[serde(default, deny_unknown_fields)]
struct Doors {
    speed: f64,
    name: String,
    count: Option<u32>,
    kind: Kind,
    walls: Vec<Wall>,
    sizes: (u8, u8),
    since: String,
}

#[derive(Debug, Default, Deserialize, PartialEq)]
#[serde(rename_all = "kebab-case")]
enum Kind {
    #[default]
    Wood,
    OldIron {
        age: u8,
    },
    Glass(f32),
    Pair(u8, u8),
}

#[derive(Debug, Default, Deserialize, PartialEq)]
#[serde(deny_unknown_fields)]
struct Wall {
    height: u8,
}

fn read(text: &str, words: &[(&str, &str)]) -> Result<Doors, String> {
    let flags = words.iter().map(|(key, text)| Flag {
        name: "--set".to_owned(),
        key: format!("game.{key}"),
        texts: vec![(*text).to_owned()],
    });
    let variables = vec![("WAYSTATION_GAME_SINCE".into(), "1999".into())];
    let inputs =
        Inputs { file: Some(("town.toml", text)), variables, flags: flags.collect(), ..Inputs::default() };
    let server: Server = load(inputs, |_| Vec::new()).expect("no mistake").value;
    server.game.read().map_err(|mistake| mistake.to_string())
}

#[test]
fn a_game_reads_its_own_type() {
    let text = "
[game]
speed = 2
count = 3
kind = { old-iron = { age = 9 } }
sizes = [1, 2]
[[game.walls]]
height = 1
[[game.walls]]
height = 2
";

    let doors = read(text, &[("name", "5"), ("count", "4")]).expect("doors");

    assert_eq!(doors.speed, 2.0);
    assert_eq!((doors.name.as_str(), doors.count, doors.since.as_str()), ("5", Some(4), "1999"));
    assert_eq!(doors.kind, Kind::OldIron { age: 9 });
    assert_eq!((doors.walls, doors.sizes), (vec![Wall { height: 1 }, Wall { height: 2 }], (1, 2)));
    let words = [("kind", "wood"), ("speed", "0.5"), ("sizes", "3, 4"), ("walls", "")];
    let doors = read("", &words).expect("doors");
    assert_eq!((doors.kind, doors.speed, doors.sizes, doors.walls.len()), (Kind::Wood, 0.5, (3, 4), 0));
    assert_eq!(read("game.kind.glass = 1.5", &[]).expect("doors").kind, Kind::Glass(1.5));
    assert_eq!(read("game.kind.pair = [1, 2]", &[]).expect("doors").kind, Kind::Pair(1, 2));
}

#[test]
fn a_mistake_of_a_game_has_its_key_and_its_line() {
    let wrong = |text| read(text, &[]).expect_err("a mistake");

    assert_eq!(
        wrong("[game]\n\nspeed = \"x\"\n"),
        "town.toml:3: game.speed: invalid type: string \"x\", expected f64; WAYSTATION_GAME_SPEED overrides it"
    );
    assert_eq!(wrong("[game]\nsped = 1\n"), "town.toml:2: unknown key `game.sped`; did you mean `speed`?");
    assert_eq!(
        wrong("[game]\n[[game.walls]]\nheigt = 1\n"),
        "town.toml:3: unknown key `game.walls.heigt`; did you mean `height`?"
    );
    assert_eq!(
        wrong("[game]\nspeed = 1\n[[game.walls]]\n"),
        "town.toml:3: game.walls: missing field `height`; WAYSTATION_GAME_WALLS overrides it"
    );
    assert_eq!(
        wrong("game.kind = \"old-irn\"\n"),
        "town.toml:1: game.kind: \"old-irn\" must be one of wood, old-iron, glass, pair; did you mean `old-iron`?; \
         WAYSTATION_GAME_KIND overrides it"
    );
    assert_eq!(
        wrong("game.sizes = [1, 2, 3]"),
        "town.toml:1: game.sizes: invalid length 3, expected 2 elements in sequence; WAYSTATION_GAME_SIZES overrides it"
    );
    assert_eq!(
        wrong("game.kind = { wood = 1, glass = 2 }"),
        "town.toml:1: game.kind: a variant is a table with one key; WAYSTATION_GAME_KIND overrides it"
    );
    assert_eq!(
        wrong("[game]\nkind.wood = 1"),
        "town.toml:2: game.kind.wood: invalid type: integer `1`, expected unit"
    );
    let of_flag = read("", &[("count", "-1")]).expect_err("a mistake");
    assert_eq!(of_flag, "--set: game.count: invalid value: integer `-1`, expected u32");
}
