//! All of the child's work on a data of its own: what comes out of a backup is what went in, and what
//! isn't whole is refused before anything is laid out.

use std::collections::BTreeMap;
use std::fs::{self, File};
use std::io::{Read as _, Write as _};
use std::os::unix::fs::{MetadataExt as _, PermissionsExt as _, symlink};
use std::path::Path;
use std::process::{Command, Stdio};

use age::secrecy::ExposeSecret as _;
use appliance::backup::{
    ENDING, INCOMING, Id, Job, KEPT, Key, Kind, Label, Lock, MOST, Order, Origin, Report, Stats,
    Trouble,
};
use appliance::boot::Volume;
use appliance::secret::Secret;
use tempfile::TempDir;

use crate::archive::{FORMAT, MANIFEST, Manifest, put_document};
use crate::place::Place;
use crate::{carry_out, seal};

const NEEDLE: &str = "a message that nobody else may read";
const DATABASE: &str = "SQLite format 3\0, more or less";

/// A machine's data.
struct World {
    folder: TempDir,
    domain: Option<&'static str>,
}

fn secret(text: &str) -> Secret {
    Secret::try_from(text.to_owned()).unwrap()
}

fn id(name: &str) -> Id {
    Id::try_from(format!("{name}{ENDING}")).unwrap()
}

fn lock() -> Lock {
    Lock::Passphrase(secret("correct horse"))
}

fn key() -> Key {
    Key::Passphrase(secret("correct horse"))
}

fn own() -> (u32, u32) {
    (nix::unistd::geteuid().as_raw(), nix::unistd::getegid().as_raw())
}

fn volumes() -> Vec<Volume> {
    let (uid, gid) = own();
    let paths = [
        "/etc/prose",
        "/etc/prose-pod-api",
        "/etc/prosody",
        "/etc/stele",
        "/var/lib/prose-pod-api",
        "/var/lib/prosody",
        KEPT,
        INCOMING,
    ];
    paths.map(|path| Volume { path: path.into(), mode: 0o750, uid, gid, immutable: vec![] }).into()
}

impl World {
    /// Just made.
    fn empty() -> World {
        let world = World { folder: tempfile::tempdir().unwrap(), domain: None };
        for volume in volumes() {
            fs::create_dir_all(world.place().volume(&volume.path)).unwrap();
        }
        fs::create_dir(world.place().join("backup")).unwrap();
        world
    }

    /// With accounts, messages, a database and an operator's files.
    fn lived_in() -> World {
        let world = World::empty();
        for (path, text) in [
            ("/var/lib/prosody/prose%2elocal/accounts/alice.dat", "return { password = 1 }"),
            ("/var/lib/prosody/prose%2elocal/archive/alice.list", NEEDLE),
            ("/var/lib/prosody/custom_plugins/mod_evil.lua", "os.exit()"),
            ("/var/lib/prosody/empty/.keep", ""),
            ("/var/lib/prose-pod-api/pod.sqlite", DATABASE),
            ("/var/lib/prose-pod-api/pod.sqlite-wal", "the newest"),
            ("/var/lib/prose-pod-api/pod.sqlite-shm", "made anew"),
            ("/etc/prose-pod-api/Prose.toml", "[server]\ndomain = \"prose.local\"\n"),
            ("/etc/prose/env", "PROSE_X=1\n"),
            ("/etc/prosody/certs/a.pem", "a certificate"),
            ("/etc/prosody/prosody.cfg.lua", "-- generated"),
            ("/etc/stele/network.toml", "this machine's address"),
        ] {
            world.put(path, text);
        }
        let secret = world.place().volume("/etc/prose/env");
        fs::set_permissions(secret, fs::Permissions::from_mode(0o600)).unwrap();
        world
    }

    fn place(&self) -> Place {
        Place::at(self.folder.path())
    }

    fn put(&self, path: &str, text: &str) {
        let path = self.place().volume(path);
        fs::create_dir_all(path.parent().unwrap()).unwrap();
        fs::write(path, text).unwrap();
    }

