//! Programs as small as they may be, and what is wrong with others.

use object::elf::{DT_NEEDED, DT_RELACOUNT, DT_RELR, PF_R, PT_INTERP, PT_TLS};

use super::*;

const R: u32 = PF_R.0;
const RX: u32 = PF_R.0 | PF_X.0;
const RW: u32 = PF_R.0 | PF_W.0;

/// A segment: type, flags, address, bytes, and its length in memory.
type Segment = (u32, u32, u64, Vec<u8>, u64);

fn load(flags: u32, address: u64, bytes: &[u8]) -> Segment {
    (PT_LOAD.0, flags, address, bytes.to_vec(), bytes.len() as u64)
}

fn dynamic(entries: &[(i64, u64)]) -> Segment {
    let words = entries.iter().flat_map(|(tag, value)| [*tag as u64, *value]);
    let bytes: Vec<u8> = words.flat_map(u64::to_le_bytes).collect();
    let length = bytes.len() as u64;
    (PT_DYNAMIC.0, RW, 0x3000, bytes, length)
}

/// An ELF program for a machine, with its first instruction at `entry`.
fn elf(machine: u16, entry: u64, segments: &[Segment]) -> Vec<u8> {
    let mut file = b"\x7fELF\x02\x01\x01\0\0\0\0\0\0\0\0\0\x03\0".to_vec();
    file.extend(machine.to_le_bytes());
    file.extend(1u32.to_le_bytes());
    file.extend(entry.to_le_bytes());
    file.extend(64u64.to_le_bytes());
    file.extend([0; 12]);
    for value in [64, 56, segments.len() as u16, 64, 0, 0] {
        file.extend(value.to_le_bytes());
    }
    let mut offset = 64 + 56 * segments.len() as u64;
    for (kind, flags, address, bytes, memory) in segments {
        file.extend(kind.to_le_bytes());
        file.extend(flags.to_le_bytes());
        let length = bytes.len() as u64;
        for value in [offset, *address, *address, length, *memory, 1] {
            file.extend(value.to_le_bytes());
        }
        offset += length;
    }
    segments.iter().for_each(|segment| file.extend(&segment.3));
    file
}

/// Text, constants before it and data behind it, in part zeros; nothing is wanted of a loader.
fn sound() -> Vec<Segment> {
    let ended = [(DT_RELASZ.0, 0), (DT_NULL.0, 0)];
    let data = (PT_LOAD.0, RW, 0x26a0, vec![3; 5], 0x1000);
    vec![load(R, 0, &[1; 0x394]), load(RX, 0x1394, &[2; 0x309]), data, dynamic(&ended)]
}

fn u16_at(file: &[u8], at: usize) -> u16 {
    u16::from_le_bytes(file[at..at + 2].try_into().unwrap())
}

fn u32_at(file: &[u8], at: usize) -> u32 {
    u32::from_le_bytes(file[at..at + 4].try_into().unwrap())
}

#[test]
fn headers_are_these_bytes() {
    let file = program(&elf(EM_X86_64.0, 0x1394, &sound())).unwrap();
    assert_eq!((&file[..2], u32_at(&file, 0x3c)), (&b"MZ"[..], 0x40));
    let coff = [
        "50450000 6486 0500 00000000 00000000 00000000 f000 2200", // PE, machine, sections, …
        "0b02 0000 00080000 00100000 00000000 94230000 00200000",  // sizes, entry, code
        "0000000000000000 00100000 00020000",                      // base, alignments
        "0000 0000 0000 0000 0000 0000 00000000",                  // versions
        "00700000 00040000 00000000 0a00 6001", // image, headers, checksum, subsystem, NX
    ];
    let expected: String = coff.concat().replace(' ', "");
    let found: String =
        file[0x40..0x40 + expected.len() / 2].iter().map(|byte| format!("{byte:02x}")).collect();
    assert_eq!(found, expected);
    // The sixth directory: relocations.
    let directory = 0x40 + 24 + 112 + 5 * 8;
    assert_eq!((u32_at(&file, directory), u32_at(&file, directory + 4)), (0x6000, 12));
}

