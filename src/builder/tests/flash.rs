//! `stele flash`: the repository's own image onto files and, where there are some, loop devices.

mod support;

use std::fs::{self, File};
use std::os::unix::fs::FileExt as _;
use std::path::Path;
use std::process::{Command, Output, Stdio};

use serde_json::Value;
use support::real::{image, read_at, succeeded, tool};
use support::{STELE, said};

const GIB: u64 = 1 << 30;
const MIB: u64 = 1 << 20;

fn flash(image: &Path, device: &Path, options: &[&str]) -> Output {
    let mut command = Command::new(STELE);
    command.arg("flash").args(options).arg(image).arg(device).stdin(Stdio::null());
    command.output().unwrap()
}

fn file(path: &Path, bytes: u64) -> File {
    let options = File::options().create(true).truncate(true).read(true).write(true).open(path);
    let file = options.unwrap();
    file.set_len(bytes).unwrap();
    file
}

#[test]
fn an_image_comes_onto_a_larger_disk_that_had_another_life() {
    let folder = tempfile::tempdir().unwrap();
    let (image, disk) = (&image().image, folder.path().join("disk"));
    let before = file(&disk, 2 * GIB);
    let bytes = fs::read(image).unwrap();
    // Where the image has nothing, where slot B will be, and at the end.
    let old = [bytes.len() as u64 - 2 * MIB, bytes.len() as u64 + 5, 2 * GIB - 600];
    old.iter().for_each(|place| before.write_all_at(b"EFI PART", *place).unwrap());
    let output = flash(image, &disk, &["--yes", "--json"]);
    assert!(output.status.success(), "{}", said(&output));
    let outcome: Value = serde_json::from_slice(&output.stdout).unwrap();
    assert_eq!(outcome["bytes"], 2 * GIB);
    assert_eq!(outcome["verified"], bytes.len() as u64 + 3 * MIB);
    assert!(outcome["appliance"].as_str().unwrap().starts_with("prose-pod "), "{outcome}");
    assert!(read_at(&disk, 0, bytes.len()) == bytes);
    for place in old {
        assert_eq!(read_at(&disk, place, 8), [0; 8], "{place}");
    }
    let output = flash(image, &disk, &["--yes"]);
    assert!(said(&output).contains("reading back, "), "{}", said(&output));
    assert!(read_at(&disk, 0, bytes.len()) == bytes);
}

#[test]
fn what_would_not_do_is_refused_and_nothing_is_written() {
    let folder = tempfile::tempdir().unwrap();
    let path = |name: &str| folder.path().join(name);
    let good = &image().image;
    fs::write(path("text"), "no image").unwrap();
    let mut damaged = fs::read(good).unwrap();
    let slot = image().table().named("slot-a").unwrap().offset() as usize;
    damaged[slot + 4096] ^= 1;
    fs::write(path("damaged"), damaged).unwrap();
    file(&path("small"), 100 * MIB).write_all_at(b"precious", 0).unwrap();
    file(&path("disk"), 2 * GIB).write_all_at(b"precious", 0).unwrap();
    let small = "it is too small: it has 100.0 MiB; image, second slot and the least of data need";
    for (image, device, options, expected) in [
        (good, path("missing"), &["--yes"][..], "there is no such device\nhint: a file has to"),
        (good, path(""), &["--yes"], "it is neither a disk nor a file"),
        (good, "/dev/null".into(), &["--yes"], "it is neither a disk nor a file"),
        (good, good.clone(), &["--yes"], "it is the image itself"),
        (good, path("small"), &["--yes"], small),
        (good, path("disk"), &[], "nobody is there to agree that all on it is lost"),
        (&path("text"), path("disk"), &["--yes"], "the partition table is cut short"),
        (&path("damaged"), path("disk"), &["--yes"], "its root isn't sound: of "),
    ] {
        let output = flash(image, &device, options);
        assert_eq!(output.status.code(), Some(1), "{}", said(&output));
        assert!(said(&output).starts_with("error: cannot "), "{}", said(&output));
        assert!(said(&output).contains(expected), "{}", said(&output));
    }
    for name in ["small", "disk"] {
        assert_eq!(read_at(&path(name), 0, 8), *b"precious", "{name}");
    }
}

/// A loop device, until dropped.
struct Loop(String);

impl Loop {
    fn of(file: &Path) -> Option<Loop> {
        let output = tool("losetup", &["--find", "--show", file.to_str()?]);
        match output.status.success() {
            true => {
                let device = Loop(String::from_utf8(output.stdout).ok()?.trim().to_owned());
                // It is still read-only if it was that when it was another file's.
                device.set("--setrw");
                Some(device)
            }
            false => {
                eprintln!("no loop device here, so none is tried: {}", said(&output));
                None
            }
        }
    }
}

impl Loop {
    /// Read-only (`--setro`), or not (`--setrw`).
    fn set(&self, option: &str) {
        succeeded(tool("blockdev", &[option, &self.0]));
    }
}

impl Drop for Loop {
    fn drop(&mut self) {
        succeeded(tool("losetup", &["--detach", &self.0]));
    }
}

#[test]
fn a_loop_device_takes_an_image_unless_it_is_in_use() {
    let folder = tempfile::tempdir().unwrap();
    let (image, disk) = (&image().image, folder.path().join("disk"));
    let bytes = fs::read(image).unwrap();
    file(&disk, 2 * GIB).write_all_at(b"old", bytes.len() as u64 - MIB).unwrap();
    let Some(held) = Loop::of(&disk) else { return };
    let device = Path::new(&held.0);
    let refused = |expected: &str, path: &Path| {
        let output = flash(image, path, &["--yes"]);
        assert!(!output.status.success() && said(&output).contains(expected), "{}", said(&output));
    };
    refused("it is behind loop", &disk);
    // Somebody has it to themselves, as a mount would.
    let mut options = File::options();
    use std::os::unix::fs::OpenOptionsExt as _;
    let alone = options.read(true).custom_flags(nix::libc::O_EXCL).open(device).unwrap();
    refused("something here uses it, or a part of it", device);
    drop(alone);
    let output = flash(image, device, &["--yes"]);
    assert!(output.status.success(), "{}", said(&output));
    assert!(read_at(device, 0, bytes.len()) == bytes);
    held.set("--setro");
    refused("it is read-only", device);
}