    fn order(&self, job: Job) -> Order {
        let origin = Origin {
            name: "prose-pod".into(),
            version: "1.0.0".into(),
            date: 1_765_900_175,
            domain: self.domain.map(str::to_owned),
        };
        Order { number: 1, job, volumes: volumes(), origin }
    }

    /// Everything that is told.
    fn told(&self, job: Job) -> Vec<Report> {
        let mut told = vec![];
        carry_out(&self.place(), &self.order(job), &mut |report| told.push(report));
        told
    }

    fn does(&self, job: Job) -> Result<Stats, Trouble> {
        match self.told(job).pop() {
            Some(Report::Done(stats)) => Ok(stats),
            Some(Report::Failed(trouble)) => Err(trouble),
            other => panic!("{other:?}"),
        }
    }

    fn create(&self, name: &str, lock: Lock) -> Result<Stats, Trouble> {
        self.does(Job::Create { id: id(name), description: Some("Nightly".into()), lock })
    }

    fn prepare(&self, name: &str, key: Key) -> Result<Stats, Trouble> {
        self.does(Job::Prepare { id: id(name), key })
    }

    fn bytes(&self, name: &str) -> Vec<u8> {
        fs::read(self.place().kept(id(name).as_ref())).unwrap()
    }

    fn label(&self, name: &str) -> Label {
        let text = fs::read(self.place().kept(Label::file_of(&id(name)))).unwrap();
        serde_json::from_slice(&text).unwrap()
    }

    /// Puts a file where a finished backup is.
    fn keep(&self, name: &str, bytes: &[u8]) {
        fs::write(self.place().kept(id(name).as_ref()), bytes).unwrap();
    }

    /// What was laid out: paths, modes, texts (a folder's is `/`).
    fn staged(&self) -> BTreeMap<String, (u32, String)> {
        tree(&self.place().work("new"))
    }
}

fn tree(root: &Path) -> BTreeMap<String, (u32, String)> {
    let (mut found, mut folders) = (BTreeMap::new(), vec![root.to_owned()]);
    while let Some(folder) = folders.pop() {
        let Ok(entries) = fs::read_dir(&folder) else { continue };
        for path in entries.map(|entry| entry.unwrap().path()) {
            let mode = fs::symlink_metadata(&path).unwrap().mode() & 0o777;
            let name = path.strip_prefix(root).unwrap().to_str().unwrap().to_owned();
            match path.is_dir() {
                true => {
                    found.insert(name, (mode, "/".to_owned()));
                    folders.push(path);
                }
                false => {
                    found.insert(name, (mode, fs::read_to_string(&path).unwrap()));
                }
            }
        }
    }
    found
}

#[test]
fn what_comes_out_is_what_went_in_but_no_programs_and_nothing_of_the_machines_own() {
    let world = World::lived_in();
    let told = world.told(Job::Create { id: id("a"), description: None, lock: lock() });
    assert!(matches!(told.as_slice(), [Report::Taken, Report::Done(_)]), "{told:?}");
    let bytes = world.bytes("a");
    for plain in [NEEDLE, "alice", "volumes", "password"] {
        assert!(!bytes.windows(plain.len()).any(|it| it == plain.as_bytes()), "{plain}");
    }
    let other = World::empty();
    other.keep("a", &bytes);
    let stats = other.prepare("a", key()).unwrap();
    assert_eq!(stats.backup_size_bytes, bytes.len() as u64);
    let staged = other.staged();
    let text = |path: &str| staged.get(path).map(|(_, text)| text.as_str());
    let prosody = "volumes/var/lib/prosody";
    assert_eq!(text(&format!("{prosody}/prose%2elocal/archive/alice.list")), Some(NEEDLE));
    assert_eq!(text(&format!("{prosody}/empty/.keep")), Some(""));
    assert_eq!(text("volumes/var/lib/prose-pod-api/pod.sqlite"), Some(DATABASE));
    assert_eq!(text("volumes/var/lib/prose-pod-api/pod.sqlite-wal"), Some("the newest"));
    assert_eq!(staged["volumes/etc/prose/env"], (0o600, "PROSE_X=1\n".to_owned()));
    assert_eq!(text("volumes/etc/prosody/certs/a.pem"), Some("a certificate"));
    for path in [
        "volumes/var/lib/prosody/custom_plugins",
        "volumes/var/lib/prose-pod-api/pod.sqlite-shm",
        "volumes/etc/prosody/prosody.cfg.lua",
        "volumes/etc/stele",
        "volumes/var/lib/prose-backups",
    ] {
        assert_eq!(text(path), None);
    }
    assert_eq!(staged[prosody].0, 0o750);
}

