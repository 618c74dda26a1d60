//! A client that uses the `quinn` crate instead of the client library.
//!
//! Run `waystation serve`, copy `cert_sha256` from the output of `curl http://127.0.0.1:7780/v1/connect`, and run
//! `cargo run --example quinn_client -- SHA256 [ADDRESS [TICKET]]`. Outside the `dev` profile it also needs the
//! `ticket` from that output. The client joins the arena and sends five calls.

#![allow(clippy::print_stdout, reason = "an example prints its results")]

use std::error::Error;
use std::net::SocketAddr;
use std::process::ExitCode;
use std::sync::Arc;

use bytes::{BufMut as _, Bytes, BytesMut};
use quinn::crypto::rustls::QuicClientConfig;
use waystation::arena::ZONE;
use waystation::arena::v1::{Echo, Say};
use waystation::client::Trust;
use waystation::wire::quic::ALPN_QUIC;
use waystation::wire::v1::credentials::Kind;
use waystation::wire::v1::{Ack, Anonymous, Credentials, Hello, Join, Joined, Welcome};
use waystation::wire::{Frame, PROTOCOL, WireMessage, encode};

/// The reliable lane: one bidirectional stream, on which its length precedes each frame.
struct Lane {
    send: quinn::SendStream,
    receive: quinn::RecvStream,
}

impl Lane {
    async fn say<M: WireMessage>(&mut self, message: &M) -> Result<(), Box<dyn Error>> {
        let frame = encode(message);
        let mut bytes = BytesMut::new();
        let mut length = frame.len();
        while length >= 0x80 {
            bytes.put_u8(u8::try_from(0x80 | (length & 0x7F))?);
            length >>= 7;
        }
        bytes.put_u8(u8::try_from(length)?);
        bytes.put_slice(&frame);
        self.send.write_all(&bytes).await?;
        Ok(())
    }

    /// Reads frames until one has this type, and drops the others. A real client handles all of them, and counts the
    /// counted ones.
    async fn hear<M: WireMessage>(&mut self) -> Result<M, Box<dyn Error>> {
        loop {
            let (mut length, mut shift) = (0, 0);
            loop {
                let mut byte = [0];
                self.receive.read_exact(&mut byte).await?;
                length |= usize::from(byte[0] & 0x7F) << shift;
                shift += 7;
                if byte[0] & 0x80 == 0 {
                    break;
                }
            }
            let mut frame = vec![0; length];
            self.receive.read_exact(&mut frame).await?;
            let frame = Frame::parse(Bytes::from(frame))?;
            if frame.id == M::ID {
                return Ok(frame.decode()?);
            }
        }
    }
}

async fn play(server: SocketAddr, trust: Trust, ticket: String) -> Result<(), Box<dyn Error>> {
    let tls = QuicClientConfig::try_from(trust.client_config(&[ALPN_QUIC])?)?;
    let mut endpoint = quinn::Endpoint::client(([0, 0, 0, 0], 0).into())?;
    endpoint.set_default_client_config(quinn::ClientConfig::new(Arc::new(tls)));
    let connection = endpoint.connect(server, "localhost")?.await?;
    let (send, receive) = connection.open_bi().await?;
    let mut lane = Lane { send, receive };

    let name = Kind::Anonymous(Anonymous { name: "quinn".to_owned() });
    let credentials = Some(Credentials { kind: Some(name) });
    lane.say(&Hello { protocol: PROTOCOL, credentials, ticket, ..Hello::default() }).await?;
    let welcome: Welcome = lane.hear().await?;
    lane.say(&Ack { received: 0 }).await?;
    println!("session {:016x}, {} ticks a second", welcome.session, welcome.tick_hz);

    lane.say(&Join { request: 1, zone: ZONE.to_owned(), payload: Bytes::new() }).await?;
    let joined: Joined = lane.hear().await?;
    println!("in {} with {} others", joined.zone, joined.members.len().saturating_sub(1));

    for number in 1..=5 {
        lane.say(&Say { number }).await?;
        let echo: Echo = lane.hear().await?;
        println!("sent {number}, received {}", echo.number);
    }
    connection.close(0_u32.into(), b"");
    endpoint.wait_idle().await;
    Ok(())
}

fn main() -> ExitCode {
    waystation::exit(run())
}

fn run() -> Result<(), Box<dyn Error>> {
    let mut arguments = std::env::args().skip(1);
    let sha256 = arguments.next().ok_or("usage: quinn_client SHA256 [ADDRESS [TICKET]]")?;
    let address = arguments.next().unwrap_or_else(|| "127.0.0.1:7778".to_owned());
    let ticket = arguments.next().unwrap_or_default();
    let trust = Trust::from_offer(Some(&sha256))?;
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build()?;
    runtime.block_on(play(address.parse()?, trust, ticket))
}
