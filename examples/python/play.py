"""Plays Waystation's arena over WebSocket or QUIC, and checks that no reliable message is lost or duplicated.
`Player` holds what outlives a link: the resume token, the counts, and the frames that are not acknowledged."""
import argparse, asyncio, json, math, ssl, sys, urllib.request
from contextlib import asynccontextmanager, suppress
from pathlib import Path

import grpc, websockets
from aioquic.asyncio import QuicConnectionProtocol, connect
from aioquic.quic import configuration, events
from cryptography.hazmat.primitives.hashes import SHA256
from google.protobuf.internal import decoder, encoder
from google.protobuf.message import Message

sys.path.append(str(Path(__file__).resolve().parents[2] / "proto"))  # grpc finds the .proto files here.
core, zone, arena, why, options = (grpc.protos(f"{file}.proto") for file in (
    "waystation/v1/link", "waystation/v1/session", "arena/v1/arena", "waystation/v1/reason", "waystation/v1/options"))
TYPES = {kind.GetOptions().Extensions[options.id]: getattr(file, name) for file in (core, zone, arena)
         for name, kind in file.DESCRIPTOR.message_types_by_name.items()}  # By id; 0: never a frame.
IDS = {message: ident for ident, message in TYPES.items()}
COUNTED = range(0x0040, 0x8000)  # Ids of counted frames.
RESUME = {"SLOW", "TIMEOUT", "DROPPED", "SHUTDOWN", "DRAINING", "THROTTLED", "FULL"}  # All others end it.
FRAME_MAX, DATAGRAM_MAX = 64 * 1024, 1100  # The longest frame of a server; what fits into QUIC's smallest packet.
OUTBOX_FRAMES, OUTBOX_BYTES = 512, 256 * 1024
ACK_FRAMES, ACK_TICKS = 32, 8  # An Ack is due after 64 frames or 1 s; these are well below.
SILENCE_S, PATIENCE_S, TICK_S = 5.0, 30.0, 0.05  # Link timeout; wait for the last echoes; time between inputs.

def encode(body: Message) -> bytes:
    return IDS[type(body)].to_bytes(2, "big") + body.SerializeToString()

class Ended(Exception):
    """The link has ended, with (reason, detail, ms to wait). The session has ended too if RESUME lacks the reason."""

@asynccontextmanager
async def websocket_link(offers: dict):  # A frame is one binary message.
    async with websockets.connect(offers["websocket"]["url"], max_size=FRAME_MAX, close_timeout=1) as socket:
        yield socket.send, lambda: socket.recv(decode=False)

@asynccontextmanager
async def quic_link(offers: dict):
    (host, port), pin = offers["quic"]["url"].removeprefix("quic://").rsplit(":", 1), offers["quic"].get("cert_sha256")
    config = configuration.QuicConfiguration(
        alpn_protocols=["waystation/1"], max_datagram_frame_size=FRAME_MAX, idle_timeout=SILENCE_S,
        verify_mode=ssl.CERT_NONE if pin else ssl.CERT_REQUIRED)
    async with connect(host.strip("[]"), int(port), configuration=config, create_protocol=QuicFrames) as quic:
        if pin and quic._quic.tls._peer_certificate.fingerprint(SHA256()) != bytes.fromhex(pin):
            raise Ended("UNAUTHENTICATED", "the certificate is not the one that discovery announces", 0)
        yield quic.send, quic.arrived.get

