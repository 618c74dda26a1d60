// The page in a real Chromium against a real server.
//
//     cargo build && npm ci && node run.mjs
//
// With `WAYSTATION_PAGE=../../assets/play` the page comes from that directory instead of the binary, so
// that a change of the page needs no build of the server.
//
// No test depends on speed: each step waits until what it wants is so, within a bound that ends a test
// that has failed. Screenshots are in `shots/`.

import "./players.mjs";
import "./tabs.mjs";
import "./networks.mjs";
import "./paths.mjs";