#[test]
fn what_an_operator_wrote_here_stays() {
    let world = World::lived_in();
    world.create("a", lock()).unwrap();
    world.put("/etc/prose/env", "PROSE_X=2\n");
    fs::remove_dir_all(world.place().volume("/etc/prosody/certs")).unwrap();
    world.prepare("a", key()).unwrap();
    let staged = world.staged();
    assert!(!staged.contains_key("volumes/etc/prose/env"));
    assert!(staged.contains_key("volumes/etc/prosody/certs/a.pem"));
}

#[test]
fn a_domain_that_this_pod_is_not_configured_for_is_refused() {
    let world = World { domain: Some("prose.local"), ..World::lived_in() };
    world.create("a", lock()).unwrap();
    let fresh = World { domain: Some("prose.example"), ..World::empty() };
    fresh.keep("a", &world.bytes("a"));
    fresh.prepare("a", key()).unwrap();
    fresh.put("/etc/prose-pod-api/Prose.toml", "[server]\ndomain = \"prose.example\"\n");
    let refused = fresh.prepare("a", key()).unwrap_err();
    assert_eq!(refused.kind, Kind::Foreign, "{refused}");
    assert!(refused.message.contains("prose.local"), "{refused}");
}

#[test]
fn what_grows_meanwhile_is_as_long_as_it_was() {
    let world = World::lived_in();
    let path = world.place().volume("/var/lib/prosody/prose%2elocal/archive/alice.list");
    let replaced = world.place().volume("/var/lib/prosody/prose%2elocal/accounts/alice.dat");
    let order = world.order(Job::Create { id: id("a"), description: None, lock: lock() });
    carry_out(&world.place(), &order, &mut |report| {
        if report == Report::Taken {
            File::options().append(true).open(&path).unwrap().write_all(b"later").unwrap();
            fs::write(replaced.with_extension("new"), "return {}").unwrap();
            fs::rename(replaced.with_extension("new"), &replaced).unwrap();
        }
    });
    world.prepare("a", key()).unwrap();
    let staged = world.staged();
    let text =
        |name: &str| staged[&format!("volumes/var/lib/prosody/prose%2elocal/{name}")].1.clone();
    assert_eq!(text("archive/alice.list"), NEEDLE);
    assert_eq!(text("accounts/alice.dat"), "return { password = 1 }");
    assert!(!world.place().work("farm").exists() && !world.place().work("index").exists());
}

#[test]
fn one_that_is_not_whole_is_refused_wherever_it_is_broken_and_leaves_nothing() {
    let world = World::lived_in();
    world.create("a", lock()).unwrap();
    let good = world.bytes("a");
    // Each byte of its head, and a sample of the rest.
    let places = (0..good.len()).filter(|at| *at < 250 || at % 37 == 0);
    let mut kinds = BTreeMap::new();
    for at in places {
        let mut bad = good.clone();
        bad[at] ^= 1;
        world.keep("bad", &bad);
        let refused = world.prepare("bad", key()).expect_err("it is damaged");
        *kinds.entry(format!("{:?}", refused.kind)).or_insert(0) += 1;
        assert!(!world.place().work("new").exists(), "byte {at}");
        fs::remove_file(world.place().kept(id("bad").as_ref())).unwrap();
    }
    assert!(kinds["Damaged"] > 10 && !kinds.contains_key("Failed"), "{kinds:?}");
    for length in [0, 1, 100, good.len() / 2, good.len() - 1] {
        world.keep("bad", &good[..length]);
        assert_eq!(world.prepare("bad", key()).unwrap_err().kind, Kind::Damaged, "{length}");
    }
    world.keep("bad", &[good.as_slice(), b"more"].concat());
    assert_eq!(world.prepare("bad", key()).unwrap_err().kind, Kind::Damaged);
    world.prepare("a", key()).unwrap();
}

