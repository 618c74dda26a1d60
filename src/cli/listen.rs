//! Where the server listens, with which certificate, and what it offers to whom.
//!
//! Two profiles: `dev`, without a key, for this machine alone, where everything works by itself; and
//! the real one, where nothing that keeps others out is guessed.

use std::net::SocketAddr;
use std::path::PathBuf;

use anyhow::{bail, ensure};
use bevy_app::App;
use clap::{Args, ValueEnum};
use waystation::proxy::quic::{QuicConfig, QuicHandle, QuicProxy};
use waystation::proxy::renet::{RenetConfig, RenetHandle, RenetProxy};
use waystation::proxy::tls::Tls;
use waystation::proxy::{self, AdapterPort, Origins};

use super::key::key;

#[derive(Debug, Args)]
pub(crate) struct ListenArgs {
    /// The server's secret: a file with 32 bytes in hex. Without it: the dev profile, on loopback
    /// only, with a key that everybody knows
    #[arg(long, value_name = "FILE")]
    key_file: Option<PathBuf>,
    /// Where to listen for UDP
    #[arg(long, value_name = "ADDRESS", default_value = "127.0.0.1:7777")]
    listen: SocketAddr,
    /// Where to listen for QUIC and WebTransport
    #[arg(long, value_name = "ADDRESS", default_value = "127.0.0.1:7778")]
    quic_listen: SocketAddr,
    /// Where clients reach UDP, if not there; may be given more than once
    #[arg(long, value_name = "ADDRESS")]
    public_addr: Vec<SocketAddr>,
    /// The certificate of QUIC, a PEM file that is read again when it changes. The dev
    /// profile makes one for QUIC by itself
    #[arg(long, value_name = "FILE", requires = "tls_key")]
    tls_cert: Option<PathBuf>,
    /// The certificate's key, a PEM file
    #[arg(long, value_name = "FILE", requires = "tls_cert")]
    tls_key: Option<PathBuf>,
    /// An origin whose pages may open WebTransport, like https://play.example; may be given more than
    /// once
    #[arg(long, value_name = "ORIGIN")]
    origin: Vec<String>,
    /// A transport to leave out; may be given more than once
    #[arg(long, value_name = "TRANSPORT")]
    without: Vec<Left>,
}

/// What can be left out.
#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
enum Left {
    /// renet over UDP
    Udp,
    /// QUIC and WebTransport
    Quic,
}

/// Listeners that nobody serves yet.
pub(crate) struct Bound {
    is_dev: bool,
    udp: Option<RenetProxy>,
    quic: Option<QuicProxy>,
}

/// Listeners that are served.
pub(crate) struct Running {
    udp: Option<RenetHandle>,
    quic: Option<QuicHandle>,
}

impl Bound {
    /// Takes all ports, so that what is wrong with one is known before the server starts.
    pub(crate) fn new(args: &ListenArgs) -> anyhow::Result<Self> {
        args.check()?;
        Ok(Self { is_dev: args.is_dev(), udp: args.udp()?, quic: args.quic()? })
    }

    /// What is said at the start; the first line is there for programs that wait for it.
    pub(crate) fn greeting(&self) -> String {
        let mut first = String::from("listening");
        for (name, address) in [
            ("udp", self.udp.as_ref().map(RenetProxy::local_addr)),
            ("quic", self.quic.as_ref().map(QuicProxy::local_addr)),
        ] {
            if let Some(address) = address {
                first.push_str(&format!(" {name} {address},"));
            }
        }
        if !self.is_dev {
            return format!(
                "{}\nconnect with: waystation bot, or a token of: waystation token, both with this server's \
                 --key-file and --public-addr",
                first.trim_end_matches(',')
            );
        }
        let udp = self.udp.as_ref().map(RenetProxy::local_addr).filter(|address| address.port() != 7_777);
        let target = udp.map(|address| format!(" --public-addr {address}")).unwrap_or_default();
        format!(
            "{first} profile dev: this machine only, and its key is no secret\n\
             connect with: waystation bot{target}, or a token of: waystation token{target}"
        )
    }

    /// Serves them in threads of their own.
    pub(crate) fn start(self, app: &mut App) -> anyhow::Result<Running> {
        self.start_with(|name| proxy::attach(app, name))
    }

    /// The same, on ports that come from elsewhere.
    pub(crate) fn start_with(
        self,
        mut attach: impl FnMut(&'static str) -> AdapterPort,
    ) -> anyhow::Result<Running> {
        let udp = self.udp.map(|udp| udp.start(attach("udp"))).transpose()?;
        let quic = self.quic.map(|quic| quic.start(attach("quic"))).transpose()?;
        Ok(Running { udp, quic })
    }
}

impl Running {
    /// Waits until all of them have ended, which they do when the server is dropped.
    pub(crate) fn join(self) {
        if let Some(udp) = self.udp {
            udp.join();
        }
        if let Some(quic) = self.quic {
            quic.join();
        }
    }
}

impl ListenArgs {
    /// Whether this is the dev profile.
    pub(crate) fn is_dev(&self) -> bool {
        self.key_file.is_none()
    }

