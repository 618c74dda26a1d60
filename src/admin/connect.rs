//! Discovery: where and how clients reach this server.
//!
//! `GET /v1/connect` is asked before a link is opened, over UDP before each, since a connect token is
//! good for one. So it is where a server finds out who its clients are, if it wants to know.

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
use crate::proxy::{Asked, Network, Offers, Origins};
use crate::tick::UnixClock;
use crate::wire::discovery::Discovery;
use crate::wire::ticket::{TICKET_EXPIRE, TicketError, TicketKey};
use crate::wire::{PROTOCOL, retry, whole_seconds};

/// Who may ask discovery.
#[derive(Clone, Default)]
pub struct ConnectAuth(Who);

#[derive(Clone, Default)]
enum Who {
    /// Nobody.
    #[default]
    Nobody,
    /// Everybody.
    Everybody,
    /// Whoever's bearer the hook takes.
    Bearers(Arc<Hook>),
}

type Hook = dyn Fn(&str) -> Result<Option<String>, String> + Send + Sync;

impl ConnectAuth {
    /// Nobody may: every question is answered 401, with words on what to configure. The default.
    #[must_use]
    pub fn nobody() -> Self {
        Self(Who::Nobody)
    }

    /// Everybody may, as in the `dev` profile.
    #[must_use]
    pub fn everybody() -> Self {
        Self(Who::Everybody)
    }

    /// Whoever has this bearer may: the password of a test, or of a website that hands the answers
    /// on to players that it knows. It should be 16 random characters at least.
    #[must_use]
    pub fn bearer(secret: &str) -> Self {
        // Of hashes, a comparison's time says nothing of use.
        let wanted = Sha256::digest(secret);
        Self::hook(
            move |bearer| {
                if Sha256::digest(bearer) == wanted { Ok(None) } else { Err("another bearer".to_owned()) }
            },
        )
    }

    /// Whoever's bearer the hook takes may. It says who that is, if it knows: the identity goes into
    /// the connect token and the ticket, and with either to the gate. An error is for the log. It is called on the
    /// thread that serves HTTP, so it must not block: for a question to another service, the
    /// clients ask that service and bring what it signed.
    ///
    /// ```
    /// use waystation::admin::ConnectAuth;
    ///
    /// let known = |bearer: &str| match bearer {
    ///     "ada's ticket" => Ok(Some("ada".to_owned())),
    ///     _ => Err("no such ticket".to_owned()),
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

/// What answers.
#[derive(Debug)]
pub(super) struct Desk {
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
    /// Where it listens, and whether under TLS.
    pub(super) address: SocketAddr,
    pub(super) is_tls: bool,
}

impl Desk {
    pub(super) fn answer(&self, request: &Request) -> Response {
        let headers = request.headers();
        let origin = headers.get(header::ORIGIN);
        let is_welcome = self.origins.allow_at(origin.map(text), headers.get(header::HOST).map(text));
        let mut response = if !is_welcome {
            (StatusCode::FORBIDDEN, "pages of this origin may not ask here\n").into_response()
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
            return (StatusCode::TOO_MANY_REQUESTS, later, "too often: come again in a second\n")
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
                tracing::warn!(%error, "discovery has no ticket to give");
                (StatusCode::INTERNAL_SERVER_ERROR, "no ticket: see the server's log\n").into_response()
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

    /// Who asks, as far as that is known; or what to tell who may not.
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
            tracing::debug!(why, "a bearer was refused");
            WANTED
        })
    }

    fn discover(&self, headers: &HeaderMap, identity: Option<&str>) -> Result<Discovery, TicketError> {
        let unix_now = self.unix.now();
        let ticket =
            self.tickets.as_ref().map(|key| key.mint(unix_now, TICKET_EXPIRE, identity)).transpose()?;
        let authority = self.authority(headers);
        let asked = Asked { unix_now, identity, authority: &authority, is_tls: self.is_tls };
        Ok(Discovery {
            protocol: PROTOCOL,
            name: self.name.clone(),
            draining: self.health.is_draining(),
            offers: self.offers.for_client(&asked),
            ticket_expires_s: ticket.is_some().then_some(whole_seconds(TICKET_EXPIRE)),
            ticket,
        })
    }

    /// The host by which the client got here, if it says so, or else the address that is listened on.
    fn authority(&self, headers: &HeaderMap) -> String {
        let host = headers.get(header::HOST).and_then(|host| Authority::try_from(host.as_bytes()).ok());
        let host = host.filter(|host| !host.as_str().contains('@'));
        host.map_or_else(|| self.address.to_string(), |host| host.to_string())
    }
}

fn address_of(request: &Request) -> Option<IpAddr> {
    Some(request.extensions().get::<ConnectInfo<SocketAddr>>()?.0.ip())
}

/// A header's value; of one that is no text, something that is nobody's.
fn text(value: &HeaderValue) -> &str {
    value.to_str().unwrap_or("?")
}

/// What a page of another origin may do, once it is a listed one.
const PREFLIGHT: [(HeaderName, &str); 3] = [
    (header::ACCESS_CONTROL_ALLOW_METHODS, "GET"),
    (header::ACCESS_CONTROL_ALLOW_HEADERS, "authorization"),
    (header::ACCESS_CONTROL_MAX_AGE, "600"),
];
const WANTED: &str = "give a bearer that this server takes: Authorization: Bearer ...\n";
const NOBODY: &str = "this server has not been told whom to let in: its operator gives it a bearer \
                      (waystation serve --bearer-file) or a hook (admin::ConnectAuth)\n";
