//! The model, with toy disks: a letter is a sector.

use std::io::Write as _;

use super::*;

const ALL: Effort = Effort { all_of: 6, picks: 4, tears: 8 };

fn bytes(letters: &str) -> Vec<u8> {
    letters.bytes().flat_map(|letter| [letter; SECTOR]).collect()
}

fn write(sector: u64, letters: &str) -> Entry {
    Entry::Write { sector, bytes: bytes(letters), lasts: false }
}

fn lasting(sector: u64, letters: &str) -> Entry {
    Entry::Write { sector, bytes: bytes(letters), lasts: true }
}

/// All states of a disk, sorted, and those of them that are settled, in their order.
fn states(disk: &str, log: &[Entry], effort: Effort) -> (Vec<String>, Vec<String>) {
    let mut file = tempfile::NamedTempFile::new().unwrap();
    file.write_all(&bytes(disk)).unwrap();
    let (mut all, mut settled) = (vec![], vec![]);
    for state in Cuts::of(file.path(), log, effort).unwrap() {
        let read = state.read(0, disk.len() as u64);
        let text: String = read.chunks(SECTOR).map(|sector| char::from(sector[0])).collect();
        match state.is_settled() {
            true => settled.push(text.clone()),
            false => assert!(!all.contains(&text), "{text} comes twice"),
        }
        all.push(text);
    }
    all.sort();
    all.dedup();
    (all, settled)
}

#[test]
fn the_states_of_a_small_log_are_exactly_these() {
    let flush = Entry::Flush;
    let table: [(&str, Vec<Entry>, &[&str]); 8] = [
        ("nothing is written", vec![], &["...."]),
        ("one write is there or not", vec![write(1, "a")], &["....", ".a.."]),
        (
            "two writes come in any order, until a flush",
            vec![write(0, "a"), write(1, "b"), flush.clone(), write(2, "c")],
            &["....", ".b..", "a...", "ab..", "abc."],
        ),
        (
            "a flush between keeps the order",
            vec![write(0, "a"), flush.clone(), write(1, "b"), flush.clone()],
            &["....", "a...", "ab.."],
        ),
        (
            "a write is torn: any of its sectors are there",
            vec![write(0, "abc"), flush.clone()],
            &["....", "..c.", ".b..", ".bc.", "a...", "a.c.", "ab..", "abc."],
        ),
        (
            "of a torn write those sectors count that are new",
            vec![write(0, "abc"), flush.clone(), write(0, "abxy"), flush.clone()],
            &[
                "....", "..c.", ".b..", ".bc.", "a...", "a.c.", "ab..", "abc.", "abcy", "abx.",
                "abxy",
            ],
        ),
        (
            "the later of two writes to a sector wins",
            vec![write(0, "a"), write(0, "b"), write(0, "."), flush.clone()],
            &["....", "a...", "b..."],
        ),
        (
            "a lasting write is there when the next begins; what was loose still is",
            vec![write(0, "a"), lasting(1, "b"), write(2, "c")],
            &["....", ".b..", ".bc.", "a...", "ab..", "abc."],
        ),
    ];
    for (what, log, expected) in table {
        assert_eq!(states("....", &log, ALL).0, expected, "{what}");
    }
}

#[test]
fn what_a_flush_has_settled_is_told() {
    let log = [write(0, "ab"), Entry::Flush, write(0, "."), Entry::Flush, write(3, "x")];
    assert_eq!(states("....", &log, ALL).1, ["....", "ab..", ".b.."]);
}

#[test]
fn a_digest_is_that_of_the_content() {
    let mut file = tempfile::NamedTempFile::new().unwrap();
    file.write_all(&bytes("....")).unwrap();
    let log = [write(0, "ab"), Entry::Flush, write(0, "x"), Entry::Flush, write(0, ".")];
    let states: Vec<State> = Cuts::of(file.path(), &log, ALL).unwrap().collect();
    for one in &states {
        for other in &states {
            for range in [0..4, 0..1, 1..2, 2..4] {
                let length = range.end - range.start;
                let is_same = one.read(range.start, length) == other.read(range.start, length);
                assert_eq!(one.digest(range.clone()) == other.digest(range), is_same);
            }
        }
    }
}

#[test]
fn of_many_writes_a_sample_is_taken_with_its_extremes() {
    let letters = "abcdefghij";
    let writes =
        (0..).zip(letters.chars()).map(|(sector, letter)| write(sector, &letter.to_string()));
    let log: Vec<Entry> = writes.collect();
    let (all, _) = states("..........", &log, Effort { all_of: 3, picks: 3, tears: 2 });
    for extreme in ["..........", "a.........", ".........j", "abcdefghi.", ".bcdefghij", letters] {
        assert!(all.iter().any(|state| state == extreme), "{extreme} is missing in {all:?}");
    }
    assert!((16..=24).contains(&all.len()), "{all:?}");
    assert_eq!(
        states("..........", &log, ALL).0,
        states("..........", &log, ALL).0,
        "not repeatable"
    );
}
