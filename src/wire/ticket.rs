//! Mints and opens tickets, which prove that their holder may open one new session over any transport.
//!
//! Minting a ticket requires the server's key. The server's discovery mints tickets, and a login server can.
//! A client sends its ticket in its Hello. A ticket opens one session, and it expires soon. It may name a
//! user. A session is resumed by its resume token, and needs no ticket for that.
//!
//! A ticket is text in base64url without padding: a version, a random id, and a sealed part. HKDF derives
//! the key of the sealed part from the server's key and the id, so each ticket has its own key. Reading,
//! changing or minting a ticket requires the server's key. This module does not record used tickets.
//!
//! ```
//! use std::time::SystemTime;
//! use waystation::wire::ticket::{TICKET_EXPIRE, TicketKey};
//! use waystation::wire::udp::DEV_KEY;
//!
//! let key = TicketKey::new(DEV_KEY); // a real server has a secret key
//! let unix_now = SystemTime::UNIX_EPOCH.elapsed()?;
//! let text = key.mint(unix_now, TICKET_EXPIRE, Some("ada"))?;
//! println!("ws://127.0.0.1:7780/ws?ticket={text}");
//! assert_eq!(key.open(&text)?.identity.as_deref(), Some("ada"));
//! # Ok::<(), Box<dyn std::error::Error>>(())
//! ```

use std::fmt;
use std::time::Duration;

use base64::Engine as _;
use base64::engine::general_purpose::URL_SAFE_NO_PAD as BASE64_URL;
use ring::aead::{self, Aad, CHACHA20_POLY1305, LessSafeKey, Nonce, UnboundKey};
use ring::hkdf::{HKDF_SHA256, Salt};
use ring::rand::{SecureRandom as _, SystemRandom};

use super::millis;

/// The lifetime of a ticket from discovery. A client can try each transport in this time.
pub const TICKET_EXPIRE: Duration = Duration::from_secs(30);

/// The longest lifetime of a ticket: that of a connect token. It bounds for how long a server has to remember
/// a used ticket.
pub const TICKET_EXPIRE_MAX: Duration = Duration::from_secs(300);

/// The longest identity in a ticket, in bytes. It is the same as in a connect token, so that an identity fits
/// both.
pub const TICKET_IDENTITY_MAX_BYTES: usize = 255;

/// The key that mints and opens tickets.
#[derive(Clone, PartialEq, Eq)]
pub struct TicketKey([u8; KEY_BYTES]);

/// The contents of a genuine ticket. The ticket may have expired or be used already.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Ticket {
    /// A random id, which no other ticket has.
    pub id: [u8; TICKET_ID_BYTES],
    /// When the ticket was minted, in Unix time to the millisecond.
    pub minted: Duration,
    /// When the ticket expires, in Unix time to the millisecond.
    pub expires: Duration,
    /// The name of the user, if the ticket names one.
    pub identity: Option<String>,
}

/// The error of minting or opening a ticket.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum TicketError {
    /// The identity is too long.
    #[error("the identity has {0} bytes: a ticket holds at most {TICKET_IDENTITY_MAX_BYTES}")]
    Identity(usize),
    /// The lifetime is too short or too long.
    #[error("the lifetime of a ticket is 1 ms to {TICKET_EXPIRE_MAX:?}, not {0:?}")]
    Lifetime(Duration),
    /// The operating system provides no random numbers.
    #[error("cannot mint a ticket: the operating system provides no random numbers")]
    Random,
    /// The text is not a ticket of this key.
    #[error("this is not a ticket, or a ticket of another key: mint it with the key of the server")]
    Forged,
}

impl TicketKey {
    /// Returns the ticket key of a server's key. Tickets remain valid after a restart with the same server key.
    #[must_use]
    pub fn new(server_key: [u8; KEY_BYTES]) -> Self {
        Self(server_key)
    }