class QuicFrames(QuicConnectionProtocol):
    """A reliable frame is sent on the first stream, behind its length as a varint. Other frames are datagrams."""

    def connection_made(self, transport) -> None:
        super().connection_made(transport)
        self.arrived, self.unread = asyncio.Queue(), b""

    def quic_event_received(self, event) -> None:
        match event:
            case events.DatagramFrameReceived(data=data) if data[:1] >= b"\x80": self.arrived.put_nowait(data)
            case events.StreamDataReceived(stream_id=0, data=data):
                self.unread += data
                with suppress(IndexError):  # The length is not complete yet.
                    while len(self.unread) >= sum(span := decoder._DecodeVarint(self.unread, 0)):  # (value, size)
                        self.arrived.put_nowait(self.unread[span[1]:sum(span)])
                        self.unread = self.unread[sum(span):]
                if len(self.unread) > 2 * FRAME_MAX:
                    self.arrived.put_nowait(Ended("PROTOCOL", "a frame is too long", 0))
            case events.StreamDataReceived() | events.DatagramFrameReceived():
                self.arrived.put_nowait(Ended("PROTOCOL", "a frame on the wrong stream or lane", 0))
            case events.ConnectionTerminated(): self.arrived.put_nowait(Ended("DROPPED", event.reason_phrase, 0))

    async def send(self, frame: bytes) -> None:
        if frame[0] < 0x80 or len(frame) > DATAGRAM_MAX:
            self._quic.send_stream_data(0, encoder._VarintBytes(len(frame)) + frame)
        else:
            self._quic.send_datagram_frame(frame)
        self.transmit()

class Player:
    def __init__(self) -> None:
        self.id, self.token, self.link = 0, b"", None  # `link` sends a frame; it is set from Welcome on.
        self.trimmed, self.outbox = 0, []  # How many counted frames are acknowledged, and those after them.
        self.received = self.told = 0  # How many were received, and how many of them acknowledged.
        self.resumed = self.said = self.echoed = self.tick = 0
        self.crowd, self.faults = set(), []  # The avatars in the arena, this one included; what has failed.

    async def run(self, options: argparse.Namespace, until: float) -> str:
        """Opens links until the session is over, and returns the reason. Cuts no link after `until`."""
        pause, now = 0.1, asyncio.get_running_loop().time
        while True:
            cut_after = options.cut_every if now() + options.cut_every < until else None
            try:
                question = urllib.request.Request(f"{options.server}/v1/connect", headers=options.headers)
                found = json.load(await asyncio.to_thread(urllib.request.urlopen, question, None, 5))
                offers = {offer["transport"]: offer for offer in reversed(found["offers"])}  # The first of each name.
                async with LINKS[options.transport](offers) as (send, receive), asyncio.timeout(cut_after):
                    await self.drive(send, receive, found.get("ticket", ""))
            except (Ended, OSError, TimeoutError, websockets.WebSocketException) as end:
                reason, detail, wait_ms = end.args if isinstance(end, Ended) else ("DROPPED", repr(end), 0)
            print(f"the link ended: {reason} {detail}")
            if reason not in RESUME: return reason
            pause, self.link = 0.1 if self.link else min(2 * pause, 5), None
            await asyncio.sleep(max(wait_ms / 1000, pause))

    async def drive(self, send, receive, ticket: str) -> None:
        """Drives one link until it ends. A new session needs the ticket; a resume needs only the token."""
        resume = core.Resume(token=self.token, received=self.received, trimmed=self.trimmed) if self.token else None
        name = None if resume else core.Credentials(anonymous=core.Anonymous(name="python"))
        await send(encode(core.Hello(protocol=1, client="examples/python", resume=resume, credentials=name,
                                     ticket="" if resume else ticket)))
        while True:
            async with asyncio.timeout(SILENCE_S):
                frame = await receive()
            if isinstance(frame, Ended): raise frame
            ident = int.from_bytes(frame[:2], "big")
            match TYPES[ident].FromString(frame[2:]) if ident in TYPES else None:
                case core.Denied(reason=why.REASON_TOKEN):
                    self.token = b""
                    return await self.drive(send, receive, ticket)
                case core.Denied() | core.Closed() as body:
                    raise Ended(why.Reason.Name(body.reason).removeprefix("REASON_"), body.detail, body.retry_after_ms)
                case core.Welcome() as body: await self.welcome(body, send)
                case body if self.link:
                    self.received += ident in COUNTED  # No await before the frame is handled, so no cut comes between.
                    await self.take(body)
                    if self.received - self.told >= ACK_FRAMES: await self.send(self.ack())

    async def welcome(self, body: Message, send) -> None:
        if self.id and (self.id != body.session or body.resync):
            self.faults.append(f"session {self.id:016x} was lost or resynced")
        self.id, self.token = body.session, body.token
        if body.resumed:
            self.resumed, self.received = self.resumed + 1, body.base
            self.trim(body.received)
        else:
            self.trimmed = self.received = self.said = self.echoed = self.tick = 0
            self.crowd, self.outbox = set(), [encode(zone.Join(request=1, zone="arena"))]
        await send(encode(self.ack()))
        for frame in self.outbox:  # Frames may be added meanwhile.
            await send(frame)
        self.link = send

    def trim(self, received: int) -> None:
        if received > self.trimmed + len(self.outbox): raise Ended("PROTOCOL", "an acknowledgement of unsent frames", 0)
        del self.outbox[:max(0, received - self.trimmed)]
        self.trimmed = max(self.trimmed, received)

    def ack(self) -> Message:
        self.told = self.received
        return core.Ack(received=self.received)

    async def send(self, body: Message) -> bool:
        """Returns False if the outbox is full. It has room again when the server acknowledges frames."""
        frame = encode(body)
        if IDS[type(body)] in COUNTED:
            if len(self.outbox) == OUTBOX_FRAMES or sum(map(len, self.outbox)) + len(frame) > OUTBOX_BYTES:
                return False
            self.outbox.append(frame)
        if self.link:
            with suppress(websockets.WebSocketException):  # `run` gets the error from the link, too.
                await self.link(frame)
        return True

    async def take(self, body: Message | None) -> None:
        match body:
            case core.Ack(): self.trim(body.received)
            case core.Beacon():
                self.trim(body.received)
                await self.send(core.Ping(id=body.id, received=self.received))
            case zone.Refused() | zone.Parted(): self.faults.append(f"not in the arena: {body}")
            case arena.Echo():
                self.echoed += 1
                self.faults += [] if body.number == body.taken == self.echoed else [f"echo {self.echoed} is {body}"]
            case arena.Snapshot() if body.tick >= self.tick:  # One chunk of a tick; older ticks are ignored.
                self.crowd = set(body.id) | (self.crowd if body.tick == self.tick else set())
                self.tick = body.tick

