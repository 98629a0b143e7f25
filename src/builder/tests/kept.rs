//! `stele run --keep`: what becomes of the disk. Nothing is run here: `--print` stops before.

mod support;

use std::fs::{self, File};
use std::os::unix::fs::{FileExt as _, MetadataExt as _, PermissionsExt as _};
use std::path::{Path, PathBuf};
use std::process::{Command, Output};

use serde_json::Value;
use support::real::{image, read_at};
use support::{STELE, said};

const GIB: u64 = 1 << 30;

fn run(image: &Path, options: &[&str]) -> Output {
    let mut command = Command::new(STELE);
    command.args(["run", "--print", "--accelerator", "tcg", "--forward", "0:5222"]);
    command.args(options).arg(image).output().unwrap()
}

/// What it would launch.
fn launch(output: &Output) -> Value {
    assert!(output.status.success(), "{}", said(output));
    serde_json::from_slice(&output.stdout).unwrap()
}

/// What it says of the disk; the folder that it leaves is deleted.
fn disk(output: &Output) -> Value {
    let launch = launch(output);
    fs::remove_dir_all(launch["folder"].as_str().unwrap()).unwrap();
    launch["disk"].clone()
}

/// What was done to a disk: made, replaced, grown.
fn done(disk: &Value) -> [bool; 3] {
    ["made", "replaced", "grown"].map(|key| disk[key].as_bool().unwrap())
}

#[test]
fn a_kept_disk_gets_the_system_and_keeps_the_rest() {
    let folder = tempfile::tempdir().unwrap();
    let data: PathBuf = folder.path().join("data.img");
    let image = image();
    let keep = |options: &[&str]| {
        run(&image.image, &[&["--keep", data.to_str().unwrap()], options].concat())
    };
    assert_eq!(done(&disk(&keep(&[]))), [true, false, false]);
    let metadata = fs::metadata(&data).unwrap();
    assert_eq!((metadata.len(), metadata.permissions().mode() & 0o777), (4 * GIB, 0o600));
    assert!(metadata.blocks() * 512 < 100 << 20, "{} blocks", metadata.blocks());
    let bytes = fs::read(&image.image).unwrap();
    assert!(read_at(&data, 0, bytes.len()) == bytes);
    assert_eq!(fs::read_dir(folder.path()).unwrap().count(), 1);

    assert_eq!(done(&disk(&keep(&[]))), [false, false, false]);

    // As if another version's system were on it, and an appliance had run.
    let table = image.table();
    let place = |name: &str| table.named(name).unwrap().place();
    let changed = [place("esp").end - 1, place("slot-a").start + 5000];
    let own = [place("seed").end - 1, bytes.len() as u64 + 12345];
    let file = File::options().write(true).open(&data).unwrap();
    for place in changed.iter().chain(&own) {
        file.write_all_at(b"!", *place).unwrap();
    }
    assert_eq!(done(&disk(&keep(&["--disk", "5 GiB"]))), [false, true, true]);
    assert_eq!(fs::metadata(&data).unwrap().len(), 5 * GIB);
    for place in changed {
        assert_eq!(read_at(&data, place, 1), [bytes[place as usize]]);
    }
    for place in own {
        assert_eq!(read_at(&data, place, 1), b"!");
    }

    let refused = said(&keep(&["--disk", "4 GiB"]));
    assert!(refused.contains("it has 5.00 GiB, and cannot shrink to 4.00 GiB"), "{refused}");
}

#[test]
fn what_is_no_disk_of_the_image_is_refused_and_left_alone() {
    let folder = tempfile::tempdir().unwrap();
    let path = |name: &str| folder.path().join(name);
    let image = &image().image;
    let copy = path("copy.img");
    fs::copy(image, &copy).unwrap();
    fs::write(path("text"), "not a disk\n").unwrap();
    fs::create_dir(path("folder")).unwrap();
    let before = fs::read(&copy).unwrap();
    for (keep, size, expected) in [
        ("text", "4 GiB", "it is no disk of an appliance"),
        ("folder", "4 GiB", "cannot open"),
        ("copy.img", "4 GiB", "it is the image itself"),
        ("new", "300 MiB", "hint: --disk '"),
        ("no/such/folder", "4 GiB", "cannot write"),
    ] {
        let output = run(&copy, &["--keep", path(keep).to_str().unwrap(), "--disk", size]);
        assert_eq!(output.status.code(), Some(1));
        assert!(said(&output).contains(expected), "{}", said(&output));
    }
    assert_eq!(fs::read_to_string(path("text")).unwrap(), "not a disk\n");
    assert!(!path("new").exists() && fs::read(&copy).unwrap() == before);
}

#[test]
fn without_keep_the_disk_lies_in_the_run_folder() {
    let output = run(&image().image, &["--disk", "1GiB"]);
    let launch = launch(&output);
    let folder = launch["folder"].as_str().unwrap();
    let disk_file = Path::new(launch["disk"]["file"].as_str().unwrap()).to_owned();
    assert_eq!(disk_file, Path::new(folder).join("disk"));
    assert_eq!(fs::metadata(&disk_file).unwrap().len(), GIB);
    assert_eq!(done(&disk(&output)), [true, false, false]);
}