    /// Mints a ticket for one session. The ticket expires `lifetime` after `unix_now`.
    ///
    /// `identity` is the name of the user, if the caller has authenticated one. `None` and an empty name are
    /// the same.
    ///
    /// # Errors
    ///
    /// Returns [`TicketError::Identity`] if `identity` is longer than [`TICKET_IDENTITY_MAX_BYTES`],
    /// [`TicketError::Lifetime`] if `lifetime` is not from 1 ms to [`TICKET_EXPIRE_MAX`], and
    /// [`TicketError::Random`] if the operating system provides no random numbers.
    pub fn mint(
        &self,
        unix_now: Duration,
        lifetime: Duration,
        identity: Option<&str>,
    ) -> Result<String, TicketError> {
        let identity = identity.unwrap_or_default();
        if identity.len() > TICKET_IDENTITY_MAX_BYTES {
            return Err(TicketError::Identity(identity.len()));
        }
        if lifetime < Duration::from_millis(1) || lifetime > TICKET_EXPIRE_MAX {
            return Err(TicketError::Lifetime(lifetime));
        }
        let mut id = [0; TICKET_ID_BYTES];
        SystemRandom::new().fill(&mut id).map_err(|_| TicketError::Random)?;
        let mut sealed = Vec::with_capacity(2 * TIME_BYTES + identity.len() + TAG_BYTES);
        sealed.extend(millis(unix_now).to_be_bytes());
        sealed.extend(millis(unix_now.saturating_add(lifetime)).to_be_bytes());
        sealed.extend(identity.as_bytes());
        self.key_of(&id)?
            .seal_in_place_append_tag(nonce(), Aad::from([VERSION]), &mut sealed)
            .map_err(|_| TicketError::Random)?;
        let mut bytes = Vec::with_capacity(1 + TICKET_ID_BYTES + sealed.len());
        bytes.push(VERSION);
        bytes.extend(id);
        bytes.extend(sealed);
        Ok(BASE64_URL.encode(bytes))
    }

    /// Opens a ticket that was minted with this key. Does not check whether the ticket has expired.
    ///
    /// # Errors
    ///
    /// Returns [`TicketError::Forged`] if the text is not a ticket of this key.
    pub fn open(&self, text: &str) -> Result<Ticket, TicketError> {
        if text.len() > TEXT_MAX {
            return Err(TicketError::Forged);
        }
        let mut bytes = BASE64_URL.decode(text).map_err(|_| TicketError::Forged)?;
        let Some(([VERSION, id @ ..], sealed)) = bytes.split_first_chunk_mut::<{ 1 + TICKET_ID_BYTES }>()
        else {
            return Err(TicketError::Forged);
        };
        let opened = self
            .key_of(id)?
            .open_in_place(nonce(), Aad::from([VERSION]), sealed)
            .map_err(|_| TicketError::Forged)?;
        Ticket::read(*id, opened).ok_or(TicketError::Forged)
    }

    /// Returns the key of one ticket. It seals no other ticket, so the nonce may be constant.
    fn key_of(&self, id: &[u8; TICKET_ID_BYTES]) -> Result<LessSafeKey, TicketError> {
        let secret = Salt::new(HKDF_SHA256, LABEL).extract(&self.0);
        let info = [id.as_slice()];
        let key = secret.expand(&info, &CHACHA20_POLY1305).map_err(|_| TicketError::Forged)?;
        Ok(LessSafeKey::new(UnboundKey::from(key)))
    }
}

impl fmt::Debug for TicketKey {
    /// Omits the key.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("TicketKey(..)")
    }
}

impl Ticket {
    fn read(id: [u8; TICKET_ID_BYTES], opened: &[u8]) -> Option<Self> {
        let (minted, rest) = opened.split_first_chunk()?;
        let (expires, identity) = rest.split_first_chunk()?;
        let identity = std::str::from_utf8(identity).ok()?;
        Some(Self {
            id,
            minted: Duration::from_millis(u64::from_be_bytes(*minted)),
            expires: Duration::from_millis(u64::from_be_bytes(*expires)),
            identity: (!identity.is_empty()).then(|| identity.to_owned()),
        })
    }
}

/// Returns the constant nonce. Each key seals one ticket only.
fn nonce() -> Nonce {
    Nonce::assume_unique_for_key([0; aead::NONCE_LEN])
}