#[test]
fn only_its_own_key_opens_it() {
    let world = World::lived_in();
    let identity = age::x25519::Identity::generate();
    let address = identity.to_public().to_string();
    world.create("locked", Lock::Recipient(address.clone())).unwrap();
    assert_eq!(world.label("locked").recipient, Some(address));
    world.create("known", lock()).unwrap();
    let its = Key::Identity(secret(identity.to_string().expose_secret()));
    let other = age::x25519::Identity::generate();
    let other = Key::Identity(secret(other.to_string().expose_secret()));
    let guess = Key::Passphrase(secret("a guess"));
    for (name, key, opens) in [
        ("locked", &its, true),
        ("locked", &other, false),
        ("locked", &guess, false),
        ("known", &key(), true),
        ("known", &guess, false),
        ("known", &its, false),
        ("known", &Key::Identity(secret("no identity")), false),
    ] {
        let kind = world.prepare(name, key.clone()).err().map(|trouble| trouble.kind);
        assert_eq!(kind, (!opens).then_some(Kind::WrongKey), "{name} {key:?}");
    }
    let wrong = world.create("x", Lock::Recipient("age1nobody".into())).unwrap_err();
    assert_eq!(wrong.kind, Kind::Invalid);
    assert_eq!(world.prepare("none", its).unwrap_err().kind, Kind::NotFound);
}

/// An archive that somebody with a key made by hand.
fn forged(
    manifest: &Manifest,
    put: impl FnOnce(&mut tar::Builder<&mut dyn std::io::Write>),
) -> Vec<u8> {
    let mut bytes = vec![];
    let sealed = seal::seal(&lock(), &mut bytes).unwrap();
    let mut compressed = zstd::Encoder::new(sealed, 1).unwrap();
    {
        let mut tar = tar::Builder::new(&mut compressed as &mut dyn std::io::Write);
        let text = serde_json::to_vec(manifest).unwrap();
        put_document(&mut tar, MANIFEST, &text, 0).unwrap();
        put(&mut tar);
        tar.finish().unwrap();
    }
    compressed.finish().unwrap().finish().unwrap();
    bytes
}

fn manifest() -> Manifest {
    Manifest {
        format: FORMAT,
        appliance: "prose-pod".into(),
        version: "1.0.0".into(),
        created: 0,
        domain: None,
        entries: 9,
        bytes: 99,
    }
}

fn put_file(tar: &mut tar::Builder<&mut dyn std::io::Write>, path: &str, uid: u32, kind: u8) {
    let mut header = tar::Header::new_gnu();
    header.as_gnu_mut().unwrap().name[..path.len()].copy_from_slice(path.as_bytes());
    header.set_entry_type(tar::EntryType::new(kind));
    header.set_mode(0o4755);
    header.set_uid(uid.into());
    header.set_gid(own().1.into());
    header.set_mtime(0);
    header.set_size(if kind == b'0' { 1 } else { 0 });
    if kind == b'2' {
        header.as_gnu_mut().unwrap().linkname[..4].copy_from_slice(b"/etc");
    }
    header.set_cksum();
    tar.append(&header, &b"x"[..if kind == b'0' { 1 } else { 0 }]).unwrap();
}

