//! What both ends of the UDP transport agree on: netcode's protocol id, renet's channels, and
//! connect tokens.
//!
//! A connect token opens one link. Whoever has the server's key can mint tokens; a client only
//! ever gets a token.

#[cfg_attr(not(feature = "server"), allow(dead_code, reason = "the server's half"))]
pub(crate) mod guard;
#[cfg_attr(not(feature = "server"), allow(dead_code, reason = "the server's half"))]
pub(crate) mod outlet;

use std::fmt;
use std::net::SocketAddr;
use std::time::Duration;

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD as BASE64;
use renet::{ChannelConfig, ConnectionConfig, SendType};
use renetcode::{ConnectToken, NETCODE_KEY_BYTES, NETCODE_USER_DATA_BYTES};

use crate::wire::LINK_TIMEOUT;

/// Netcode's id of this protocol; a client of another is not answered.
pub const NETCODE_PROTOCOL_ID: u64 = 0x7761_7973_7461_0001;

/// renet's channel of the reliable lane.
pub const CHANNEL_RELIABLE: u8 = 0;

/// renet's channel of the unreliable lane.
pub const CHANNEL_UNRELIABLE: u8 = 1;

/// How long a connect token may be used after it was minted.
pub const TOKEN_EXPIRE: Duration = Duration::from_secs(300);

/// The key of the `dev` profile. Everybody knows it: it guards nothing, and a server that uses
/// it listens on loopback only. Not zero, because netcode takes zero for no encryption.
pub const DEV_KEY: [u8; NETCODE_KEY_BYTES] = *b"waystation dev key: not a secret";

/// Bytes that a channel holds: twice an outbox, so that a replay, link control and renet's own
/// overhead fit and the channel is never the bound that is met first.
const CHANNEL_MEMORY_MAX: usize = 2 * crate::wire::OUTBOX_MAX_BYTES;

/// When renet sends an unacknowledged reliable packet again.
const RESEND_TIME: Duration = Duration::from_millis(200);

/// Bytes that a link may send a tick; the rest waits for the next.
const BYTES_PER_TICK: u64 = 128 * 1024;

/// Mints connect tokens: what a login server does once it knows a player.
///
/// ```
/// use std::time::{Duration, SystemTime};
/// use waystation::wire::udp::{self, DEV_KEY, TokenMint};
///
/// let mint = TokenMint::new(DEV_KEY, vec![([127, 0, 0, 1], 7777).into()]);
/// let unix_now = SystemTime::UNIX_EPOCH.elapsed()?;
/// let link_id = 0x1d0f_c0de; // random, in earnest
/// let token = mint.mint(unix_now, link_id, Some("ada"))?;
/// println!("give this to Ada's client: {}", udp::token_to_text(&token));
/// # Ok::<(), Box<dyn std::error::Error>>(())
/// ```
#[derive(Clone)]
pub struct TokenMint {
    key: [u8; NETCODE_KEY_BYTES],
    servers: Vec<SocketAddr>,
}

/// A connect token that cannot be made or read.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum TokenError {
    /// The identity is too long for netcode's user data.
    #[error("the identity has {0} bytes: a connect token holds {IDENTITY_MAX_BYTES}")]
    Identity(usize),
    /// netcode refused; as a rule, no server address was given.
    #[error("no connect token can be minted: {0}; give one to 32 server addresses")]
    Mint(String),
    /// Not a connect token.
    #[error("this is no connect token: {0}; `waystation token` prints one")]
    Parse(String),
}

impl TokenMint {
    /// Mints tokens for servers that have `key` and are reached at `servers`.
    #[must_use]
    pub fn new(key: [u8; NETCODE_KEY_BYTES], servers: Vec<SocketAddr>) -> Self {
        Self { key, servers }
    }

