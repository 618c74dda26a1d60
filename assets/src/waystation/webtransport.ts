// Links over WebTransport: reliable frames on one bidirectional stream, each behind its length as a protobuf varint, and
// unreliable frames as datagrams.

import { Deframer, FrameTooLong, enframe } from "./deframer";
import { type Link, type LinkEvents, SEND_BUFFER_MAX, type Transport } from "./transport";
import { laneOf } from "./wire";

/** Opens links to an `https:` URL. */
export class WebTransportTransport implements Transport {
  readonly name = "webtransport";

  /**
   * `certificate` is the SHA-256 of the server's certificate in hexadecimal digits, if no authority has signed it.
   * Browsers accept this for ECDSA certificates that are valid for at most 14 days.
   */
  constructor(
    private readonly url: string,
    private readonly certificate: string | undefined,
  ) {}

  /** Returns true if this browser supports WebTransport and the page may use it. */
  static isAvailable(): boolean {
    return typeof WebTransport === "function";
  }

  open(events: LinkEvents): Link {
    const options: WebTransportOptions = { congestionControl: "low-latency" };
    if (this.certificate !== undefined) {
      options.serverCertificateHashes = [{ algorithm: "sha-256", value: unhex(this.certificate) }];
    }
    return new WebTransportLink(new WebTransport(this.url, options), events);
  }
}

class WebTransportLink implements Link {
  #stream: WritableStreamDefaultWriter<Uint8Array> | undefined;
  #datagrams: WritableStreamDefaultWriter<Uint8Array> | undefined;
  /** Bytes that were written and not sent yet. */
  #pending = 0;
  #done = false;

  constructor(
    private readonly transport: WebTransport,
    private readonly events: LinkEvents,
  ) {
    void this.#run().catch((error: unknown) => {
      if (error instanceof FrameTooLong && !this.#done) {
        this.close();
        this.events.onBreach(error.message);
      }
      this.#end(String(error));
    });
    transport.closed.then(
      (info) => this.#end(`WebTransport closed with ${info.closeCode ?? 0} ${info.reason ?? ""}`.trim()),
      (error: unknown) => this.#end(String(error)),
    );
  }

  async #run(): Promise<void> {
    const { transport } = this;
    await transport.ready;
    const stream = await transport.createBidirectionalStream();
    if (this.#done) {
      return;
    }
    this.#stream = stream.writable.getWriter();
    this.#datagrams = datagramWriter(transport);
    this.#ignoreEnd(this.#stream.closed, this.#datagrams.closed);
    this.events.onOpen();
    void this.#readDatagrams().catch((error: unknown) => this.#end(String(error)));
    await this.#readStream(stream.readable);
    // The link ends with the stream. It does not wait for the close code, because a timer may fire late in a hidden page.
    this.#end("the server ended the stream");
  }

  async #readStream(readable: ReadableStream<Uint8Array>): Promise<void> {
    const deframer = new Deframer();
    for (const reader = readable.getReader(); ; ) {
      const { value, done } = await reader.read();
      if (done || this.#done) {
        return;
      }
      deframer.push(value);
      for (let frame = deframer.next(); frame !== undefined && !this.#done; frame = deframer.next()) {
        // The stream also carries unreliable frames. The lane of a frame follows from its id.
        this.events.onFrame(laneOf((frame[0] ?? 0) << 8), frame);
      }
    }
  }

  async #readDatagrams(): Promise<void> {
    for (const reader = this.transport.datagrams.readable.getReader(); ; ) {
      const { value, done } = await reader.read();
      if (done || this.#done) {
        return;
      }
      this.events.onFrame("unreliable", value as Uint8Array);
    }
  }

  send(frame: Uint8Array): boolean {
    if (this.#done || this.#stream === undefined || this.#datagrams === undefined) {
      return false;
    }
    const isUnreliable = laneOf((frame[0] ?? 0) << 8) === "unreliable";
    const fits = frame.length <= this.transport.datagrams.maxDatagramSize;
    // A datagram is not queued behind others, because it would only arrive later.
    if (isUnreliable && fits && (this.#datagrams.desiredSize ?? 0) <= 0) {
      return false;
    }
    const bytes = isUnreliable && fits ? frame : enframe(frame);
    if (this.#pending + bytes.length > SEND_BUFFER_MAX) {
      return false;
    }
    const writer = isUnreliable && fits ? this.#datagrams : this.#stream;
    this.#pending += bytes.length;
    writer.write(bytes).then(
      () => (this.#pending -= bytes.length),
      (error: unknown) => this.#end(String(error)),
    );
    return true;
  }

  close(): void {
    this.#done = true;
    try {
      this.transport.close();
    } catch {
      // The transport has not opened or has already ended.
    }
  }

  #end(detail: string): void {
    if (!this.#done) {
      this.close();
      this.events.onClose(detail);
    }
  }

  /** Ignores errors of writers, because the transport reports its own end. */
  #ignoreEnd(...ends: Promise<unknown>[]): void {
    for (const end of ends) {
      end.catch(() => undefined);
    }
  }
}

/** Returns a writer for datagrams. Browsers have one of two interfaces for it, from different drafts. */
function datagramWriter(transport: WebTransport): WritableStreamDefaultWriter<Uint8Array> {
  const datagrams = transport.datagrams as WebTransportDatagramDuplexStream & {
    createWritable?: () => WritableStream<Uint8Array>;
    writable?: WritableStream<Uint8Array>;
  };
  const writable = datagrams.createWritable?.() ?? datagrams.writable;
  if (writable === undefined) {
    throw new Error("WebTransport of this browser has no datagrams");
  }
  return writable.getWriter();
}

function unhex(text: string): Uint8Array<ArrayBuffer> {
  const pairs = text.match(/[0-9a-f]{2}/gi) ?? [];
  return new Uint8Array(pairs.map((pair) => Number.parseInt(pair, 16)));
}
