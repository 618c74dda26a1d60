//! Reads the PROXY header, by which a relay reports the address of its client at the beginning of a connection.
//!
//! Versions 1 and 2 of HAProxy's [specification](https://www.haproxy.org/download/2.9/doc/proxy-protocol.txt) are
//! supported. Only the header is read, because the bytes behind it belong to TLS or HTTP.

use std::io;
use std::net::{IpAddr, SocketAddr};

use tokio::io::{AsyncRead, AsyncReadExt as _};

use super::relays::decimal;

/// An error of reading a PROXY header.
#[derive(Debug, thiserror::Error)]
pub(super) enum ProxyHeaderError {
    /// The connection ended or failed before the header was complete.
    #[error("the connection ended before its PROXY header was complete: {0}")]
    Unread(#[from] io::Error),
    /// The connection does not begin with a valid header.
    #[error(
        "the connection does not begin with a valid PROXY header: {0}; configure the relay to send the header, \
         or configure this server to read a request header"
    )]
    Malformed(&'static str),
}

/// Reads the header and returns the client's address. Returns `None` if the relay itself is the client, as in a
/// health check, or if the relay does not know the address.
pub(super) async fn read<S: AsyncRead + Unpin>(
    socket: &mut S,
) -> Result<Option<SocketAddr>, ProxyHeaderError> {
    let mut begin = [0; SIGNATURE.len()];
    socket.read_exact(&mut begin).await?;
    if begin == SIGNATURE { read_v2(socket).await } else { read_v1(socket, &begin).await }
}

/// Reads a header of version 1, which is one line of text.
async fn read_v1<S: AsyncRead + Unpin>(
    socket: &mut S,
    begin: &[u8],
) -> Result<Option<SocketAddr>, ProxyHeaderError> {
    if !begin.starts_with(b"PROXY ") {
        return Err(ProxyHeaderError::Malformed("it begins with other bytes"));
    }
    let mut line = begin.to_vec();
    while !line.ends_with(b"\r\n") {
        if line.len() == V1_MAX_BYTES {
            return Err(ProxyHeaderError::Malformed("its line is too long"));
        }
        // One byte at a time, because the byte behind the line belongs to the client.
        line.push(socket.read_u8().await?);
    }
    let line = std::str::from_utf8(&line[..line.len() - 2]).map_err(|_| LINE)?;
    let words: Vec<&str> = line.split(' ').collect();
    match *words {
        ["PROXY", "UNKNOWN", ..] => Ok(None),
        ["PROXY", family, source, destination, source_port, destination_port] => {
            let source: IpAddr = source.parse().map_err(|_| LINE)?;
            let destination: IpAddr = destination.parse().map_err(|_| LINE)?;
            let is_family =
                |ip: IpAddr| (family == "TCP4" && ip.is_ipv4()) || (family == "TCP6" && ip.is_ipv6());
            let port = decimal(source_port).ok_or(LINE)?;
            if decimal::<u16>(destination_port).is_none() || !is_family(source) || !is_family(destination) {
                return Err(LINE);
            }
            Ok(Some(SocketAddr::new(source, port)))
        }
        _ => Err(LINE),
    }
}

/// Reads a header of version 2, which is binary, behind its signature.
async fn read_v2<S: AsyncRead + Unpin>(socket: &mut S) -> Result<Option<SocketAddr>, ProxyHeaderError> {
    let command = socket.read_u8().await?;
    let family = socket.read_u8().await?;
    let length = usize::from(socket.read_u16().await?);
    if length > V2_MAX_BYTES {
        return Err(ProxyHeaderError::Malformed("its addresses and extensions are too long"));
    }
    let mut body = vec![0; length];
    socket.read_exact(&mut body).await?;
    match (command, family) {
        (V2_LOCAL, _) => Ok(None),
        (V2_PROXY, V2_TCP4) => {
            let (source, rest) = body.split_first_chunk::<4>().ok_or(SHORT)?;
            let port = rest.get(4..6).ok_or(SHORT)?;
            rest.get(6..8).ok_or(SHORT)?;
            Ok(Some(SocketAddr::new((*source).into(), u16::from_be_bytes([port[0], port[1]]))))
        }
        (V2_PROXY, V2_TCP6) => {
            let (source, rest) = body.split_first_chunk::<16>().ok_or(SHORT)?;
            let port = rest.get(16..18).ok_or(SHORT)?;
            rest.get(18..20).ok_or(SHORT)?;
            Ok(Some(SocketAddr::new((*source).into(), u16::from_be_bytes([port[0], port[1]]))))
        }
        // A Unix socket, or an address family that the relay does not specify.
        (V2_PROXY, V2_UNSPECIFIED | V2_UNIX) => Ok(None),
        (V2_PROXY, _) => Err(ProxyHeaderError::Malformed("its address family is unknown")),
        _ => Err(ProxyHeaderError::Malformed("its version or command is unknown")),
    }
}

/// The first bytes of a header of version 2.
const SIGNATURE: [u8; 12] = *b"\r\n\r\n\0\r\nQUIT\n";
/// Length of the longest line of version 1, by its specification.
const V1_MAX_BYTES: usize = 107;
/// Maximum length of the body of version 2. It has room for the addresses and for the extensions of load balancers,
/// which are a few hundred bytes. Extensions are ignored.
const V2_MAX_BYTES: usize = 2_048;
const V2_LOCAL: u8 = 0x20;
const V2_PROXY: u8 = 0x21;
const V2_UNSPECIFIED: u8 = 0x00;
const V2_TCP4: u8 = 0x11;
const V2_TCP6: u8 = 0x21;
const V2_UNIX: u8 = 0x31;
const LINE: ProxyHeaderError = ProxyHeaderError::Malformed("its line is not valid in version 1");
const SHORT: ProxyHeaderError = ProxyHeaderError::Malformed("its addresses are too short");

