//! The golden frames in `tests/golden`, which another implementation of protobuf wrote: this crate encodes and
//! decodes them identically, and they cover every message and field.

use std::collections::BTreeSet;

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD as BASE64;
use bytes::Bytes;
use prost::Message as _;
use prost_reflect::{DescriptorPool, DynamicMessage, FieldDescriptor, Kind, MessageDescriptor, Value};
use serde_json::{Map, Value as Json, json};
use waystation::arena::v1 as arena;
use waystation::wire::{self, Frame, WireMessage, v1};

const GOLDEN: [&str; 2] =
    [include_str!("../golden/waystation.v1.json"), include_str!("../golden/arena.v1.json")];

/// One entry of a table of golden frames.
struct Golden {
    message: String,
    /// Message id and body. A message that is never a frame has its body only.
    bytes: Bytes,
    is_frame: bool,
    json: Json,
}

fn goldens() -> Vec<Golden> {
    let tables = GOLDEN.iter().flat_map(|text| {
        let table: Vec<Map<String, Json>> = serde_json::from_str(text).expect("a table");
        table
    });
    let read = |entry: Map<String, Json>| {
        let text = |key: &str| entry.get(key).and_then(Json::as_str).map(str::to_owned);
        let (hex, is_frame) = match (text("frame"), text("body")) {
            (Some(hex), None) => (hex, true),
            (None, Some(hex)) => (hex, false),
            _ => panic!("an entry has a frame or a body: {entry:?}"),
        };
        Golden {
            message: text("message").expect("a message"),
            bytes: from_hex(&hex),
            is_frame,
            json: entry["json"].clone(),
        }
    };
    tables.map(read).collect()
}

fn from_hex(hex: &str) -> Bytes {
    let digits = |at: usize| u8::from_str_radix(&hex[at..at + 2], 16).expect("hex digits");
    (0..hex.len()).step_by(2).map(digits).collect()
}

fn to_hex(bytes: &[u8]) -> String {
    bytes.iter().map(|byte| format!("{byte:02x}")).collect()
}

/// Decodes a frame with generated code and encodes it again. Returns `None` if the frame is of another message.
fn rewrite<M: WireMessage>(golden: &Golden) -> Option<Bytes> {
    (golden.message == M::NAME).then(|| {
        let frame = Frame::parse(golden.bytes.clone()).expect("a frame");
        wire::encode(&frame.decode::<M>().expect("the body parses"))
    })
}

fn rewrite_any(golden: &Golden) -> Option<Bytes> {
    macro_rules! first_of {
        ($($message:ty),* $(,)?) => { None$(.or_else(|| rewrite::<$message>(golden)))* };
    }
    if !golden.is_frame {
        assert_eq!(golden.message, "waystation.v1.Status", "only Status is a body without a frame");
        return Some(
            v1::Status::decode(golden.bytes.clone()).expect("the body parses").encode_to_vec().into(),
        );
    }
    first_of!(
        v1::Hello,
        v1::Welcome,
        v1::Denied,
        v1::Bye,
        v1::Closed,
        v1::Ack,
        v1::Probe,
        v1::ProbeReply,
        v1::Beacon,
        v1::Ping,
        v1::Join,
        v1::Part,
        v1::Joined,
        v1::Parted,
        v1::Refused,
        v1::Members,
        v1::Notice,
        arena::Input,
        arena::Snapshot,
        arena::Scores,
        arena::Say,
        arena::Echo,
        arena::Pellets,
        arena::You,
    )
}

/// Compiles the proto files as they are now, independently of the generated code.
fn descriptors() -> DescriptorPool {
    let files = ["waystation/v1/link.proto", "waystation/v1/session.proto", "arena/v1/arena.proto"];
    let set = protox::Compiler::new(["proto"])
        .and_then(|mut compiler| {
            compiler.include_imports(true).open_files(files)?;
            Ok(compiler.encode_file_descriptor_set())
        })
        .expect("the protos compile");
    DescriptorPool::decode(set.as_slice()).expect("a descriptor set")
}

/// Returns the messages of the protos, except those of protobuf itself.
fn messages(pool: &DescriptorPool) -> impl Iterator<Item = MessageDescriptor> {
    pool.all_messages().filter(|message| !message.package_name().starts_with("google."))
}

