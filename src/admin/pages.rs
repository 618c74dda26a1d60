//! Serves the pages of a game: files that are compiled into the binary, or files of a folder.

use std::io;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use axum::Router;
use axum::extract::Request;
use axum::http::request::Parts;
use axum::http::{HeaderMap, Method, StatusCode, header};
use axum::response::{IntoResponse as _, Response};
use bytes::Bytes;
use data_encoding::HEXLOWER;
use sha2::{Digest as _, Sha256};

/// The pages of a game, which an [`HttpServer`](super::HttpServer) serves at `/`.
///
/// A request for a folder gets the file `index.html` of that folder. The paths `/v1/connect`, `/healthz`, `/livez`,
/// `/ws` and [added routes](super::HttpServer::routes) are not looked up in the pages.
///
/// The segments of a path may consist of ASCII letters, digits, and `-`, `_`, `.`, `~`, `@` and `+`, and may not
/// begin with a dot. Other files are not served.
///
/// Browsers ask the server for a file each time they use it. If the file has not changed, the answer is 304 without
/// the content.
#[derive(Debug, Clone)]
pub struct Pages {
    files: Files,
    policy: &'static str,
}

#[derive(Debug, Clone)]
enum Files {
    Embedded(&'static [(&'static str, &'static [u8])]),
    Folder(Arc<Path>),
}

impl Pages {
    /// Returns pages that are compiled into the binary: each file with its path, such as `index.html` or
    /// `play/play.js`.
    ///
    /// In a game, [`pages!`](crate::pages) makes them from a folder.
    ///
    /// ```
    /// use waystation::admin::Pages;
    ///
    /// let pages = Pages::embedded(&[("index.html", b"<!doctype html><title>Dice</title>")]);
    /// ```
    #[must_use]
    pub fn embedded(files: &'static [(&'static str, &'static [u8])]) -> Self {
        Self { files: Files::Embedded(files), policy: POLICY }
    }

    /// Returns the files of a folder as pages. Each request reads its file again, so a changed file is visible after
    /// a reload of the page. A file may be 16 MiB at most. A relative path starts at the working directory.
    ///
    /// # Errors
    ///
    /// Returns an error that names the folder if the folder does not exist or cannot be read.
    pub fn folder(folder: impl AsRef<Path>) -> io::Result<Self> {
        let folder = folder.as_ref();
        let missing = |cause: io::Error| {
            io::Error::new(
                cause.kind(),
                format!(
                    "cannot read the pages in {}: {cause}; build them, or name another folder",
                    folder.display()
                ),
            )
        };
        let root = folder.canonicalize().map_err(missing)?;
        root.read_dir().map_err(missing)?;
        Ok(Self { files: Files::Folder(root.into()), policy: POLICY })
    }

    /// Sets the header `Content-Security-Policy` of the pages.
    ///
    /// Default: pages may load scripts, WebAssembly, styles, fonts, images and media from the server itself, may
    /// connect to any address, and may not be shown in a frame of another origin.
    #[must_use]
    pub fn policy(self, policy: &'static str) -> Self {
        Self { policy, ..self }
    }

    /// Serves the pages at all paths that `router` does not serve.
    pub(super) fn serve(self, router: Router) -> Router {
        let pages = Arc::new(self);
        router.fallback(move |request: Request| {
            let pages = Arc::clone(&pages);
            async move { pages.answer(&request.into_parts().0).await }
        })
    }

    async fn answer(&self, request: &Parts) -> Response {
        if !matches!(request.method, Method::GET | Method::HEAD) {
            return StatusCode::METHOD_NOT_ALLOWED.into_response();
        }
        let Some(path) = path_of(request.uri.path()) else { return not_found() };
        match self.read(path).await {
            Ok(Some((name, bytes))) => self.file(&name, bytes, &request.headers),
            Ok(None) => not_found(),
            Err(error) => {
                tracing::warn!(%error, path = request.uri.path(), "cannot read a file of the pages");
                StatusCode::INTERNAL_SERVER_ERROR.into_response()
            }
        }
    }