async def main(options: argparse.Namespace) -> bool:
    player, count, now = Player(), 0, asyncio.get_running_loop().time
    links = asyncio.create_task(player.run(options, until := now() + options.seconds))
    while not links.done() and now() < until + PATIENCE_S and (
            now() < until or player.echoed < player.said or not player.link):
        await player.send(arena.Input(tick=(count := count + 1), x=math.cos(count / 20), y=math.sin(count / 20)))
        if now() < until and player.crowd and await player.send(arena.Say(number=player.said + 1)):
            player.said += 1
        if count % ACK_TICKS == 0: await player.send(player.ack())
        await asyncio.sleep(TICK_S)
    await player.send(core.Bye())
    await asyncio.wait([links], timeout=PATIENCE_S)
    reason = links.result() if links.done() else "silence"
    print(f"session {player.id:016x}: {player.said} said, {player.echoed} echoed, resumed {player.resumed} times, "
          f"{len(player.crowd) - 1} others, ended by {reason}", *player.faults, sep="\n  ")
    return reason == "BYE" and player.said == player.echoed > 0 and not player.faults and (
        player.resumed > 0 or options.cut_every > options.seconds)

LINKS = {"ws": websocket_link, "quic": quic_link}
if __name__ == "__main__":
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--server", default="http://127.0.0.1:7780", help="the URL below which /v1/connect answers")
    parser.add_argument("--transport", choices=LINKS, default="ws")
    parser.add_argument("--seconds", type=float, default=10.0)
    parser.add_argument("--cut-every", type=float, default=math.inf, help="the seconds after which each link is cut")
    parser.add_argument("--bearer-file", type=Path, help="a file with the bearer for discovery")
    options = parser.parse_args()
    bearer = options.bearer_file and options.bearer_file.read_text().strip()
    options.headers = {"Authorization": f"Bearer {bearer}"} if bearer else {}
    sys.exit(not asyncio.run(main(options)))
