//! Answers discovery: which transports the server offers and how a client opens a link over them.
//!
//! A client asks `GET /v1/connect` before it opens a link. Over UDP it asks before each link, because a connect
//! token opens one link. Discovery can authenticate clients by a [`ConnectAuth`].

use std::fmt;
use std::net::{IpAddr, SocketAddr};
use std::sync::{Arc, Mutex, PoisonError};

use axum::extract::{ConnectInfo, Request};
use axum::http::uri::Authority;
use axum::http::{HeaderMap, HeaderName, HeaderValue, Method, StatusCode, header};
use axum::response::{IntoResponse as _, Response};
use sha2::{Digest as _, Sha256};

use super::health::Health;
use crate::proxy::rates::{NetworkRates, Rate};
use crate::proxy::{DiscoveryRequest, Network, Offers, Origins};
use crate::tick::UnixClock;
use crate::wire::discovery::Discovery;
use crate::wire::ticket::{TICKET_EXPIRE, TicketError, TicketKey};
use crate::wire::{PROTOCOL, retry, whole_seconds};

/// The rule that decides which clients may ask discovery.
#[derive(Clone, Default)]
pub struct ConnectAuth(Who);

#[derive(Clone, Default)]
enum Who {
    #[default]
    Nobody,
    Everybody,
    /// Clients whose bearer token the hook accepts.
    Bearers(Arc<Hook>),
}

type Hook = dyn Fn(&str) -> Result<Option<String>, String> + Send + Sync;

impl ConnectAuth {
    /// Admits no client. Each request gets status 401 and a text that names what to configure. This is the default.
    #[must_use]
    pub fn nobody() -> Self {
        Self(Who::Nobody)
    }

    /// Admits all clients. The `dev` profile uses this rule.
    #[must_use]
    pub fn everybody() -> Self {
        Self(Who::Everybody)
    }

    /// Admits clients with this bearer token, for example a closed test, or a website that passes the answers on to
    /// its users. The token should have at least 16 random characters.
    #[must_use]
    pub fn bearer(secret: &str) -> Self {
        // Hashes are compared, so the time of the comparison reveals nothing about the secret.
        let wanted = Sha256::digest(secret);
        Self::hook(move |bearer| {
            if Sha256::digest(bearer) == wanted {
                Ok(None)
            } else {
                Err("the bearer token is wrong".to_owned())
            }
        })
    }

    /// Admits clients whose bearer token the hook accepts.
    ///
    /// The hook gets the token. It returns the identity of the client, or `None` if there is no identity. The
    /// identity is put into the connect token and the ticket, from which the gate reads it. If the hook returns an
    /// error, the client gets status 401, and the error is logged at `debug`.
    ///
    /// The HTTP thread calls the hook, so it must not block. To involve another service, let clients get a signed
    /// token from that service, and verify the signature in the hook.
    ///
    /// ```
    /// use waystation::admin::ConnectAuth;
    ///
    /// let known = |bearer: &str| match bearer {
    ///     "ada's token" => Ok(Some("ada".to_owned())),
    ///     _ => Err("the token is unknown".to_owned()),
    /// };
    /// let auth = ConnectAuth::hook(known);
    /// # drop(auth);
    /// ```
    #[must_use]
    pub fn hook(hook: impl Fn(&str) -> Result<Option<String>, String> + Send + Sync + 'static) -> Self {
        Self(Who::Bearers(Arc::new(hook)))
    }
}

impl fmt::Debug for ConnectAuth {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self.0 {
            Who::Nobody => "Nobody",
            Who::Everybody => "Everybody",
            Who::Bearers(_) => "Bearers",
        })
    }
}

/// The state of the route.
#[derive(Debug)]
pub(super) struct ConnectHandler {
    pub(super) name: String,
    pub(super) offers: Offers,
    pub(super) tickets: Option<TicketKey>,
    pub(super) auth: ConnectAuth,
    pub(super) origins: Origins,
    pub(super) rates: Mutex<NetworkRates>,
    pub(super) rate: Rate,
    pub(super) exempt_loopback: bool,
    pub(super) health: Health,
    pub(super) unix: UnixClock,
    /// The address of the HTTP server.
    pub(super) address: SocketAddr,
    pub(super) is_tls: bool,
}

impl ConnectHandler {
    pub(super) fn answer(&self, request: &Request) -> Response {
        let headers = request.headers();
        let origin = headers.get(header::ORIGIN);
        let is_welcome = self.origins.allow_at(origin.map(text), headers.get(header::HOST).map(text));
        let mut response = if !is_welcome {
            (StatusCode::FORBIDDEN, "pages of this origin may not ask this server\n").into_response()
        } else if request.method() == Method::OPTIONS {
            (StatusCode::NO_CONTENT, PREFLIGHT).into_response()
        } else {
            self.answer_to(address_of(request), headers)
        };
        let headers = response.headers_mut();
        headers.insert(header::VARY, HeaderValue::from_static("origin"));
        headers.insert(header::CACHE_CONTROL, HeaderValue::from_static("no-store"));
        if let Some(origin) = origin.filter(|_| is_welcome) {
            headers.insert(header::ACCESS_CONTROL_ALLOW_ORIGIN, origin.clone());
        }
        response
    }