    /// Returns the name and the content of the file at a path, or of the file `index.html` of the folder there.
    async fn read(&self, path: String) -> io::Result<Option<(String, Bytes)>> {
        match &self.files {
            Files::Embedded(files) => Ok([path.clone(), index_of(&path)].into_iter().find_map(|name| {
                let (_, bytes) = files.iter().find(|(known, _)| *known == name)?;
                Some((name, Bytes::from_static(bytes)))
            })),
            Files::Folder(root) => {
                let root = Arc::clone(root);
                // Reading a file blocks, and the HTTP thread also serves links.
                tokio::task::spawn_blocking(move || read_in(&root, path)).await.map_err(io::Error::other)?
            }
        }
    }

    fn file(&self, name: &str, bytes: Bytes, asked: &HeaderMap) -> Response {
        let tag = format!("\"{}\"", HEXLOWER.encode(&Sha256::digest(&bytes)[..TAG_BYTES]));
        let common = [
            (header::ETAG, tag.as_str()),
            (header::CACHE_CONTROL, "no-cache"),
            (header::X_CONTENT_TYPE_OPTIONS, "nosniff"),
            (header::REFERRER_POLICY, "no-referrer"),
        ];
        if asked.get(header::IF_NONE_MATCH).is_some_and(|known| known.as_bytes() == tag.as_bytes()) {
            return (StatusCode::NOT_MODIFIED, common).into_response();
        }
        let own = [(header::CONTENT_TYPE, type_of(name)), (header::CONTENT_SECURITY_POLICY, self.policy)];
        (common, own, bytes).into_response()
    }
}

/// Makes the [`Pages`](crate::admin::Pages) of a game from a folder of its crate.
///
/// Debug builds of the game read the folder at each request. Release builds contain the files: the build script of the
/// game must call `waystation::build::pages` with the same folder.
///
/// ```ignore
/// waystation::launch("dice", env!("CARGO_PKG_VERSION")).pages(waystation::pages!("web/dist"))
/// ```
#[macro_export]
macro_rules! pages {
    ($folder:literal) => {{
        #[cfg(debug_assertions)]
        let pages = $crate::admin::Pages::folder(concat!(env!("CARGO_MANIFEST_DIR"), "/", $folder));
        #[cfg(not(debug_assertions))]
        let pages = ::std::io::Result::Ok($crate::admin::Pages::embedded(include!(concat!(
            env!("OUT_DIR"),
            "/pages.rs"
        ))));
        pages
    }};
}

fn not_found() -> Response {
    (StatusCode::NOT_FOUND, NOT_FOUND).into_response()
}

/// Returns the path of a request without its first slash, or `None` if no file can have this path.
fn path_of(path: &str) -> Option<String> {
    let path = path.strip_prefix('/')?.trim_end_matches('/');
    let is_plain = |c: u8| c.is_ascii_alphanumeric() || b"-_.~@+".contains(&c);
    let allowed =
        |segment: &str| !segment.is_empty() && !segment.starts_with('.') && segment.bytes().all(is_plain);
    (path.is_empty() || path.split('/').all(allowed)).then(|| path.to_owned())
}

/// Returns the path of the index of a folder.
fn index_of(folder: &str) -> String {
    if folder.is_empty() { INDEX.to_owned() } else { format!("{folder}/{INDEX}") }
}

/// Reads a file below `root`. A symbolic link to a file outside of `root` counts as missing.
fn read_in(root: &Path, path: String) -> io::Result<Option<(String, Bytes)>> {
    let Some((name, file)) = find_in(root, path)? else { return Ok(None) };
    let bytes = std::fs::metadata(&file)?.len();
    if bytes > FILE_MAX_BYTES {
        return Err(io::Error::other(format!(
            "{} has {bytes} bytes, and a file of the pages may have at most {FILE_MAX_BYTES}",
            file.display()
        )));
    }
    Ok(Some((name, std::fs::read(file)?.into())))
}

fn find_in(root: &Path, path: String) -> io::Result<Option<(String, PathBuf)>> {
    let known = |path: &str| match root.join(path).canonicalize() {
        Ok(found) => Ok(found.starts_with(root).then_some(found)),
        Err(error) if matches!(error.kind(), io::ErrorKind::NotFound | io::ErrorKind::NotADirectory) => {
            Ok(None)
        }
        Err(error) => Err(error),
    };
    let Some(found) = known(&path)? else { return Ok(None) };
    if found.is_file() {
        return Ok(Some((path, found)));
    }
    let index = index_of(&path);
    Ok(known(&index)?.filter(|found| found.is_file()).map(|found| (index, found)))
}

/// Returns the media type of a file.
fn type_of(name: &str) -> &'static str {
    let extension = name.rsplit_once('.').map_or("", |(_, extension)| extension);
    TYPES
        .iter()
        .find(|(known, _)| extension.eq_ignore_ascii_case(known))
        .map_or("application/octet-stream", |(_, media)| media)
}

