//! Asks a server's discovery by one GET request, without blocking.
//!
//! The request is HTTP/1.0, so that the answer has no chunks and the server closes the connection after it.
//! Redirects are not followed, so that the bearer token is sent only to the server of the URL.

use std::fmt;
use std::io::{self, Read as _, Write as _};
use std::net::SocketAddr;

use super::relay_addresses::RelayAddresses;
use super::trust;
use super::url::{Kind, ServerUrl, UrlError};
use crate::client::stream::{Stream, resolve};
use crate::wire::discovery::{Discovery, DiscoveryError};

/// A request to a server's discovery, for a list of servers or a tool. [`AnyDial`](super::AnyDial) makes its own
/// requests.
///
/// ```no_run
/// use std::time::Duration;
/// use waystation::client::Fetch;
///
/// let mut fetch = Fetch::new("http://127.0.0.1:7780", None)?;
/// let discovery = loop {
///     match fetch.poll()? {
///         Some(discovery) => break discovery,
///         None => std::thread::sleep(Duration::from_millis(10)), // a game polls once per frame instead
///     }
/// };
/// println!("{} offers UDP: {}", discovery.name, discovery.offer("udp").is_some());
/// # Ok::<(), waystation::client::FetchError>(())
/// ```
pub struct Fetch {
    /// The URL, for messages.
    place: String,
    relays: RelayAddresses,
    stream: Stream,
    request: Vec<u8>,
    sent: usize,
    answer: Vec<u8>,
}

/// The reason why discovery gave no usable answer.
#[derive(Debug, thiserror::Error)]
pub enum FetchError {
    /// The URL cannot be parsed, or its scheme is not `http:` or `https:`.
    #[error(transparent)]
    Url(#[from] UrlError),
    /// The bearer token has characters that are not allowed in an HTTP header.
    #[error(
        "the bearer token has characters that an HTTP header must not have: give it as one line of ASCII"
    )]
    Bearer,
    /// The server cannot be reached, or its answer is incomplete.
    #[error("{place} cannot be asked: {cause}; is the server running, and is this its HTTP port?")]
    Reach {
        /// URL that was asked.
        place: String,
        /// Error of the operating system.
        #[source]
        cause: io::Error,
    },
    /// The server requires a bearer token.
    #[error(
        "{place} answers {status}: it requires a bearer token that it accepts; get one from its operator"
    )]
    Unauthorized {
        /// URL that was asked.
        place: String,
        /// HTTP status: 401 or 403.
        status: u16,
    },
    /// The status is neither 200 nor 401 nor 403.
    #[error(
        "{place} answers {status}; after 429 and 503 try again later, after another status check that the \
         URL is that of a server"
    )]
    Status {
        /// URL that was asked.
        place: String,
        /// HTTP status.
        status: u16,
    },
    /// The answer is not HTTP, or is longer than 64 KiB.
    #[error(
        "{place} answers something other than HTTP, or more than {ANSWER_MAX} bytes: is this its HTTP port?"
    )]
    Malformed {
        /// URL that was asked.
        place: String,
    },
    /// The body is not an answer of discovery, or belongs to another version of the protocol.
    #[error("{place}: {cause}")]
    Discovery {
        /// URL that was asked.
        place: String,
        /// What is wrong with the body.
        #[source]
        cause: DiscoveryError,
    },
}

impl Fetch {
    /// Begins to ask discovery at an `http:` or `https:` URL. `bearer` is the bearer token, for a server that
    /// requires one. A host name is looked up at once, which may block.
    ///
    /// # Errors
    ///
    /// Returns a [`FetchError`] if the URL or the bearer token cannot be used, or if the host is unknown.
    pub fn new(url: &str, bearer: Option<&str>) -> Result<Self, FetchError> {
        Self::through(url, bearer, RelayAddresses::default())
    }

    /// Begins to ask through relays. The offers of the answer have the relays' addresses.
    pub(crate) fn through(
        url: &str,
        bearer: Option<&str>,
        relays: RelayAddresses,
    ) -> Result<Self, FetchError> {
        let place = ServerUrl { relays, ..url.parse()? };
        let addresses = match relays.http {
            Some(relay) => vec![relay],
            None => resolve(&place.host, place.port, 0)
                .map_err(|cause| FetchError::Reach { place: place.text.clone(), cause })?,
        };
        Self::start(&place, bearer, &addresses)
    }

    /// Begins to ask the discovery of a server, at the first of these addresses that accepts the connection.
    pub(super) fn start(
        place: &ServerUrl,
        bearer: Option<&str>,
        addresses: &[SocketAddr],
    ) -> Result<Self, FetchError> {
        let Kind::Discovery { tls, path, .. } = &place.kind else {
            return Err(UrlError::Scheme(place.text.clone()).into());
        };
        let request = request(place, path, bearer)?;
        let reach = |cause| FetchError::Reach { place: place.text.clone(), cause };
        let peer = tls.then(|| trust::of_http(place)).transpose().map_err(reach)?;
        let stream = Stream::connect(addresses, peer).map_err(reach)?;
        Ok(Self {
            place: place.text.clone(),
            relays: place.relays,
            stream,
            request,
            sent: 0,
            answer: Vec::new(),
        })
    }

