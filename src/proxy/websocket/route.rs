//! The HTTP route that upgrades requests to WebSocket, or refuses them.

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

/// The state of the route.
#[derive(Debug)]
pub(super) struct UpgradeRoute {
    pub(super) origins: Origins,
    pub(super) places: Arc<Semaphore>,
    pub(super) newcomers: mpsc::Sender<PendingUpgrade>,
}

/// A client whose upgrade to WebSocket was accepted.
#[derive(Debug)]
pub(super) struct PendingUpgrade {
    pub(super) upgrade: OnUpgrade,
    pub(super) address: Option<SocketAddr>,
    /// The client's place among the links. It is released when dropped.
    pub(super) place: OwnedSemaphorePermit,
}

pub(super) fn route<S: Clone + Send + Sync + 'static>(door: Arc<UpgradeRoute>) -> MethodRouter<S> {
    get(move |request: Request| std::future::ready(door.open(request)))
}

impl UpgradeRoute {
    fn open(&self, mut request: Request) -> Response {
        if !handshake::is_upgrade(request.headers()) {
            let upgrade = [(header::UPGRADE, "websocket")];
            return (StatusCode::UPGRADE_REQUIRED, upgrade, "this path accepts WebSocket only\n")
                .into_response();
        }
        let read = |name: HeaderName| Some(request.headers().get(name)?.to_str().unwrap_or("?"));
        let (origin, host) = (read(header::ORIGIN), read(header::HOST));
        if !self.origins.allow_at(origin, host) {
            tracing::debug!(origin, host, "refused a page: its origin is not allowed");
            return (StatusCode::FORBIDDEN, "pages of this origin may not open links to this server\n")
                .into_response();
        }
        let Some(answer) = handshake::answer::<_, Body>(&request) else {
            let version = [(header::SEC_WEBSOCKET_VERSION, handshake::VERSION)];
            let why = "this is not a valid handshake of WebSocket version 13\n";
            return (StatusCode::BAD_REQUEST, version, why).into_response();
        };
        let address = request.extensions().get::<ConnectInfo<SocketAddr>>().map(|info| info.0);
        let Ok(place) = Arc::clone(&self.places).try_acquire_owned() else {
            return full();
        };
        let upgrade = hyper::upgrade::on(&mut request);
        if self.newcomers.try_send(PendingUpgrade { upgrade, address, place }).is_err() {
            return full();
        }
        answer
    }
}

fn full() -> Response {
    let later = [(header::RETRY_AFTER, HeaderValue::from(retry::HTTP.as_secs()))];
    (StatusCode::SERVICE_UNAVAILABLE, later, "the server has too many links; try again later\n")
        .into_response()
}
