//! A directory's life, firmware's part in it included, and what a torn sector makes of it. What is
//! listed and what boots is read by code of its own here.

use super::*;

/// Clusters of the two runs, and their length.
const A: u32 = 30;
const B: u32 = 40;
const BYTES: u32 = 10 * 4096;
const RUNS: Runs = Runs { first: [A, B], bytes: BYTES };

fn parse(sector: &Sector) -> Directory {
    Directory::parse(sector, RUNS).unwrap()
}

fn sector(entries: &[entry::Bytes]) -> Sector {
    let mut sector = [0; SECTOR];
    for (place, entry) in sector.chunks_mut(32).zip(entries) {
        place.copy_from_slice(entry);
    }
    sector
}

fn dots() -> [entry::Bytes; 2] {
    [b".          ", b"..         "].map(|name| {
        let mut entry = entry::file(name, 4, 0);
        entry[11] = 0x10;
        entry
    })
}

/// As the builder makes it.
fn made() -> Sector {
    let [dot, dots] = dots();
    let a = entry::file(b"SLOTA   OFF", A, BYTES);
    let b = entry::file(b"SLOTB   OFF", B, BYTES);
    sector(&[dot, dots, entry::long("p1.efi", &a[..11]), a, b])
}

/// What EDK2 does when the loader counts a try: the old entries deleted, new ones appended, with a
/// short name of its own.
fn count_try(sector: &Sector) -> Sector {
    let mut entries: Vec<entry::Bytes> = sector.as_chunks::<32>().0.to_vec();
    let listed = list(sector);
    let (name, slot, cluster) =
        listed.iter().rfind(|(name, ..)| name.contains('+')).expect("nothing is on trial").clone();
    let old = Name::parse(&name).unwrap();
    let (left, done) = old.tries.unwrap();
    let new = Name { tries: Some((left - 1, done + 1)), ..old }.to_string();
    let short: String = new.to_ascii_uppercase().replace(['+', '.'], "_").chars().take(6).collect();
    let short: [u8; 11] = format!("{short}~1EFI").into_bytes().try_into().unwrap();
    (entries[slot][0], entries[slot - 1][0]) = (0xe5, 0xe5);
    let end = entries.iter().position(|entry| entry[0] == 0).expect("it has no room");
    entries[end] = entry::long(&new, &short);
    entries[end + 1] = entry::file(&short, cluster, BYTES);
    self::sector(&entries)
}

/// What other firmware may do: the new entries take the places of the old ones.
fn count_try_in_place(sector: &Sector) -> Sector {
    let mut entries: Vec<entry::Bytes> = count_try(sector).as_chunks::<32>().0.to_vec();
    let end = entry::end(entries.as_flattened());
    let (_, old, _) = list(sector).into_iter().rfind(|(name, ..)| name.contains('+')).unwrap();
    entries.swap(old - 1, end - 2);
    entries.swap(old, end - 1);
    entries[end - 2..end].fill([0; 32]);
    self::sector(&entries)
}

/// Names, places and clusters of the files in a sector, read as firmware reads them.
fn list(sector: &Sector) -> Vec<(String, usize, u32)> {
    let mut files = vec![];
    for slot in 2..16 {
        let entry = &sector[slot * 32..][..32];
        match entry[0] {
            0 => break,
            0xe5 => continue,
            _ if entry[11] == 0x0f => continue,
            _ => {}
        }
        let sum = entry[..11].iter().fold(0u8, |sum, b| sum.rotate_right(1).wrapping_add(*b));
        let before = &sector[(slot - 1) * 32..][..32];
        let long = before[0] == 0x41 && before[11] == 0x0f && before[13] == sum;
        let name = if long {
            let places = (1..11).chain(14..26).chain(28..32);
            let bytes: Vec<u8> = places.map(|at| before[at]).collect();
            let low = bytes.chunks(2).map(|pair| pair[0]).take_while(|&byte| byte != 0);
            low.take_while(|&byte| byte != 0xff).map(char::from).collect()
        } else {
            let text = String::from_utf8_lossy(&entry[..11]).into_owned();
            format!("{}.{}", text[..8].trim_end(), text[8..].trim_end())
        };
        let cluster = u32::from(entry[26]) + 256 * u32::from(entry[27]);
        files.push((name, slot, cluster));
    }
    files
}

