//! Device paths: how firmware names a file on a volume (UEFI 2.10, 10.3).

use core::mem::MaybeUninit;

use r_efi::protocols::device_path::{End, Media, TYPE_END, TYPE_MEDIA};

/// Bytes of the longest path that is followed. Those of disks have less than a hundred.
pub const LONGEST: usize = 1024;
/// Type, subtype and length, which begin each node.
pub const HEADER: usize = 4;
/// What ends a path.
const END: [u8; HEADER] = [TYPE_END, End::SUBTYPE_ENTIRE, HEADER as u8, 0];

/// What the header of a node says.
#[derive(Debug, PartialEq, Eq)]
pub enum Node {
    /// Another one comes so many bytes after its start.
    Inner(usize),
    /// The path is over.
    End,
}

impl Node {
    /// `None`: it makes no sense.
    pub fn read(header: [u8; HEADER]) -> Option<Node> {
        let [kind, _, low, high] = header;
        match usize::from(u16::from_le_bytes([low, high])) {
            _ if kind == TYPE_END => Some(Node::End),
            length @ HEADER.. => Some(Node::Inner(length)),
            _ => None,
        }
    }
}

/// The path to `file`, which ends with a zero, on the volume that the nodes `volume` lead to.
/// `None`: it is longer than `room`.
pub fn join(volume: &[u8], file: &[u16], room: &mut [MaybeUninit<u8>; LONGEST]) -> Option<*mut u8> {
    let length = HEADER.checked_add(file.len().checked_mul(2)?)?;
    let [low, high] = u16::try_from(length).ok()?.to_le_bytes();
    let header = [TYPE_MEDIA, Media::SUBTYPE_FILE_PATH, low, high];
    let name = file.iter().flat_map(|unit| unit.to_le_bytes());
    let mut places = room.iter_mut();
    for byte in volume.iter().copied().chain(header).chain(name).chain(END) {
        places.next()?.write(byte);
    }
    Some(room.as_mut_ptr().cast())
}

#[cfg(test)]
mod tests {
    extern crate std;

    use std::vec::Vec;

    use super::*;

    #[test]
    fn a_header_says_where_the_next_node_is() {
        let table = [
            ([4, 1, 42, 0], Some(Node::Inner(42))),
            ([1, 1, 4, 0], Some(Node::Inner(4))),
            ([4, 4, 2, 1], Some(Node::Inner(258))),
            ([1, 1, 3, 0], None),
            ([0, 0, 0, 0], None),
            ([0x7f, 0xff, 4, 0], Some(Node::End)),
            // The end of one instance: a volume has one.
            ([0x7f, 1, 4, 0], Some(Node::End)),
        ];
        for (header, expected) in table {
            assert_eq!(Node::read(header), expected, "{header:?}");
        }
    }

    /// What [`join`] has written.
    #[allow(unsafe_code)]
    fn joined(volume: &[u8], file: &[u16]) -> Option<Vec<u8>> {
        let mut room = [MaybeUninit::new(0xaa); LONGEST];
        join(volume, file, &mut room)?;
        // SAFETY: all of it was initialised above.
        Some(room.iter().map(|byte| unsafe { byte.assume_init() }).collect())
    }

    #[test]
    fn a_file_follows_its_volume() {
        let path = joined(&[1, 1, 5, 0, 9], &[u16::from(b'\\'), u16::from(b'a'), 0]).unwrap();
        let expected =
            [1, 1, 5, 0, 9, 4, 4, 10, 0, b'\\', 0, b'a', 0, 0, 0, 0x7f, 0xff, 4, 0, 0xaa];
        assert_eq!(path[..expected.len()], expected);
    }

    #[test]
    fn a_path_that_is_too_long_is_refused() {
        // Beside the volume: a header, one character, the end.
        let longest = LONGEST - HEADER - 2 - HEADER;
        assert!(joined(&[0; LONGEST][..longest], &[0]).is_some());
        assert!(joined(&[0; LONGEST][..longest + 1], &[0]).is_none());
        assert!(joined(&[], &[0; 0x8000]).is_none());
    }
}
