use std::collections::BTreeMap;
use std::fs::{File, OpenOptions, Permissions};
use std::io::{Seek as _, SeekFrom, Write as _};
use std::os::unix::fs::{FileTypeExt as _, PermissionsExt as _, lchown, symlink};
use std::time::SystemTime;

use nix::sys::stat::Mode;
use nix::unistd::{Uid, mkfifo};

use super::*;
use crate::exchange;

fn system(number: u8) -> System {
    let root = appliance::hash::RootHash([number; 32]);
    System { root, version: format!("{number}.0.0"), data_format: 1 }
}

fn of_format(number: u8, data_format: u32) -> System {
    System { data_format, ..system(number) }
}

fn trial(number: u8) -> Boot {
    Boot { system: system(number), is_trial: true, is_other_blessed: true }
}

fn steady(number: u8) -> Boot {
    Boot { system: system(number), is_trial: false, is_other_blessed: false }
}

fn volumes() -> Vec<Volume> {
    let volume = |(path, immutable): (&str, &[&str])| Volume {
        path: path.into(),
        mode: 0o750,
        uid: 0,
        gid: 0,
        immutable: immutable.iter().map(|&pattern| pattern.to_owned()).collect(),
    };
    [("/etc/prose", &[][..]), ("/var/lib/prosody", &["*/http_file_share/*.bin"])].map(volume).into()
}

/// Data on a disk of the first system's.
struct World(tempfile::TempDir);

const UPLOAD: &str = "volumes/var/lib/prosody/up%2ex/http_file_share/a.bin";
const ARCHIVE: &str = "volumes/var/lib/prosody/x/archive/a.list";

impl World {
    fn new() -> World {
        // In memory: there, syncing doesn't wait for what others write.
        let world = World(tempfile::tempdir_in("/dev/shm").unwrap());
        for (path, text) in [
            ("settings.json", "old"),
            ("machine-id", "own"),
            ("volumes/etc/prose/env", "operator's"),
            (ARCHIVE, "old messages"),
            (UPLOAD, "a picture"),
        ] {
            world.put(path, text);
        }
        symlink("../nowhere", world.path().join("volumes/etc/prose/link")).unwrap();
        world.settle(&steady(1));
        world
    }

    fn put(&self, path: &str, text: &str) {
        let path = self.path().join(path);
        fs::create_dir_all(path.parent().unwrap()).unwrap();
        fs::write(path, text).unwrap();
    }

    /// As [`settle`], but without a process of its own.
    fn settle(&self, boot: &Boot) -> Settled {
        exchange::finish(self.path()).unwrap();
        let steps = Known::believed(self.path(), boot).unwrap().plan(boot).unwrap();
        let settled = carry_out(&steps, self.path(), boot, &volumes()).unwrap();
        clear_of(self.path(), false).unwrap();
        settled
    }

    /// What a trial does to the data: it changes, deletes and adds.
    fn migrate(&self) {
        let archive = self.path().join(ARCHIVE);
        OpenOptions::new().append(true).open(archive).unwrap().write_all(b", new ones").unwrap();
        self.put("settings.json", "newer");
        self.put("volumes/etc/prose/env", "changed");
        self.put("volumes/var/lib/new/x", "new");
        fs::remove_file(self.path().join(UPLOAD)).unwrap();
        self.put(&UPLOAD.replace("a.bin", "b.bin"), "another");
    }

    /// What services find: content, or where a link leads.
    fn seen(&self) -> BTreeMap<String, String> {
        let mut seen = BTreeMap::new();
        for name in [VOLUMES, SETTINGS, "machine-id"] {
            for found in Walk::new(self.path(), name) {
                let Found::Other(path, found) = found.unwrap() else { continue };
                let here = self.path().join(&path);
                let what = match found.is_symlink() {
                    true => fs::read_link(here).unwrap().display().to_string(),
                    false => fs::read_to_string(here).unwrap(),
                };
                seen.insert(path.display().to_string(), what);
            }
        }
        seen
    }

    fn path(&self) -> &Path {
        self.0.path()
    }

    fn has(&self, name: &str) -> bool {
        exists(&self.path().join(name)).unwrap()
    }

    fn copying<'a>(&'a self, volumes: &'a [Volume], marker: &'a Marker) -> Copying<'a> {
        Copying::new(self.path(), volumes, marker)
    }

    /// The power goes: of what was written since, but not synced, anything may be missing.
    fn tear(&self) {
        if !self.has(ASIDE) {
            return;
        }
        for found in Walk::new(self.path(), ASIDE) {
            let Found::Other(path, found) = found.unwrap() else { continue };
            if found.is_file() && found.nlink() == 1 {
                File::options()
                    .write(true)
                    .open(self.path().join(path))
                    .unwrap()
                    .set_len(1)
                    .unwrap();
            }
        }
    }
}