/// `. .. p1.efi SLOTA.OFF` of a sector, `-` being a deleted entry.
fn show(sector: &Sector) -> String {
    let shown = sector.chunks(32).take_while(|entry| entry[0] != 0).map(|entry| match entry {
        [0xe5, ..] => "-".to_owned(),
        entry if entry[11] == 0x0f => {
            let units: Vec<u8> =
                [1..11, 14..26, 28..32].into_iter().flatten().map(|at| entry[at]).collect();
            let name = units.chunks(2).map(|pair| pair[0]).take_while(|&c| c != 0 && c != 0xff);
            name.map(char::from).collect()
        }
        entry => String::from_utf8_lossy(&entry[..11]).replace(' ', ""),
    });
    shown.collect::<Vec<_>>().join(" ")
}

fn last(steps: Result<Vec<Sector>, Cannot>) -> Sector {
    *steps.unwrap().last().unwrap()
}

/// Every kind of state that an upgrade goes through, with the side that may change.
fn states() -> Vec<(Side, Sector)> {
    let mut states = vec![(Side::B, made())];
    let mut now = made();
    for side in [Side::B, Side::A, Side::B] {
        for sector in parse(&now).clear(side).unwrap() {
            states.push((side, sector));
        }
        now = last(parse(&states[states.len() - 1].1).arm(side, 3));
        states.push((side, count_try_in_place(&now)));
        states.push((side, now));
        for _ in 0..3 {
            let now = count_try(&states[states.len() - 1].1);
            states.push((side, now));
        }
        now = last(parse(&states[states.len() - 3].1).bless(side));
        states.push((side.other(), now));
        states.push((side.other(), last(parse(&now).try_again(side.other(), 1))));
    }
    states
}

#[test]
fn a_system_is_armed_tried_and_blessed_and_the_next_one_takes_the_other_side() {
    let mut now = made();
    assert_eq!(show(&now), ". .. p1.efi SLOTAOFF SLOTBOFF");
    assert_eq!(parse(&now).entry(Side::A), Entry::Blessed { number: 1 });
    assert_eq!(parse(&now).entry(Side::B), Entry::Off);
    now = last(parse(&now).clear(Side::B));
    assert_eq!(show(&now), ". .. p1.efi SLOTAOFF - SLOTBOFF");
    let cleared = now;
    let armed = parse(&now).arm(Side::B, 3).unwrap();
    assert_eq!(armed.len(), 1, "arming is one sector");
    now = armed[0];
    assert_eq!(show(&now), ". .. p1.efi SLOTAOFF p2+3-0.efi SLOTBOFF");
    let changed = (0..16).filter(|slot| now[slot * 32..][..32] != cleared[slot * 32..][..32]);
    assert_eq!(changed.collect::<Vec<_>>(), [4], "and of it one entry");
    now = count_try(&now);
    assert_eq!(show(&now), ". .. p1.efi SLOTAOFF - - p2+2-1.efi P2_2-1~1EFI");
    assert_eq!(parse(&now).entry(Side::B), Entry::Counted { number: 2, left: 2, done: 1 });
    let trial = (Side::B, parse(&now).entry(Side::B));
    assert_eq!(parse(&now).boots(), [trial, (Side::A, Entry::Blessed { number: 1 })]);
    let bad = count_try(&count_try(&now));
    assert_eq!(show(&bad), ". .. p1.efi SLOTAOFF - - - - - - p2+0-3.efi P2_0-3~1EFI");
    assert_eq!(parse(&bad).boots()[0].0, Side::A);
    let condemned = parse(&bad).clear(Side::B).unwrap();
    assert_eq!(condemned.len(), 1, "condemning is one sector");
    assert_eq!(show(&condemned[0]), show(&cleared));
    let blessed = parse(&now).bless(Side::B).unwrap();
    assert_eq!(blessed.len(), 1, "blessing is one sector");
    now = blessed[0];
    assert_eq!(show(&now), ". .. p1.efi SLOTAOFF p2.efi SLOTBOFF");
    assert_eq!(parse(&now).bless(Side::B), Ok(vec![]));
    let again = parse(&now).try_again(Side::A, 1).unwrap();
    assert_eq!(again.len(), 1);
    assert_eq!(show(&again[0]), ". .. p3+1-0.efi SLOTAOFF p2.efi SLOTBOFF");
    assert_eq!(parse(&again[0]).boots()[0].0, Side::A);
    now = last(parse(&now).clear(Side::A));
    assert_eq!(show(&now), ". .. - SLOTAOFF p2.efi SLOTBOFF");
    assert_eq!(parse(&now).clear(Side::A), Ok(vec![]));
    now = last(parse(&now).arm(Side::A, 3));
    assert_eq!(show(&now), ". .. p3+3-0.efi SLOTAOFF p2.efi SLOTBOFF");
    let reused = count_try_in_place(&now);
    assert_eq!(show(&reused), ". .. p3+2-1.efi P3_2-1~1EFI p2.efi SLOTBOFF");
    let steps = parse(&reused).bless(Side::A).unwrap();
    assert_eq!(steps.len(), 2, "its short name goes first, alone");
    assert_eq!(show(&steps[1]), ". .. p3.efi SLOTAOFF p2.efi SLOTBOFF");
    now = last(parse(&count_try(&now)).bless(Side::A));
    assert_eq!(show(&now), ". .. p3.efi SLOTAOFF p2.efi SLOTBOFF");
}

