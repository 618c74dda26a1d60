//! Tests the generated code, and that errors in a proto name the file and the message.

use super::*;
use std::fs;

/// Compiles one file of a game, after a header. Returns the code or the text of the error.
fn compile_game(test: &str, name: &str, body: &str) -> Result<String, String> {
    let source = format!("syntax = \"proto3\"; package tiny; import \"waystation/v1/options.proto\"; {body}");
    compile_source(test, name, &source)
}

fn compile_source(test: &str, name: &str, source: &str) -> Result<String, String> {
    let dir = env::temp_dir().join(format!("waystation-build-{}-{test}", std::process::id()));
    fs::create_dir_all(&dir).expect("a temporary folder");
    fs::write(dir.join(name), source).expect("a proto file");

    let result = compile_into(&dir, Owner::Game, &[dir.join(name)], &[&dir]);

    let code = fs::read_to_string(dir.join("tiny.rs")).unwrap_or_default();
    fs::remove_dir_all(&dir).expect("the folder can be removed");
    result.map(|_| code).map_err(|error| error.to_string())
}

#[track_caller]
fn assert_refused(result: Result<String, String>, parts: &[&str]) {
    let error = result.expect_err("it must not compile");
    for part in parts {
        assert!(error.contains(part), "`{part}` is missing in: {error}");
    }
}

#[test]
fn the_code_of_a_game_uses_the_path_of_this_crate_and_has_the_ids() {
    let code = compile_game(
        "good",
        "game.proto",
        "import \"waystation/v1/reason.proto\";
         message Move { option (waystation.v1.id) = 0x8100; Point to = 1; bytes blob = 2; }
         message NPCMoved { option (waystation.v1.id) = 0x0100; waystation.v1.Reason why = 1; }
         message Point { float x = 1; float y = 2; }
         message Saved { option (waystation.v1.id) = 0; map<string, uint32> scores = 1; }",
    )
    .expect("it compiles");

    for part in [
        "impl ::waystation::wire::WireMessage for Move {",
        "::waystation::ident::MessageId::new(0x8100)",
        "impl ::waystation::wire::WireMessage for NpcMoved {",
        "\"tiny.NPCMoved\"",
        "::waystation::wire::v1::Reason",
        "::waystation::wire::prost::Message",
        "::waystation::wire::prost::bytes::Bytes",
        "pub struct Saved",
    ] {
        assert!(code.contains(part), "`{part}` is missing in: {code}");
    }
    assert!(!code.contains("WireMessage for Point"));
    assert!(!code.contains("WireMessage for Saved"));
    assert!(!code.contains(" ::prost"), "only the re-export is used: {code}");
}

#[test]
fn an_id_that_is_taken_is_refused() {
    let result = compile_game(
        "taken",
        "twice.proto",
        "message A { option (waystation.v1.id) = 0x0100; }
         message B { option (waystation.v1.id) = 0x0100; }",
    );

    assert_refused(result, &["twice.proto", "tiny.B", "0x0100", "tiny.A"]);
}

#[test]
fn a_message_without_an_id_that_is_not_a_field_is_refused() {
    assert_refused(
        compile_game("missing", "none.proto", "message Lonely { uint32 x = 1; }"),
        &["none.proto", "tiny.Lonely", "no id", "options.proto"],
    );
}

#[test]
fn a_missing_id_is_refused_even_if_no_file_imports_the_option() {
    let source = "syntax = \"proto3\"; package tiny; message Bare {}";

    let result = compile_source("bare", "bare.proto", source);

    assert_refused(result, &["bare.proto", "tiny.Bare", "options.proto"]);
}

#[test]
fn a_games_id_in_the_cores_range_is_refused() {
    for id in ["0x0040", "0x00ff", "0x8001", "0x80FF"] {
        let body = format!("message Thief {{ option (waystation.v1.id) = {id}; }}");
        assert_refused(
            compile_game(&format!("core{id}"), "core.proto", &body),
            &["core.proto", "tiny.Thief", "a game's ranges"],
        );
    }
}

#[test]
fn an_id_of_more_than_16_bits_is_refused() {
    assert_refused(
        compile_game("large", "large.proto", "message Huge { option (waystation.v1.id) = 0x10100; }"),
        &["large.proto", "tiny.Huge", "0x10100", "16 bits"],
    );
}

#[test]
fn a_nested_message_with_an_id_is_refused() {
    assert_refused(
        compile_game(
            "nested",
            "nested.proto",
            "message Outer { option (waystation.v1.id) = 0x0100;
                 message Inner { option (waystation.v1.id) = 0x0101; } }",
        ),
        &["nested.proto", "tiny.Outer.Inner", "nested"],
    );
}