#[test]
fn what_is_done_follows_from_whose_data_it_is() {
    let marker = |of: Option<u8>, to: u8| Marker {
        of: of.map(|of| system(of).root),
        to: system(to),
        when: 0,
        exchange: Exchange::of([], ASIDE, FAILED),
    };
    let lonely = |number| Boot { is_other_blessed: false, ..trial(number) };
    let beside = |number| Boot { is_other_blessed: true, ..steady(number) };
    let back = |of, to| Step::SetBack(marker(of, to));
    for (record, kept, boot, expected) in [
        // A disk's first boot, and all those after it.
        (None, None, steady(1), vec![Step::Adopt(system(1))]),
        (Some(1), None, steady(1), vec![]),
        (Some(1), None, beside(1), vec![]),
        // A trial's first boot, and its next.
        (Some(1), None, trial(2), vec![Step::Keep]),
        (None, None, trial(2), vec![Step::Keep]),
        (Some(1), Some((Some(1), 2)), trial(2), vec![]),
        (Some(1), Some((Some(1), 2)), lonely(2), vec![]),
        // It was blessed; the data comes to know it late.
        (Some(1), Some((Some(1), 2)), steady(2), vec![Step::Adopt(system(2))]),
        (Some(2), Some((Some(1), 2)), beside(2), vec![Step::Adopt(system(2))]),
        // It failed.
        (Some(1), Some((Some(1), 2)), steady(1), vec![back(Some(1), 2)]),
        (None, Some((None, 2)), steady(1), vec![back(None, 2), Step::Adopt(system(1))]),
        // It failed, and something else is tried.
        (Some(1), Some((Some(1), 2)), trial(3), vec![back(Some(1), 2), Step::Keep]),
        // It was blessed, never booted again, and the one before gets another try, or is the one.
        (
            Some(1),
            Some((Some(1), 2)),
            Boot { is_other_blessed: true, ..trial(1) },
            vec![Step::Adopt(system(2)), Step::Keep],
        ),
        (
            Some(1),
            Some((Some(1), 2)),
            beside(1),
            vec![Step::Adopt(system(2)), Step::Adopt(system(1))],
        ),
        // Another system, which nobody tries: put there by hand.
        (Some(1), None, steady(3), vec![Step::Adopt(system(3))]),
    ] {
        let record = record.map(|of| Record { system: system(of), before: None });
        let known = Known { record, marker: kept.map(|(of, to)| marker(of, to)) };
        assert_eq!(known.plan(&boot), Ok(expected), "{known:?} {boot:?}");
    }
}

#[test]
fn a_format_that_is_not_known_is_left_alone() {
    let world = World::new();
    bless(world.path(), &of_format(2, 3)).unwrap();
    for boot in [trial(1), steady(1)] {
        let refused = Known::read(world.path()).unwrap().plan(&boot).unwrap_err().to_string();
        assert_eq!(
            refused,
            "cannot use the data: the data is of format 3, which version 2.0.0 wrote; version \
             1.0.0 knows 1 at most"
        );
    }
    let newer = Boot { system: of_format(4, 3), ..trial(4) };
    assert_eq!(Known::read(world.path()).unwrap().plan(&newer), Ok(vec![Step::Keep]));
    let refused = may_roll_back(world.path(), &volumes()).unwrap_err();
    assert_eq!(refused.code, Code::Downgrade);
    assert!(refused.message.starts_with("cannot roll back: the data is of format 3"));
}

#[test]
fn there_is_a_way_back_to_a_system_that_can_read_what_is_there() {
    let world = World::new();
    let may = || may_roll_back(world.path(), &volumes());
    assert_eq!(
        may().unwrap_err().message,
        "cannot roll back: the data doesn't say which formats the other system knows"
    );
    bless(world.path(), &system(2)).unwrap();
    assert_eq!(may(), Ok(()));
    // Said twice, it is as true as once.
    bless(world.path(), &system(2)).unwrap();
    assert_eq!(may(), Ok(()));
    assert_eq!(Known::read(world.path()).unwrap().record.unwrap().before, Some(system(1)));
}

