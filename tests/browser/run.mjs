// Tests the page in Chromium against a server.
//
//     cargo build && npm ci && node run.mjs
//
// With `PAGE_FOLDER=../../assets/play` the page is taken from that folder instead of the binary, so a change of the
// page needs no build of the server.
//
// Tests do not depend on speed: each step waits for its condition, and fails after a long timeout. Screenshots are in
// `shots/`.

import "./players.mjs";
import "./tabs.mjs";
import "./networks.mjs";
import "./paths.mjs";