/// Returns the id in a message's options. The id is 0 if the message is never a frame.
fn id_of(pool: &DescriptorPool, message: &MessageDescriptor) -> u16 {
    let option = pool.get_extension_by_name("waystation.v1.id").expect("the option");
    match message.options().get_extension(&option).as_ref() {
        Value::U32(id) => u16::try_from(*id).expect("16 bits"),
        other => panic!("the id of {} is {other:?}", message.full_name()),
    }
}

/// Returns the canonical JSON of a message, without the fields that have their default.
fn to_json(message: &DynamicMessage) -> Json {
    let fields = message.fields().map(|(field, value)| {
        let json = match value {
            Value::List(items) => items.iter().map(|item| value_to_json(&field, item)).collect(),
            value => value_to_json(&field, value),
        };
        (field.json_name().to_owned(), json)
    });
    Json::Object(fields.collect())
}

fn value_to_json(field: &FieldDescriptor, value: &Value) -> Json {
    match (value, field.kind()) {
        (Value::U64(number), _) => json!(number.to_string()),
        (Value::I64(number), _) => json!(number.to_string()),
        (Value::U32(number), _) => json!(number),
        (Value::I32(number), _) => json!(number),
        (Value::F32(number), _) => json!(number),
        (Value::F64(number), _) => json!(number),
        (Value::Bool(truth), _) => json!(truth),
        (Value::String(text), _) => json!(text),
        (Value::Bytes(bytes), _) => json!(BASE64.encode(bytes)),
        (Value::EnumNumber(number), Kind::Enum(of)) => json!(of.get_value(*number).expect("known").name()),
        (Value::Message(message), _) => to_json(message),
        other => panic!("no JSON for {other:?}"),
    }
}

/// Adds the full name of each field that is set, also in nested messages, to `seen`.
fn note_fields(message: &DynamicMessage, seen: &mut BTreeSet<String>) {
    for (field, value) in message.fields() {
        seen.insert(field.full_name().to_owned());
        let items = match value {
            Value::List(items) => items.as_slice(),
            value => std::slice::from_ref(value),
        };
        for item in items {
            if let Value::Message(part) = item {
                note_fields(part, seen);
            }
        }
    }
}

#[test]
fn generated_code_reads_and_writes_the_golden_frames() {
    for golden in goldens() {
        let written = rewrite_any(&golden);

        let name = &golden.message;
        let written =
            written.unwrap_or_else(|| panic!("{name} is missing from the list in `rewrite_any`: add it"));
        assert_eq!(to_hex(&written), to_hex(&golden.bytes), "{name}");
    }
}

#[test]
fn a_golden_frame_and_its_json_are_equal() {
    let pool = descriptors();
    for golden in goldens() {
        let descriptor = pool.get_message_by_name(&golden.message).expect("a message of the protos");
        let id = if golden.is_frame { id_of(&pool, &descriptor).to_be_bytes().to_vec() } else { Vec::new() };
        let (head, body) = golden.bytes.split_at(id.len());

        let message = DynamicMessage::decode(descriptor, body).expect("the body parses");

        assert_eq!(head, id, "{}", golden.message);
        assert_eq!(to_json(&message), golden.json, "{}", golden.message);
        assert_eq!(message.unknown_fields().count(), 0, "{}", golden.message);
    }
}

#[test]
fn every_message_and_every_field_has_a_golden_frame() {
    let pool = descriptors();
    let goldens = goldens();
    let mut fields = BTreeSet::new();
    for golden in &goldens {
        let descriptor = pool.get_message_by_name(&golden.message).expect("a message of the protos");
        let body = if golden.is_frame { &golden.bytes[2..] } else { &golden.bytes[..] };
        note_fields(&DynamicMessage::decode(descriptor, body).expect("the body parses"), &mut fields);
    }

    let is_missing = |message: &MessageDescriptor| {
        id_of(&pool, message) != 0 && !goldens.iter().any(|golden| golden.message == message.full_name())
    };
    let missing: Vec<String> =
        messages(&pool).filter(is_missing).map(|message| message.full_name().to_owned()).collect();
    assert!(missing.is_empty(), "no golden frame for {missing:?}: add one to tests/golden");
    let unset: Vec<String> = messages(&pool)
        .flat_map(|message| message.fields().collect::<Vec<_>>())
        .map(|field| field.full_name().to_owned())
        .filter(|name| !fields.contains(name))
        .collect();
    assert!(unset.is_empty(), "no golden frame sets {unset:?}: add one to tests/golden");
}
