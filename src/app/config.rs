//! The configuration of a launched game: one file, environment variables and flags.

use std::ffi::OsString;
use std::fmt;
use std::fs;
use std::io;
use std::path::{Path, PathBuf};
use std::str::FromStr;

use anyhow::Context as _;
use clap::{Arg, ArgAction, ArgMatches};
use url::Url;

use crate::admin::{Cidr, HttpConfig, RelayHeader};
use crate::config::ServerConfig;
use crate::proxy::quic::QuicConfig;
use crate::proxy::renet::RenetConfig;
use crate::proxy::websocket::WebSocketConfig;
use crate::settings::{
    self, Choice, FILE_MAX_BYTES, Flag, GameTable, Inputs, Leaf, Loaded, Mistakes, Value, from_text,
};

crate::settings! {
    /// The configuration of a launched game.
    #[derive(Debug, Clone)]
    pub(super) struct LaunchConfig {
        /// File with the server's key: 32 bytes in hex, on one line. Default: none. The server then runs the dev
        /// profile: it listens on this machine only, and its key is public.
        pub(super) key_file: Option<PathBuf> = None,
        /// File with one line: the bearer token that discovery requires. Default: none. Outside the dev profile,
        /// discovery then answers no client, so no client gets the ticket that a new session needs.
        pub(super) bearer_file: Option<PathBuf> = None,
        /// File to which the server writes its process id while it runs, for the command `reload`. Default: none.
        pub(super) pid_file: Option<PathBuf> = None,
        /// Host name at which clients reach the server. The certificate must contain it. Default: none.
        pub(super) public_host: Option<String> = None,
        /// URL at which clients reach HTTP, if a relay or a container changes the port or adds a path, as in
        /// https://play.example:8443/eu. The relay must remove the path again. Default: none.
        pub(super) public_url: Option<PublicUrl> = None,
        /// True to serve plain HTTP outside the dev profile, behind a relay that adds TLS. Clients reach the relay
        /// on port 443 of the public host unless there is a public URL. Default: false.
        pub(super) http_plain: bool = false,
        /// Certificate for QUIC and HTTPS: a PEM file that is read again when it changes. Default: none. The dev
        /// profile then makes a certificate for QUIC and serves plain HTTP.
        pub(super) tls_cert: Option<PathBuf> = None,
        /// Private key of the certificate: a PEM file. Default: none.
        pub(super) tls_key: Option<PathBuf> = None,
        /// Relays that may report the addresses of their clients: addresses, or networks like 10.0.0.0/8. Default:
        /// no relay.
        pub(super) trusted_relays: Vec<Cidr> = Vec::new(),
        /// How trusted relays report the address of a client: in the request header `X-Forwarded-For`
        /// (`x-forwarded-for`) or `Forwarded` (`forwarded`), or in a header of the PROXY protocol at the beginning
        /// of each connection (`proxy-protocol`). Default: `x-forwarded-for`.
        pub(super) relay_header: RelayHeader = RelayHeader::default(),
        /// Origins whose pages may connect, as in https://play.example, in addition to the server's own pages.
        /// Default: no other origin.
        pub(super) origins: Vec<String> = Vec::new(),
        /// Transports to disable: `udp`, `quic` (which includes WebTransport), or `ws`. Default: no transport.
        pub(super) without: Vec<TransportOption> = Vec::new(),
        /// Additional lines in the log: `transitions` for each change of a session's state, `peers` for protocol
        /// errors of peers, or a crate with a level, as in `my_rules=debug`. Default: no additional lines.
        pub(super) log: Vec<String> = Vec::new(),
        /// Tick rate, sessions and the gate.
        pub(super) server: ServerConfig = ServerConfig::default() => flat,
        /// The listener of UDP.
        pub(super) udp: RenetConfig = RenetConfig::default(),
        /// The listener of QUIC and WebTransport.
        pub(super) quic: QuicConfig = QuicConfig::default(),
        /// The HTTP server, which also serves discovery and WebSocket.
        pub(super) http: HttpConfig = HttpConfig::default(),
        /// Links over WebSocket.
        pub(super) websocket: WebSocketConfig = WebSocketConfig::default(),
        /// The settings of the game.
        pub(super) game: GameTable = GameTable::default(),
    }
}

