//! When a certificate begins and ends. Pure: reads DER, and no more of it than leads to these dates.

const SEQUENCE: u8 = 0x30;
const VERSION: u8 = 0xa0;
const UTC_TIME: u8 = 0x17;
const GENERALIZED_TIME: u8 = 0x18;

/// From when to when a certificate is valid, in seconds since the Unix epoch.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Validity {
    /// Its first second.
    pub not_before: i64,
    /// Its last second.
    pub not_after: i64,
}

impl Validity {
    /// What the certificate in `der` says; absent if that is no certificate.
    pub fn of(der: &[u8]) -> Option<Self> {
        let (body, _) = expect(der, SEQUENCE)?;
        let (mut fields, _) = expect(body, SEQUENCE)?;
        if fields.first() == Some(&VERSION) {
            fields = value(fields)?.2;
        }
        // Serial number, signature algorithm, issuer.
        for _ in 0..3 {
            fields = value(fields)?.2;
        }
        let (validity, _) = expect(fields, SEQUENCE)?;
        let (tag, text, rest) = value(validity)?;
        let not_before = seconds(tag, text)?;
        let (tag, text, _) = value(rest)?;
        let not_after = seconds(tag, text)?;
        Some(Self {
            not_before,
            not_after,
        })
    }
}

fn expect(der: &[u8], tag: u8) -> Option<(&[u8], &[u8])> {
    let (found, content, rest) = value(der)?;
    (found == tag).then_some((content, rest))
}

/// The first value: its tag, its content and what follows it.
fn value(der: &[u8]) -> Option<(u8, &[u8], &[u8])> {
    let (&tag, rest) = der.split_first()?;
    let (&first, rest) = rest.split_first()?;
    let (length, rest) = match first {
        0..=0x7f => (usize::from(first), rest),
        // A length of so many bytes; more than three are no certificate.
        0x81..=0x83 => {
            let (bytes, rest) = rest.split_at_checked(usize::from(first & 0x7f))?;
            let length = bytes
                .iter()
                .fold(0, |sum, byte| sum << 8 | usize::from(*byte));
            (length, rest)
        }
        _ => return None,
    };
    let (content, rest) = rest.split_at_checked(length)?;
    Some((tag, content, rest))
}

/// `YYMMDDhhmmssZ` from 1950 on, or `YYYYMMDDhhmmssZ`.
fn seconds(tag: u8, text: &[u8]) -> Option<i64> {
    let digits = text.strip_suffix(b"Z")?;
    let year_digits = match (tag, digits.len()) {
        (UTC_TIME, 12) => 2,
        (GENERALIZED_TIME, 14) => 4,
        _ => return None,
    };
    let (year, rest) = digits.split_at(year_digits);
    let year = match (tag, number(year)?) {
        (UTC_TIME, year @ 50..) => 1900 + year,
        (UTC_TIME, year) => 2000 + year,
        (_, year) => year,
    };
    let mut rest = rest.chunks(2).map(|two| u8::try_from(number(two)?).ok());
    let mut next = || rest.next().flatten();
    let (month, day, hour, minute, second) = (next()?, next()?, next()?, next()?, next()?);
    prost_types::Timestamp::date_time(year, month, day, hour, minute, second)
        .ok()
        .map(|time| time.seconds)
}

fn number(digits: &[u8]) -> Option<i64> {
    digits.iter().try_fold(0, |sum, digit| {
        let digit = digit.is_ascii_digit().then(|| i64::from(digit - b'0'))?;
        Some(sum * 10 + digit)
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    fn not_after(der: &[u8]) -> Option<i64> {
        Validity::of(der).map(|validity| validity.not_after)
    }

    fn der(year: i32) -> Vec<u8> {
        let mut parameters = rcgen::CertificateParams::new(vec!["a".to_owned()]).unwrap();
        parameters.not_before = rcgen::date_time_ymd(2020, 1, 1);
        parameters.not_after = rcgen::date_time_ymd(year, 2, 28);
        let key = rcgen::KeyPair::generate().unwrap();
        parameters.self_signed(&key).unwrap().der().to_vec()
    }

    #[test]
    fn both_dates_are_read() {
        for (year, seconds) in [
            (2024, 1_709_078_400),
            (2049, 2_498_083_200),
            (2060, 2_845_152_000),
        ] {
            let validity = Validity::of(&der(year)).unwrap();
            assert_eq!(validity.not_before, 1_577_836_800, "{year}");
            assert_eq!(validity.not_after, seconds, "{year}");
        }
    }

    #[test]
    fn what_is_no_certificate_has_no_dates() {
        let whole = der(2060);
        assert_eq!(not_after(b""), None);
        assert_eq!(not_after(b"certificate"), None);
        for end in 0..whole.len() {
            assert_eq!(not_after(&whole[..end]), None, "cut at {end}");
        }
        for at in 0..whole.len() {
            let mut odd = whole.clone();
            odd[at] ^= 0xff;
            let _ = not_after(&odd); // never panics
        }
        assert_eq!(seconds(UTC_TIME, b"240229000000Z"), Some(1_709_164_800));
        for odd in [
            &b"240230000000Z"[..],
            b"24022900000xZ",
            b"2402290000Z",
            b"240229000000",
        ] {
            assert_eq!(seconds(UTC_TIME, odd), None);
        }
    }
}
