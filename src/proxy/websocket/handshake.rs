//! Answers the opening handshake of WebSocket (RFC 6455, section 4.2). No subprotocol and no extension is
//! negotiated.

use axum::http::header::{
    CONNECTION, SEC_WEBSOCKET_ACCEPT, SEC_WEBSOCKET_KEY, SEC_WEBSOCKET_VERSION, UPGRADE,
};
use axum::http::{HeaderMap, HeaderName, HeaderValue, Request, Response, StatusCode, Version};
use base64::Engine as _;
use base64::engine::general_purpose::STANDARD as BASE64;
use sha1::{Digest as _, Sha1};

/// Returns true if a request asks for WebSocket.
pub(super) fn is_upgrade(headers: &HeaderMap) -> bool {
    lists(headers, CONNECTION, "upgrade") && lists(headers, UPGRADE, "websocket")
}

/// Returns the answer to a request that asks for WebSocket. Returns `None` if the HTTP version is below 1.1, the
/// version of WebSocket is not 13, or there is no key of 16 bytes.
pub(super) fn answer<B, A: Default>(request: &Request<B>) -> Option<Response<A>> {
    let headers = request.headers();
    if request.version() < Version::HTTP_11 || !lists(headers, SEC_WEBSOCKET_VERSION, VERSION) {
        return None;
    }
    let accept = HeaderValue::try_from(accept(headers.get(SEC_WEBSOCKET_KEY)?.as_bytes())?).ok()?;
    let mut answer = Response::new(A::default());
    *answer.status_mut() = StatusCode::SWITCHING_PROTOCOLS;
    let headers = answer.headers_mut();
    headers.insert(CONNECTION, HeaderValue::from_static("upgrade"));
    headers.insert(UPGRADE, HeaderValue::from_static("websocket"));
    headers.insert(SEC_WEBSOCKET_ACCEPT, accept);
    Some(answer)
}

/// Returns the value of `Sec-WebSocket-Accept` for a client's key, or `None` if the key is not 16 bytes in base64.
fn accept(key: &[u8]) -> Option<String> {
    let bytes = BASE64.decode(key).ok()?;
    if bytes.len() != KEY_BYTES {
        return None;
    }
    Some(BASE64.encode(Sha1::new().chain_update(key).chain_update(GUID).finalize()))
}

/// Returns true if any line of a header lists the wanted word.
fn lists(headers: &HeaderMap, name: HeaderName, wanted: &str) -> bool {
    let lines = headers.get_all(name).into_iter().filter_map(|line| line.to_str().ok());
    lines.flat_map(|line| line.split(',')).any(|word| word.trim().eq_ignore_ascii_case(wanted))
}

/// The version of WebSocket in RFC 6455.
pub(super) const VERSION: &str = "13";
/// Length of a client's key in bytes.
const KEY_BYTES: usize = 16;
/// The suffix that RFC 6455 appends to a key before the key is hashed.
const GUID: &str = "258EAFA5-E914-47DA-95CA-C5AB0DC85B11";

#[cfg(test)]
mod tests {
    use super::*;

    fn request(change: impl FnOnce(&mut Request<()>)) -> Request<()> {
        let mut request = Request::new(());
        for (name, value) in [
            (CONNECTION, "keep-alive, Upgrade"),
            (UPGRADE, "WebSocket"),
            (SEC_WEBSOCKET_VERSION, "13"),
            (SEC_WEBSOCKET_KEY, "dGhlIHNhbXBsZSBub25jZQ=="),
        ] {
            request.headers_mut().insert(name, HeaderValue::from_static(value));
        }
        change(&mut request);
        request
    }

    #[test]
    fn a_request_is_answered_as_in_the_example_of_rfc_6455() {
        let request = request(|_| {});

        let answer: Response<()> = answer(&request).expect("an answer");

        assert!(is_upgrade(request.headers()));
        assert_eq!(answer.status(), StatusCode::SWITCHING_PROTOCOLS);
        assert_eq!(answer.headers()[SEC_WEBSOCKET_ACCEPT], "s3pPLMBiTxaQ9kYGzzhZRbK+xOo=");
    }

    #[test]
    fn a_request_of_another_version_or_without_a_key_of_16_bytes_has_no_answer() {
        let with = |name: HeaderName, value: &'static str| {
            request(move |request| {
                request.headers_mut().insert(name, HeaderValue::from_static(value));
            })
        };
        let cases = [
            with(SEC_WEBSOCKET_VERSION, "8"),
            with(SEC_WEBSOCKET_KEY, ""),
            with(SEC_WEBSOCKET_KEY, "no base64"),
            with(SEC_WEBSOCKET_KEY, "c2hvcnQ="),
            request(|request| drop(request.headers_mut().remove(SEC_WEBSOCKET_KEY))),
            request(|request| drop(request.headers_mut().remove(SEC_WEBSOCKET_VERSION))),
            request(|request| *request.version_mut() = Version::HTTP_10),
        ];

        for request in cases {
            assert!(answer::<(), ()>(&request).is_none(), "{request:?}");
        }
        assert!(!is_upgrade(request(|request| drop(request.headers_mut().remove(UPGRADE))).headers()));
    }
}
