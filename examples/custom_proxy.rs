//! A transport of one's own: frames over TCP, each behind its length.
//!
//! Run `cargo run --example custom_proxy`: a client gets into the arena over TCP and shows each
//! frame. An adapter tells the tick of its links, `Opened` first, `Closed` last and between them what was
//! sent on, and does what the tick commands. (`client::Dial` is the seam on the other side.)

#![allow(clippy::print_stdout, reason = "an example speaks to whoever runs it")]

use std::io::{ErrorKind, Read as _, Result, Write as _};
use std::net::{Shutdown, TcpListener, TcpStream};
use std::sync::mpsc::{Receiver, SyncSender, sync_channel};
use std::{collections::BTreeMap, collections::VecDeque, thread, time::Duration};

use waystation::arena::ArenaPlugin;
use waystation::proxy::{self, AdapterPort, LinkEnd, Outflow, ProxyCommand, ProxyEvent, ProxyEventKind};
use waystation::wire::{self, FRAME_MAX_SERVER, Frame, Lane, WireMessage as _, prost::bytes::Bytes, v1};
use waystation::{ident::LinkId, server::ServerPlugins, tick};

fn read_frame(mut socket: &TcpStream) -> Result<Bytes> {
    let mut length = [0; 4];
    socket.read_exact(&mut length)?;
    let length = Some(u32::from_be_bytes(length) as usize).filter(|length| *length <= FRAME_MAX_SERVER);
    let mut frame = vec![0; length.ok_or(ErrorKind::InvalidData)?];
    socket.read_exact(&mut frame)?;
    Ok(frame.into())
}

fn write_frame(mut socket: &TcpStream, frame: &[u8]) -> Result<()> {
    socket.write_all(&[&(frame.len() as u32).to_be_bytes(), frame].concat())
}

/// A link. Its threads may block behind its queues. Without outbox: closing, what arrives is ignored.
struct Tcp {
    socket: TcpStream,
    reader: thread::JoinHandle<()>,
    inbox: Receiver<Bytes>,
    outbox: Option<SyncSender<Bytes>>, // 1,024 frames: twice a session's.
    outflow: Outflow,
    is_paused: bool,
}

fn open(socket: TcpStream) -> Result<Tcp> {
    socket.set_nonblocking(false)?;
    let (input, output, written) = (socket.try_clone()?, socket.try_clone()?, Outflow::default());
    let ((arrived, inbox), (outbox, leaving)) = (sync_channel(BURST), sync_channel::<Bytes>(1_024));
    let read = move || while read_frame(&input).is_ok_and(|frame| arrived.send(frame).is_ok()) {};
    let (reader, outflow) = (thread::spawn(read), written.clone());
    thread::spawn(move || {
        let write = |frame: Bytes| write_frame(&output, &frame).map(|()| written.passed_on(frame.len()));
        while leaving.recv().is_ok_and(|frame| write(frame).is_ok()) {}
        output.shutdown(Shutdown::Write)
    });
    Ok(Tcp { socket, reader, inbox, outbox: Some(outbox), outflow, is_paused: false })
}

fn adapt(mut port: AdapterPort, listener: &TcpListener) {
    let (mut links, mut events, mut ids) = (BTreeMap::new(), VecDeque::new(), (1..).map(LinkId));
    while let Some(link) = ids.next().filter(|_| !port.commands.is_closed()) {
        let at = port.clock.now();
        if let Ok(tcp) = listener.accept().and_then(|(socket, _)| open(socket)) {
            events.push_back(ProxyEvent { link, at, kind: ProxyEventKind::Opened(Default::default()) });
            links.insert(link, tcp);
        }
        port.commands.drain_all(|command| obey(&mut links, command));
        let room = if events.is_empty() { BURST } else { 0 };
        links.retain(|link, tcp| {
            let is_over = tcp.reader.is_finished();
            let frames = tcp.inbox.try_iter().take(if tcp.is_paused { 0 } else { room });
            let frames = frames.filter(|_| tcp.outbox.is_some());
            let frames = frames.map(|bytes| ProxyEventKind::Frame { lane: Lane::Reliable, bytes });
            let end = is_over.then_some(ProxyEventKind::Closed(LinkEnd::ByPeer));
            let event = |kind| ProxyEvent { link: *link, at, kind };
            events.extend(tcp.outflow.report().into_iter().chain(frames).chain(end).map(event));
            !is_over
        });
        port.events.send(&mut events, |_| {}); // What the port has no room for waits.
        thread::sleep(Duration::from_millis(2));
    }
}

fn obey(links: &mut BTreeMap<LinkId, Tcp>, command: ProxyCommand) {
    use ProxyCommand::{Close, Cut, Pause, Send, Unpause};
    let Some(tcp) = links.get_mut(&command.link()) else { return };
    match command {
        Send { frame, .. } => {
            let is_full = tcp.outbox.as_ref().is_some_and(|outbox| outbox.try_send(frame).is_err());
            _ = is_full.then(|| tcp.socket.shutdown(Shutdown::Both)); // It does not read.
        }
        Close { frame, .. } => _ = tcp.outbox.take().map(|outbox| outbox.try_send(frame)),
        Cut { .. } => _ = tcp.socket.shutdown(Shutdown::Both),
        Pause { .. } | Unpause { .. } => tcp.is_paused = matches!(command, Pause { .. }),
    }
}

fn main() -> Result<()> {
    let listener = TcpListener::bind("127.0.0.1:0")?;
    listener.set_nonblocking(true)?;
    let socket = TcpStream::connect(listener.local_addr()?)?;
    thread::spawn(move || {
        let mut app = bevy_app::App::new();
        app.add_plugins((ServerPlugins::default(), ArenaPlugin::default()));
        let port = proxy::attach(&mut app, "tcp");
        thread::spawn(move || adapt(port, &listener));
        tick::run(&mut app, &tick::StopHandle::default());
    });
    write_frame(&socket, &wire::encode(&v1::Hello { protocol: wire::PROTOCOL, ..Default::default() }))?;
    while let Ok(Ok(frame)) = read_frame(&socket).map(Frame::parse) {
        println!("frame {}, {} bytes", frame.id, frame.body.len());
        let join = v1::Join { request: 1, zone: "arena".to_owned(), ..Default::default() };
        match frame.id {
            v1::Welcome::ID => write_frame(&socket, &wire::encode(&join))?,
            v1::Joined::ID => write_frame(&socket, &wire::encode(&v1::Bye::default()))?,
            _ => {}
        }
    }
    Ok(())
}

const BURST: usize = 64; // Frames that a link holds for the tick.