/// A transport that can be disabled.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum TransportOption {
    /// UDP.
    Udp,
    /// QUIC and WebTransport.
    Quic,
    /// WebSocket.
    Ws,
}

impl Choice for TransportOption {
    const NAMES: &'static [(&'static str, Self)] =
        &[("udp", Self::Udp), ("quic", Self::Quic), ("ws", Self::Ws)];
}

/// The public URL of a server: HTTP or HTTPS, a host, and optionally a port and a path.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct PublicUrl(pub(super) Url);

impl FromStr for PublicUrl {
    type Err = ();

    fn from_str(text: &str) -> Result<Self, ()> {
        let url: Url = text.parse().map_err(drop)?;
        let is_bare = url.query().is_none() && url.fragment().is_none() && url.username().is_empty();
        let is_public = matches!(url.scheme(), "http" | "https") && is_bare && url.password().is_none();
        is_public.then_some(Self(url)).ok_or(())
    }
}

impl Leaf for PublicUrl {
    fn read(value: &Value) -> Result<Self, String> {
        from_text(
            value,
            "http or https, a host, and optionally a port and a path, as in \"https://play.example:8443/eu\"",
        )
    }

    fn write(&self) -> Value {
        Value::Text(self.0.to_string())
    }
}

/// The flags that set the configuration. Each command that loads the configuration has all of them.
#[derive(Debug, Clone, Default)]
pub(super) struct ConfigArgs {
    /// The file that `--config` names.
    file: Option<PathBuf>,
    flags: Vec<Flag>,
}

impl ConfigArgs {
    /// Reads the configuration file, if there is one, and the environment variables, and loads the configuration.
    pub(super) fn load(&self) -> anyhow::Result<Loaded<LaunchConfig>> {
        let variables: Vec<(OsString, OsString)> = std::env::vars_os().collect();
        let named =
            variables.iter().find(|(name, _)| name == FILE_VARIABLE).map(|(_, path)| PathBuf::from(path));
        let named = self.file.clone().or(named);
        let path = named.clone().unwrap_or_else(|| FILE.into());
        let text = match read(&path) {
            Ok(text) => Some(text),
            Err(error) if named.is_none() && error.kind() == io::ErrorKind::NotFound => None,
            Err(error) => {
                return Err(error)
                    .with_context(|| format!("cannot read the configuration file {}", path.display()));
            }
        };
        let name = path.display().to_string();
        let file = text.as_deref().map(|text| (name.as_str(), text));
        self.load_from(file, variables).map_err(|mistakes| anyhow::anyhow!("{}", told(&mistakes)))
    }

    /// Loads the configuration from a file, variables, and these flags.
    pub(super) fn load_from(
        &self,
        file: Option<(&str, &str)>,
        variables: Vec<(OsString, OsString)>,
    ) -> Result<Loaded<LaunchConfig>, Mistakes> {
        let inputs = Inputs { file, variables, other_variables: &[FILE_VARIABLE], flags: self.flags.clone() };
        settings::load(inputs, LaunchConfig::mistakes)
    }
}

/// Returns the text of an error about several mistakes.
pub(super) fn told(mistakes: &impl fmt::Display) -> String {
    format!("the configuration has mistakes:\n{mistakes}")
}

fn read(path: &Path) -> io::Result<String> {
    let bytes = fs::metadata(path)?.len();
    if bytes > FILE_MAX_BYTES as u64 {
        return Err(io::Error::other(format!("it has {bytes} bytes, and may have at most {FILE_MAX_BYTES}")));
    }
    fs::read_to_string(path)
}