/// The length of a ticket's id in bytes. It is long enough for random ids to be unique.
pub const TICKET_ID_BYTES: usize = 16;
/// The first byte of a ticket: the version of its layout.
const VERSION: u8 = 1;
/// The HKDF label, which separates ticket keys from other uses of the server's key.
const LABEL: &[u8] = b"waystation ticket 1";
const KEY_BYTES: usize = 32;
const TIME_BYTES: usize = 8;
const TAG_BYTES: usize = aead::MAX_TAG_LEN;
/// The length of the longest ticket as text, in characters: four for three bytes.
const TEXT_MAX: usize =
    (1 + TICKET_ID_BYTES + 2 * TIME_BYTES + TICKET_IDENTITY_MAX_BYTES + TAG_BYTES).div_ceil(3) * 4;

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    const NOW: Duration = Duration::from_millis(1_700_000_000_123);

    fn key() -> TicketKey {
        TicketKey::new([7; KEY_BYTES])
    }

    #[test]
    fn a_ticket_holds_what_it_was_minted_with_and_is_unique() {
        let longest = "é".repeat(127);
        for identity in [None, Some("ada"), Some(&*longest)] {
            let text = key().mint(NOW, TICKET_EXPIRE, identity).expect("a ticket");

            let ticket = key().open(&text).expect("genuine");

            assert_eq!((ticket.minted, ticket.expires), (NOW, NOW + TICKET_EXPIRE));
            assert_eq!(ticket.identity.as_deref(), identity);
            assert!(text.len() <= TEXT_MAX && !text.contains("ada"), "{text}");
            let again = key().mint(NOW, TICKET_EXPIRE, identity).expect("a ticket");
            assert_ne!(key().open(&again).expect("genuine").id, ticket.id);
        }
    }

    #[test]
    fn identities_and_lifetimes_out_of_range_are_errors() {
        let mint = |lifetime, identity: Option<&str>| key().mint(NOW, lifetime, identity);

        let too_long = "x".repeat(256);
        assert_eq!(mint(TICKET_EXPIRE, Some(&too_long)), Err(TicketError::Identity(256)));
        assert!(matches!(mint(Duration::ZERO, None), Err(TicketError::Lifetime(_))));
        assert!(matches!(
            mint(TICKET_EXPIRE_MAX + Duration::from_millis(1), None),
            Err(TicketError::Lifetime(_))
        ));
        assert!(mint(TICKET_EXPIRE_MAX, Some(&too_long[1..])).is_ok());
    }

    #[test]
    fn another_key_does_not_open_a_ticket_and_debug_shows_no_key() {
        let text = key().mint(NOW, TICKET_EXPIRE, Some("ada")).expect("a ticket");

        assert_eq!(TicketKey::new([8; KEY_BYTES]).open(&text), Err(TicketError::Forged));
        assert_eq!(format!("{:?}", key()), "TicketKey(..)");
    }

    proptest! {
        #[test]
        fn a_ticket_that_was_cut_changed_or_made_up_is_not_opened(
            identity in proptest::option::of("[a-z]{1,20}"),
            flip in any::<proptest::sample::Index>(),
            bit in 0..8_u8,
            cut in any::<proptest::sample::Index>(),
            noise in proptest::collection::vec(any::<u8>(), 0..400),
        ) {
            let text = key().mint(NOW, TICKET_EXPIRE, identity.as_deref()).expect("a ticket");
            let bytes = BASE64_URL.decode(&text).expect("our own");

            let mut flipped = bytes.clone();
            flipped[flip.index(bytes.len())] ^= 1 << bit;
            prop_assert_eq!(key().open(&BASE64_URL.encode(flipped)), Err(TicketError::Forged));
            let cut = cut.index(text.len());
            prop_assert_eq!(key().open(&text[..cut]), Err(TicketError::Forged));
            prop_assert_eq!(key().open(&format!("{text}A")), Err(TicketError::Forged));
            prop_assert_eq!(key().open(&BASE64_URL.encode(&noise)), Err(TicketError::Forged));
            prop_assert_eq!(key().open(&String::from_utf8_lossy(&noise)), Err(TicketError::Forged));
        }
    }
}