#[test]
fn the_power_may_go_at_any_step_of_the_copy() {
    let volumes = volumes();
    let count = {
        let world = World::new();
        let marker = Marker::new(world.path(), &system(2)).unwrap();
        let mut copying = world.copying(&volumes, &marker);
        (0..).take_while(|_| copying.step().unwrap()).count()
    };
    assert!(count > 20, "{count}");
    for cut in 0..=count {
        for next_is_old in [false, true] {
            let world = World::new();
            let before = world.seen();
            let marker = Marker::new(world.path(), &system(2)).unwrap();
            let mut copying = world.copying(&volumes, &marker);
            for _ in 0..cut {
                assert!(copying.step().unwrap());
            }
            let is_kept = cut == count;
            assert_eq!(world.has(MARKER), is_kept);
            if !is_kept {
                world.tear();
            }
            assert_eq!(world.seen(), before, "cut after {cut}");
            if next_is_old {
                let settled = world.settle(&steady(1));
                assert_eq!(settled.set_back.is_some(), is_kept);
            } else {
                let settled = world.settle(&trial(2));
                assert_eq!(settled.kept.is_some(), !is_kept);
                assert!(world.has(MARKER));
                world.migrate();
                assert_ne!(world.seen(), before);
                assert!(world.settle(&steady(1)).set_back.is_some());
            }
            assert_eq!(world.seen(), before, "cut after {cut}");
            assert!(!world.has(MARKER) && !world.has(ASIDE));
            assert_eq!(world.settle(&steady(1)), Settled::default());
        }
    }
}

#[test]
fn a_failed_trial_leaves_the_data_as_it_was_and_its_own_beside_it() {
    let world = World::new();
    let before = world.seen();
    let kept = world.settle(&trial(2)).kept.unwrap();
    assert_eq!(kept.files, 4);
    world.migrate();
    let set_back = world.settle(&steady(1)).set_back.unwrap();
    // The archive, the settings and the environment; a deleted upload; two new files.
    assert_eq!(set_back, SetBack { tried: system(2), changed: 6 });
    assert_eq!(world.seen(), before);
    let theirs = |path: &str| fs::read_to_string(world.path().join(FAILED).join(path)).unwrap();
    assert_eq!(theirs(ARCHIVE), "old messages, new ones");
    assert_eq!(theirs("settings.json"), "newer");
    assert!(theirs(MARKER).contains("2.0.0"));
    // Until the next one begins.
    world.settle(&trial(3));
    assert!(!world.has(FAILED));
    // Or until the disk is nearly full.
    world.settle(&steady(1));
    assert!(world.has(FAILED));
    clear_of(world.path(), true).unwrap();
    assert!(!world.has(FAILED));
    assert_eq!(world.seen(), before);
}

#[test]
fn the_power_may_go_while_the_data_is_set_back() {
    let world = World::new();
    let before = world.seen();
    world.settle(&trial(2));
    world.migrate();
    let marker = Known::read(world.path()).unwrap().marker.unwrap();
    marker.exchange.begin(world.path()).unwrap();
    // Here. (That it may go at any step from here on, the exchange's own tests show.)
    assert_eq!(world.settle(&steady(1)), Settled::default());
    assert_eq!(world.seen(), before);
    assert!(world.has(FAILED) && !world.has(MARKER));
}

#[test]
fn what_a_blessed_system_has_made_is_never_set_back() {
    for is_told in [true, false] {
        let world = World::new();
        world.settle(&trial(2));
        world.migrate();
        let after = world.seen();
        if is_told {
            adopt(world.path(), &system(2)).unwrap();
        }
        // Whoever comes next: itself, or the one before, which is tried once more.
        world.settle(&steady(2));
        assert!(!world.has(MARKER) && !world.has(ASIDE));
        world.settle(&trial(1));
        assert_eq!(world.seen(), after);
        world.put("settings.json", "newest");
        world.settle(&steady(2));
        assert_eq!(world.seen(), after);
        // Each of the two writes of a blessing may be the last before a cut.
        world.settle(&trial(3));
        let record = Record { system: system(3), before: Some(system(2)) };
        write(&world.path().join(SYSTEM), &record).unwrap();
        world.settle(&steady(3));
        assert!(!world.has(MARKER));
        assert_eq!(Known::read(world.path()).unwrap().record, Some(record));
    }
}

/// Which is why it is said again before another bundle is taken.
#[test]
fn what_a_blessed_system_has_made_is_set_back_by_a_third_that_was_not_told() {
    for is_told in [true, false] {
        let world = World::new();
        let before = world.seen();
        world.settle(&trial(2));
        world.migrate();
        let after = world.seen();
        if is_told {
            adopt(world.path(), &system(2)).unwrap();
        }
        world.settle(&trial(3));
        assert_eq!(world.seen(), if is_told { after } else { before });
    }
}

