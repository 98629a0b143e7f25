//! `stele key`, `stele bundle` and `stele show` of bundles: made and looked at by the program, from
//! an appliance that is too small to boot.

mod support;

use std::fs::{self, Permissions};
use std::os::unix::fs::PermissionsExt as _;
use std::path::Path;
use std::process::Output;

use appliance::bundle::{CHUNK, Head, Manifest};
use appliance::hash::Digest;
use serde_json::Value;
use signing::{SecretKey, read_public, read_secret};
use support::tiny::Tiny;
use support::{File, said, stele};

const BUNDLE: &str = "out/test-1.bundle";

/// A recipe that believes `a` and `b`; there is a key `c` too.
fn tiny() -> Tiny {
    let bytes = |length| File::Bytes(noise(length).leak());
    let tiny = Tiny::whole(&[("usr/noise", bytes(3 * CHUNK)), ("boot/k-6", bytes(5000))]);
    for name in ["a", "b", "c"] {
        succeeded(&key(&tiny, name));
    }
    tiny.add_to_recipe("[upgrade]\nkeys = [\"a.pub\", \"b.pub\"]\nfloor = \"0.9\"");
    tiny
}

/// Nothing that can be compressed.
fn noise(length: usize) -> Vec<u8> {
    let mut state = 0x9e37_79b9_7f4a_7c15u64;
    let mut next = || {
        state ^= state << 13;
        state ^= state >> 7;
        state ^= state << 17;
        state as u8
    };
    (0..length).map(|_| next()).collect()
}

fn key(tiny: &Tiny, name: &str) -> Output {
    let mut command = stele(&tiny.path("store"));
    command.args(["key", "new", "--json"]).arg(tiny.path(name)).output().unwrap()
}

fn succeeded(output: &Output) -> Value {
    assert!(output.status.success(), "{}", said(output));
    serde_json::from_slice(&output.stdout).unwrap()
}

/// Makes the bundle, signed by `a`.
fn bundled(tiny: &Tiny) -> Vec<u8> {
    succeeded(&tiny.make(&["bundle", "--json", "--key", "a.key"], "out"));
    fs::read(tiny.path(BUNDLE)).unwrap()
}

fn show(tiny: &Tiny, options: &[&str], bundle: &str) -> Output {
    let mut command = stele(&tiny.path("store"));
    command.arg("show").args(options).arg(bundle);
    command.current_dir(tiny.0.folder.path()).output().unwrap()
}

/// What is said of the first refused error.
fn refused(output: &Output) -> String {
    assert_eq!(output.status.code(), Some(1), "{}", said(output));
    let said = said(output);
    // Behind the steps, if it came that far.
    let is_told = said.lines().any(|line| line.starts_with("error: cannot "));
    assert!(is_told && !said.contains("panicked"), "{said}");
    said
}

fn mode(path: &Path) -> u32 {
    fs::metadata(path).unwrap().permissions().mode() & 0o7777
}

#[test]
fn a_key_is_two_files_and_never_replaces_one() {
    let folder = tempfile::tempdir().unwrap();
    let name = folder.path().join("pod.v2");
    let new = || {
        let mut command = stele(folder.path());
        command.args(["key", "new", "--json"]).arg(&name).output().unwrap()
    };
    let made = succeeded(&new());
    let (secret, public) = (folder.path().join("pod.v2.key"), folder.path().join("pod.v2.pub"));
    assert_eq!((mode(&secret), mode(&public) & 0o444), (0o600, 0o444));
    let key = read_public(&public).unwrap();
    assert_eq!(read_secret(&secret).unwrap().public(), key);
    assert_eq!(made["key"], key.id().to_string());
    assert!(!String::from_utf8(fs::read(&public).unwrap()).unwrap().contains("secret"));
    let before = fs::read(&secret).unwrap();
    for gone in [None, Some(&public)] {
        if let Some(path) = gone {
            fs::remove_file(path).unwrap();
        }
        assert!(refused(&new()).contains("pod.v2.key: it is there already\nhint: another name"));
    }
    assert_eq!((fs::read(&secret).unwrap(), public.exists()), (before, false));
    assert_eq!(fs::read_dir(folder.path()).unwrap().count(), 1);
}

