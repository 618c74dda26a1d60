use std::net::{IpAddr, SocketAddr};
use std::path::PathBuf;
use std::time::Duration;

use proptest::prelude::*;

use super::*;

crate::settings! {
    /// A town.
    #[derive(Debug, Clone, PartialEq)]
    struct Town {
        /// Name of the town. Default: `town`.
        name: String = "town".to_owned(),
        /// Address to listen on. Default: 127.0.0.1:7777.
        listen: SocketAddr = SocketAddr::from(([127, 0, 0, 1], 7_777)),
        /// Number of people, from 1 to 1,000. Default: 10. See [`DoorConfig::count`], and
        /// [the map](https://example.com/map) ([`Rule`]) [sic].
        people: u16 = 10,
        /// A thing that no file can hold.
        secret: [u8; 2] = [1, 2] => skipped,
        /// Doors of the town.
        door: DoorConfig = DoorConfig::default(),
        /// Walls of the town.
        walls: WallConfig = WallConfig::default() => flat,
        /// The settings of the game.
        game: GameTable = GameTable::default(),
    }
}

crate::settings! {
    /// Doors.
    #[derive(Debug, Clone, PartialEq)]
    struct DoorConfig {
        /// Time for which a door stays open. Default: 5 s.
        open_time: Duration = Duration::from_secs(5),
        /// Number of doors. Default: no limit.
        count: Option<u64> = None,
        /// Which players may pass. Default: `open`.
        rule: Rule = Rule::Open,
    }
}

crate::settings! {
    /// Walls.
    #[derive(Debug, Clone, PartialEq)]
    struct WallConfig {
        /// Height in metres. Default: 2.5.
        ///
        /// It is measured from the ground in front of the wall, and not from the bottom of the ditch, so that walls
        /// with and without a ditch can be compared.
        height: f64 = 2.5,
        /// Memory of the walls. Default: 64 KiB.
        wall_bytes: usize = 65_536,
        /// Whether the walls have towers. Default: false.
        has_towers: bool = false,
        /// Names of the gates. Default: empty.
        ///
        /// | name | direction |
        /// | --- | --- |
        /// | `north` | north |
        gates: Vec<String> = Vec::new(),
        /// File with a picture. Default: none.
        picture: Option<PathBuf> = None,
    }
}

#[derive(Debug, Clone, Copy, PartialEq)]
enum Rule {
    Open,
    OnlyFriends,
}

impl Choice for Rule {
    const NAMES: &'static [(&'static str, Self)] =
        &[("open", Self::Open), ("only-friends", Self::OnlyFriends)];
}

fn check(town: &Town) -> Vec<ConfigError> {
    let people = within("Town::people", &town.people, 1..=1_000, "a town has people; the default is 10");
    let count = at_least("DoorConfig::count", &town.door.count.unwrap_or(1), &1, "a town needs a door");
    [people, count].into_iter().filter_map(Result::err).collect()
}

fn flag(name: &str, key: &str, texts: &[&str]) -> Flag {
    let texts = texts.iter().map(|text| (*text).to_owned()).collect();
    Flag { name: name.to_owned(), key: key.to_owned(), texts }
}

fn loaded(text: &str, variables: &[(&str, &str)], flags: Vec<Flag>) -> Result<Loaded<Town>, Mistakes> {
    let variables = variables.iter().map(|(name, text)| (name.into(), text.into())).collect();
    let other_variables = &["WAYSTATION_CONFIG"];
    load(Inputs { file: Some(("town.toml", text)), variables, other_variables, flags }, check)
}

fn mistakes(text: &str, variables: &[(&str, &str)], flags: Vec<Flag>) -> String {
    loaded(text, variables, flags).expect_err("mistakes").to_string()
}