#[test]
fn each_segment_is_a_section_one_page_further_on() {
    let file = program(&elf(EM_X86_64.0, 0x1394, &sound())).unwrap();
    let sections: Vec<(String, [u32; 4], u32)> = (0..5)
        .map(|number| {
            let at = 0x40 + 24 + 0xf0 + number * 40;
            let name = String::from_utf8_lossy(&file[at..at + 8]).trim_end_matches('\0').to_owned();
            let places = [8, 12, 16, 20].map(|field| u32_at(&file, at + field));
            (name, places, u32_at(&file, at + 36))
        })
        .collect();
    // Length in memory, address, length in the file, offset there.
    let sbat = SBAT.len() as u32;
    let expected = [
        (".rodata", [0x394, 0x1000, 0x400, 0x400], 0x4000_0040),
        (".text", [0x69d, 0x2000, 0x800, 0x800], 0x6000_0020),
        (".data", [0x16a0, 0x3000, 0x800, 0x1000], 0xc000_0040),
        (".sbat", [sbat, 0x5000, 0x200, 0x1800], 0x4000_0040),
        (".reloc", [12, 0x6000, 0x200, 0x1a00], 0x4200_0040),
    ];
    assert_eq!(sections, expected.map(|(name, places, kind)| (name.to_owned(), places, kind)));
    assert_eq!(file.len(), 0x1c00);
    // What was at an address is there still, one page on.
    assert_eq!(file[0x400..0x400 + 0x394], [1; 0x394]);
    assert_eq!((file[0x800 + 0x393], &file[0x800 + 0x394..][..0x309]), (0, &[2; 0x309][..]));
    assert_eq!((file[0x1000 + 0x69f], &file[0x1000 + 0x6a0..][..6]), (0, &[3, 3, 3, 3, 3, 0][..]));
}

#[test]
fn both_machines_have_their_number() {
    for (machine, expected) in [(EM_X86_64, 0x8664), (EM_AARCH64, 0xaa64)] {
        let file = program(&elf(machine.0, 0, &[load(RX, 0, &[0; 4])])).unwrap();
        assert_eq!(u16_at(&file, 0x44), expected);
    }
}

#[test]
fn what_is_not_understood_is_refused() {
    let with = |segment: Segment| [sound(), vec![segment]].concat();
    let wanting = |tag: i64, value| vec![load(RX, 0, &[0; 4]), dynamic(&[(tag, value), (0, 0)])];
    let table: Vec<(Vec<Segment>, &str)> = vec![
        (wanting(DT_RELASZ.0, 24), "it wants relocations"),
        (wanting(DT_RELACOUNT.0, 1), "it wants something of its loader: dynamic tag"),
        (wanting(DT_RELR.0, 0), "it wants something of its loader: dynamic tag"),
        (wanting(DT_NEEDED.0, 1), "it wants something of its loader: dynamic tag"),
        (vec![load(RX, 0, &[0; 4]), dynamic(&[])], "its dynamic segment has no end"),
        (with((PT_INTERP.0, R, 0, vec![0], 1)), "it has a segment of an unknown type"),
        (with((PT_TLS.0, R, 0, vec![0], 1)), "it has a segment of an unknown type"),
        (vec![load(RX | RW, 0, &[0; 4])], "a segment is both code and writable"),
        (vec![load(R, 0, &[0; 4])], "it doesn't begin in code"),
        (vec![load(RX, 0x1000, &[0; 4])], "it doesn't begin in code"),
        (vec![load(R, 0, &[0; 4]), load(RX, 0x800, &[0; 4])], "segments share a page"),
        (vec![load(RX, 0x1000, &[0; 4]), load(R, 0, &[0; 4])], "segments share a page"),
        (vec![(PT_LOAD.0, RX, 0, vec![0; 4], 3)], "a segment has more bytes than memory"),
        (vec![(PT_LOAD.0, RX, 0, vec![0; 4], 1 << 40)], "it needs more memory than"),
        (vec![load(RX, u64::MAX, &[0; 4])], "it needs more memory than"),
    ];
    for (segments, expected) in table {
        let error = format!("{:#}", program(&elf(EM_X86_64.0, 0, &segments)).unwrap_err());
        assert!(error.contains(expected), "{error} is not `{expected}`");
    }
    let error = |bytes: &[u8]| format!("{:#}", program(bytes).unwrap_err());
    assert!(error(&elf(40, 0, &sound())).contains("no firmware is known for its machine"));
    let mut fixed = elf(EM_X86_64.0, 0x1394, &sound());
    fixed[16] = 2;
    assert!(error(&fixed).contains("it isn't position-independent"));
    let mut big = elf(EM_X86_64.0, 0x1394, &sound());
    big[5] = 2;
    assert!(error(&big).contains("it is no program"));
}

#[test]
fn a_program_that_is_cut_short_or_spoilt_is_an_error_and_no_panic() {
    let whole = elf(EM_X86_64.0, 0x1394, &sound());
    for length in 0..whole.len() {
        assert!(program(&whole[..length]).is_err(), "{length} bytes");
    }
    for at in 0..64 + 4 * 56 {
        for value in [0, 1, 0x7f, 0xff] {
            let mut spoilt = whole.clone();
            spoilt[at] = value;
            drop(program(&spoilt));
        }
    }
}
