//! NTP messages, as far as a client needs them: 48 bytes out, and 48 or more back from whoever
//! could send them. Time stamps count seconds since 1900 in 32 bits, and 2⁻³² of a second in the
//! other 32.

/// Bytes of a message without extensions.
pub const LENGTH: usize = 48;

/// A server's message, as far as a client wants to know.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Answer {
    /// What time it is there.
    Time {
        /// How many servers away the clock is.
        stratum: u8,
        /// When the query came.
        received: Stamp,
        /// When the answer went.
        sent: Stamp,
    },
    /// A "kiss of death": what the server wants of a client, in four letters.
    Kiss([u8; 4]),
}

/// A time stamp of the protocol's: it doesn't know its era.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Stamp(pub u64);

/// Version 4, from a client.
const QUERY: u8 = 4 << 3 | CLIENT;
const CLIENT: u8 = 3;
const SERVER: u8 = 4;
/// A server whose clock isn't set says so in the two highest bits.
const NOT_SET: u8 = 3;
const FARTHEST: u8 = 15;
/// No server whose own time may be farther off, in 2⁻¹⁶ seconds, is believed: 16 s.
const LARGEST_ERROR: u32 = 16 << 16;

const ROOT_DELAY: usize = 4;
const ROOT_DISPERSION: usize = 8;
const REFERENCE: usize = 12;
const ORIGIN: usize = 24;
const RECEIVED: usize = 32;
const SENT: usize = 40;

/// Seconds from 1900 to 1970, and in an era.
const TO_1970: i64 = 2_208_988_800;
const ERA: i64 = 1 << 32;
const SECOND: i128 = 1_000_000;

/// The query whose answer carries `nonce`, which nobody can guess. It tells the server nothing of
/// this machine's clock.
pub fn query(nonce: u64) -> [u8; LENGTH] {
    let mut packet = [0; LENGTH];
    let (head, own) = packet.split_at_mut(SENT);
    own.copy_from_slice(&nonce.to_be_bytes());
    if let Some(first) = head.first_mut() {
        *first = QUERY;
    }
    packet
}

/// Reads the answer to the query with this nonce; `None`: it is none, or makes no sense.
pub fn answer(packet: &[u8], nonce: u64) -> Option<Answer> {
    let [first, stratum, ..] = *packet else { return None };
    let (warning, version, mode) = (first >> 6, first >> 3 & 7, first & 7);
    let is_ours = number(packet, ORIGIN)? == nonce && packet.len() >= LENGTH;
    if !is_ours || mode != SERVER || !(3..=4).contains(&version) {
        return None;
    }
    if stratum == 0 {
        return field(packet, REFERENCE).map(Answer::Kiss);
    }
    let [delay, dispersion] = [field(packet, ROOT_DELAY)?, field(packet, ROOT_DISPERSION)?];
    let error = (u32::from_be_bytes(delay) / 2).saturating_add(u32::from_be_bytes(dispersion));
    let (received, sent) = (number(packet, RECEIVED)?, number(packet, SENT)?);
    let is_set = warning != NOT_SET && stratum <= FARTHEST && received != 0 && sent != 0;
    let [received, sent] = [received, sent].map(Stamp);
    (is_set && error < LARGEST_ERROR).then_some(Answer::Time { stratum, received, sent })
}

impl Stamp {
    /// Microseconds since 1970, in the era that is nearest to `about` (seconds since 1970).
    pub fn date(self, about: u64) -> i128 {
        let [seconds, fraction] = [self.0 >> 32, self.0 & 0xffff_ffff].map(i128::from);
        let first = seconds - i128::from(TO_1970);
        let half = i128::from(ERA / 2);
        let eras = (i128::from(about) - first + half).div_euclid(ERA.into());
        (first + eras * i128::from(ERA)) * SECOND + ((fraction * SECOND) >> 32)
    }
}