#[test]
fn a_hostile_archive_gets_nothing_anywhere() {
    let own = own().0;
    for (path, uid, kind, expected) in [
        ("volumes/var/lib/prosody/../../../../x", own, b'0', Kind::Foreign),
        ("/etc/passwd", own, b'0', Kind::Foreign),
        ("settings.json", own, b'0', Kind::Foreign),
        ("volumes/var/lib/prosody/custom_plugins/x.lua", own, b'0', Kind::Foreign),
        ("volumes/etc/prosody/prosody.bootstrap.cfg.lua", own, b'0', Kind::Foreign),
        ("volumes/etc/stele/network.toml", own, b'0', Kind::Foreign),
        ("volumes/var/lib/prose-backups/x", own, b'0', Kind::Foreign),
        ("volumes/var/lib/elsewhere/x", own, b'0', Kind::Foreign),
        ("volumes/var/lib/prosody/x", 4711, b'0', Kind::Foreign),
        ("volumes/var/lib/prosody/x", own, b'2', Kind::Damaged),
        ("volumes/var/lib/prosody/x", own, b'1', Kind::Damaged),
        ("volumes/var/lib/prosody/x", own, b'3', Kind::Damaged),
    ] {
        let world = World::empty();
        let before = tree(world.folder.path());
        world.keep("f", &forged(&manifest(), |tar| put_file(tar, path, uid, kind)));
        let refused = world.prepare("f", key()).unwrap_err();
        assert_eq!(refused.kind, expected, "{path}: {refused}");
        fs::remove_file(world.place().kept(id("f").as_ref())).unwrap();
        assert_eq!(tree(world.folder.path()), before, "{path}");
    }
}

#[test]
fn a_manifest_is_believed_for_what_it_refuses_only() {
    let world = World::empty();
    for (manifest, expected) in [
        (Manifest { format: FORMAT + 1, ..manifest() }, Kind::Foreign),
        (Manifest { bytes: u64::MAX, ..manifest() }, Kind::NoRoom),
        (Manifest { entries: u64::MAX, ..manifest() }, Kind::NoRoom),
        (Manifest { entries: 0, ..manifest() }, Kind::Damaged),
        (Manifest { bytes: 0, ..manifest() }, Kind::Damaged),
        // Its end is missing.
        (manifest(), Kind::Damaged),
    ] {
        let put = |tar: &mut tar::Builder<&mut dyn std::io::Write>| {
            put_file(tar, "volumes/var/lib/prosody", own().0, b'5');
            put_file(tar, "volumes/var/lib/prosody/x", own().0, b'0');
        };
        world.keep("m", &forged(&manifest, put));
        let refused = world.prepare("m", key()).unwrap_err();
        assert_eq!(refused.kind, expected, "{manifest:?}: {refused}");
    }
}

#[test]
fn backups_are_taken_in_described_and_given_up() {
    let world = World::lived_in();
    world.create("a", lock()).unwrap();
    let label = world.label("a");
    assert_eq!((label.description.as_deref(), label.created), (Some("Nightly"), 1_765_900_175));
    let accept = |name: &str| world.does(Job::Accept { id: id(name), description: None });
    let upload = |name: &str, bytes: &[u8]| {
        fs::write(world.place().incoming(id(name).as_ref()), bytes).unwrap();
    };
    upload("b", &world.bytes("a"));
    accept("b").unwrap();
    assert_eq!(world.label("b").sha256, label.sha256);
    world.prepare("b", key()).unwrap();
    assert!(!world.place().incoming(id("b").as_ref()).exists());
    upload("c", b"PK\x03\x04 something else");
    assert_eq!(accept("c").unwrap_err().kind, Kind::Damaged);
    upload("b", &world.bytes("a"));
    assert_eq!(accept("b").unwrap_err().kind, Kind::Invalid);
    symlink("/etc/passwd", world.place().incoming(id("d").as_ref())).unwrap();
    assert_eq!(accept("d").unwrap_err().kind, Kind::Failed);

    let describe = |name: &str, text: &str| {
        world.does(Job::Describe { id: id(name), description: Some(text.into()) })
    };
    describe("b", "Before the move").unwrap();
    assert_eq!(world.label("b").description.as_deref(), Some("Before the move"));
    assert_eq!(world.label("b").sha256, label.sha256);
    for text in ["", "two\nlines", &"x".repeat(257)] {
        assert_eq!(describe("b", text).unwrap_err().kind, Kind::Invalid);
    }
    assert_eq!(describe("none", "x").unwrap_err().kind, Kind::NotFound);

    let delete =
        |names: &[&str]| world.does(Job::Delete { ids: names.iter().map(|it| id(it)).collect() });
    assert_eq!(delete(&["a", "none"]).unwrap_err().kind, Kind::NotFound);
    assert!(world.place().kept(id("a").as_ref()).exists());
    delete(&["a", "b"]).unwrap();
    assert_eq!(fs::read_dir(world.place().volume(KEPT)).unwrap().count(), 0);
}

