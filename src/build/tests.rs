//! Each mistake in a proto is an error that names file and message.

use super::*;
use std::fs;

/// Compiles one file of a game's that begins as all do, or says what is wrong with it.
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
    result.map(|()| code).map_err(|error| error.to_string())
}

#[track_caller]
fn assert_refused(result: Result<String, String>, parts: &[&str]) {
    let error = result.expect_err("it must not compile");
    for part in parts {
        assert!(error.contains(part), "`{part}` is missing in: {error}");
    }
}

#[test]
fn a_games_code_names_this_crate_from_outside_and_has_the_ids() {
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
    assert!(!code.contains(" ::prost"), "only the re-export is named: {code}");
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
fn a_message_without_an_id_that_is_no_part_is_refused() {
    assert_refused(
        compile_game("missing", "none.proto", "message Lonely { uint32 x = 1; }"),
        &["none.proto", "tiny.Lonely", "no id", "options.proto"],
    );
}

#[test]
fn a_missing_id_is_noticed_even_where_nobody_imports_the_option() {
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
fn the_cores_package_is_not_a_games() {
    let source = "syntax = \"proto3\"; package waystation.v1; message Mine {}";

    let result = compile_source("package", "mine.proto", source);

    assert_refused(result, &["mine.proto", "waystation.v1.Mine", "choose another"]);
}

#[test]
fn what_is_no_protobuf_is_refused_with_its_place() {
    assert_refused(compile_game("syntax", "broken.proto", "message {"), &["broken.proto"]);
}