#[test]
fn only_what_never_changes_shares_its_content() {
    let world = World::new();
    world.settle(&trial(2));
    let number = |path: PathBuf| fs::symlink_metadata(path).unwrap().ino();
    for (path, is_shared) in [(UPLOAD, true), (ARCHIVE, false), ("settings.json", false)] {
        let (here, kept) = (world.path().join(path), world.path().join(ASIDE).join(path));
        assert_eq!(number(here.clone()) == number(kept.clone()), is_shared, "{path}");
        if !is_shared {
            OpenOptions::new().append(true).open(&here).unwrap().write_all(b"!").unwrap();
            assert!(!fs::read_to_string(kept).unwrap().contains('!'));
        }
    }
}

#[test]
fn a_copy_is_like_what_it_is_a_copy_of() {
    let world = World::new();
    let folder = world.path().join("volumes/var/lib/prosody/x");
    let long_ago = SystemTime::UNIX_EPOCH + Duration::new(1_000_000_000, 123_456_789);
    // 64 MiB and a hole in the middle.
    let mut big = File::create(folder.join("big")).unwrap();
    big.write_all(&[7; 1 << 16]).unwrap();
    big.seek(SeekFrom::Start(64 << 20)).unwrap();
    big.write_all(&[9; 3]).unwrap();
    big.set_modified(long_ago).unwrap();
    big.set_permissions(Permissions::from_mode(0o2640)).unwrap();
    File::create(folder.join("empty")).unwrap();
    File::create(folder.join("hole")).unwrap().set_len(1 << 20).unwrap();
    mkfifo(&folder.join("pipe"), Mode::from_bits_truncate(0o600)).unwrap();
    if Uid::effective().is_root() {
        for (path, owner) in [("big", 901), ("archive", 902), (".", 1_000_000)] {
            lchown(folder.join(path), Some(owner), Some(owner + 1)).unwrap();
        }
        lchown(world.path().join("volumes/etc/prose/link"), Some(903), Some(904)).unwrap();
        // A change of owner takes that bit away.
        big.set_permissions(Permissions::from_mode(0o2640)).unwrap();
    }
    fs::set_permissions(&folder, Permissions::from_mode(0o700)).unwrap();
    File::open(&folder).unwrap().set_modified(long_ago).unwrap();
    world.settle(&trial(2));
    let mut compared = 0;
    for found in Walk::new(world.path(), VOLUMES) {
        let (Found::Folder(path, _) | Found::Other(path, _)) = found.unwrap() else { continue };
        let look = |within: &Path| fs::symlink_metadata(within.join(&path));
        let (is, copy) = (look(world.path()).unwrap(), look(&world.path().join(ASIDE)));
        if is.file_type().is_fifo() {
            assert!(copy.is_err());
            continue;
        }
        // How long a folder is depends on what was in it before.
        let length = |of: &fs::Metadata| if of.is_dir() { 0 } else { of.len() };
        let about = |of: &fs::Metadata| {
            let modified = (of.mtime(), of.mtime_nsec());
            (of.uid(), of.gid(), of.mode(), modified, length(of))
        };
        assert_eq!(about(&is), about(&copy.unwrap()), "{}", path.display());
        compared += 1;
    }
    assert_eq!(compared, 17);
    let copy = world.path().join(ASIDE).join("volumes/var/lib/prosody/x");
    let big = fs::read(copy.join("big")).unwrap();
    assert!(big.starts_with(&[7; 1 << 16]) && big.ends_with(&[0, 9, 9, 9]));
    assert!(fs::metadata(copy.join("big")).unwrap().blocks() * 512 < 1 << 20);
    assert_eq!(fs::metadata(copy.join("hole")).unwrap().blocks(), 0);
}

#[test]
fn a_copy_that_fails_leaves_nothing() {
    let world = World::new();
    // What can still be named here can't be in the copy's folder any more.
    let mut path = world.path().join("volumes/var/lib/prosody");
    let room = libc::PATH_MAX as usize - 3;
    while path.as_os_str().len() < room - 1 {
        let length = (room - 1 - path.as_os_str().len()).clamp(1, 200);
        path.push("x".repeat(length));
    }
    fs::create_dir_all(&path).unwrap();
    let before = Known::read(world.path()).unwrap();
    let failure = carry_out(&[Step::Keep], world.path(), &trial(2), &volumes()).unwrap_err();
    assert!(failure.to_string().starts_with("cannot make folder "), "{failure}");
    assert!(!world.has(ASIDE) && !world.has(MARKER));
    assert_eq!(Known::read(world.path()).unwrap(), before);
}