#[test]
fn the_same_inputs_give_the_same_bundle() {
    let tiny = tiny();
    let built = succeeded(&tiny.make(&["build", "--json"], "out"));
    assert!(built["bundle"].is_null() && !tiny.path(BUNDLE).exists());
    let first = bundled(&tiny);
    let made =
        succeeded(&tiny.make(&["build", "--json", "--bundle", "--key", "a.key"], "elsewhere"));
    assert!(first == fs::read(tiny.path("elsewhere/test-1.bundle")).unwrap());
    let path = tiny.path("elsewhere/test-1.bundle");
    assert_eq!(made["bundle"]["path"], path.to_str().unwrap());
    assert_eq!(made["bundle"]["bytes"], first.len());
    assert_eq!(made["bundle"]["sha256"], Digest::of(&first).to_string());
    assert_eq!(made["bundle"]["warnings"], Value::Array(vec![]));
    // The report says the same with and without: it follows from the image alone.
    assert_eq!(made["report"], built["report"]);

    // Another key: another head, the same all else.
    let other = succeeded(&tiny.make(&["bundle", "--json", "--key", "c.key"], "out"));
    assert_eq!(other["built"], false);
    let warning = other["bundle"]["warnings"][0].as_str().unwrap();
    assert!(warning.contains("is not one that the recipe names"), "{warning}");
    let second = fs::read(tiny.path(BUNDLE)).unwrap();
    assert!(second[Head::BYTES..] == first[Head::BYTES..] && second != first);
}

#[test]
fn keys_are_an_input_of_the_build_and_not_of_the_lock() {
    let tiny = tiny();
    let root = || {
        succeeded(&tiny.make(&["build", "--json"], "out"))["report"]["root"]["root_hash"].clone()
    };
    let built = || succeeded(&tiny.make(&["build", "--json"], "out"))["built"] == true;
    let first = root();
    assert!(!built());
    fs::copy(tiny.path("c.pub"), tiny.path("b.pub")).unwrap();
    assert!(built() && root() != first);
    fs::remove_file(tiny.path("b.pub")).unwrap();
    assert!(refused(&tiny.make(&["build"], "out")).contains("b.pub: No such file"));
}

#[test]
fn a_bundle_explains_itself() {
    let tiny = tiny();
    let bytes = bundled(&tiny);
    let report: Value =
        serde_json::from_slice(&fs::read(tiny.path("out/test-1.json")).unwrap()).unwrap();
    let shown =
        succeeded(&show(&tiny, &["--json", "--trust", "b.pub", "--trust", "a.pub"], BUNDLE));
    for (field, expected) in [
        ("product", Value::from("test")),
        ("version", "1".into()),
        ("architecture", "amd64".into()),
        ("follows", Value::Null),
        ("floor", "0.9".into()),
        ("data_format", 1.into()),
        ("bytes", bytes.len().into()),
        ("uki_bytes", report["uki"]["bytes"].clone()),
        ("uki_sha256", report["uki"]["sha256"].clone()),
        ("root_bytes", report["root"]["bytes"].clone()),
        ("root_hash", report["root"]["root_hash"].clone()),
        ("chunks", 4.into()),
        ("verified_with", "a.pub".into()),
        ("untrusted", Value::Null),
        ("fault", Value::Null),
    ] {
        assert_eq!(shown[field], expected, "{field}");
    }
    let id = read_public(&tiny.path("a.pub")).unwrap().id().to_string();
    let words = |options: &[&str]| {
        let output = show(&tiny, options, BUNDLE);
        assert!(output.status.success(), "{}", said(&output));
        String::from_utf8(output.stdout).unwrap()
    };
    for expected in [
        "bundle        test 1 (amd64)\n",
        "follows       any version\n",
        "floor         0.9: nothing older is taken after it\n",
        &format!("signature     of key {id}, not verified: --trust FILE.pub does that\n"),
        "content       verified: every byte is what the manifest says\n",
    ] {
        assert!(words(&[]).contains(expected), "{}", words(&[]));
    }
    assert!(words(&["--trust", "a.pub"]).contains(&format!("{id}, verified with a.pub")));

    let other = show(&tiny, &["--trust", "c.pub"], BUNDLE);
    let expected =
        format!("cannot trust {BUNDLE}: it is signed by key {id}, which is not one that");
    assert!(refused(&other).contains(&expected), "{}", said(&other));
    let image = show(&tiny, &["--trust", "a.pub"], "out/test-1.img");
    assert!(refused(&image).contains("only bundles (.bundle) are signed"));
}

