//! GUIDs: what partitions and disks are told apart by.

use std::fmt;

use sha2::{Digest as _, Sha256};

/// A GUID, held in the order of its text.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Guid(pub u128);

impl Guid {
    /// EFI system partition.
    pub const ESP: Guid = Guid(0xc12a7328_f81f_11d2_ba4b_00a0c93ec93b);
    /// Root file system of x86-64.
    pub const ROOT_X86_64: Guid = Guid(0x4f68bce3_e8cd_4db1_96e7_fbcaf984b709);
    /// Root file system of 64-bit ARM.
    pub const ROOT_ARM64: Guid = Guid(0xb921b045_1df0_41c3_af44_4c6f280d3fae);
    /// Basic data: what every desktop shows.
    pub const BASIC_DATA: Guid = Guid(0xebd0a0a2_b9e5_4433_87c0_68b6b72699c7);

    /// Linux file system.
    pub const LINUX: Guid = Guid(0x0fc63daf_8483_4772_8e79_3d69d8477de4);

    /// A GUID of these bytes, which should be random (version 4).
    pub fn random(bytes: [u8; 16]) -> Guid {
        Guid(u128::from_be_bytes(bytes) & !(0xf << 76 | 0x3 << 62) | (0x4 << 76 | 0x2 << 62))
    }

    /// A GUID that follows from `name` alone (version 8, custom: a truncated SHA-256), so that
    /// the same recipe always gives the same image.
    pub fn derived(name: &str) -> Guid {
        let digest = Sha256::digest(name.as_bytes());
        let mut bytes = [0; 16];
        bytes.copy_from_slice(&digest[..16]);
        let version_and_variant =
            u128::from_be_bytes(bytes) & !(0xf << 76 | 0x3 << 62) | (0x8 << 76 | 0x2 << 62);
        Guid(version_and_variant)
    }

    /// As it stands on disk: the first three fields little-endian, the rest as they are.
    pub fn to_disk(self) -> [u8; 16] {
        let mut bytes = self.0.to_be_bytes();
        bytes[..4].reverse();
        bytes[4..6].reverse();
        bytes[6..8].reverse();
        bytes
    }

    pub(super) fn from_disk(mut bytes: [u8; 16]) -> Guid {
        bytes[..4].reverse();
        bytes[4..6].reverse();
        bytes[6..8].reverse();
        Guid(u128::from_be_bytes(bytes))
    }
}

impl fmt::Display for Guid {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let hex = format!("{:032x}", self.0);
        let (a, b, c, d, e) = (&hex[..8], &hex[8..12], &hex[12..16], &hex[16..20], &hex[20..]);
        write!(f, "{a}-{b}-{c}-{d}-{e}")
    }
}

impl fmt::Debug for Guid {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "Guid({self})")
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_guid_is_written_as_its_text_says() {
        assert_eq!(Guid::ESP.to_string(), "c12a7328-f81f-11d2-ba4b-00a0c93ec93b");
        assert_eq!(Guid::from_disk(Guid::ESP.to_disk()), Guid::ESP);
        let derived = Guid::derived("x").to_string();
        assert_eq!(&derived[14..15], "8", "{derived}");
        assert!("89ab".contains(&derived[19..20]), "{derived}");
    }
}
