// Links over WebSocket: a frame is one binary message, and all frames arrive in order.

import { type Link, type LinkEvents, SEND_BUFFER_MAX, type Transport } from "./transport";
import { laneOf } from "./wire";

/** Opens links to a `ws:` or `wss:` URL. */
export class WebSocketTransport implements Transport {
  readonly name = "websocket";

  constructor(private readonly url: string) {}

  open(events: LinkEvents): Link {
    return new WebSocketLink(new WebSocket(this.url), events);
  }
}

class WebSocketLink implements Link {
  constructor(
    private readonly socket: WebSocket,
    events: LinkEvents,
  ) {
    socket.binaryType = "arraybuffer";
    socket.onopen = () => events.onOpen();
    socket.onclose = (event) => events.onClose(`WebSocket closed with ${event.code} ${event.reason}`.trim());
    socket.onmessage = (event) => {
      if (!(event.data instanceof ArrayBuffer)) {
        this.close();
        events.onBreach("the server has sent a text message");
        return;
      }
      const bytes = new Uint8Array(event.data);
      // A WebSocket has one lane. The lane of the frame follows from its id.
      events.onFrame(laneOf((bytes[0] ?? 0) << 8), bytes);
    };
  }

  send(frame: Uint8Array): boolean {
    if (this.socket.readyState !== WebSocket.OPEN || this.socket.bufferedAmount > SEND_BUFFER_MAX) {
      return false;
    }
    this.socket.send(frame as Uint8Array<ArrayBuffer>);
    return true;
  }

  close(): void {
    const { socket } = this;
    socket.onopen = socket.onmessage = socket.onclose = null;
    socket.close();
  }
}