#[test]
fn what_an_edit_is_not_for_is_refused() {
    let made = parse(&made());
    let armed = parse(&last(parse(&last(made.clear(Side::B))).arm(Side::B, 3)));
    let blessed = parse(&last(armed.bless(Side::B)));
    for (found, expected) in [
        (made.clear(Side::A), Cannot::NothingElse),
        (armed.clear(Side::A), Cannot::NothingElse),
        (armed.arm(Side::B, 3), Cannot::State("cleared")),
        (made.bless(Side::B), Cannot::State("on trial")),
        (made.try_again(Side::B, 1), Cannot::State("trusted")),
        (armed.try_again(Side::A, 1), Cannot::NothingElse),
        (blessed.arm(Side::A, 3), Cannot::State("cleared")),
    ] {
        assert_eq!(found, Err(expected));
    }
    let [dot, dots] = dots();
    let a = entry::file(b"SLOTA   OFF", A, BYTES);
    let b = entry::file(b"SLOTB   OFF", B, BYTES);
    let highest = sector(&[dot, dots, entry::long("p9999.efi", &a[..11]), a, b]);
    assert_eq!(parse(&highest).arm(Side::B, 3), Err(Cannot::Numbers));
    let gone = entry::deleted();
    let late = [&[dot, dots, b][..], &[gone; 8], &[entry::long("p1.efi", &a[..11]), a]].concat();
    assert_eq!(parse(&sector(&late)).arm(Side::B, 3), Err(Cannot::Room));
    let foreign = sector(&[dot, dots, entry::file(b"SLOTA   EFI", A, BYTES), b]);
    assert_eq!(parse(&foreign).entry(Side::A), Entry::Foreign("SLOTA.EFI".into()));
}

#[test]
fn what_is_not_ours_is_not_touched() {
    let [dot, dots] = dots();
    let a = entry::file(b"SLOTA   OFF", A, BYTES);
    let other = entry::file(b"OTHER   EFI", 77, BYTES);
    let short = entry::file(b"SLOTB   OFF", B, BYTES - 1);
    let mut part = entry::long("or-longer.efi", &a[..11]);
    part[0] = 1;
    let mut label = a;
    label[11] = 8;
    for entries in [
        &[dot, dots, other][..],
        &[dot, dots, short],
        &[dot, a],
        &[dot, dots, part, a],
        &[dot, dots, label],
        &[entry::deleted(), dot, dots],
    ] {
        assert!(Directory::parse(&sector(entries), RUNS).is_err(), "{}", show(&sector(entries)));
    }
}