fn number(packet: &[u8], at: usize) -> Option<u64> {
    field(packet, at).map(u64::from_be_bytes)
}

/// The bytes of a field; `None`: they end before.
fn field<const N: usize>(packet: &[u8], at: usize) -> Option<[u8; N]> {
    packet.get(at..)?.first_chunk().copied()
}

#[cfg(test)]
pub mod tests {
    use super::*;

    pub const NONCE: u64 = 0x0123_4567_89ab_cdef;

    /// A server's answer at this date (seconds since 1970).
    pub fn packet(date: i64, stratum: u8) -> Vec<u8> {
        let mut packet = vec![0x24, stratum, 6, 0xec];
        packet.extend([0, 0, 1, 0, 0, 0, 1, 0]); // 4 ms away, 4 ms off
        packet.extend(b"RATE");
        packet.extend([0; 8]);
        packet.extend(NONCE.to_be_bytes());
        let stamp = ((date + TO_1970) as u64) << 32;
        packet.extend(stamp.to_be_bytes());
        packet.extend((stamp | 0x8000_0000).to_be_bytes());
        packet
    }

    #[test]
    fn a_query_is_the_one_of_the_rfc() {
        let packet = query(NONCE);
        assert_eq!(packet[0], 0x23);
        assert_eq!(packet[1..40], [0; 39]);
        assert_eq!(packet[40..], NONCE.to_be_bytes());
    }

    #[test]
    fn an_answer_is_understood() {
        let stamp = (1_700_000_000 + TO_1970 as u64) << 32;
        let [received, sent] = [stamp, stamp | 0x8000_0000].map(Stamp);
        let expected = Answer::Time { stratum: 2, received, sent };
        assert_eq!(answer(&packet(1_700_000_000, 2), NONCE), Some(expected));
        assert_eq!(answer(&packet(0, 0), NONCE), Some(Answer::Kiss(*b"RATE")));
        assert_eq!(sent.date(1_600_000_000), 1_700_000_000_500_000);
    }

    #[test]
    fn what_is_no_answer_is_none() {
        let good = packet(1_700_000_000, 2);
        for (at, byte) in [
            (0, 0x23), // a query
            (0, 0xe4), // the server's clock isn't set
            (0, 0x2c), // version 5
            (1, 16),   // not synchronised
            (24, 0),   // another's nonce
            (9, 17),   // 17 s off
        ] {
            let mut packet = good.clone();
            packet[at] = byte;
            assert_eq!(answer(&packet, NONCE), None, "{byte:#x} at {at}");
        }
        for length in 0..LENGTH {
            assert_eq!(answer(&good[..length], NONCE), None, "{length} bytes");
        }
        let mut unset = good;
        unset[40..].fill(0);
        assert_eq!(answer(&unset, NONCE), None);
    }

    #[test]
    fn a_stamp_is_of_the_nearest_era() {
        for (date, about) in [
            (1_700_000_000, 1_600_000_000),
            (1_500_000_000, 1_700_000_000), // before it, and known to be
            (2_085_978_496, 1_700_000_000), // 2036, the first second of the next era
            (4_070_908_800, 2_500_000_000), // 2099
            (0, 1_000_000_000),
        ] {
            let stamp = Stamp(((date + TO_1970) as u64) << 32);
            assert_eq!(stamp.date(about), i128::from(date) * SECOND, "{date} about {about}");
        }
    }

    #[test]
    fn nothing_upsets_the_parser() {
        let mut random = fastrand::Rng::with_seed(1);
        for _ in 0..200_000 {
            let mut packet = packet(1_700_000_000, 2);
            for _ in 0..3 {
                let at = random.usize(..packet.len());
                packet[at] = random.u8(..);
            }
            packet.truncate(random.usize(40..49));
            if let Some(Answer::Time { received, sent, .. }) = answer(&packet, NONCE) {
                let _ = (received.date(u64::MAX), sent.date(0));
            }
        }
    }
}