#[test]
fn all_mistakes_are_reported_at_once() {
    let text = r#"
name = 5
listen = ":7777"
peple = 3
people = 0
height = "tall"
has_towers = "yes"
wall_bytes = "64KB"
gates = ["north", 5]
count = 4
door = { open_time = 5, count = -1 }
open_time = 2020-01-01
[dor]
open_time = "1s"
[walls]
"#;
    let variables = [("WAYSTATION_DOOR_RULE", "only-freinds"), ("WAYSTATION_PEPLE", "1"), ("PATH", "")];
    let flags = vec![
        flag("--people", "people", &[]),
        flag("--open-time", "door.open_time", &[]),
        flag("--set", "door.rul", &["x"]),
    ];

    let text = mistakes(text, &variables, flags);

    assert_eq!(
        text,
        "\
town.toml:2: name is 5, and must be a text in quotes; WAYSTATION_NAME overrides it
town.toml:3: listen is \":7777\", and must be an IP address and a port, such as \"127.0.0.1:7777\", \
\"0.0.0.0:7777\" or \"[::]:7777\", or the port alone for this machine only; WAYSTATION_LISTEN overrides it
town.toml:4: unknown key `peple`; did you mean `people`?
town.toml:5: people is 0, and must be 1 to 1000: a town has people; the default is 10; WAYSTATION_PEOPLE or \
--people overrides it
town.toml:6: height is \"tall\", and must be a number; WAYSTATION_HEIGHT overrides it
town.toml:7: has_towers is \"yes\", and must be true or false; WAYSTATION_HAS_TOWERS overrides it
town.toml:8: wall_bytes is \"64KB\", and must be a whole number from 0 to 18446744073709551615, or a size such as \
\"64KiB\"; WAYSTATION_WALL_BYTES overrides it
town.toml:9: gates is [\"north\", 5], and must be a list, and each item must be a text in quotes; WAYSTATION_GATES \
overrides it
town.toml:10: unknown key `count`; did you mean `door.count`?
town.toml:11: door.count is -1, and must be \"none\" or a whole number from 0 to 18446744073709551615; \
WAYSTATION_DOOR_COUNT overrides it
town.toml:11: door.open_time is 5, and must be a time with a unit, such as \"250ms\", \"5s\", \"2min\" or \"1h\"; \
WAYSTATION_DOOR_OPEN_TIME or --open-time overrides it
town.toml:12: unknown key `open_time`; did you mean `door.open_time`?
town.toml:13: unknown key `dor`; did you mean `door`?
town.toml:15: unknown key `walls`
WAYSTATION_DOOR_RULE: door.rule is \"only-freinds\", and must be \"open\" or \"only-friends\"; did you mean \
\"only-friends\"?
WAYSTATION_PEPLE: no key has this environment variable; did you mean `WAYSTATION_PEOPLE`?
--set: unknown key `door.rul`; did you mean `door.rule`?"
    );
}

#[test]
fn flags_are_stronger_than_variables_and_variables_are_stronger_than_the_file() {
    let text = "people = 1\nname = \"file\"\nheight = 3\n[door]\ncount = \"wrong, but overridden\"\n";
    let variables = [
        ("WAYSTATION_PEOPLE", "2"),
        ("WAYSTATION_NAME", "5"),
        ("WAYSTATION_DOOR_COUNT", "18446744073709551615"),
    ];
    let flags = vec![
        flag("--people", "people", &["3"]),
        flag("--set", "people", &["4"]),
        flag("--gate", "gates", &["north", "south"]),
    ];

    let loaded = loaded(text, &variables, flags).expect("no mistake");

    let Town { people, name, door, walls, .. } = &loaded.value;
    assert_eq!((*people, name.as_str(), walls.height, door.count), (4, "5", 3.0, Some(u64::MAX)));
    assert_eq!(walls.gates, ["north", "south"]);
    let sources = ["people", "name", "height", "door.count", "gates", "listen"];
    assert_eq!(
        sources.map(|path| loaded.source(path).to_string()),
        ["--set", "WAYSTATION_NAME", "town.toml:3", "WAYSTATION_DOOR_COUNT", "--gate", "default"]
    );
}

#[test]
fn each_type_is_read_as_documented() {
    let address = |text: &str| loaded(text, &[], Vec::new()).expect("an address").value.listen.to_string();
    let gates =
        |text: &str| loaded("", &[("WAYSTATION_GATES", text)], Vec::new()).expect("gates").value.walls.gates;

    assert_eq!(address("listen = 80"), "127.0.0.1:80");
    assert_eq!(address("listen = \"80\""), "127.0.0.1:80");
    assert_eq!(address("listen = \"localhost:80\""), "127.0.0.1:80");
    assert_eq!(address("listen = \"0.0.0.0:80\""), "0.0.0.0:80");
    assert_eq!(address("listen = \"[::1]:80\""), "[::1]:80");
    assert_eq!(gates(""), [""; 0]);
    assert_eq!(gates("north, south"), ["north", "south"]);
    assert_eq!(
        loaded("wall_bytes = \"2 KiB\"", &[], Vec::new()).expect("a size").value.walls.wall_bytes,
        2_048
    );
    assert!(mistakes("people = \"1KiB\"", &[], Vec::new()).contains("a whole number from 0 to 65535"));
    for listen in ["65536", "-1", "\"play.example:80\"", "\"localhost\"", "[80]", "true", "\"\""] {
        let error = mistakes(&format!("listen = {listen}"), &[], Vec::new());
        assert!(error.contains("must be an IP address and a port"), "{error}");
    }
}

#[test]
fn an_error_of_syntax_has_its_line_and_column_and_hides_no_mistake_of_variables() {
    let text = "people = 1\nname = \"öö\" x\n";

    let error = mistakes(text, &[("WAYSTATION_PEOPLE", "many")], Vec::new());

    assert_eq!(
        error,
        "town.toml:2: column 13: unexpected key or value, expected newline, `#`\n\
         WAYSTATION_PEOPLE: people is \"many\", and must be a whole number from 0 to 65535"
    );
    let doubled = mistakes("people = 1\npeople = 2\n", &[], Vec::new());
    assert_eq!(doubled, "town.toml:2: column 1: duplicate key");
}

#[test]
fn variables_of_others_are_ignored() {
    let variables = [
        ("WAYSTATION_CONFIG", "x"),
        ("WAYSTATION_SERVICE_HOST", "10.0.0.1"),
        ("WAYSTATION_SERVICE_PORT_UDP", "7777"),
        ("WAYSTATION_PORT", "tcp://10.0.0.1:80"),
        ("WAYSTATION_PORT_80_TCP_ADDR", "10.0.0.1"),
        ("WAYSTATION_EU_SERVICE_HOST", "10.0.0.1"),
        ("WAYSTATION_EU_PORT", "udp://10.0.0.1:80"),
        ("WAYSTATION_EU_PORT_80_UDP_PROTO", "udp"),
        ("OTHER_PEOPLE", "x"),
    ];

    assert!(loaded("", &variables, Vec::new()).is_ok());
    assert_eq!(
        mistakes("", &[("WAYSTATION_PORT", "80"), ("WAYSTATION_PORT_X", "x")], Vec::new()),
        "WAYSTATION_PORT: no key has this environment variable\n\
         WAYSTATION_PORT_X: no key has this environment variable"
    );
}

#[cfg(unix)]
#[test]
fn a_variable_that_is_not_utf8_is_a_mistake() {
    use std::os::unix::ffi::OsStringExt as _;
    let bytes = std::ffi::OsString::from_vec(vec![b'a', 0xff]);
    let variables = vec![("WAYSTATION_NAME".into(), bytes.clone()), (bytes, "x".into())];

    let error = load(Inputs { variables, ..Inputs::default() }, check).expect_err("a mistake").to_string();

    assert_eq!(error, "WAYSTATION_NAME: name is \"a\u{fffd}\", and must be a text in UTF-8");
}

#[test]
fn a_check_of_other_values_names_the_key_of_a_default() {
    let with_check = |check: fn(&Town) -> Vec<ConfigError>| {
        load(Inputs { file: Some(("town.toml", "people = 5\n")), ..Inputs::default() }, check)
    };

    let of_key = with_check(|town| {
        at_least("DoorConfig::open_time", &town.door.open_time, &Duration::from_secs(9), "doors are slow")
            .err()
            .into_iter()
            .collect()
    });
    let of_skipped =
        with_check(|_| at_least("Town::secret", &0, &1, "it is secret").err().into_iter().collect());

    assert_eq!(
        of_key.expect_err("a mistake").to_string(),
        "door.open_time is 5s, and must be at least 9s: doors are slow; WAYSTATION_DOOR_OPEN_TIME sets it"
    );
    assert_eq!(
        of_skipped.expect_err("a mistake").to_string(),
        "Town::secret is 0, and must be at least 1: it is secret"
    );
}

#[test]
fn the_shown_file_has_docs_values_and_sources() {
    let text = "people = 10\n[door]\nopen_time = \"90s\"\n[game]\nspeed = 3\nmap = { size = [1, 2] }\n";
    let mut loaded =
        loaded(text, &[("WAYSTATION_WALL_BYTES", "4096")], vec![flag("--set", "game.\u{e4}", &["x"])])
            .expect("no mistake");
    loaded.value.door.rule = Rule::OnlyFriends;

    let shown = loaded.show();

    let expected = "
# Name of the town. Default: `town`.
# name = \"town\"

# Address to listen on. Default: 127.0.0.1:7777.
# listen = \"127.0.0.1:7777\"

# Number of people, from 1 to 1,000. Default: 10. See `door.count`, and the map [sic].
people = 10  # town.toml:1

# Height in metres. Default: 2.5.
#
# It is measured from the ground in front of the wall, and not from the bottom of the ditch, so that walls
# with and without a ditch can be compared.
# height = 2.5

# Memory of the walls. Default: 64 KiB.
wall_bytes = \"4KiB\"  # WAYSTATION_WALL_BYTES

# Whether the walls have towers. Default: false.
# has_towers = false

# Names of the gates. Default: empty.
#
# | name | direction |
# | --- | --- |
# | `north` | north |
# gates = []

# File with a picture. Default: none.
# picture = \"none\"

# Doors of the town.
[door]

# Time for which a door stays open. Default: 5 s.
open_time = \"90s\"  # town.toml:3

# Number of doors. Default: no limit.
# count = \"none\"

# Which players may pass. Default: `open`.
rule = \"only-friends\"

# The settings of the game.
[game]
speed = 3  # town.toml:5
map = { size = [1, 2] }  # town.toml:6
\"\u{e4}\" = \"x\"  # --set
";
    assert_eq!(&shown[shown.find("\n\n").expect("a head") + 1..], expected);
}

#[test]
fn no_two_keys_have_the_same_variable() {
    let mut variables: Vec<String> = keys::<Town>().into_iter().map(|key| key.variable).collect();
    let count = variables.len();
    variables.sort();
    variables.dedup();

    assert_eq!(variables.len(), count);
}

#[test]
fn hostile_files_are_refused_without_a_panic() {
    let deep = [
        "a = ".to_owned() + &"[".repeat(100_000),
        "a = ".to_owned() + &"{a=".repeat(100_000),
        "[".to_owned() + &"a.".repeat(100_000) + "a]",
        "a.".repeat(100_000) + "a = 1",
    ];
    for text in deep {
        let error = mistakes(&text, &[], Vec::new());
        assert!(error.contains("town.toml:1") && error.len() < 300, "{error}");
    }

    let large = "# ".to_owned() + &"x".repeat(FILE_MAX_BYTES);
    assert_eq!(
        mistakes(&large, &[], Vec::new()),
        "town.toml:1: the file has 1048578 bytes, and may have at most 1048576"
    );

    let unknown: String = (0..50_000).map(|number| format!("peple{number} = 1\n")).collect();
    let error = mistakes(&unknown, &[], Vec::new());
    assert_eq!(error.lines().count(), MISTAKES_MAX + 1);
    assert!(error.ends_with("and 49900 more mistakes"), "{error}");

    let long = format!("{} = 1\nname = [\"{0}\"]\n\"\\u001b[2J\" = 1\n", "x".repeat(300_000));
    let error = mistakes(&long, &[], Vec::new());
    assert!(error.len() < 600 && !error.contains('\u{1b}'), "{error}");
    let flags = vec![flag("--set", &format!("game.{}", "a.".repeat(10_000)), &["1"])];
    let error = mistakes("", &[], flags);
    assert!(error.contains("has 10001 dots, and may have at most 80"), "{error}");
}

#[test]
fn a_configuration_is_deserialised_from_any_format() {
    let json = r#"{ "people": 3, "door": { "count": null, "open_time": "1s" }, "gates": ["a"] }"#;
    let wrong = r#"{ "peple": 3, "door": { "count": 1.5 } }"#;

    let town: Town = serde_json::from_str(json).expect("a town");
    let error = serde_json::from_str::<Town>(wrong).expect_err("two mistakes").to_string();

    assert_eq!((town.people, town.door.open_time, town.walls.gates.len()), (3, Duration::from_secs(1), 1));
    assert_eq!(town.secret, [1, 2]);
    assert_eq!(
        error,
        "unknown key `peple`; did you mean `people`?\n\
         door.count is 1.5, and must be \"none\" or a whole number from 0 to 18446744073709551615"
    );
    assert!(serde_json::from_str::<Town>("5").is_err());
}

fn towns() -> impl Strategy<Value = Town> {
    let door =
        (any::<Duration>(), any::<Option<u64>>(), prop_oneof![Just(Rule::Open), Just(Rule::OnlyFriends)])
            .prop_map(|(open_time, count, rule)| DoorConfig { open_time, count, rule });
    let walls = (any::<f64>(), any::<usize>(), any::<bool>(), any::<Vec<String>>(), any::<Option<u8>>())
        .prop_map(|(height, wall_bytes, has_towers, gates, picture)| WallConfig {
            height,
            wall_bytes,
            has_towers,
            gates,
            picture: picture.map(|number| PathBuf::from(format!("{number}.png"))),
        });
    (any::<String>(), any::<(IpAddr, u16)>(), any::<u16>(), door, walls).prop_map(
        |(name, listen, people, door, walls)| Town {
            name,
            listen: listen.into(),
            people,
            door,
            walls,
            ..Town::default()
        },
    )
}

proptest! {
    #[test]
    fn the_shown_file_loads_to_the_same_configuration(town in towns()) {
        let mut first = loaded("", &[], Vec::new()).expect("no mistake");
        first.value = town.clone();
        let shown = first.show();

        let second = load(Inputs { file: Some(("shown", &shown)), ..Inputs::default() }, |_: &Town| Vec::new());

        prop_assert_eq!(second.expect("no mistake").value, town, "{}", shown);
    }

    #[test]
    fn no_text_makes_the_loader_panic(text: String, word: String, key: String) {
        let flags = vec![flag("--set", &key, &[&word]), flag("--set", &format!("game.{key}"), &[&word])];
        let variables = [("WAYSTATION_LISTEN", word.as_str()), ("WAYSTATION_GAME_X", &word)];

        let _ = loaded(&text, &[], Vec::new()).map(|loaded| loaded.show());
        let _ = loaded(&format!("[door]\nopen_time = \"{text}\""), &variables, flags).map(|loaded| loaded.show());
    }
}
