//! Reads the server's key, and mints connect tokens and tickets with it.

use std::fs;
use std::net::SocketAddr;
use std::path::{Path, PathBuf};
use std::process::ExitCode;
use std::time::Duration;

use crate::client::ConnectToken;
use crate::tick::UnixClock;
use crate::wire::ticket::{TICKET_EXPIRE_MAX, TicketKey};
use crate::wire::udp::{self, DEV_KEY, TokenMint};
use anyhow::{Context as _, bail, ensure};
use clap::Args;
use data_encoding::HEXLOWER_PERMISSIVE;
use rand::TryRng as _;
use rand::rngs::SysRng;

use super::cli::say;

/// The options of `waystation token`.
#[derive(Debug, Args)]
pub(super) struct TokenArgs {
    /// The file with the server's key, as for `serve`. Without it, the key of the dev profile is used
    #[arg(long, value_name = "FILE")]
    key_file: Option<PathBuf>,
    /// An address at which clients reach the server over UDP. May be given more than once
    #[arg(long, value_name = "ADDRESS", default_value = "127.0.0.1:7777")]
    public_addr: Vec<SocketAddr>,
    /// The name of the user that the token or ticket is for. Without it, the player is anonymous
    #[arg(long, value_name = "NAME")]
    identity: Option<String>,
    /// Print a ticket instead of a connect token. A ticket opens one new session over any transport, as in
    /// quic://play.example:7778?ticket=...
    #[arg(long, conflicts_with = "public_addr")]
    ticket: bool,
    /// The lifetime of the ticket in seconds
    #[arg(long, value_name = "SECONDS", default_value_t = TICKET_EXPIRE_MAX.as_secs(), requires = "ticket",
          value_parser = clap::value_parser!(u64).range(1..=TICKET_EXPIRE_MAX.as_secs()))]
    seconds: u64,
}

/// Prints a connect token or a ticket.
pub(super) fn print_token(args: &TokenArgs) -> anyhow::Result<ExitCode> {
    let text = if args.ticket { args.mint_ticket()? } else { udp::token_to_text(&args.mint()?) };
    say(&text);
    Ok(ExitCode::SUCCESS)
}

impl TokenArgs {
    fn mint_ticket(&self) -> anyhow::Result<String> {
        let key = TicketKey::new(key(self.key_file.as_deref())?);
        let lifetime = Duration::from_secs(self.seconds);
        Ok(key.mint(UnixClock::system().now(), lifetime, self.identity.as_deref())?)
    }

    fn mint(&self) -> anyhow::Result<ConnectToken> {
        let key = key(self.key_file.as_deref())?;
        let mint = TokenMint::new(key, self.public_addr.clone());
        let link_id = SysRng.try_next_u64().context("the operating system provides no random numbers")?;
        Ok(mint.mint(UnixClock::system().now(), link_id, self.identity.as_deref())?)
    }
}

/// Returns the key in a file, or the key of the dev profile if there is no file.
pub(super) fn key(file: Option<&Path>) -> anyhow::Result<[u8; 32]> {
    let Some(file) = file else { return Ok(DEV_KEY) };
    let text = read_secret(file)?;
    parse_key(&text).with_context(|| format!("in the key file {}", file.display()))
}

/// Returns the single line of a file with a secret.
pub(super) fn read_secret(file: &Path) -> anyhow::Result<String> {
    let text = fs::read_to_string(file).with_context(|| format!("cannot read {}", file.display()))?;
    let line = text.trim();
    ensure!(
        !line.is_empty() && line.lines().count() == 1,
        "{} must contain exactly one line",
        file.display()
    );
    Ok(line.to_owned())
}

fn parse_key(hex: &str) -> anyhow::Result<[u8; 32]> {
    let key = HEXLOWER_PERMISSIVE.decode(hex.as_bytes()).ok().and_then(|key| key.try_into().ok());
    let key =
        key.context("a key is 64 hex digits: make one with `od -An -tx1 -N32 /dev/urandom | tr -d ' \\n'`")?;
    if key == [0; 32] || key == DEV_KEY {
        bail!("this key is not secret: make one with `od -An -tx1 -N32 /dev/urandom | tr -d ' \\n'`");
    }
    Ok(key)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_key_is_64_hex_digits_and_a_secret() {
        assert_eq!(parse_key(&"Ab".repeat(32)).expect("a key"), [0xAB; 32]);
        for bad in ["", "ab", &"+b".repeat(32), &"00".repeat(32), &"é".repeat(32), &"ab".repeat(33)] {
            let error = parse_key(bad).expect_err(bad).to_string();
            assert!(error.contains("/dev/urandom"), "{error}");
        }
        assert!(parse_key(&HEXLOWER_PERMISSIVE.encode(&DEV_KEY)).is_err());
    }
}