#[cfg(test)]
mod tests {
    use super::*;

    /// Reads a header. Returns the address, and the bytes that are left.
    fn told(bytes: &[u8]) -> (Result<Option<String>, ProxyHeaderError>, Vec<u8>) {
        let runtime = tokio::runtime::Builder::new_current_thread().build().expect("a runtime");
        let mut rest = bytes;
        let address = runtime.block_on(read(&mut rest));
        (address.map(|address| address.map(|address| address.to_string())), rest.to_vec())
    }

    fn v2(command: u8, family: u8, body: &[u8]) -> Vec<u8> {
        let length = u16::try_from(body.len()).expect("short").to_be_bytes();
        [&SIGNATURE[..], &[command, family], &length, body].concat()
    }

    #[test]
    fn version_1_is_read_and_the_bytes_behind_it_are_left() {
        let cases = [
            ("PROXY TCP4 203.0.113.9 192.0.2.1 56324 443\r\n", Some("203.0.113.9:56324")),
            ("PROXY TCP6 2001:db8::9 2001:db8::1 1 65535\r\n", Some("[2001:db8::9]:1")),
            ("PROXY UNKNOWN\r\n", None),
            ("PROXY UNKNOWN ffff:f...f:ffff ffff:f...f:ffff 65535 65535\r\n", None),
        ];
        for (line, wanted) in cases {
            let (address, rest) = told(&[line.as_bytes(), b"GET / HTTP/1.1\r\n"].concat());

            assert_eq!(address.expect(line).as_deref(), wanted);
            assert_eq!(rest, b"GET / HTTP/1.1\r\n");
        }
    }

    #[test]
    fn version_2_is_read_and_the_bytes_behind_it_are_left() {
        let tcp4 = [203, 0, 113, 9, 192, 0, 2, 1, 0xDC, 0x04, 0x01, 0xBB];
        let mut tcp6 = [0; 36];
        tcp6[..4].copy_from_slice(&[0x20, 0x01, 0x0D, 0xB8]);
        tcp6[15] = 9;
        tcp6[33] = 80;
        // An extension of type 4, three bytes long.
        let extended = [&tcp4[..], &[4, 0, 3, 0, 0, 0]].concat();
        let cases = [
            (v2(0x21, 0x11, &tcp4), Some("203.0.113.9:56324")),
            (v2(0x21, 0x11, &extended), Some("203.0.113.9:56324")),
            (v2(0x21, 0x21, &tcp6), Some("[2001:db8::9]:80")),
            (v2(0x20, 0x00, &[]), None),
            (v2(0x20, 0x11, &tcp4), None),
            (v2(0x21, 0x00, &[1, 2, 3]), None),
            (v2(0x21, 0x31, &[0; 216]), None),
        ];
        for (bytes, wanted) in cases {
            let (address, rest) = told(&[&bytes[..], b"\x16\x03\x01"].concat());

            assert_eq!(address.expect("a header").as_deref(), wanted, "{bytes:?}");
            assert_eq!(rest, b"\x16\x03\x01");
        }
    }

    #[test]
    fn other_bytes_are_refused() {
        let cases: [&[u8]; 12] = [
            b"GET / HTTP/1.1\r\nhost: a\r\n\r\n",
            b"\x16\x03\x01\x02\x00\x01\x00\x01\xFC\x03\x03\x00",
            b"PROXY TCP4 203.0.113.9 192.0.2.1 56324\r\n",
            b"PROXY TCP4 203.0.113.9 192.0.2.1 56324 443 1\r\n",
            b"PROXY TCP4 203.0.113.9 192.0.2.1 +56324 443\r\n",
            b"PROXY TCP4 203.0.113.9 192.0.2.1 65536 443\r\n",
            b"PROXY TCP4 2001:db8::9 2001:db8::1 1 2\r\n",
            b"PROXY TCP6 203.0.113.9 192.0.2.1 1 2\r\n",
            b"PROXY UDP4 203.0.113.9 192.0.2.1 1 2\r\n",
            b"PROXY  TCP4 203.0.113.9 192.0.2.1 1 2\r\n",
            b"PROXY TCP4 203.0.113.9 192.0.2.1 1 \xFF\r\n",
            b"PROXY",
        ];
        for bytes in cases {
            assert!(told(bytes).0.is_err(), "{:?}", String::from_utf8_lossy(bytes));
        }
        assert!(told(&[&b"PROXY UNKNOWN "[..], &[b'a'; 200]].concat()).0.is_err(), "a line without end");
        assert!(told(&v2(0x11, 0x11, &[0; 12])).0.is_err(), "version 1 in binary");
        assert!(told(&v2(0x22, 0x11, &[0; 12])).0.is_err(), "another command");
        assert!(told(&v2(0x21, 0x12, &[0; 12])).0.is_err(), "datagrams");
        assert!(told(&v2(0x21, 0x11, &[0; 11])).0.is_err(), "too short");
        assert!(told(&v2(0x21, 0x11, &[0; 3_000])).0.is_err(), "too long");
    }

    proptest::proptest! {
        #[test]
        fn no_bytes_cause_a_panic(bytes in proptest::collection::vec(proptest::prelude::any::<u8>(), 0..64), kind in 0..3_u8) {
            let bytes = match kind {
                0 => bytes,
                1 => [&b"PROXY "[..], &bytes, b"\r\n"].concat(),
                _ => [&SIGNATURE[..], &bytes].concat(),
            };
            let _ = told(&bytes);
        }
    }
}
