//! Asking a server's discovery: one GET, without blocking.
//!
//! The question is HTTP/1.0, so that no answer comes in chunks and the server closes after it.
//! Redirects are not followed: a bearer goes to nobody but the server that was named.

use std::fmt;
use std::io::{self, Read as _, Write as _};
use std::net::SocketAddr;

use super::detour::Detour;
use super::trust;
use super::url::{Kind, Place, UrlError};
use crate::client::stream::{Stream, resolve};
use crate::wire::discovery::{Discovery, DiscoveryError};

/// A question to a server's discovery, and what there is of the answer: for a list of servers, or a
/// tool. [`AnyDial`](super::AnyDial) asks by itself.
///
/// ```no_run
/// use std::time::Duration;
/// use waystation::client::Fetch;
///
/// let mut fetch = Fetch::new("http://127.0.0.1:7780", None)?;
/// let offer = loop {
///     match fetch.poll()? {
///         Some(offer) => break offer,
///         None => std::thread::sleep(Duration::from_millis(10)), // or the next frame of the game
///     }
/// };
/// println!("{} is there, over UDP: {}", offer.name, offer.offer("udp").is_some());
/// # Ok::<(), waystation::client::FetchError>(())
/// ```
pub struct Fetch {
    /// For messages.
    place: String,
    detour: Detour,
    stream: Stream,
    request: Vec<u8>,
    sent: usize,
    answer: Vec<u8>,
}

/// Discovery that gave no answer of use.
#[derive(Debug, thiserror::Error)]
pub enum FetchError {
    /// The URL is none of a discovery's.
    #[error(transparent)]
    Url(#[from] UrlError),
    /// The bearer cannot stand in a header.
    #[error("the bearer holds characters that no HTTP header may: give it as one line of ASCII")]
    Bearer,
    /// Nobody answers there, or not to the end.
    #[error("{place} cannot be asked: {cause}; is the server running, and is this its HTTP port?")]
    Reach {
        /// Who was asked.
        place: String,
        /// What the system says.
        #[source]
        cause: io::Error,
    },
    /// The server wants to know who asks.
    #[error("{place} answers {status}: it wants a bearer that it knows; get one from whoever runs it")]
    Unauthorized {
        /// Who was asked.
        place: String,
        /// 401 or 403.
        status: u16,
    },
    /// Any other status than 200.
    #[error("{place} answers {status}; 429 and 503 pass by waiting, others mean that it is no discovery")]
    Status {
        /// Who was asked.
        place: String,
        /// The status.
        status: u16,
    },
    /// What came is no HTTP, or too much of it.
    #[error("{place} answers what is no HTTP, or more than {ANSWER_MAX} bytes: is this its HTTP port?")]
    Malformed {
        /// Who was asked.
        place: String,
    },
    /// The body is no discovery, or one of another protocol.
    #[error("{place}: {cause}")]
    Discovery {
        /// Who was asked.
        place: String,
        /// What is wrong with it.
        #[source]
        cause: DiscoveryError,
    },
}

impl Fetch {
    /// Asks the discovery of a URL, `http:` or `https:`, with a bearer where it wants one. A host
    /// name is looked up at once, which may block.
    ///
    /// # Errors
    ///
    /// [`FetchError`]: the URL or the bearer cannot be used, or the host is unknown.
    pub fn new(url: &str, bearer: Option<&str>) -> Result<Self, FetchError> {
        Self::through(url, bearer, Detour::default())
    }

    /// Asks through relays, and offers the relays' addresses.
    pub(crate) fn through(url: &str, bearer: Option<&str>, detour: Detour) -> Result<Self, FetchError> {
        let place = Place { detour, ..url.parse()? };
        let addresses = match detour.http {
            Some(relay) => vec![relay],
            None => resolve(&place.host, place.port, 0)
                .map_err(|cause| FetchError::Reach { place: place.text.clone(), cause })?,
        };
        Self::start(&place, bearer, &addresses)
    }

    /// Asks a place that has a discovery, at the first of these addresses that accepts.
    pub(super) fn start(
        place: &Place,
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
            detour: place.detour,
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

    /// Goes on without blocking; `None` while there is more to come. It has no clock: whoever polls
    /// gives up in time. Not to be called after it has answered.
    ///
    /// # Errors
    ///
    /// [`FetchError`]; the question has then failed.
    pub fn poll(&mut self) -> Result<Option<Discovery>, FetchError> {
        match self.exchange() {
            Ok(true) => self.read_answer(true),
            Ok(false) => self.read_answer(false),
            Err(error) if error.kind() == io::ErrorKind::WouldBlock => self.read_answer(false),
            // A server may answer and close before it has read the question to its end.
            Err(cause) => match self.read_answer(true) {
                Ok(Some(offer)) => Ok(Some(offer)),
                Err(error) if !self.answer.is_empty() => Err(error),
                _ => Err(FetchError::Reach { place: self.place.clone(), cause }),
            },
        }
    }

    /// Sends the question and takes in the answer; whether the server has closed.
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

    /// The offer, if the answer is there: all that its length says, or `all` until the close.
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
        let mut offer = Discovery::parse(body).map_err(|cause| FetchError::Discovery { place, cause })?;
        self.detour.rewrite(&mut offer);
        Ok(Some(offer))
    }
}

impl fmt::Debug for Fetch {
    /// Without the request, which may hold a bearer.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Fetch").field("place", &self.place).finish_non_exhaustive()
    }
}

fn request(place: &Place, path: &str, bearer: Option<&str>) -> Result<Vec<u8>, FetchError> {
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

/// Who asks.
const AGENT: &str = concat!("waystation-rust/", env!("CARGO_PKG_VERSION"));
/// Bytes of an answer, its head included: twenty times what a discovery says, a connect token of
/// 2,730 bytes included.
const ANSWER_MAX: usize = 64 * 1024;
/// Headers of an answer: a server behind two proxies has some twenty.
const HEADERS_MAX: usize = 64;
/// Bytes that are read at once.
const READ_BYTES: usize = 4_096;

#[cfg(test)]
mod tests;
