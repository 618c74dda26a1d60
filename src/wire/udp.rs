//! The part of the UDP transport that client and server share: netcode's protocol id, renet's channels,
//! and connect tokens.
//!
//! A connect token opens one link. Minting one requires the server's key. A client receives tokens and
//! never the key.

#[cfg_attr(not(feature = "server"), allow(dead_code, reason = "a part is for the server only"))]
pub(crate) mod guard;
#[cfg_attr(not(feature = "server"), allow(dead_code, reason = "a part is for the server only"))]
pub(crate) mod send_queues;

use std::fmt;
use std::net::SocketAddr;
use std::time::Duration;

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD as BASE64;
use renet::{ChannelConfig, ConnectionConfig, SendType};
use renetcode::{ConnectToken, NETCODE_KEY_BYTES, NETCODE_USER_DATA_BYTES};

use crate::wire::LINK_TIMEOUT;

/// The netcode protocol id. The server does not answer a client that uses another id.
pub const NETCODE_PROTOCOL_ID: u64 = 0x7761_7973_7461_0001;

/// The renet channel for frames of the reliable lane.
pub const CHANNEL_RELIABLE: u8 = 0;

/// The renet channel for frames of the unreliable lane.
pub const CHANNEL_UNRELIABLE: u8 = 1;

/// How long a connect token can be used after it was minted.
pub const TOKEN_EXPIRE: Duration = Duration::from_secs(300);

/// The key of the `dev` profile. This key is public and protects nothing: a server that uses it listens
/// on loopback only. The key is not zero, because netcode reads zero as "no encryption".
pub const DEV_KEY: [u8; NETCODE_KEY_BYTES] = *b"waystation dev key: not a secret";

/// The memory of a renet channel in bytes. It is twice an outbox: a replay, link control and renet's
/// overhead fit, so the outbox is always full before the channel is.
const CHANNEL_MEMORY_MAX: usize = 2 * crate::wire::OUTBOX_MAX_BYTES;

/// How long renet waits before it sends an unacknowledged reliable packet again.
const RESEND_TIME: Duration = Duration::from_millis(200);

/// The bytes that a link may send per tick. The rest is sent in the next tick.
const BYTES_PER_TICK: u64 = 128 * 1024;

/// Mints connect tokens, for example in a login server after it has authenticated a player.
///
/// ```
/// use std::time::{Duration, SystemTime};
/// use waystation::wire::udp::{self, DEV_KEY, TokenMint};
///
/// let mint = TokenMint::new(DEV_KEY, vec![([127, 0, 0, 1], 7777).into()]);
/// let unix_now = SystemTime::UNIX_EPOCH.elapsed()?;
/// let link_id = 0x1d0f_c0de; // must be random outside of an example
/// let token = mint.mint(unix_now, link_id, Some("ada"))?;
/// println!("give this to Ada's client: {}", udp::token_to_text(&token));
/// # Ok::<(), Box<dyn std::error::Error>>(())
/// ```
#[derive(Clone)]
pub struct TokenMint {
    key: [u8; NETCODE_KEY_BYTES],
    servers: Vec<SocketAddr>,
}

/// The error of minting or reading a connect token.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum TokenError {
    /// The identity is too long for netcode's user data.
    #[error("the identity has {0} bytes: a connect token holds at most {IDENTITY_MAX_BYTES}")]
    Identity(usize),
    /// netcode reported an error. The usual cause is that no server address was given.
    #[error("cannot mint a connect token: {0}; give 1 to 32 server addresses")]
    Mint(String),
    /// The text is not a connect token.
    #[error("this is not a connect token: {0}; `waystation token` prints one")]
    Parse(String),
}

impl TokenMint {
    /// Returns a mint of tokens for the server that has `key` and can be reached at the addresses `servers`.
    #[must_use]
    pub fn new(key: [u8; NETCODE_KEY_BYTES], servers: Vec<SocketAddr>) -> Self {
        Self { key, servers }
    }

    /// Mints a token for one link. The token can be used for [`TOKEN_EXPIRE`] from `unix_now`.
    ///
    /// `link_id` must be random: netcode ignores a connection request with an id that is in use.
    /// `identity` is the name of the user that the link belongs to, if the caller has authenticated one.
    ///
    /// # Errors
    ///
    /// Returns [`TokenError::Identity`] if `identity` is longer than 255 bytes, and [`TokenError::Mint`] if
    /// netcode reports an error.
    pub fn mint(
        &self,
        unix_now: Duration,
        link_id: u64,
        identity: Option<&str>,
    ) -> Result<ConnectToken, TokenError> {
        let user_data = write_identity(identity.unwrap_or_default())?;
        // netcode takes whole seconds. Rounding up makes its timeout no shorter than the link timeout.
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
    /// Omits the key.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("TokenMint").field("servers", &self.servers).finish_non_exhaustive()
    }
}

/// Returns the identity in a token's user data, or `None` if it is empty or malformed.
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

/// Returns a connect token as one line of base64.
#[must_use]
pub fn token_to_text(token: &ConnectToken) -> String {
    let mut bytes = Vec::with_capacity(TOKEN_BYTES);
    // Writing into a `Vec` does not fail.
    let _ = token.write(&mut bytes);
    BASE64.encode(bytes)
}

/// Parses the text of a connect token.
///
/// # Errors
///
/// Returns [`TokenError::Parse`] if the text is not a connect token.
pub fn token_from_text(text: &str) -> Result<ConnectToken, TokenError> {
    let bytes = BASE64.decode(text.trim()).map_err(|error| TokenError::Parse(error.to_string()))?;
    ConnectToken::read(&mut bytes.as_slice()).map_err(|error| TokenError::Parse(error.to_string()))
}

/// Returns renet's configuration, which is the same on both ends.
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

/// The longest identity in bytes: netcode's 256 bytes of user data hold one byte of length and the identity.
const IDENTITY_MAX_BYTES: usize = NETCODE_USER_DATA_BYTES - 1;
/// The size of a connect token in bytes.
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