#[test]
fn what_was_changed_is_refused() {
    let tiny = tiny();
    let good = bundled(&tiny);
    let try_it = |bytes: &[u8]| {
        fs::write(tiny.path("bad.bundle"), bytes).unwrap();
        refused(&show(&tiny, &["--trust", "a.pub"], "bad.bundle"))
    };
    let head = Head::parse(good.first_chunk().unwrap()).unwrap();
    let payload = Head::BYTES + head.manifest_length;
    // Each field of the head, and one bit in every so many of all that follows.
    let head_fields = [0, 7, 8, 11, 12, 19, 20, 83];
    let manifest = (Head::BYTES..payload).step_by(head.manifest_length / 40);
    let rest = (payload..good.len()).step_by((good.len() - payload) / 40);
    for at in head_fields.into_iter().chain(manifest).chain(rest).chain([good.len() - 1]) {
        let mut bad = good.clone();
        bad[at] ^= 1 << (at % 8);
        try_it(&bad);
    }
    for (length, expected) in [
        (0, "it doesn't begin as a bundle does"),
        (Head::BYTES - 1, "it doesn't begin as a bundle does"),
        (Head::BYTES, "it ends before its manifest does"),
        (payload - 1, "it ends before its manifest does"),
        (payload, "bytes, where its manifest says"),
        (good.len() - 1, "bytes, where its manifest says"),
    ] {
        let error = try_it(&good[..length]);
        assert!(error.contains(expected), "{length}: {error}");
    }
    assert!(try_it(&[&good[..], b"x"].concat()).contains("bytes, where its manifest says"));
    assert!(try_it(&noise(5000)).contains("it doesn't begin as a bundle does"));
    assert!(refused(&show(&tiny, &[], "none.bundle")).contains("cannot read bundle none.bundle"));
}

/// Signed, but wrong: whoever made them had the key, and another builder.
#[test]
fn a_signature_makes_no_lie_true() {
    let tiny = tiny();
    let good = bundled(&tiny);
    let key = read_secret(&tiny.path("a.key")).unwrap();
    let try_it = |change: &dyn Fn(&mut Manifest)| {
        fs::write(tiny.path("bad.bundle"), signed_anew(&good, &key, change)).unwrap();
        refused(&show(&tiny, &["--trust", "a.pub"], "bad.bundle"))
    };
    let zero = Digest([0; 32]);
    for (change, expected) in [
        (
            &(|m: &mut Manifest| m.uki.sha256 = zero) as &dyn Fn(&mut Manifest),
            "its UKI is not what",
        ),
        (&|m| m.chunks[2] = zero, "chunk 3 of 4 is not what the manifest says"),
        (&|m| m.root.salt.0[0] ^= 1, "its root: of "),
        (&|m| m.product = String::from("other").try_into().unwrap(), "its root is test 1 of data"),
        (&|m| m.version = String::from("2").try_into().unwrap(), "its root is test 1 of data"),
        (&|m| m.data = 2, "its root is test 1 of data format 1"),
        (
            // What was the end of the UKI would be the tree.
            &|m| {
                m.uki.size -= 4096;
                m.root.data_blocks += 1;
            },
            "its UKI is not what the manifest says",
        ),
    ] {
        let error = try_it(change);
        assert!(error.contains(expected), "{error}");
    }
}