#[test]
fn a_game_cannot_use_the_cores_package() {
    let source = "syntax = \"proto3\"; package waystation.v1; message Mine {}";

    let result = compile_source("package", "mine.proto", source);

    assert_refused(result, &["mine.proto", "waystation.v1.Mine", "choose another"]);
}

#[test]
fn invalid_protobuf_is_refused_with_its_place() {
    assert_refused(compile_game("syntax", "broken.proto", "message {"), &["broken.proto"]);
}

#[test]
fn floats_are_checked_only_in_messages_that_a_frame_can_contain() {
    let code = compile_game(
        "floats",
        "floats.proto",
        "message Move { option (waystation.v1.id) = 0x8100;
             float type = 1; optional double maybe = 2; repeated float many = 3; uint32 plain = 4;
             map<uint32, Point> by_id = 5; map<uint32, string> names = 6; Point to = 7; Name who = 8;
             oneof aim { Point at = 9; Name whom = 10; double self = 11; }
             oneof other { uint32 first = 12; Name second = 13; }
             message Aim { Inner deep = 1; message Inner { float x = 1; } }
             Aim nested = 14; Chain chain = 15; }
         message Point { float x = 1; float y = 2; }
         message Name { string name = 1; }
         message Chain { Chain next = 1; double link = 2; }
         message Quiet { option (waystation.v1.id) = 0x0100; Name name = 1; bytes blob = 2; }
         message Saved { option (waystation.v1.id) = 0; float unsent = 1; }",
    )
    .expect("it compiles");

    let check = |of: &str| {
        let start = code.find(&format!("::waystation::wire::Finite for {of} {{")).unwrap_or_else(|| {
            panic!("no check of {of} in: {code}");
        });
        let check = &code[start..];
        check[..check.find("\n}").expect("an end")].to_owned()
    };
    let of_move = check("Move");
    for field in ["r#type", "maybe", "many", "by_id", "to", "aim", "nested", "chain"] {
        assert!(of_move.contains(&format!("(&self.{field})")), "{field} in {of_move}");
    }
    for field in ["plain", "names", "who", "other"] {
        assert!(!of_move.contains(&format!("self.{field})")), "{field} in {of_move}");
    }
    let of_aim = check("r#move::AimOneOf");
    for arm in ["At(value) => ::", "Whom(_) => true", "Self_(value) => ::"] {
        assert!(of_aim.contains(arm), "{arm} in {of_aim}");
    }
    assert!(check("r#move::Aim").contains("(&self.deep)"));
    assert!(check("r#move::aim::Inner").contains("(&self.x)"));
    assert!(check("Chain").contains("(&self.next)"));
    assert_eq!(code.matches("fn is_finite").count(), 1, "Quiet has no floats: {code}");
    for none in ["Quiet", "Saved", "Name", "r#move::Other"] {
        assert!(!code.contains(&format!("wire::Finite for {none} ")), "{none} in {code}");
    }
}

#[test]
fn floats_that_cannot_be_checked_are_refused_in_a_frame() {
    let body = |id: &str| {
        format!(
            "import \"google/protobuf/struct.proto\";
             message Loose {{ option (waystation.v1.id) = {id}; google.protobuf.Struct any = 1; }}"
        )
    };

    let framed = compile_game("loose", "loose.proto", &body("0x0100"));
    let saved = compile_game("saved", "saved.proto", &body("0"));

    assert_refused(framed, &["loose.proto", "tiny.Loose", "google.protobuf.Struct", "fields of their own"]);
    assert!(saved.is_ok(), "{saved:?}");
}

#[test]
fn imported_files_are_watched_too() {
    let dir = env::temp_dir().join(format!("waystation-build-{}-imports", std::process::id()));
    fs::create_dir_all(&dir).expect("a temporary folder");
    let option = "import \"waystation/v1/options.proto\";";
    let game = format!(
        "syntax = \"proto3\"; package tiny; {option} import \"parts.proto\";
         message Go {{ option (waystation.v1.id) = 0x0100; Part part = 1; }}"
    );
    fs::write(dir.join("game.proto"), game).expect("a proto file");
    fs::write(dir.join("parts.proto"), "syntax = \"proto3\"; package tiny; message Part { bool on = 1; }")
        .expect("a proto file");

    let sources = compile_into(&dir, Owner::Game, &[dir.join("game.proto")], &[&dir]);

    fs::remove_dir_all(&dir).expect("the folder can be removed");
    let mut sources = sources.expect("it compiles");
    sources.sort_unstable();
    assert_eq!(sources, [dir.join("game.proto"), dir.join("parts.proto")]);
}
