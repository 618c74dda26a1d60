//! The thread of the HTTP server. It accepts and serves connections, and runs the tasks of WebSocket.

use std::io;
use std::net::{SocketAddr, TcpListener};
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::rc::Rc;
use std::sync::Arc;
use std::time::Duration;

use axum::Router;
use axum::extract::ConnectInfo;
use axum::http::Request;
use hyper::body::Incoming;
use hyper::server::conn::http1;
use hyper::service::{Service as _, service_fn};
use hyper_util::rt::{TokioIo, TokioTimer};
use hyper_util::service::TowerToHyperService;
use tokio::io::{AsyncRead, AsyncWrite};
use tokio::net::TcpStream;
use tokio::runtime;
use tokio::sync::Notify;
use tokio::task::LocalSet;
use tokio::time::{Instant, sleep, timeout};
use tokio_rustls::TlsAcceptor;

use super::pool::{Member, Pool};
use super::proxy_header;
use super::relays::TrustedRelays;
use crate::proxy::restarts::Restarts;
use crate::proxy::websocket::WebSocketAdapter;
use crate::tick::panic_text;

/// What the thread serves, and its limits.
#[derive(Clone)]
pub(super) struct ServeConfig {
    pub(super) router: Router,
    pub(super) tls: Option<TlsAcceptor>,
    pub(super) max_connections: usize,
    pub(super) trusted_relays: TrustedRelays,
    pub(super) header_timeout: Duration,
}

/// Serves until the app is dropped or the handle notifies `stop`. After a failure the thread restarts on the same
/// listener. If it has restarted too often recently, it ends. With WebSocket, the server then stops.
pub(super) fn run(
    listener: &TcpListener,
    site: ServeConfig,
    mut websocket: Option<WebSocketAdapter>,
    stop: &Notify,
) {
    let site = Rc::new(site);
    let mut restarts = Restarts::default();
    loop {
        let ended = catch_unwind(AssertUnwindSafe(|| turn(listener, &site, &mut websocket, stop)));
        let failure = match ended {
            Ok(Ok(())) => return,
            Ok(Err(error)) => error.to_string(),
            Err(panic) => panic_text(panic.as_ref()).to_owned(),
        };
        tracing::error!(failure, "the HTTP thread failed and all its links are lost; please report this bug");
        if let Some(websocket) = &mut websocket {
            websocket.abandon();
        }
        if !restarts.admit() {
            if let Some(websocket) = &mut websocket {
                websocket.give_up(Restarts::refusal(&failure));
            }
            return;
        }
    }
}

/// Serves in a new runtime. When the function ends, the runtime and all of its tasks are dropped.
fn turn(
    listener: &TcpListener,
    site: &Rc<ServeConfig>,
    websocket: &mut Option<WebSocketAdapter>,
    stop: &Notify,
) -> io::Result<()> {
    let runtime =
        runtime::Builder::new_current_thread().enable_all().max_blocking_threads(READERS_MAX).build()?;
    let listener = listener.try_clone()?;
    LocalSet::new().block_on(&runtime, async {
        let listener = tokio::net::TcpListener::from_std(listener)?;
        let links = async {
            match websocket {
                Some(websocket) => websocket.run().await,
                None => std::future::pending().await,
            }
        };
        tokio::select! {
            () = links => {}
            () = accept_all(&listener, site) => {}
            () = stop.notified() => {}
        }
        drop(listener);
        if let Some(websocket) = websocket {
            websocket.finish().await;
        }
        Ok(())
    })
}

/// Accepts connections, and serves each in a task of its own. If there are too many connections, closes another
/// one.
async fn accept_all(listener: &tokio::net::TcpListener, site: &Rc<ServeConfig>) {
    let pool = Pool::new(site.max_connections);
    let mut troubles = AcceptFailures::default();
    loop {
        match listener.accept().await {
            Ok((socket, peer)) => {
                // The address of a relay is not that of its client, which the relay reports later.
                let is_relay = site.trusted_relays.trusts(peer.ip());
                let member = pool.enter((!is_relay).then_some(peer.ip()));
                tokio::task::spawn_local(connection(Rc::clone(site), socket, peer, member));
                pool.settle().await;
            }
            // The connection has ended before it was accepted.
            Err(error) if error.kind() == io::ErrorKind::ConnectionAborted => {}
            Err(error) => {
                if let Some(count) = troubles.tell(Instant::now()) {
                    tracing::warn!(%error, count, "{ACCEPT_FAILURE}");
                }
                let has_room = is_shortage(&error) && pool.put_one_out();
                pool.settle().await;
                if !has_room {
                    sleep(ACCEPT_PAUSE).await;
                }
            }
        }
    }
}

/// Returns true if closing another connection would make room for a new one.
fn is_shortage(error: &io::Error) -> bool {
    error.kind() == io::ErrorKind::OutOfMemory
        || error.raw_os_error().is_some_and(|code| NO_FILES.contains(&code))
}

/// A count of failures to accept a connection, which limits the rate of log lines.
#[derive(Debug, Default)]
struct AcceptFailures {
    count: u64,
    told_at: Option<Instant>,
}

impl AcceptFailures {
    /// Counts a failure. Returns the number of failures since the last log line if a line is due.
    fn tell(&mut self, now: Instant) -> Option<u64> {
        self.count += 1;
        if self.told_at.is_some_and(|told_at| now.duration_since(told_at) < TROUBLE_EVERY) {
            return None;
        }
        self.told_at = Some(now);
        Some(std::mem::take(&mut self.count))
    }
}