#[test]
fn there_are_only_so_many_and_no_name_twice() {
    let world = World::lived_in();
    world.create("a", lock()).unwrap();
    assert_eq!(world.create("a", lock()).unwrap_err().kind, Kind::Invalid);
    for number in 1..MOST {
        world.keep(&number.to_string(), b"");
    }
    let refused = world.create("b", lock()).unwrap_err();
    assert_eq!(refused.kind, Kind::NoRoom);
    assert!(refused.message.contains("64"), "{refused}");
}

#[test]
fn what_is_left_behind_is_cleared() {
    let world = World::lived_in();
    world.create("a", lock()).unwrap();
    world.prepare("a", key()).unwrap();
    for path in ["farm/0", "old/volumes/var/x"] {
        let path = world.place().work(path);
        fs::create_dir_all(path.parent().unwrap()).unwrap();
        fs::write(path, "left").unwrap();
    }
    let part = world.place().kept("b.tar.zst.age.part");
    fs::write(&part, "half").unwrap();
    world.does(Job::Clear).unwrap();
    assert_eq!(fs::read_dir(world.place().join("backup")).unwrap().count(), 0);
    assert!(!part.exists() && world.place().kept(id("a").as_ref()).exists());
}

#[test]
fn an_erased_pod_has_empty_volumes_for_its_data_alone() {
    let world = World::lived_in();
    world.does(Job::Erase).unwrap();
    let staged = world.staged();
    let data: Vec<_> = staged.keys().filter(|path| path.matches('/').count() == 3).collect();
    assert_eq!(data, ["volumes/var/lib/prose-pod-api", "volumes/var/lib/prosody"]);
    assert_eq!(staged["volumes/var/lib/prosody"].0, 0o750);
    assert!(!staged.contains_key("volumes/etc"));
}

/// Debian's own `age`, if it is installed: its word on our backups, and ours on its.
#[test]
fn debians_age_opens_what_we_sealed_and_seals_what_we_open() {
    if Command::new("age").arg("--version").stdout(Stdio::null()).status().is_err() {
        eprintln!("not looked at: there is no age here");
        return;
    }
    let world = World::lived_in();
    let generated = Command::new("age-keygen").output().unwrap();
    let text = String::from_utf8(generated.stdout).unwrap();
    let identity = text.lines().find(|line| line.starts_with("AGE-SECRET-KEY-1")).unwrap();
    let address = identity.parse::<age::x25519::Identity>().unwrap().to_public().to_string();
    world.create("a", Lock::Recipient(address.clone())).unwrap();
    let path = |name: &str| world.folder.path().join(name);
    fs::write(path("identity"), identity).unwrap();
    let age = |arguments: &[&Path]| {
        let done = Command::new("age").args(arguments).output().unwrap();
        assert!(done.status.success(), "{}", String::from_utf8_lossy(&done.stderr));
        done.stdout
    };
    let kept = world.place().kept(id("a").as_ref());
    let plain = age(&[Path::new("-d"), Path::new("-i"), &path("identity"), &kept]);
    let mut tar = tar::Archive::new(zstd::Decoder::new(plain.as_slice()).unwrap());
    let mut text = String::new();
    for entry in tar.entries().unwrap() {
        let mut entry = entry.unwrap();
        if entry.path().unwrap().ends_with("alice.list") {
            entry.read_to_string(&mut text).unwrap();
        }
    }
    assert_eq!(text, NEEDLE);
    fs::write(path("plain"), &plain).unwrap();
    world.keep("b", &age(&[Path::new("-r"), Path::new(&address), &path("plain")]));
    world.prepare("b", Key::Identity(secret(identity))).unwrap();
    assert_eq!(tree(&world.place().work("new")).len(), world.staged().len());
}