/// All edits of a state, each with its name; `true` if it may make its side trusted.
fn edits(now: &Sector, side: Side) -> Vec<(&'static str, Vec<Sector>)> {
    let directory = parse(now);
    let all = [
        ("clear", directory.clear(side)),
        ("arm", directory.arm(side, 3)),
        ("bless", directory.bless(side)),
        ("try_again", directory.try_again(side, 1)),
    ];
    all.into_iter().filter_map(|(name, steps)| Some((name, steps.ok()?))).collect()
}

/// Every state that a torn write of `new` over `old` may leave: each changed entry old or new.
fn torn(old: &Sector, new: &Sector) -> Vec<Sector> {
    let changed: Vec<usize> =
        (0..16).filter(|slot| old[slot * 32..][..32] != new[slot * 32..][..32]).collect();
    (0..1 << changed.len())
        .map(|chosen: u32| {
            let mut torn = *old;
            for (bit, slot) in changed.iter().enumerate() {
                if chosen >> bit & 1 == 1 {
                    torn[slot * 32..][..32].copy_from_slice(&new[slot * 32..][..32]);
                }
            }
            torn
        })
        .collect()
}

/// Names under which the loader would boot a cluster.
fn bootable(sector: &Sector, cluster: u32) -> Vec<String> {
    let own = list(sector).into_iter().filter(|(_, _, found)| *found == cluster);
    own.map(|(name, ..)| name).filter(|name| name.to_lowercase().ends_with(".efi")).collect()
}

#[test]
fn no_torn_sector_loses_the_good_system_or_leaves_a_trial_uncounted() {
    let mut seen = 0;
    for (side, now) in states() {
        let (own, good) = (RUNS.cluster(side), RUNS.cluster(side.other()));
        let kept = list(&now).into_iter().find(|(_, _, cluster)| *cluster == good).unwrap();
        let bytes = now[(kept.1 - 1) * 32..][..64].to_vec();
        let was = bootable(&now, own);
        for (edit, steps) in edits(&now, side) {
            let mut old = now;
            for new in steps {
                for torn in torn(&old, &new) {
                    seen += 1;
                    let what = format!("{edit}: {} → {}: {}", show(&old), show(&new), show(&torn));
                    assert_eq!(torn[(kept.1 - 1) * 32..][..64], bytes, "{what}");
                    assert_eq!(bootable(&torn, good), std::slice::from_ref(&kept.0), "{what}");
                    for name in bootable(&torn, own) {
                        let trusted = edit == "bless" || was.contains(&name);
                        assert!(trusted || name.contains('+'), "{name}: {what}");
                    }
                    parse(&torn);
                }
                old = new;
            }
        }
    }
    assert!(seen > 300, "only {seen} states");
}

#[test]
fn every_written_sector_is_a_sound_directory() {
    for (side, now) in states() {
        for (edit, steps) in edits(&now, side) {
            for sector in steps {
                let listed = list(&sector);
                let what = format!("{edit}: {} → {}", show(&now), show(&sector));
                let mut clusters: Vec<u32> = listed.iter().map(|file| file.2).collect();
                clusters.sort();
                assert_eq!(clusters, [A, B], "{what}");
                let longs = |entry: &&[u8]| entry[0] == 0x41 && entry[11] == 0x0f;
                let longs = sector.chunks(32).filter(longs).count();
                let used = listed.iter().filter(|file| file.0.contains(".efi")).count();
                assert_eq!(longs, used, "a long name belongs to nothing: {what}");
                let dates = |slot: usize| [16, 18, 24].map(|at| sector[slot * 32 + at]);
                assert!(listed.iter().all(|file| dates(file.1) == [0x21; 3]), "{what}");
            }
        }
    }
}

#[test]
fn the_next_sector_after_a_torn_one_is_sound_again() {
    for (side, now) in states() {
        for (_, steps) in edits(&now, side) {
            let Some(first) = steps.first() else { continue };
            for torn in torn(&now, first) {
                let Ok(cleared) = parse(&torn).clear(side) else { continue };
                let cleared = cleared.last().copied().unwrap_or(torn);
                assert_eq!(parse(&cleared).entry(side), Entry::Off);
                assert_eq!(list(&cleared).len(), 2, "{} → {}", show(&torn), show(&cleared));
                assert!(parse(&cleared).arm(side, 3).is_ok());
            }
        }
    }
}

