// Starts a server for a test: the built binary, on free ports.

import { spawn } from "node:child_process";
import { existsSync } from "node:fs";
import { createInterface } from "node:readline";
import { fileURLToPath } from "node:url";

const ROOT = fileURLToPath(new URL("../..", import.meta.url));

/** Returns the path of the binary: `SERVER_BINARY`, or the one that `cargo build` has built. */
function binary() {
  const target = process.env.CARGO_TARGET_DIR ?? `${ROOT}/target`;
  const path = process.env.SERVER_BINARY ?? `${target}/debug/waystation`;
  if (!existsSync(path)) {
    throw new Error(`${path} does not exist: run \`cargo build\` first, or set SERVER_BINARY`);
  }
  return path;
}

/** Starts a server, with further arguments. Resolves when the server has printed its addresses. */
export async function startServer(more = []) {
  const any = "127.0.0.1:0";
  const args = ["serve", "--listen", any, "--quic-listen", any, "--http-listen", any, ...more];
  const child = spawn(binary(), args, { cwd: ROOT, stdio: ["ignore", "pipe", "pipe"] });
  const lines = [];
  const exited = new Promise((resolve) => child.once("exit", resolve));
  const ports = new Promise((resolve, reject) => {
    const late = setTimeout(() => reject(new Error(`the server has not started within ${START_MS} ms:\n${lines.join("\n")}`)), START_MS);
    const take = (line) => {
      lines.push(line);
      lines.splice(0, lines.length - LINES_MAX);
      const found = /quic 127\.0\.0\.1:(\d+), http 127\.0\.0\.1:(\d+)/.exec(line);
      if (found) {
        clearTimeout(late);
        resolve({ quic: Number(found[1]), http: Number(found[2]) });
      }
    };
    createInterface({ input: child.stdout }).on("line", take);
    createInterface({ input: child.stderr }).on("line", take);
    exited.then((code) => reject(new Error(`the server ended with ${code}:\n${lines.join("\n")}`)));
  });
  const stop = async () => {
    child.kill("SIGTERM");
    const cut = setTimeout(() => child.kill("SIGKILL"), STOP_MS);
    const code = await exited;
    clearTimeout(cut);
    return code;
  };
  try {
    const { quic, http } = await ports;
    return { url: `http://127.0.0.1:${http}`, ports: { quic, http }, lines, stop };
  } catch (error) {
    child.kill("SIGKILL");
    throw error;
  }
}

/** The longest start of a server, on a busy machine. */
const START_MS = 30_000;
/** The longest stop of a server. It sends Closed to all sessions. */
const STOP_MS = 10_000;
/** The number of lines of the server's output that are kept for failures. */
const LINES_MAX = 200;