    /// Returns true if the server has accepted the connection.
    pub(super) fn is_connected(&self) -> bool {
        self.stream.is_connected()
    }

    /// Advances the request without blocking. Returns `None` until the answer is complete. There is no timeout: the
    /// caller decides when to give up. Do not call it again after it has returned the answer or an error.
    ///
    /// # Errors
    ///
    /// Returns a [`FetchError`] if the request has failed.
    pub fn poll(&mut self) -> Result<Option<Discovery>, FetchError> {
        match self.exchange() {
            Ok(true) => self.read_answer(true),
            Ok(false) => self.read_answer(false),
            Err(error) if error.kind() == io::ErrorKind::WouldBlock => self.read_answer(false),
            // A server may answer and close the connection before it has read the whole request.
            Err(cause) => match self.read_answer(true) {
                Ok(Some(discovery)) => Ok(Some(discovery)),
                Err(error) if !self.answer.is_empty() => Err(error),
                _ => Err(FetchError::Reach { place: self.place.clone(), cause }),
            },
        }
    }

    /// Sends the request and reads the answer. Returns true if the server has closed the connection.
    fn exchange(&mut self) -> io::Result<bool> {
        if !self.stream.poll_open()? {
            return Ok(false);
        }
        while self.sent < self.request.len() {
            match self.stream.write(&self.request[self.sent..])? {
                0 => return Err(io::ErrorKind::WriteZero.into()),
                count => self.sent += count,
            }
        }
        self.stream.flush()?;
        let mut buffer = [0; READ_BYTES];
        while self.answer.len() <= ANSWER_MAX {
            match self.stream.read(&mut buffer)? {
                0 => return Ok(true),
                count => self.answer.extend_from_slice(&buffer[..count]),
            }
        }
        Ok(false)
    }

    /// Parses the answer if it is complete: up to its `Content-Length`, or up to the close if `all` is true.
    fn read_answer(&self, all: bool) -> Result<Option<Discovery>, FetchError> {
        let malformed = || FetchError::Malformed { place: self.place.clone() };
        let mut headers = [httparse::EMPTY_HEADER; HEADERS_MAX];
        let mut response = httparse::Response::new(&mut headers);
        let head = match response.parse(&self.answer) {
            Ok(httparse::Status::Complete(head)) => head,
            Ok(httparse::Status::Partial) if !all && self.answer.len() <= ANSWER_MAX => return Ok(None),
            Ok(httparse::Status::Partial) if self.answer.is_empty() => {
                let cause = io::ErrorKind::UnexpectedEof.into();
                return Err(FetchError::Reach { place: self.place.clone(), cause });
            }
            Ok(httparse::Status::Partial) | Err(_) => return Err(malformed()),
        };
        let place = self.place.clone();
        match response.code {
            Some(200) => {}
            Some(status @ (401 | 403)) => return Err(FetchError::Unauthorized { place, status }),
            Some(status) => return Err(FetchError::Status { place, status }),
            None => return Err(malformed()),
        }
        let body = &self.answer[head..];
        let length = response
            .headers
            .iter()
            .find(|header| header.name.eq_ignore_ascii_case("content-length"))
            .map(|header| std::str::from_utf8(header.value).ok().and_then(|text| text.trim().parse().ok()))
            .map(|length: Option<usize>| length.filter(|length| *length <= ANSWER_MAX).ok_or_else(malformed))
            .transpose()?;
        let body = match length {
            Some(length) if body.len() >= length => &body[..length],
            _ if all => body,
            _ if self.answer.len() > ANSWER_MAX => return Err(malformed()),
            _ => return Ok(None),
        };
        let mut discovery = Discovery::parse(body).map_err(|cause| FetchError::Discovery { place, cause })?;
        self.relays.rewrite(&mut discovery);
        Ok(Some(discovery))
    }
}

impl fmt::Debug for Fetch {
    /// Omits the request, which may contain a bearer token.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Fetch").field("place", &self.place).finish_non_exhaustive()
    }
}

fn request(place: &ServerUrl, path: &str, bearer: Option<&str>) -> Result<Vec<u8>, FetchError> {
    let mut request = format!(
        "GET {path} HTTP/1.0\r\nHost: {}:{}\r\nAccept: application/json\r\nUser-Agent: {AGENT}\r\n\
         Connection: close\r\n",
        place.host, place.port
    );
    if let Some(bearer) = bearer {
        if bearer.is_empty() || !bearer.bytes().all(|byte| byte.is_ascii_graphic()) {
            return Err(FetchError::Bearer);
        }
        request.push_str("Authorization: Bearer ");
        request.push_str(bearer);
        request.push_str("\r\n");
    }
    request.push_str("\r\n");
    Ok(request.into_bytes())
}

/// The `User-Agent` header.
const AGENT: &str = concat!("waystation-rust/", env!("CARGO_PKG_VERSION"));
/// The longest answer in bytes, with its head: 20 times as long as a usual answer, which has a connect token of
/// 2,730 bytes.
const ANSWER_MAX: usize = 64 * 1024;
/// The most headers of an answer. A server behind two HTTP proxies sends about 20.
const HEADERS_MAX: usize = 64;
/// Bytes that are read at once.
const READ_BYTES: usize = 4_096;

#[cfg(test)]
mod tests;