impl clap::Args for ConfigArgs {
    fn augment_args(command: clap::Command) -> clap::Command {
        let keys = settings::keys::<LaunchConfig>();
        let help = |path: &str| {
            let key = keys.iter().find(|key| key.path == path);
            let repeated = key.is_some_and(|key| matches!(key.default, Value::List(_)));
            let repeated = if repeated { ". May be given more than once" } else { "" };
            key.map_or_else(String::new, |key| format!("{}{repeated}\n[key: {path}]", summary(&key.docs)))
        };
        let file = Arg::new(FILE_ARG)
            .long(FILE_ARG)
            .value_name("FILE")
            .value_parser(clap::value_parser!(PathBuf))
            .help(format!("The configuration file. Default: {FILE} in the working directory, if it exists"));
        let set = Arg::new(SET_ARG)
            .long(SET_ARG)
            .value_name("KEY=VALUE")
            .action(ArgAction::Append)
            .value_parser(assignment)
            .help(
                "Sets any key of the configuration, as in session.timeout=30s. May be given more than once",
            );
        let flags = FLAGS.iter().map(|(name, key, value)| {
            let arg = Arg::new(*name).long(*name);
            if value.is_empty() {
                arg.action(ArgAction::SetTrue).help(help(key).replacen("True to serve", "Serves", 1))
            } else {
                arg.value_name(*value).action(ArgAction::Append).help(help(key))
            }
        });
        command.arg(file).arg(set).args(flags)
    }

    fn augment_args_for_update(command: clap::Command) -> clap::Command {
        Self::augment_args(command)
    }
}

impl clap::FromArgMatches for ConfigArgs {
    fn from_arg_matches(matches: &ArgMatches) -> Result<Self, clap::Error> {
        let given = |name: &str, is_switch: bool| -> Vec<String> {
            if is_switch {
                return matches.get_flag(name).then(|| "true".to_owned()).into_iter().collect();
            }
            matches.get_many::<String>(name).unwrap_or_default().cloned().collect()
        };
        // A flag that was not given is listed too, so that mistakes name it.
        let flags = FLAGS.iter().map(|(name, key, value)| Flag {
            name: format!("--{name}"),
            key: (*key).to_owned(),
            texts: given(name, value.is_empty()),
        });
        let set = matches.get_many::<(String, String)>(SET_ARG).unwrap_or_default();
        let set = set.map(|(key, text)| Flag {
            name: format!("--{SET_ARG} {key}"),
            key: key.clone(),
            texts: vec![text.clone()],
        });
        Ok(Self { file: matches.get_one::<PathBuf>(FILE_ARG).cloned(), flags: flags.chain(set).collect() })
    }

    fn update_from_arg_matches(&mut self, matches: &ArgMatches) -> Result<(), clap::Error> {
        *self = Self::from_arg_matches(matches)?;
        Ok(())
    }
}

/// Returns the first paragraph of a doc up to its default, in one line, without the period at its end.
fn summary(docs: &[String]) -> String {
    let lines: Vec<&str> = docs.iter().map(|line| line.trim()).take_while(|line| !line.is_empty()).collect();
    let text = lines.join(" ");
    let end = text.find("Default: ").and_then(|at| Some(at + text[at..].find(". ")?));
    text[..end.unwrap_or(text.len())].trim_end_matches('.').to_owned()
}

/// Parses `KEY=VALUE`.
fn assignment(text: &str) -> Result<(String, String), String> {
    let (key, value) =
        text.split_once('=').ok_or("write a key, `=` and a value, as in session.timeout=30s")?;
    Ok((key.trim().to_owned(), value.trim().to_owned()))
}

/// Each flag, the key that it sets, and the name of its value. A flag without a value sets its key to true.
const FLAGS: [(&str, &str, &str); 21] = [
    ("key-file", "key_file", "FILE"),
    ("bearer-file", "bearer_file", "FILE"),
    ("pid-file", "pid_file", "FILE"),
    ("listen", "udp.listen", "ADDRESS"),
    ("quic-listen", "quic.listen", "ADDRESS"),
    ("http-listen", "http.listen", "ADDRESS"),
    ("public-host", "public_host", "HOST"),
    ("public-url", "public_url", "URL"),
    ("public-addr", "udp.public_addresses", "ADDRESS"),
    ("public-quic", "quic.public_address", "HOST:PORT"),
    ("tls-cert", "tls_cert", "FILE"),
    ("tls-key", "tls_key", "FILE"),
    ("http-plain", "http_plain", ""),
    ("trusted-relay", "trusted_relays", "CIDR"),
    ("relay-header", "relay_header", "HEADER"),
    ("origin", "origins", "ORIGIN"),
    ("without", "without", "TRANSPORT"),
    ("tick-hz", "rate", "HZ"),
    ("drain", "gate.drain", "TIME"),
    ("sessions-per-network", "gate.max_sessions_per_network", "COUNT"),
    ("log", "log", "TOPIC"),
];
const FILE_ARG: &str = "config";
const SET_ARG: &str = "set";
/// The configuration file, if no other file is named.
const FILE: &str = "waystation.toml";
/// The variable that names the configuration file.
const FILE_VARIABLE: &str = "WAYSTATION_CONFIG";