#[test]
fn no_sector_upsets_a_reader_or_an_edit() {
    let mut random = fastrand::Rng::with_seed(6);
    let states = states();
    for round in 0..5_000 {
        let mut bytes = states[round % states.len()].1;
        match round % 4 {
            0 => random.fill(&mut bytes),
            1 => bytes[random.usize(64..SECTOR)] = random.u8(..),
            2 => bytes[64..].rotate_left(random.usize(0..14) * 32),
            _ => {
                for _ in 0..random.usize(1..12) {
                    let (from, to) = (random.usize(0..16) * 32, random.usize(2..16) * 32);
                    bytes.copy_within(from..from + 32, to);
                    bytes[to + random.usize(0..32)] ^= 1 << random.u8(0..8);
                }
            }
        }
        let Ok(directory) = Directory::parse(&bytes, RUNS) else { continue };
        directory.boots();
        for side in [Side::A, Side::B] {
            for (_, steps) in edits(&bytes, side) {
                assert!(steps.iter().all(|sector| Directory::parse(sector, RUNS).is_ok()));
            }
        }
    }
}

fn locate(image: &[u8]) -> Result<Esp, NotOurs> {
    Esp::locate(|offset, length| {
        assert!(length <= 65536 && length.is_multiple_of(SECTOR) && offset.is_multiple_of(512));
        let start = usize::try_from(offset).map_err(io::Error::other)?;
        let bytes = start.checked_add(length).and_then(|end| image.get(start..end));
        bytes.map(<[u8]>::to_vec).ok_or(io::ErrorKind::UnexpectedEof.into())
    })
}

#[test]
fn an_esp_is_found_even_when_a_torn_sector_has_lost_an_entry() {
    let image = testing::image(b"UKI", 20);
    let esp = locate(&image).unwrap();
    let start = testing::run(Side::A, 20) as u64;
    assert_eq!(esp.directory, testing::directory() as u64);
    assert_eq!(esp.run(Side::A), start..start + 20 * 4096);
    assert_eq!(esp.run(Side::B), start + 20 * 4096..start + 40 * 4096);
    let entry = |slot: usize| testing::directory() + slot * 32;
    for lost in [[3, 2], [4, 4]] {
        let mut image = image.clone();
        lost.iter().for_each(|&slot| image[entry(slot)] = 0xe5);
        assert_eq!(locate(&image).unwrap(), esp);
    }
}

#[test]
fn an_esp_that_is_not_as_it_was_made_is_not_written() {
    let image = testing::image(b"UKI", 20);
    let (table, entry) = (SECTOR, |slot: usize| testing::directory() + slot * 32);
    let second = 2 * (testing::FIRST as usize + 1);
    for (what, at, byte) in [
        ("no boot sector", 510, 0),
        ("sectors of 4096 bytes", 12, 16),
        ("clusters of 512 bytes", 13, 1),
        ("no clusters at all", 13, 0),
        ("another file system's size", 20, 0),
        ("a table that is too short", 22, 1),
        ("a file that continues elsewhere", table + second, 99),
        ("a file that ends early", table + second + 1, 0xff),
        ("a third file", entry(4) + 26, 77),
        ("a file of another length", entry(4) + 28, 1),
        ("two files less", entry(3), 0xe5),
    ] {
        let mut image = image.clone();
        image[at] = byte;
        if what == "two files less" {
            image[entry(4)] = 0xe5;
        }
        assert!(locate(&image).is_err(), "{what}");
    }
    assert!(locate(&image[..20_000]).is_err());
}

#[test]
fn no_image_upsets_who_looks_for_the_directory() {
    let image = testing::image(b"UKI", 20);
    let mut random = fastrand::Rng::with_seed(6);
    let head = testing::directory() + 512;
    for _ in 0..300 {
        let mut image = image[..head].to_vec();
        for _ in 0..random.usize(1..4) {
            let near = [0..64, 0..SECTOR, SECTOR..600, head - 512..head];
            let place = near[random.usize(..near.len())].clone();
            image[random.usize(place)] = random.u8(..);
        }
        let _ = locate(&image);
    }
}
