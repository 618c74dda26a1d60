//! The thread of the HTTP server: connections in, answers out, and the tasks of WebSocket beside.

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
use tokio::time::{sleep, timeout};
use tokio_rustls::TlsAcceptor;

use super::proxy_header;
use super::relays::TrustedRelays;
use super::throttle::{Place, Places};
use crate::proxy::restarts::Restarts;
use crate::proxy::websocket::WebSocketAdapter;
use crate::tick::panic_text;

/// What the thread serves.
#[derive(Clone)]
pub(super) struct Site {
    pub(super) router: Router,
    pub(super) tls: Option<TlsAcceptor>,
    pub(super) places: Places,
    pub(super) exempt_loopback: bool,
    pub(super) trusted_relays: TrustedRelays,
    pub(super) header_timeout: Duration,
}

/// What others want of the thread.
#[derive(Debug, Default)]
pub(super) struct Wishes {
    /// That it ends.
    pub(super) stop: Notify,
    /// That it panics: a test asks for it.
    #[cfg(feature = "testing")]
    pub(super) planted: Notify,
}

/// Serves until the tick is gone or the handle asks for an end. After a panic it begins anew on the
/// same listener, unless there were too many of late: then it gives up, and the server stops.
pub(super) fn run(
    listener: &TcpListener,
    site: Site,
    mut websocket: Option<WebSocketAdapter>,
    wishes: &Wishes,
) {
    let site = Rc::new(site);
    let mut restarts = Restarts::default();
    loop {
        let ended = catch_unwind(AssertUnwindSafe(|| turn(listener, &site, &mut websocket, wishes)));
        let failure = match ended {
            Ok(Ok(())) => return,
            Ok(Err(error)) => error.to_string(),
            Err(panic) => panic_text(panic.as_ref()).to_owned(),
        };
        tracing::error!(failure, "the HTTP thread failed, and its links are lost: report a bug");
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

/// Serves in a runtime of its own, which takes all its tasks with it.
fn turn(
    listener: &TcpListener,
    site: &Rc<Site>,
    websocket: &mut Option<WebSocketAdapter>,
    wishes: &Wishes,
) -> io::Result<()> {
    let runtime = runtime::Builder::new_current_thread().enable_all().build()?;
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
            () = wished(wishes) => {}
        }
        drop(listener);
        if let Some(websocket) = websocket {
            websocket.finish().await;
        }
        Ok(())
    })
}

async fn wished(wishes: &Wishes) {
    #[cfg(feature = "testing")]
    tokio::select! {
        () = wishes.stop.notified() => {}
        () = wishes.planted.notified() => panic!("a panic that a test has planted"),
    }
    #[cfg(not(feature = "testing"))]
    wishes.stop.notified().await;
}

/// Takes connections, each into a task of its own; those for which there is no place are closed at
/// once.
async fn accept_all(listener: &tokio::net::TcpListener, site: &Rc<Site>) {
    loop {
        match listener.accept().await {
            Ok((socket, address)) => {
                let ip = address.ip().to_canonical();
                // All clients of a relay come from its address.
                let exempt = site.exempt_loopback && ip.is_loopback() || site.trusted_relays.trusts(ip);
                if let Some(place) = site.places.take(ip, !exempt) {
                    tokio::task::spawn_local(connection(Rc::clone(site), socket, address, place));
                } else {
                    tracing::debug!(%address, "there are too many connections");
                }
            }
            Err(error) => {
                // As a rule, there are no files left, which only time will bring.
                tracing::debug!(%error, "a connection could not be taken");
                sleep(ACCEPT_PAUSE).await;
            }
        }
    }
}

/// Serves one connection, until it is over, becomes WebSocket, or has had its time.
async fn connection(site: Rc<Site>, mut socket: TcpStream, peer: SocketAddr, place: Place) {
    // Frames are small, and leave once a tick: what the system held back would only come late.
    let _ = socket.set_nodelay(true);
    let Some(address) = introduced(&site, &mut socket, peer).await else { return };
    match &site.tls {
        None => speak(&site, socket, address).await,
        Some(tls) => match timeout(site.header_timeout, tls.accept(socket)).await {
            Ok(Ok(socket)) => speak(&site, socket, address).await,
            Ok(Err(error)) => tracing::debug!(%address, %error, "a TLS handshake failed"),
            Err(_) => tracing::debug!(%address, "a TLS handshake took too long"),
        },
    }
    drop(place);
}

/// The address of the client at the other end: of the connection's peer or, where the peer is a
/// relay that says so in a PROXY header, of its client. Returns `None` if there is no such header.
async fn introduced(site: &Site, socket: &mut TcpStream, peer: SocketAddr) -> Option<SocketAddr> {
    if !site.trusted_relays.expects_header_from(peer.ip()) {
        return Some(peer);
    }
    match timeout(site.header_timeout, proxy_header::read(socket)).await {
        Ok(Ok(client)) => Some(client.unwrap_or(peer)),
        Ok(Err(error)) => {
            tracing::debug!(%peer, %error, "a relay's connection is closed");
            None
        }
        Err(_) => {
            tracing::debug!(%peer, "a relay's PROXY header took too long");
            None
        }
    }
}

async fn speak<S>(site: &Site, socket: S, address: SocketAddr)
where
    S: AsyncRead + AsyncWrite + Unpin + Send + 'static,
{
    let router = TowerToHyperService::new(site.router.clone());
    let relays = site.trusted_relays.clone();
    let service = service_fn(move |mut request: Request<Incoming>| {
        let client = relays.client_of(address, request.headers());
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
        Err(_) => tracing::debug!(%address, "an HTTP connection had its time"),
    }
}

/// A tokio acceptor of this configuration.
pub(super) fn acceptor(config: Arc<tokio_rustls::rustls::ServerConfig>) -> TlsAcceptor {
    TlsAcceptor::from(config)
}

/// Bytes of a request's head, and of what waits to be written for an answer. A bearer of 4 KiB fits
/// four times.
const HEADERS_MAX_BYTES: usize = 16 * 1024;
/// How long a connection lives, however it is used: who takes an answer a byte at a time holds it no
/// longer than this, and a browser opens another. WebSocket is none any more.
const CONNECTION_MAX: Duration = Duration::from_secs(60);
/// How long no connection is taken when one could not be.
const ACCEPT_PAUSE: Duration = Duration::from_millis(50);