/// Serves one connection until it ends, becomes a link over WebSocket, reaches its maximum lifetime, or is put out.
async fn connection(site: Rc<ServeConfig>, socket: TcpStream, peer: SocketAddr, member: Member) {
    let member = Rc::new(member);
    tokio::select! {
        biased;
        () = member.put_out() => tracing::debug!(%peer, "closed an idle connection to make room for a new one"),
        () = serve(&site, socket, peer, &member) => {}
    }
}

async fn serve(site: &ServeConfig, mut socket: TcpStream, peer: SocketAddr, member: &Rc<Member>) {
    // Frames are small and are sent once per tick, so Nagle's algorithm would only delay them.
    let _ = socket.set_nodelay(true);
    let Some(address) = introduced(site, &mut socket, peer, member).await else { return };
    match &site.tls {
        None => speak(site, socket, address, member).await,
        Some(tls) => match timeout(site.header_timeout, tls.accept_with(socket, bound_tls)).await {
            Ok(Ok(socket)) => speak(site, socket, address, member).await,
            Ok(Err(error)) => tracing::debug!(%address, %error, "a TLS handshake failed"),
            Err(_) => tracing::debug!(%address, "a TLS handshake took too long"),
        },
    }
}

/// Returns the address of the client: the address of the peer, or the one in the PROXY header if the peer is a
/// relay that sends PROXY headers. Returns `None` if a PROXY header is missing, invalid or late.
async fn introduced(
    site: &ServeConfig,
    socket: &mut TcpStream,
    peer: SocketAddr,
    member: &Member,
) -> Option<SocketAddr> {
    if !site.trusted_relays.expects_header_from(peer.ip()) {
        return Some(peer);
    }
    match timeout(site.header_timeout, proxy_header::read(socket)).await {
        Ok(Ok(client)) => {
            let client = client.unwrap_or(peer);
            member.asked(client.ip());
            Some(client)
        }
        Ok(Err(error)) => {
            tracing::debug!(%peer, %error, "closed a connection of a relay: its PROXY header is missing or invalid");
            None
        }
        Err(_) => {
            tracing::debug!(%peer, "closed a connection of a relay: its PROXY header took too long");
            None
        }
    }
}

async fn speak<S>(site: &ServeConfig, socket: S, address: SocketAddr, member: &Rc<Member>)
where
    S: AsyncRead + AsyncWrite + Unpin + Send + 'static,
{
    let router = TowerToHyperService::new(site.router.clone());
    let relays = site.trusted_relays.clone();
    let member = Rc::clone(member);
    let service = service_fn(move |mut request: Request<Incoming>| {
        let client = relays.client_of(address, request.headers());
        member.asked(client.ip());
        request.extensions_mut().insert(ConnectInfo(client));
        router.call(request)
    });
    let connection = http1::Builder::new()
        .timer(TokioTimer::new())
        .header_read_timeout(site.header_timeout)
        .max_buf_size(HEADERS_MAX_BYTES)
        .serve_connection(TokioIo::new(socket), service)
        .with_upgrades();
    match timeout(CONNECTION_MAX, connection).await {
        Ok(Ok(())) => {}
        Ok(Err(error)) => tracing::debug!(%address, %error, "an HTTP connection failed"),
        Err(_) => tracing::debug!(%address, "an HTTP connection reached its maximum lifetime"),
    }
}

/// Bounds the data that TLS holds for a client that does not read.
fn bound_tls(connection: &mut tokio_rustls::rustls::ServerConnection) {
    connection.set_buffer_limit(Some(TLS_WAITING_MAX_BYTES));
}

/// Returns a TLS acceptor with this configuration.
pub(super) fn acceptor(config: Arc<tokio_rustls::rustls::ServerConfig>) -> TlsAcceptor {
    TlsAcceptor::from(config)
}

/// Maximum length of a request's head, and of the data that waits to be written for an answer, in bytes.
pub(super) const HEADERS_MAX_BYTES: usize = 16 * 1024;
/// Maximum lifetime of a connection. It bounds how long a client that reads slowly can keep a connection. Links
/// over WebSocket are not affected.
const CONNECTION_MAX: Duration = Duration::from_secs(60);
/// The error codes for too many open files: in the system and in the process on Unix, and on Windows.
const NO_FILES: [i32; 3] = [23, 24, 10_024];
const ACCEPT_FAILURE: &str = "cannot accept connections; idle connections are closed if that makes room. Usually \
                       the process has too many open files: raise their limit (ulimit -n, LimitNOFILE of \
                       systemd)";
/// Maximum number of bytes that wait in TLS for a client that does not read: one record. Data in TLS can no longer
/// be dropped, so the limit is small.
const TLS_WAITING_MAX_BYTES: usize = 16 * 1024;
/// Maximum number of threads that read files of pages. A disk does not become faster by more.
const READERS_MAX: usize = 2;
/// Pause after a connection could not be accepted.
const ACCEPT_PAUSE: Duration = Duration::from_millis(50);
/// Minimum time between two log lines about connections that cannot be accepted.
const TROUBLE_EVERY: Duration = Duration::from_secs(1);

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn failures_are_logged_once_a_second_with_their_count() {
        let mut troubles = AcceptFailures::default();
        let begun = Instant::now();
        let told =
            [0, 1, 20, 999, 1_000, 1_001, 9_000].map(|ms| troubles.tell(begun + Duration::from_millis(ms)));

        assert_eq!(told, [Some(1), None, None, None, Some(4), None, Some(2)]);
    }

    #[test]
    fn only_a_shortage_closes_other_connections() {
        let code = |code| is_shortage(&io::Error::from_raw_os_error(code));

        assert!(code(23) && code(24));
        assert!(!code(71) && !code(113), "a protocol error or an unreachable host is not a shortage");
    }
}
