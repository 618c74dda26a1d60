//! From HTTP to WebSocket: who may, and who is told to come again.

use std::net::SocketAddr;
use std::sync::Arc;

use axum::body::Body;
use axum::extract::{ConnectInfo, Request};
use axum::http::{HeaderName, HeaderValue, StatusCode, header};
use axum::response::{IntoResponse as _, Response};
use axum::routing::{MethodRouter, get};
use hyper::upgrade::OnUpgrade;
use tokio::sync::{OwnedSemaphorePermit, Semaphore, mpsc};

use super::handshake;
use crate::proxy::Origins;
use crate::wire::retry;

/// What the route looks at.
#[derive(Debug)]
pub(super) struct Door {
    pub(super) origins: Origins,
    pub(super) places: Arc<Semaphore>,
    pub(super) newcomers: mpsc::Sender<Newcomer>,
}

/// A client that was told that it may speak WebSocket.
#[derive(Debug)]
pub(super) struct Newcomer {
    pub(super) upgrade: OnUpgrade,
    pub(super) address: Option<SocketAddr>,
    /// Its place among the links, given back when it is dropped.
    pub(super) place: OwnedSemaphorePermit,
}

pub(super) fn route<S: Clone + Send + Sync + 'static>(door: Arc<Door>) -> MethodRouter<S> {
    get(move |request: Request| std::future::ready(door.open(request)))
}

impl Door {
    fn open(&self, mut request: Request) -> Response {
        if !handshake::is_upgrade(request.headers()) {
            let upgrade = [(header::UPGRADE, "websocket")];
            return (StatusCode::UPGRADE_REQUIRED, upgrade, "here is WebSocket only\n").into_response();
        }
        let read = |name: HeaderName| Some(request.headers().get(name)?.to_str().unwrap_or("?"));
        let (origin, host) = (read(header::ORIGIN), read(header::HOST));
        if !self.origins.allow_at(origin, host) {
            tracing::debug!(origin, host, "a page of another origin was refused");
            return (StatusCode::FORBIDDEN, "pages of this origin may not open links here\n").into_response();
        }
        let Some(answer) = handshake::answer::<_, Body>(&request) else {
            let version = [(header::SEC_WEBSOCKET_VERSION, handshake::VERSION)];
            let why = "this is not a handshake of WebSocket 13\n";
            return (StatusCode::BAD_REQUEST, version, why).into_response();
        };
        let address = request.extensions().get::<ConnectInfo<SocketAddr>>().map(|info| info.0);
        let Ok(place) = Arc::clone(&self.places).try_acquire_owned() else {
            return full();
        };
        let upgrade = hyper::upgrade::on(&mut request);
        if self.newcomers.try_send(Newcomer { upgrade, address, place }).is_err() {
            return full();
        }
        answer
    }
}

fn full() -> Response {
    let later = [(header::RETRY_AFTER, HeaderValue::from(retry::HTTP.as_secs()))];
    (StatusCode::SERVICE_UNAVAILABLE, later, "there are too many links: come again\n").into_response()
}
