//! Tests of requests to discovery, against small servers.

use super::*;
use std::net::{Shutdown, TcpListener};
use std::thread::{self, JoinHandle};
use std::time::Duration;

const OFFER: &str = r#"{"protocol":1,"name":"arena","websocket":{"url":"ws://127.0.0.1:7780/ws"}}"#;

/// Answers one request in pieces. The thread returns the request.
fn answering(pieces: Vec<Vec<u8>>) -> (String, JoinHandle<String>) {
    let listener = TcpListener::bind(("127.0.0.1", 0)).expect("a port");
    let url = format!("http://{}", listener.local_addr().expect("bound"));
    let thread = thread::spawn(move || {
        let (mut peer, _) = listener.accept().expect("a connection");
        let mut asked = Vec::new();
        let mut byte = [0];
        while !asked.ends_with(b"\r\n\r\n") && peer.read(&mut byte).expect("a question") > 0 {
            asked.push(byte[0]);
        }
        for piece in pieces {
            // The client may have closed the connection when it has read enough.
            let _ = peer.write_all(&piece);
        }
        let _ = peer.shutdown(Shutdown::Write);
        let _ = peer.read(&mut byte);
        String::from_utf8(asked).expect("ASCII")
    });
    (url, thread)
}

fn fetch(url: &str, bearer: Option<&str>) -> Result<Discovery, FetchError> {
    let mut fetch = Fetch::new(url, bearer)?;
    for _ in 0..20_000 {
        if let Some(offer) = fetch.poll()? {
            return Ok(offer);
        }
        thread::sleep(Duration::from_millis(1));
    }
    panic!("there was no answer in time");
}

fn answer(head: &str, body: &str) -> Vec<u8> {
    format!("HTTP/1.1 {head}\r\n\r\n{body}").into_bytes()
}

#[test]
fn an_answer_is_read_in_one_or_many_pieces_with_and_without_a_length() {
    let length = format!("200 OK\r\nContent-Length: {}", OFFER.len());
    let to_the_close = answer("200 OK\r\nServer: x", OFFER);
    for pieces in [
        vec![answer(&length, OFFER)],
        answer(&length, OFFER).chunks(7).map(<[u8]>::to_vec).collect(),
        vec![to_the_close],
    ] {
        let (url, server) = answering(pieces);

        let offer = fetch(&url, Some("s3cret")).expect("an offer");

        assert_eq!(offer.name, "arena");
        let asked = server.join().expect("a question");
        assert!(asked.starts_with("GET /v1/connect HTTP/1.0\r\nHost: 127.0.0.1:"), "{asked}");
        assert!(asked.contains("\r\nAuthorization: Bearer s3cret\r\n"), "{asked}");
    }
}

#[test]
fn an_unusable_answer_is_an_error_that_says_what_to_do() {
    let long = "x".repeat(ANSWER_MAX + 1);
    for (answer, says) in [
        (answer("401 Unauthorized\r\nContent-Length: 0", ""), "bearer"),
        (answer("429 Too Many Requests", ""), "try again later"),
        (answer("404 Not Found", "nothing"), "404"),
        (answer("200 OK", "<html>"), "not an answer of discovery"),
        (answer("200 OK", r#"{"protocol":9,"name":"later"}"#), "speaks protocol 9"),
        (answer("200 OK\r\nContent-Length: 99999999", OFFER), "HTTP port"),
        (answer("200 OK", &long), "HTTP port"),
        (answer(&format!("200 OK\r\nX: {long}"), ""), "HTTP port"),
        (b"SSH-2.0-OpenSSH\r\n".to_vec(), "HTTP port"),
        (b"HTTP/1.1 200 OK\r\nConte".to_vec(), "HTTP port"),
        (Vec::new(), "is the server running"),
    ] {
        let (url, server) = answering(vec![answer.clone()]);

        let error = fetch(&url, None).expect_err("no offer").to_string();

        assert!(error.contains(says) && error.contains(&url), "{error}");
        server.join().expect("a question");
    }
}

#[test]
fn a_closed_port_a_malformed_bearer_and_a_wrong_scheme_are_errors() {
    let free = TcpListener::bind(("127.0.0.1", 0)).expect("a port").local_addr().expect("bound");

    let nobody = fetch(&format!("http://{free}"), None);
    let bearer = fetch(&format!("http://{free}"), Some("two\r\nlines"));
    let no_discovery = fetch("ws://127.0.0.1:1/ws", None);

    assert!(matches!(nobody, Err(FetchError::Reach { .. })), "{nobody:?}");
    assert!(matches!(bearer, Err(FetchError::Bearer)), "{bearer:?}");
    assert!(matches!(no_discovery, Err(FetchError::Url(UrlError::Scheme(_)))), "{no_discovery:?}");
}
