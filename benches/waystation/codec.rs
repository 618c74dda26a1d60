//! Measures encoding and decoding of the smallest, the most frequent and the largest frames.

use bytes::Bytes;
use divan::{Bencher, black_box};
use waystation::arena::v1::{Input, Snapshot};
use waystation::wire::v1::{Ack, Join};
use waystation::wire::{self, Frame, WireMessage};

/// A message with typical contents.
trait Sample: WireMessage {
    fn sample() -> Self;
}

impl Sample for Ack {
    fn sample() -> Self {
        Self { received: 123_456 }
    }
}

impl Sample for Input {
    fn sample() -> Self {
        Self { tick: 123_456, x: 0.6, y: -0.8 }
    }
}

impl Sample for Join {
    fn sample() -> Self {
        Self { request: 7, zone: "arena".to_owned(), payload: Bytes::from_static(&[7; 32]) }
    }
}

impl Sample for Snapshot {
    /// Returns as many avatars as fit a datagram.
    fn sample() -> Self {
        let place = |seed: u32| (0..80).map(move |index| ((seed + index * 97) % 10_000).cast_signed());
        Self {
            tick: 123_456,
            chunk: 0,
            chunks: 1,
            id: (1..=80).collect(),
            x: place(1).collect(),
            y: place(5_000).collect(),
            flags: (0..80).map(|index| index % 4).collect(),
        }
    }
}

#[divan::bench(types = [Ack, Input, Join, Snapshot])]
fn encode<M: Sample>(bencher: Bencher) {
    let message = M::sample();

    bencher.bench(|| wire::encode(black_box(&message)));
}

#[divan::bench(types = [Ack, Input, Join, Snapshot])]
fn decode<M: Sample>(bencher: Bencher) {
    let frame = wire::encode(&M::sample());

    bencher
        .with_inputs(|| frame.clone())
        .bench_values(|frame| Frame::parse(black_box(frame)).and_then(|frame| frame.decode::<M>()));
}