#[cfg(test)]
mod tests {
    use clap::Parser as _;

    use super::*;

    #[derive(Debug, clap::Parser)]
    struct Configured {
        #[command(flatten)]
        args: ConfigArgs,
    }

    fn load(words: &[&str], file: &str) -> Result<Loaded<LaunchConfig>, Mistakes> {
        let words = std::iter::once("dice").chain(words.iter().copied());
        let args = Configured::try_parse_from(words).expect("arguments").args;
        let file = (!file.is_empty()).then_some(("waystation.toml", file));
        args.load_from(file, vec![("WAYSTATION_HTTP_LISTEN".into(), "0".into())])
    }

    #[test]
    fn each_flag_sets_a_key_that_exists() {
        let keys = settings::keys::<LaunchConfig>();

        for (flag, path, _) in FLAGS {
            let key = keys.iter().find(|key| key.path == path);
            assert!(key.is_some_and(|key| !summary(&key.docs).is_empty()), "--{flag} {path}");
        }
    }

    #[test]
    fn flags_are_stronger_than_variables_and_variables_are_stronger_than_the_file() {
        let file = "rate = 30\n[http]\nlisten = 80\n[udp]\nlisten = 70\n[game]\nspeed = 3\n";

        let loaded =
            load(&["--listen", "localhost:7", "--set", "session.timeout=90s"], file).expect("no mistakes");

        let config = &loaded.value;
        assert_eq!([config.udp.listen.port(), config.http.listen.port()], [7, 0]);
        assert_eq!((config.server.rate.hz(), config.server.session.timeout.as_secs()), (30, 90));
        assert_eq!(loaded.source("udp.listen").to_string(), "--listen");
        assert_eq!(loaded.source("rate").to_string(), "waystation.toml:1");
    }

    #[test]
    fn all_mistakes_are_reported_at_once_with_the_keys_and_flags_that_cure_them() {
        let file = "rat = 20\n[udp]\nlisten = \"0.0.0.0:7777\"\n[session]\ntimeout = 5\n";

        let mistakes = load(&["--without", "tcp", "--set", "gate.drain=week"], file).expect_err("mistakes");

        let text = mistakes.to_string();
        assert_eq!(mistakes.as_slice().len(), 5, "{text}");
        for part in [
            "waystation.toml:1: unknown key `rat`; did you mean `rate`?",
            "waystation.toml:3: udp.listen is 0.0.0.0:7777",
            "--key-file",
            "--listen",
            "waystation.toml:5: session.timeout is 5",
            "--without: without is \"tcp\"",
            "--set gate.drain: gate.drain is \"week\"",
        ] {
            assert!(text.contains(part), "{part} is not in:\n{text}");
        }
    }

    #[test]
    fn a_shown_configuration_can_be_loaded_again() {
        let loaded =
            load(&["--tick-hz", "60", "--origin", "https://a.example", "--origin", "https://b.example"], "")
                .expect("no mistakes");

        let shown = loaded.show();
        let again = load(&[], &shown).unwrap_or_else(|mistakes| panic!("{mistakes}\nin:\n{shown}"));

        assert_eq!(loaded.changed_keys(&again), [""; 0]);
        assert_eq!(again.value.origins.len(), 2);
        assert_eq!(load(&[], "").expect("no mistakes").changed_keys(&again), ["origins", "rate"]);
    }

    #[test]
    fn a_public_url_has_a_scheme_and_a_host_and_no_secrets() {
        for good in ["https://play.example:8443/eu", "http://127.0.0.1:8080"] {
            assert!(good.parse::<PublicUrl>().is_ok(), "{good}");
        }
        for bad in
            ["play.example", "ftp://play.example", "https://play.example/?a=b", "https://ada@play.example/"]
        {
            assert!(bad.parse::<PublicUrl>().is_err(), "{bad}");
        }
    }
}
