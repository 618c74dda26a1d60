//! From when to when a certificate is valid, read from its DER encoding.
//!
//! Only to warn: clients decide what they accept, and rustls has looked at the rest.

use std::time::Duration;

/// Both in Unix time.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Validity {
    pub(super) not_before: Duration,
    pub(super) not_after: Duration,
}

impl Validity {
    pub(super) fn contains(self, now: Duration) -> bool {
        self.not_before <= now && now < self.not_after
    }

    /// Of a certificate; none if it cannot be read.
    pub(super) fn of(certificate: &[u8]) -> Option<Self> {
        let (_, certificate, _) = element(certificate)?;
        let (_, mut fields, _) = element(certificate)?;
        let (tag, _, after_version) = element(fields)?;
        if tag == VERSION {
            fields = after_version;
        }
        for _ in ["serial number", "signature algorithm", "issuer"] {
            (_, _, fields) = element(fields)?;
        }
        let (_, validity, _) = element(fields)?;
        let (tag, begin, rest) = element(validity)?;
        let not_before = unix_time(tag, begin)?;
        let (tag, end, _) = element(rest)?;
        Some(Self { not_before, not_after: unix_time(tag, end)? })
    }
}

/// The first element: its tag, its content, and what follows it.
fn element(der: &[u8]) -> Option<(u8, &[u8], &[u8])> {
    let (&tag, rest) = der.split_first()?;
    let (&first, mut rest) = rest.split_first()?;
    let mut length = usize::from(first);
    if first & 0x80 != 0 {
        let count = usize::from(first & 0x7F);
        if count > size_of::<u32>() {
            return None;
        }
        let (digits, after) = rest.split_at_checked(count)?;
        length = digits.iter().fold(0, |length, digit| length << 8 | usize::from(*digit));
        rest = after;
    }
    let (content, rest) = rest.split_at_checked(length)?;
    Some((tag, content, rest))
}

/// `YYMMDDHHMMSSZ` or `YYYYMMDDHHMMSSZ` as Unix time.
fn unix_time(tag: u8, text: &[u8]) -> Option<Duration> {
    let (year, rest) = match tag {
        // RFC 5280: two digits from 50 on are of the twentieth century.
        UTC_TIME => {
            let (year, rest) = number(text, 2)?;
            (if year >= 50 { 1900 + year } else { 2000 + year }, rest)
        }
        GENERALIZED_TIME => number(text, 4)?,
        _ => return None,
    };
    let (month, rest) = number(rest, 2)?;
    let (day, rest) = number(rest, 2)?;
    let (hour, rest) = number(rest, 2)?;
    let (minute, rest) = number(rest, 2)?;
    let (second, _) = number(rest, 2)?;
    if !(1..=12).contains(&month) || !(1..=31).contains(&day) {
        return None;
    }
    let seconds = ((days_since_1970(year, month, day) * 24 + hour) * 60 + minute) * 60 + second;
    Some(Duration::from_secs(u64::try_from(seconds).unwrap_or_default()))
}

fn number(text: &[u8], digits: usize) -> Option<(i64, &[u8])> {
    let (number, rest) = text.split_at_checked(digits)?;
    let digit = |byte: &u8| byte.is_ascii_digit().then(|| i64::from(byte - b'0'));
    let number = number.iter().try_fold(0, |number, byte| Some(number * 10 + digit(byte)?))?;
    Some((number, rest))
}

/// Of the Gregorian calendar. A year begins in March here, so that the odd day is its last.
fn days_since_1970(year: i64, month: i64, day: i64) -> i64 {
    let (year, month) = if month > 2 { (year, month - 3) } else { (year - 1, month + 9) };
    let leap_days = year.div_euclid(4) - year.div_euclid(100) + year.div_euclid(400);
    year * 365 + leap_days + (153 * month + 2) / 5 + day - 1 - DAYS_TO_1970
}

/// From 1 March of the year 0 to 1 January 1970.
const DAYS_TO_1970: i64 = 719_468;
/// The tag of a certificate's version, which the oldest ones lack.
const VERSION: u8 = 0xA0;
const UTC_TIME: u8 = 0x17;
const GENERALIZED_TIME: u8 = 0x18;

#[cfg(test)]
mod tests {
    use rcgen::{CertificateParams, KeyPair, date_time_ymd};

    use super::*;

    #[test]
    fn the_validity_of_a_certificate_is_read_in_both_notations() {
        let mut params = CertificateParams::new(vec!["localhost".to_owned()]).expect("a name");
        params.not_before = date_time_ymd(2024, 2, 29);
        params.not_after = date_time_ymd(2051, 12, 31);
        let key = KeyPair::generate().expect("a key");
        let certificate = params.self_signed(&key).expect("a certificate");

        let validity = Validity::of(certificate.der()).expect("valid at some time");

        assert_eq!(validity.not_before, Duration::from_secs(1_709_164_800));
        assert_eq!(validity.not_after, Duration::from_secs(2_587_593_600));
    }

    #[test]
    fn what_is_cut_short_or_no_certificate_has_no_validity() {
        let key = KeyPair::generate().expect("a key");
        let params = CertificateParams::new(vec!["localhost".to_owned()]).expect("a name");
        let certificate = params.self_signed(&key).expect("a certificate").der().to_vec();

        for length in 0..certificate.len() {
            assert_eq!(Validity::of(&certificate[..length]), None);
        }
        assert_eq!(Validity::of(&[0x30, 0xFF, 1, 2, 3]), None);
        assert_eq!(unix_time(UTC_TIME, b"241301000000Z"), None);
        assert_eq!(unix_time(UTC_TIME, b"-1+1+1+1+1+1Z"), None);
    }
}
