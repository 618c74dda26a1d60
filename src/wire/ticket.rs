//! Tickets: what proves, over any transport, that a client may open a new session.
//!
//! Who has the server's key mints one for a client that it knows: the server's discovery, or a
//! studio's own login. The client shows it in its Hello. A ticket opens one session, and only for a
//! short time; it says who the client is, if its minter knows. A session that is there already is
//! resumed by its resume token, and needs no ticket.
//!
//! A ticket is text in base64url without padding: a version, a random id, and what is sealed under a
//! key of this ticket's own, which HKDF derives from the server's key and the id. Nobody without the
//! server's key can read, change or make one. Which tickets are used up is not decided here.
//!
//! ```
//! use std::time::SystemTime;
//! use waystation::wire::ticket::{TICKET_EXPIRE, TicketKey};
//! use waystation::wire::udp::DEV_KEY;
//!
//! let key = TicketKey::new(DEV_KEY); // the server's key, in earnest
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

/// How long a ticket of discovery may be used after it was minted: a client that was just told how
/// to connect tries every transport in that time.
pub const TICKET_EXPIRE: Duration = Duration::from_secs(30);

/// The longest that a ticket may be used after it was minted, whoever minted it: as long as a
/// connect token. It bounds how long a server remembers a used ticket.
pub const TICKET_EXPIRE_MAX: Duration = Duration::from_secs(300);

/// The longest identity that a ticket holds, in bytes: as long as that of a connect token, so that
/// a session moves between the transports with its identity.
pub const TICKET_IDENTITY_MAX_BYTES: usize = 255;

/// Seals and opens tickets.
#[derive(Clone, PartialEq, Eq)]
pub struct TicketKey([u8; KEY_BYTES]);

/// A ticket that was genuine when it was opened; whether it may still be used is another question.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Ticket {
    /// Random, and so no other ticket's.
    pub id: [u8; TICKET_ID_BYTES],
    /// When it was minted, in Unix time to the millisecond.
    pub minted: Duration,
    /// When it can no longer be used, in Unix time to the millisecond.
    pub expires: Duration,
    /// Who the client is, if the minter knows.
    pub identity: Option<String>,
}

/// A ticket that cannot be made or read.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum TicketError {
    /// The identity is too long.
    #[error("the identity has {0} bytes: a ticket holds {TICKET_IDENTITY_MAX_BYTES}")]
    Identity(usize),
    /// The lifetime is none or too long.
    #[error("a ticket lives for 1 ms to {TICKET_EXPIRE_MAX:?}, not for {0:?}")]
    Lifetime(Duration),
    /// The system gives no random numbers.
    #[error("the system gives no random numbers, so no ticket can be minted")]
    Random,
    /// The text is no ticket of this key.
    #[error("this is no ticket, or one of another key: mint it with the key of the server")]
    Forged,
}

impl TicketKey {
    /// Derives tickets from a server's key. They stay good over a restart of a server that keeps it.
    #[must_use]
    pub fn new(server_key: [u8; KEY_BYTES]) -> Self {
        Self(server_key)
    }

    /// Mints a ticket for one session, to be used within `lifetime` of `unix_now`. `identity` is who
    /// the server shall take the client for, if the minter knows; an empty one says nothing.
    ///
    /// # Errors
    ///
    /// [`TicketError::Identity`], [`TicketError::Lifetime`] and [`TicketError::Random`].
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

    /// Opens a ticket that was minted with this key. It does not look at the time.
    ///
    /// # Errors
    ///
    /// [`TicketError::Forged`], whatever is wrong with the text.
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

    /// The key of one ticket: no other ticket is sealed under it, so its nonce may be a constant.
    fn key_of(&self, id: &[u8; TICKET_ID_BYTES]) -> Result<LessSafeKey, TicketError> {
        let secret = Salt::new(HKDF_SHA256, LABEL).extract(&self.0);
        let info = [id.as_slice()];
        let key = secret.expand(&info, &CHACHA20_POLY1305).map_err(|_| TicketError::Forged)?;
        Ok(LessSafeKey::new(UnboundKey::from(key)))
    }
}

impl fmt::Debug for TicketKey {
    /// Without the key.
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

/// Each key seals one ticket only.
fn nonce() -> Nonce {
    Nonce::assume_unique_for_key([0; aead::NONCE_LEN])
}

/// Bytes of a ticket's id: enough that no two are ever the same.
pub const TICKET_ID_BYTES: usize = 16;
/// The first byte of a ticket: another layout gets another.
const VERSION: u8 = 1;
/// Keeps the keys of tickets apart from all else that a server's key is used for.
const LABEL: &[u8] = b"waystation ticket 1";
const KEY_BYTES: usize = 32;
const TIME_BYTES: usize = 8;
const TAG_BYTES: usize = aead::MAX_TAG_LEN;
/// The longest ticket as text: four characters for three bytes.
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
    fn a_ticket_says_what_it_was_minted_with_and_no_two_are_the_same() {
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
    fn what_no_ticket_can_say_is_not_minted() {
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
    fn another_key_opens_nothing_and_none_is_shown() {
        let text = key().mint(NOW, TICKET_EXPIRE, Some("ada")).expect("a ticket");

        assert_eq!(TicketKey::new([8; KEY_BYTES]).open(&text), Err(TicketError::Forged));
        assert_eq!(format!("{:?}", key()), "TicketKey(..)");
    }

    proptest! {
        #[test]
        fn no_ticket_that_was_cut_changed_or_made_up_is_opened(
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