fn signed_anew(bundle: &[u8], key: &SecretKey, change: &dyn Fn(&mut Manifest)) -> Vec<u8> {
    let head = Head::parse(bundle.first_chunk().unwrap()).unwrap();
    let (manifest, payload) = bundle[Head::BYTES..].split_at(head.manifest_length);
    let mut manifest = Manifest::parse(manifest).unwrap();
    change(&mut manifest);
    let manifest = manifest.to_bytes().unwrap();
    [&key.sign(&manifest).to_bytes()[..], &manifest, payload].concat()
}

#[test]
fn what_cannot_be_bundled_is_refused_before_it_is_built() {
    let tiny = tiny();
    fs::copy(tiny.path("a.key"), tiny.path("open.key")).unwrap();
    fs::set_permissions(tiny.path("open.key"), Permissions::from_mode(0o640)).unwrap();
    for (key, expected) in [
        ("none.key", "cannot use key none.key: No such file"),
        ("open.key", "others than its owner may use it (mode 0640)\nhint: chmod 600"),
        ("a.pub", "it is a public key, where a secret one is wanted\nhint: name the .key"),
        ("test.toml", "it is no secret key of Stele's\nhint: `stele key new NAME`"),
    ] {
        let error = refused(&tiny.make(&["bundle", "--key", key], "out"));
        assert!(error.contains(expected), "{error}");
    }
    for (options, expected) in [
        (&["build", "--bundle"][..], "--key <FILE>"),
        (&["build", "--key", "a.key"], "--bundle"),
        (&["bundle"], "--key <FILE>"),
    ] {
        let output = tiny.make(options, "out");
        assert_eq!(output.status.code(), Some(2));
        assert!(said(&output).contains(expected), "{}", said(&output));
    }
    let recipe = fs::read_to_string(tiny.path("test.toml")).unwrap();
    for (from, to, expected) in [
        ("keys = [", "key = [", "unknown field `key`, expected one of `keys`"),
        ("keys = [", "key = [", "help: did you mean `keys`?"),
        ("\"0.9\"", "\"v1\"", "`v1` is not a version such as `1.0.0`"),
        ("\"0.9\"", "\"1.1\"", "`floor` under [upgrade] is 1.1, newer than the recipe's own"),
        ("\"a.pub\"", "\"a.key\"", "it is a secret key, where a public one is wanted"),
        ("keys =", "# keys =", "its recipe names no keys, and who takes it would take no other"),
    ] {
        tiny.0.write("test.toml", &recipe.replace(from, to));
        let error = refused(&tiny.make(&["bundle", "--key", "a.key"], "out"));
        assert!(error.contains(expected), "{error}");
    }
    assert!(!tiny.path("out").exists());
}

#[test]
fn what_does_not_fit_is_refused() {
    let large = || File::Bytes(noise(9 << 20).leak());
    for (files, from, to, expected) in [
        (
            [("usr/noise", large())],
            "slot = \"64 MiB\"",
            "slot = \"8 MiB\"",
            "cannot fit the root into its slot: root and hash tree have 9.",
        ),
        (
            [("boot/k-6", large())],
            "esp = \"48 MiB\"",
            "esp = \"17 MiB\"",
            "cannot fit the UKI into the ESP: it has 9.",
        ),
    ] {
        let tiny = Tiny::whole(&files);
        succeeded(&key(&tiny, "a"));
        tiny.add_to_recipe("[upgrade]\nkeys = [\"a.pub\"]");
        let recipe = fs::read_to_string(tiny.path("test.toml")).unwrap();
        tiny.0.write("test.toml", &recipe.replace(from, to));
        let error = refused(&tiny.make(&["bundle", "--key", "a.key"], "out"));
        assert!(error.contains(expected) && error.contains("\nhint: a larger `"), "{error}");
        assert!(!tiny.path(BUNDLE).exists() && !tiny.path("out/test-1.img").exists());
    }
}