    fn answer_to(&self, address: Option<IpAddr>, headers: &HeaderMap) -> Response {
        if !self.admits(address) {
            let later = [(header::RETRY_AFTER, HeaderValue::from(retry::HTTP.as_secs()))];
            return (StatusCode::TOO_MANY_REQUESTS, later, "too many requests; try again in a second\n")
                .into_response();
        }
        let identity = match self.identity(headers) {
            Ok(identity) => identity,
            Err(body) => {
                let how = [(header::WWW_AUTHENTICATE, "Bearer")];
                return (StatusCode::UNAUTHORIZED, how, body).into_response();
            }
        };
        match self.discover(headers, identity.as_deref()) {
            Ok(offer) => ([(header::CONTENT_TYPE, "application/json")], offer.to_json()).into_response(),
            Err(error) => {
                tracing::warn!(%error, "discovery cannot mint a ticket");
                (StatusCode::INTERNAL_SERVER_ERROR, "cannot mint a ticket; see the server's log\n")
                    .into_response()
            }
        }
    }

    fn admits(&self, address: Option<IpAddr>) -> bool {
        let network = address.map(Network::of);
        let Some(network) = network.filter(|network| !(self.exempt_loopback && network.is_loopback())) else {
            return true;
        };
        let mut rates = self.rates.lock().unwrap_or_else(PoisonError::into_inner);
        rates.admit(network, self.health.clock().now(), self.rate).is_ok()
    }

    /// Returns the identity of the client, if there is one. Returns the body of a 401 if the client may not ask.
    fn identity(&self, headers: &HeaderMap) -> Result<Option<String>, &'static str> {
        let hook = match &self.auth.0 {
            Who::Everybody => return Ok(None),
            Who::Nobody => return Err(NOBODY),
            Who::Bearers(hook) => hook,
        };
        let value = headers.get(header::AUTHORIZATION).map(text);
        let (scheme, bearer) = value.and_then(|value| value.split_once(' ')).ok_or(WANTED)?;
        if !scheme.eq_ignore_ascii_case("bearer") {
            return Err(WANTED);
        }
        hook(bearer.trim()).map_err(|why| {
            tracing::debug!(why, "refused a bearer token");
            WANTED
        })
    }

    fn discover(&self, headers: &HeaderMap, identity: Option<&str>) -> Result<Discovery, TicketError> {
        let unix_now = self.unix.now();
        let ticket =
            self.tickets.as_ref().map(|key| key.mint(unix_now, TICKET_EXPIRE, identity)).transpose()?;
        let authority = self.authority(headers);
        let asked = DiscoveryRequest { unix_now, identity, authority: &authority, is_tls: self.is_tls };
        Ok(Discovery {
            protocol: PROTOCOL,
            name: self.name.clone(),
            draining: self.health.is_draining(),
            offers: self.offers.for_client(&asked),
            ticket_expires_s: ticket.is_some().then_some(whole_seconds(TICKET_EXPIRE)),
            ticket,
        })
    }

    /// Returns the host in the request, or the address of the HTTP server if the request has no valid host.
    fn authority(&self, headers: &HeaderMap) -> String {
        let host = headers.get(header::HOST).and_then(|host| Authority::try_from(host.as_bytes()).ok());
        let host = host.filter(|host| !host.as_str().contains('@'));
        host.map_or_else(|| self.address.to_string(), |host| host.to_string())
    }
}

fn address_of(request: &Request) -> Option<IpAddr> {
    Some(request.extensions().get::<ConnectInfo<SocketAddr>>()?.0.ip())
}

/// Returns the value of a header, or `"?"`, which matches no valid value, if it is not text.
fn text(value: &HeaderValue) -> &str {
    value.to_str().unwrap_or("?")
}

/// The headers of the answer to a preflight request of a page with a listed origin.
const PREFLIGHT: [(HeaderName, &str); 3] = [
    (header::ACCESS_CONTROL_ALLOW_METHODS, "GET"),
    (header::ACCESS_CONTROL_ALLOW_HEADERS, "authorization"),
    (header::ACCESS_CONTROL_MAX_AGE, "600"),
];
const WANTED: &str = "this server requires a valid bearer token in the request: Authorization: Bearer ...\n";
const NOBODY: &str = "this server admits no clients yet; its operator has to configure a bearer token \
                      (waystation serve --bearer-file) or a hook (admin::ConnectAuth)\n";