const INDEX: &str = "index.html";
const NOT_FOUND: &str = "not found; this server has /v1/connect, /healthz, /livez, /ws and its pages\n";
/// Media types by the extension of a file: those of pages and of the assets of games.
const TYPES: [(&str, &str); 25] = [
    ("html", "text/html; charset=utf-8"),
    ("css", "text/css; charset=utf-8"),
    ("js", "text/javascript; charset=utf-8"),
    ("mjs", "text/javascript; charset=utf-8"),
    ("json", "application/json"),
    ("map", "application/json"),
    ("wasm", "application/wasm"),
    ("webmanifest", "application/manifest+json"),
    ("txt", "text/plain; charset=utf-8"),
    ("png", "image/png"),
    ("jpg", "image/jpeg"),
    ("jpeg", "image/jpeg"),
    ("gif", "image/gif"),
    ("webp", "image/webp"),
    ("avif", "image/avif"),
    ("svg", "image/svg+xml"),
    ("ico", "image/x-icon"),
    ("mp3", "audio/mpeg"),
    ("ogg", "audio/ogg"),
    ("wav", "audio/wav"),
    ("mp4", "video/mp4"),
    ("webm", "video/webm"),
    ("woff2", "font/woff2"),
    ("glb", "model/gltf-binary"),
    ("gltf", "model/gltf+json"),
];
/// The default content security policy. Pages may connect to any address, because each transport has its own port.
const POLICY: &str = "default-src 'self' data: blob:; script-src 'self' 'wasm-unsafe-eval' blob:; style-src 'self' \
                      'unsafe-inline'; connect-src *; base-uri 'none'; form-action 'none'; frame-ancestors 'self'";
/// Number of bytes of the hash in an `ETag`.
const TAG_BYTES: usize = 8;
/// Maximum size of a file of a folder, in bytes. The server holds the file in memory while it answers.
const FILE_MAX_BYTES: u64 = 16 * 1024 * 1024;

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_path_cannot_leave_the_folder() {
        assert_eq!(path_of("/").as_deref(), Some(""));
        assert_eq!(path_of("/play/").as_deref(), Some("play"));
        assert_eq!(path_of("/a/b-1.js").as_deref(), Some("a/b-1.js"));
        for bad in ["/..", "/a/../b", "/a//b", "/.git/config", "/a%2e%2e", "/a\\b", "", "a", "/a\0b"] {
            assert_eq!(path_of(bad), None, "{bad}");
        }
    }

    #[test]
    fn a_file_has_the_type_of_its_extension() {
        assert_eq!(type_of("index.html"), "text/html; charset=utf-8");
        assert_eq!(type_of("A.PNG"), "image/png");
        assert_eq!(type_of("play/level"), "application/octet-stream");
    }

    #[test]
    #[cfg(unix)]
    fn a_folder_serves_its_files_and_nothing_outside() {
        let target = Path::new(env!("CARGO_MANIFEST_DIR")).join("src/admin");
        let pages = Pages::folder(&target).expect("a folder");
        let Files::Folder(root) = pages.files else { panic!("a folder") };

        let own = read_in(&root, "pages.rs".to_owned()).expect("it can be read");
        let missing = read_in(&root, "pages.rs/index.html".to_owned()).expect("it is missing");
        let index = read_in(&root, String::new()).expect("it is missing");

        assert!(own.is_some_and(|(name, bytes)| name == "pages.rs" && !bytes.is_empty()));
        assert!(missing.is_none() && index.is_none());
        let error = Pages::folder(target.join("nowhere")).expect_err("no such folder").to_string();
        assert!(error.contains("nowhere"), "{error}");
    }
}
