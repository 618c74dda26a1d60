//! Tests of the state that dials and links share, with sockets on loopback and a resolver of the tests.

use super::*;
use crate::client::link::{Link as _, LinkStatus};
use crate::client::quic::host::Host;
use crate::wire::quic::ALPN_QUIC;
use data_encoding::HEXLOWER;
use std::cell::Cell;
use std::io;
use std::net::SocketAddr;

thread_local! {
    static LOOK_UPS: Cell<usize> = const { Cell::new(0) };
}

/// Resolves a host to two addresses. Nothing listens at the first one.
fn two_addresses(host: &str, port: u16) -> io::Result<Vec<SocketAddr>> {
    LOOK_UPS.set(LOOK_UPS.get() + 1);
    if host != "localhost" {
        return Err(io::ErrorKind::NotFound.into());
    }
    Ok(vec![([127, 0, 0, 2], port).into(), ([127, 0, 0, 1], port).into()])
}

fn ways_to(host: &Host) -> Routes {
    let hex = HEXLOWER.encode(&host.sha256());
    let url = format!("quic://localhost:{}?cert_sha256={hex}", host.address().port());
    let mut routes = Routes::new(vec![url.parse().expect("a URL")]);
    routes.cache = AddressCache::new(two_addresses);
    routes
}

/// Opens the only route, as a race does.
fn open(routes: &mut Routes, host: &mut Host) -> LinkStatus {
    let (order, _) = routes.begin(&DialState { resumes: true, is_urgent: true, ..DialState::default() });
    let Start::Link(mut carrier) = routes.open(order[0]) else { panic!("it is dialled directly") };
    for _ in 0..10_000 {
        std::thread::sleep(Duration::from_millis(1));
        carrier.update(Duration::from_millis(1));
        carrier.flush();
        host.pump(Duration::from_millis(1));
        if carrier.status() != LinkStatus::Opening {
            return carrier.status();
        }
    }
    panic!("the link neither opened nor closed in time");
}

#[test]
fn the_addresses_of_a_host_are_dialled_in_turn_and_looked_up_once() {
    LOOK_UPS.set(0);
    let mut host = Host::bind("127.0.0.1", &[ALPN_QUIC]);
    let mut routes = ways_to(&host);

    let first = open(&mut routes, &mut host);
    routes.lost(true);
    let second = open(&mut routes, &mut host);
    routes.opened(Route { place: 0, transport: Transport::Quic });
    routes.worked();

    assert_eq!((first, second), (LinkStatus::Closed, LinkStatus::Open));
    assert_eq!(LOOK_UPS.get(), 1, "a resume does not wait for the resolver");
    assert_eq!(open(&mut routes, &mut host), LinkStatus::Open, "the address that worked is first again");
    assert_eq!(LOOK_UPS.get(), 1);
    routes.is_urgent = false;
    routes.lost(true);
    open(&mut routes, &mut host);
    assert_eq!(LOOK_UPS.get(), 2, "after a failed dial the host is looked up again");
}

#[test]
fn a_bearer_is_not_printed() {
    let mut routes = Routes::new(vec!["http://a:1".parse().expect("a URL")]);
    routes.show_bearer("hunter2".to_owned());

    assert!(!format!("{routes:?}").contains("hunter2"));
}