#[test]
fn it_takes_what_is_copied_and_needs_room_for_that() {
    let world = World::new();
    let space = || space(world.path(), &volumes()).unwrap();
    let blocks = |path: &str| fs::metadata(world.path().join(path)).unwrap().blocks() * 512;
    let before = space().needed;
    world.put(&UPLOAD.replace("a.bin", "large.bin"), &"x".repeat(1 << 20));
    assert!(space().needed < before + (1 << 16));
    let large = "volumes/var/lib/prosody/x/archive/large.list";
    world.put(large, &"x".repeat(1 << 20));
    File::open(world.path().join(large)).unwrap().sync_all().unwrap();
    assert!(space().needed >= before + blocks(large));
    // More files than can be counted in no time.
    let all = room::measure(world.path(), &volumes(), clock::Moment::ZERO, 99).unwrap();
    let few = room::measure(world.path(), &volumes(), clock::now() + WITHIN, 5).unwrap();
    assert!(few.needed > space().needed);
    assert!(all.needed > space().needed);
    for (needed, free, fits) in [(5, 5, true), (0, 0, true), (6, 5, false)] {
        let result = room::must_suffice(Space { free, needed });
        assert_eq!(result.is_ok(), fits);
    }
}

#[test]
fn a_paper_that_cannot_be_read_is_told_from_a_newer_one() {
    for (name, text) in [(MARKER, ""), (MARKER, "{}"), (SYSTEM, r#"{"system":1}"#)] {
        let world = World::new();
        world.put(name, text);
        let failure = Known::read(world.path()).unwrap_err().to_string();
        assert!(failure.starts_with("cannot understand "), "{failure}");
    }
    // One of a newer version says more.
    let world = World::new();
    let text = fs::read_to_string(world.path().join(SYSTEM)).unwrap();
    world.put(SYSTEM, &text.replacen('{', r#"{"more":true,"#, 1));
    assert_eq!(Known::read(world.path()).unwrap().record.unwrap().system, system(1));
}

/// Else it would restart for ever.
#[test]
fn damaged_words_of_whose_data_it_is_stop_no_system_that_has_no_other() {
    let alone = Boot { is_other_blessed: false, ..trial(2) };
    for name in [SYSTEM, MARKER] {
        for damage in ["", "{", "\0\0", "[]"] {
            for boot in [steady(1), Boot { is_other_blessed: true, ..steady(1) }, alone.clone()] {
                let world = World::new();
                let before = world.seen();
                world.put(name, damage);
                let settled = world.settle(&boot);
                assert_eq!(settled.kept.is_some(), boot.is_trial, "{name} {damage:?}");
                assert_eq!(world.seen(), before);
                if !boot.is_trial {
                    let kept = fs::read_to_string(keep::damaged(&world.path().join(name)));
                    assert_eq!(kept.unwrap(), damage);
                    assert_eq!(world.settle(&boot), Settled::default());
                }
            }
            // Who can be gone back from, is: nothing has changed.
            let world = World::new();
            world.put(name, damage);
            assert!(Known::believed(world.path(), &trial(2)).is_err());
            assert_eq!(fs::read_to_string(world.path().join(name)).unwrap(), damage);
        }
    }
}

#[test]
fn a_copy_whose_marker_is_damaged_stays_until_the_next_one() {
    let world = World::new();
    world.settle(&trial(2));
    world.migrate();
    world.put(MARKER, "{");
    world.settle(&steady(1));
    assert!(exists(&world.path().join(ASIDE)).unwrap());
    world.settle(&trial(3));
    assert!(!exists(&keep::damaged(&world.path().join(MARKER))).unwrap());
    adopt(world.path(), &system(3)).unwrap();
    clear_of(world.path(), false).unwrap();
    assert!(!exists(&world.path().join(ASIDE)).unwrap());
}

/// Its own is as good as none.
#[test]
fn what_was_blessed_adopts_data_of_which_nothing_is_known() {
    let world = World::new();
    world.settle(&trial(2));
    for name in [SYSTEM, MARKER] {
        world.put(name, "{");
    }
    adopt(world.path(), &system(2)).unwrap();
    let known = Known::read(world.path()).unwrap();
    let record = Record { system: system(2), before: None };
    assert_eq!(known, Known { record: Some(record), marker: None });
}
