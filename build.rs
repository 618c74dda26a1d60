//! Compiles the protos of this crate with the code that compiles games' protos.

#[path = "src/build.rs"]
#[allow(
    dead_code,
    unused_imports,
    unreachable_pub,
    reason = "shared with the library, where this module is public and compiles games' protos"
)]
mod protos;

fn main() {
    println!("cargo:rerun-if-changed=proto");
    println!("cargo:rerun-if-changed=tests/proto");
    println!("cargo:rerun-if-changed=src/build.rs");
    println!("cargo:rerun-if-changed=src/build/finite.rs");
    println!("cargo:rerun-if-changed=src/build/pages.rs");
    let files = [
        "proto/waystation/v1/options.proto",
        "proto/waystation/v1/reason.proto",
        "proto/waystation/v1/link.proto",
        "proto/waystation/v1/session.proto",
        "proto/waystation/record/v1/record.proto",
        "proto/arena/v1/arena.proto",
        // Used by this crate's tests only.
        "tests/proto/floats.proto",
    ];
    if let Err(error) = protos::compile_for(protos::Owner::Core, &files, &["proto", "tests/proto"]) {
        println!("cargo::error={error}");
        std::process::exit(1);
    }
}
