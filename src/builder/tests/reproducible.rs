//! The same lock and the same programs give the same bytes, whoever builds them, wherever and
//! whenever. (That the same sources give the same programs is tested where mutants are made.)

mod support;

use std::fs;
use std::os::unix::fs::{PermissionsExt, chown};
use std::os::unix::process::CommandExt;
use std::path::{Path, PathBuf};
use std::process::Command;
use std::time::Instant;

use serde_json::Value;
use support::real::{checkout, recipes, store, succeeded};
use support::{STELE, said};

/// `nobody`: who has no home and no rights.
const NOBODY: u32 = 65534;

#[test]
fn a_stranger_builds_the_same_bytes_elsewhere() {
    let here = tempfile::tempdir().unwrap();
    let programs = here.path().join("programs");
    compile(&programs);
    let ours = here.path().join("out");
    let mut build = Command::new(STELE);
    build.args(["build", "--json", "--programs"]).arg(&programs).arg("--out").arg(&ours);
    succeeded(build.arg(recipes().join("prose-pod.toml")).output().unwrap());

    let there = Elsewhere::new(&programs);
    let theirs = there.path("results");
    there.build(&theirs);
    for name in ["img", "spdx.json", "json"] {
        let name = format!("prose-pod-1.0.0.{name}");
        let (a, b) = (fs::read(ours.join(&name)).unwrap(), fs::read(theirs.join(&name)).unwrap());
        let first = a.iter().zip(&b).position(|(a, b)| a != b);
        assert!(a == b, "{name} differs, first at byte {first:?}");
    }
}

#[test]
fn nothing_changed_means_nothing_done() {
    let folder = tempfile::tempdir().unwrap();
    for name in ["recipes", "layers"] {
        copy_tree(&checkout().join(name), &folder.path().join(name));
    }
    copy_tree(&recipes(), &folder.path().join("recipes"));
    let programs = folder.path().join("programs");
    compile(&programs);
    let build = || {
        let start = Instant::now();
        let output = Command::new(STELE)
            .args(["build", "--json", "--programs"])
            .arg(&programs)
            .arg("--out")
            .arg(folder.path().join("out"))
            .arg(folder.path().join("recipes/prose-pod.toml"))
            .output()
            .unwrap();
        assert!(output.status.success(), "{}", said(&output));
        let outcome: Value = serde_json::from_slice(&output.stdout).unwrap();
        let image = outcome["report"]["image"]["sha256"].as_str().unwrap().to_owned();
        (outcome["built"].as_bool().unwrap(), image, start.elapsed())
    };
    let (built, first, _) = build();
    assert!(built);
    let (built, second, elapsed) = build();
    assert!(!built && first == second);
    println!("a build of nothing took {elapsed:?}");
    // A file of a layer, a program that a layer places, the image itself: each brings a build.
    let config = folder.path().join("layers/prosody-pod/prosody.bootstrap.cfg.lua");
    let text = fs::read_to_string(&config).unwrap();
    fs::write(&config, format!("{text}-- changed\n")).unwrap();
    let (built, third, _) = build();
    assert!(built && third != first);
    fs::write(&config, text).unwrap();
    let front = programs.join("front");
    let bytes = fs::read(&front).unwrap();
    fs::write(&front, [&bytes[..], b"changed"].concat()).unwrap();
    let (built, changed, _) = build();
    assert!(built && changed != first);
    fs::write(&front, bytes).unwrap();
    fs::remove_file(folder.path().join("out/prose-pod-1.0.0.img")).unwrap();
    let (built, fourth, _) = build();
    assert!(built && fourth == first);
}

/// Compiles the guest programs into `out`.
fn compile(out: &Path) {
    let mut command = Command::new(STELE);
    command.arg("programs").arg("--out").arg(out).current_dir(checkout());
    succeeded(command.output().unwrap());
}

/// Another folder, user, umask, time zone, language, date and number of cores, an empty `PATH`,
/// and no mirror: the store must do.
struct Elsewhere {
    folder: tempfile::TempDir,
}

impl Elsewhere {
    fn new(programs: &Path) -> Elsewhere {
        // In the system's temporary folder, which others may enter.
        let folder = tempfile::tempdir().unwrap();
        let elsewhere = Elsewhere { folder };
        let path = |name| elsewhere.path(name);
        copy_tree(&checkout().join("layers"), &path("somewhere/layers"));
        copy_tree(&recipes(), &path("somewhere/recipes"));
        copy_tree(programs, &path("somewhere/programs"));
        fs::copy(STELE, path("stele")).unwrap();
        let lock = fs::read_to_string(recipes().join("prose-pod.lock")).unwrap();
        let lock: toml::Table = lock.parse().unwrap();
        for package in lock["package"].as_array().unwrap() {
            let digest = package["sha256"].as_str().unwrap();
            let from = store().join("sha256").join(&digest[..2]).join(digest);
            let to = path("store/sha256").join(&digest[..2]);
            fs::create_dir_all(&to).unwrap();
            fs::copy(from, to.join(digest)).unwrap();
        }
        fs::create_dir(path("results")).unwrap();
        fs::set_permissions(elsewhere.folder.path(), PermissionsExt::from_mode(0o755)).unwrap();
        elsewhere
    }

    fn path(&self, name: &str) -> PathBuf {
        self.folder.path().join(name)
    }

    fn build(&self, out: &Path) {
        let root = nix::unistd::geteuid().is_root();
        if root {
            give_away(&self.path("store"));
            give_away(out);
        }
        // These three start the builder as it should be started; it gets an empty PATH.
        let mut command = Command::new("/usr/bin/taskset");
        command
            .args(["-c", "0", "/usr/bin/faketime", "2031-02-03 04:05:06", "/bin/sh", "-c"])
            .arg("umask 077; PATH= exec \"$0\" \"$@\"")
            .arg(self.path("stele"))
            .args(["build", "--mirror", "http://127.0.0.1:1/none", "--programs"])
            .arg("../programs")
            .arg("--store")
            .arg(self.path("store"))
            .arg("--out")
            .arg(out)
            .arg("../recipes/prose-pod.toml")
            .env_clear()
            .env("TZ", "Pacific/Chatham")
            .env("LANG", "tr_TR.UTF-8")
            .env("LC_ALL", "tr_TR.UTF-8")
            .current_dir(self.path("somewhere/layers"));
        if root {
            command.uid(NOBODY).gid(NOBODY);
        }
        succeeded(command.output().unwrap());
    }
}

fn give_away(folder: &Path) {
    chown(folder, Some(NOBODY), Some(NOBODY)).unwrap();
    for entry in fs::read_dir(folder).unwrap() {
        let path = entry.unwrap().path();
        match path.is_dir() {
            true => give_away(&path),
            false => chown(&path, Some(NOBODY), Some(NOBODY)).unwrap(),
        }
    }
}

fn copy_tree(from: &Path, to: &Path) {
    fs::create_dir_all(to).unwrap();
    for entry in fs::read_dir(from).unwrap() {
        let entry = entry.unwrap();
        let target = to.join(entry.file_name());
        match entry.file_type().unwrap().is_dir() {
            true => copy_tree(&entry.path(), &target),
            false => _ = fs::copy(entry.path(), target).unwrap(),
        }
    }
}