    fn has(&self, what: Left) -> bool {
        !self.without.contains(&what)
    }

    /// What would let others into the dev profile, or leave everybody out of the real one.
    fn check(&self) -> anyhow::Result<()> {
        let listening = [(Left::Udp, self.listen), (Left::Quic, self.quic_listen)];
        let outside = listening
            .into_iter()
            .filter_map(|(left, address)| self.has(left).then_some(address))
            .find(|address| !address.ip().is_loopback());
        if let Some(address) = outside.filter(|_| self.is_dev()) {
            bail!(
                "the dev profile's key is known to everybody, so it listens on loopback only, not on {address}: \
                 give --key-file"
            );
        }
        ensure!(
            self.is_dev() || self.tls_cert.is_some() || !self.has(Left::Quic),
            "outside the dev profile QUIC needs a certificate: give --tls-cert and --tls-key, PEM files as certbot \
             writes them, which are read again when they change; or leave QUIC out by --without quic"
        );
        Ok(())
    }

    /// The certificate of QUIC.
    fn tls(&self) -> anyhow::Result<Option<Tls>> {
        match (&self.tls_cert, &self.tls_key) {
            _ if !self.has(Left::Quic) => Ok(None),
            (Some(certificate), Some(key)) => Ok(Some(Tls::from_files(certificate, key)?)),
            _ if self.is_dev() => Ok(Some(Tls::self_signed(&DEV_NAMES.map(str::to_owned))?)),
            _ => Ok(None),
        }
    }

    fn udp(&self) -> anyhow::Result<Option<RenetProxy>> {
        if !self.has(Left::Udp) {
            return Ok(None);
        }
        let config = RenetConfig {
            listen: self.listen,
            public_addresses: self.public_addr.clone(),
            ..RenetConfig::new(key(self.key_file.as_deref())?)
        };
        Ok(Some(RenetProxy::bind(config)?))
    }

    fn quic(&self) -> anyhow::Result<Option<QuicProxy>> {
        let Some(tls) = self.tls()? else { return Ok(None) };
        let config = QuicConfig {
            listen: self.quic_listen,
            exempt_loopback: self.is_dev(),
            origins: Origins::Only(self.origin.clone()),
            ..QuicConfig::default()
        };
        Ok(Some(QuicProxy::bind(config, &tls)?))
    }
}

/// Who the dev profile's certificate is for.
const DEV_NAMES: [&str; 3] = ["localhost", "127.0.0.1", "::1"];

#[cfg(test)]
mod tests {
    use clap::Parser as _;

    use super::*;

    #[derive(Debug, clap::Parser)]
    struct Listening {
        #[command(flatten)]
        args: ListenArgs,
    }

    fn args(words: &[&str]) -> ListenArgs {
        let words = std::iter::once("waystation").chain(words.iter().copied());
        Listening::try_parse_from(words).expect("arguments").args
    }

    fn refused(words: &[&str]) -> String {
        args(words).check().expect_err("it should not start").to_string()
    }

    #[test]
    fn the_dev_profile_does_not_leave_this_machine() {
        assert!(args(&[]).check().is_ok());
        for option in ["--listen", "--quic-listen"] {
            let error = refused(&[option, "0.0.0.0:0"]);
            assert!(error.contains("0.0.0.0:0") && error.contains("--key-file"), "{error}");
        }
        assert!(args(&["--quic-listen", "0.0.0.0:0", "--without", "quic"]).check().is_ok());
    }

    #[test]
    fn outside_the_dev_profile_there_is_no_quic_without_a_certificate() {
        let error = refused(&["--key-file", "key.hex"]);
        assert!(error.contains("--tls-cert") && error.contains("--without quic"), "{error}");

        assert!(args(&["--key-file", "key.hex", "--without", "quic"]).check().is_ok());
        let missing = ["--key-file", "key.hex", "--tls-cert", "no such file", "--tls-key", "no such file"];
        let error = args(&missing).quic().expect_err("there are no such files").to_string();
        assert!(error.contains("no such file") && error.contains("PEM"), "{error}");
        assert!(Listening::try_parse_from(["waystation", "--tls-cert", "alone.pem"]).is_err());
    }

    #[test]
    fn the_default_ports_are_those_that_clients_expect() {
        let args = args(&[]);

        assert_eq!((args.listen.port(), args.quic_listen.port()), (7_777, 7_778));
    }
}
