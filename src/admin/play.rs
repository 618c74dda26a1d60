//! Serves the page that shows the arena in a browser. Its files are compiled into the binary.

use axum::Router;
use axum::http::{HeaderMap, StatusCode, header};
use axum::response::{IntoResponse as _, Response};
use axum::routing::get;
use data_encoding::HEXLOWER;
use sha2::{Digest as _, Sha256};

/// A file of the page.
struct Asset {
    /// The path of the file on the HTTP server.
    path: &'static str,
    content_type: &'static str,
    bytes: &'static [u8],
}

/// The files of the page. They are built from `assets/src`: see `assets/README.md`.
const ASSETS: [Asset; 3] = [
    Asset {
        path: "/play",
        content_type: "text/html; charset=utf-8",
        bytes: include_bytes!("../../assets/play/index.html"),
    },
    Asset {
        path: "/play/play.js",
        content_type: "text/javascript; charset=utf-8",
        bytes: include_bytes!("../../assets/play/play.js"),
    },
    Asset {
        path: "/play/play.css",
        content_type: "text/css; charset=utf-8",
        bytes: include_bytes!("../../assets/play/play.css"),
    },
];

/// Returns the routes of the page.
pub(super) fn routes() -> Router {
    ASSETS.iter().fold(Router::new(), |router, asset| {
        let tag = tag(asset.bytes);
        router.route(
            asset.path,
            get(move |headers: HeaderMap| std::future::ready(asset.answer(&tag, &headers))),
        )
    })
}

impl Asset {
    /// Returns the file, or 304 if the browser has the current version. The browser checks each file on each use,
    /// so after an update of the server it does not mix versions.
    fn answer(&self, tag: &str, asked: &HeaderMap) -> Response {
        let common = [
            (header::ETAG, tag),
            (header::CACHE_CONTROL, "no-cache"),
            (header::X_CONTENT_TYPE_OPTIONS, "nosniff"),
            (header::REFERRER_POLICY, "no-referrer"),
        ];
        if asked.get(header::IF_NONE_MATCH).is_some_and(|known| known.as_bytes() == tag.as_bytes()) {
            return (StatusCode::NOT_MODIFIED, common).into_response();
        }
        let own = [(header::CONTENT_TYPE, self.content_type), (header::CONTENT_SECURITY_POLICY, POLICY)];
        (common, own, self.bytes).into_response()
    }
}

/// Returns an `ETag` for the content of a file.
fn tag(bytes: &[u8]) -> String {
    format!("\"{}\"", HEXLOWER.encode(&Sha256::digest(bytes)[..TAG_BYTES]))
}

/// The content security policy of the page. It allows the page's own scripts and styles, and connections to any
/// address, because each transport has a port of its own.
const POLICY: &str = "default-src 'none'; script-src 'self'; style-src 'self'; img-src 'self' data:; \
                      connect-src *; worker-src blob:; base-uri 'none'; form-action 'none'; frame-ancestors 'none'";
/// Number of bytes of the hash in an `ETag`.
const TAG_BYTES: usize = 8;
