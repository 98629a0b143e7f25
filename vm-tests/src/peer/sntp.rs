//! SNTP's messages (RFC 4330), as a server reads and writes them.

use std::time::Duration;

use super::frame::field;

/// What a time server says.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Says {
    /// That it was so many seconds since 1970 when the machine was started.
    Date(u64),
    /// A kiss of death: don't ask again.
    Deny,
}

const LENGTH: usize = 48;
const SENT: usize = 40;
/// From 1900 to 1970.
const TO_1970: u64 = 2_208_988_800;

/// The answer to `query`, so long after the machine was started; `None`: it is none.
pub fn answer(query: &[u8], says: Says, age: Duration) -> Option<Vec<u8>> {
    let is_client = query.first()? & 7 == 3 && query.len() >= LENGTH;
    let nonce: [u8; 8] = field(query, SENT).filter(|_| is_client)?;
    let (stratum, name, date) = match says {
        Says::Date(date) => (2, [10, 9, 0, 1], age + Duration::from_secs(date + TO_1970)),
        Says::Deny => (0, *b"DENY", Duration::ZERO),
    };
    let mut answer = vec![0x24, stratum, 6, 0xec]; // version 4, from a server
    answer.extend([0, 0, 1, 0, 0, 0, 1, 0]); // 4 ms away, 4 ms off
    answer.extend(name);
    answer.extend([0; 8]);
    answer.extend(nonce);
    // Received and sent at once; the era is for the client to know.
    let fraction = (u64::from(date.subsec_nanos()) << 32) / 1_000_000_000;
    let stamp = (date.as_secs() << 32 | fraction).to_be_bytes();
    answer.extend([stamp, stamp].concat());
    Some(answer)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_query_is_answered_and_anything_else_is_not() {
        let mut query = vec![0; LENGTH];
        query[0] = 0x23;
        query[SENT..].copy_from_slice(b"whatever");
        let age = Duration::from_millis(7500);
        let time = answer(&query, Says::Date(1_700_000_000), age).unwrap();
        assert_eq!((time.len(), time[0], time[1]), (LENGTH, 0x24, 2));
        assert_eq!(time[24..32], *b"whatever");
        let seconds = (1_700_000_007 + TO_1970) as u32;
        assert_eq!(time[32..40], [&seconds.to_be_bytes()[..], &[0x80, 0, 0, 0]].concat());
        assert_eq!(time[40..], time[32..40]);
        let kiss = answer(&query, Says::Deny, age).unwrap();
        assert_eq!((kiss[1], &kiss[12..16]), (0, &b"DENY"[..]));
        assert_eq!(answer(&query[..47], Says::Deny, age), None);
        query[0] = 0x24;
        assert_eq!(answer(&query, Says::Deny, age), None);
    }
}