    /// A token for one link, usable for [`TOKEN_EXPIRE`] from `unix_now`. `link_id` must be random:
    /// netcode ignores a connect with an id that it has. `identity` is who the server shall take
    /// the client for, if the minter knows.
    ///
    /// # Errors
    ///
    /// [`TokenError::Identity`] and [`TokenError::Mint`].
    pub fn mint(
        &self,
        unix_now: Duration,
        link_id: u64,
        identity: Option<&str>,
    ) -> Result<ConnectToken, TokenError> {
        let user_data = write_identity(identity.unwrap_or_default())?;
        // netcode counts in whole seconds; rounded up it is no shorter than the link timeout.
        let timeout = i32::try_from(LINK_TIMEOUT.as_millis().div_ceil(1_000)).unwrap_or(i32::MAX);
        ConnectToken::generate(
            unix_now,
            NETCODE_PROTOCOL_ID,
            TOKEN_EXPIRE.as_secs(),
            link_id,
            timeout,
            self.servers.clone(),
            Some(&user_data),
            &self.key,
        )
        .map_err(|error| TokenError::Mint(error.to_string()))
    }
}

impl fmt::Debug for TokenMint {
    /// Without the key.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("TokenMint").field("servers", &self.servers).finish_non_exhaustive()
    }
}

/// The identity in a token's user data; empty is none.
#[must_use]
pub fn read_identity(user_data: &[u8; NETCODE_USER_DATA_BYTES]) -> Option<String> {
    let [length, rest @ ..] = user_data;
    let identity = std::str::from_utf8(rest.get(..usize::from(*length))?).ok()?;
    (!identity.is_empty()).then(|| identity.to_owned())
}

fn write_identity(identity: &str) -> Result<[u8; NETCODE_USER_DATA_BYTES], TokenError> {
    let mut user_data = [0; NETCODE_USER_DATA_BYTES];
    let length = u8::try_from(identity.len()).map_err(|_| TokenError::Identity(identity.len()))?;
    user_data[0] = length;
    user_data[1..=identity.len()].copy_from_slice(identity.as_bytes());
    Ok(user_data)
}

/// A connect token as text: base64, one line.
#[must_use]
pub fn token_to_text(token: &ConnectToken) -> String {
    let mut bytes = Vec::with_capacity(TOKEN_BYTES);
    // Writing to a Vec cannot fail.
    let _ = token.write(&mut bytes);
    BASE64.encode(bytes)
}

/// A connect token from its text.
///
/// # Errors
///
/// [`TokenError::Parse`].
pub fn token_from_text(text: &str) -> Result<ConnectToken, TokenError> {
    let bytes = BASE64.decode(text.trim()).map_err(|error| TokenError::Parse(error.to_string()))?;
    ConnectToken::read(&mut bytes.as_slice()).map_err(|error| TokenError::Parse(error.to_string()))
}

/// renet's configuration, the same on both ends.
#[must_use]
pub fn connection_config() -> ConnectionConfig {
    let channels = || {
        vec![
            ChannelConfig {
                channel_id: CHANNEL_RELIABLE,
                max_memory_usage_bytes: CHANNEL_MEMORY_MAX,
                send_type: SendType::ReliableOrdered { resend_time: RESEND_TIME },
            },
            ChannelConfig {
                channel_id: CHANNEL_UNRELIABLE,
                max_memory_usage_bytes: CHANNEL_MEMORY_MAX,
                send_type: SendType::Unreliable,
            },
        ]
    };
    ConnectionConfig {
        available_bytes_per_tick: BYTES_PER_TICK,
        server_channels_config: channels(),
        client_channels_config: channels(),
    }
}

/// Longest identity in bytes: what netcode's 256 bytes of user data hold behind a length.
const IDENTITY_MAX_BYTES: usize = NETCODE_USER_DATA_BYTES - 1;
/// Size of a connect token.
const TOKEN_BYTES: usize = 2_048;

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_token_survives_its_text_and_an_identity_its_user_data() {
        let mint = TokenMint::new(DEV_KEY, vec![SocketAddr::from(([127, 0, 0, 1], 7777))]);

        let token = mint.mint(Duration::from_secs(1), 7, Some("ada")).expect("a token");

        let again = token_from_text(&token_to_text(&token)).expect("the same token");
        assert_eq!(again.client_id, 7);
        assert_eq!(again.timeout_seconds, 5);
        let user_data = write_identity("ada").expect("short enough");
        assert_eq!(read_identity(&user_data), Some("ada".to_owned()));
        assert_eq!(read_identity(&[0; NETCODE_USER_DATA_BYTES]), None);
        assert_eq!(write_identity(&"x".repeat(256)), Err(TokenError::Identity(256)));
        assert!(token_from_text("not a token").is_err());
        assert!(!format!("{mint:?}").contains(&format!("{DEV_KEY:?}")), "the key is shown");
    }
}
