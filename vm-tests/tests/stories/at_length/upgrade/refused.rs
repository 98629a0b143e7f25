//! Bundles that aren't installed: the Pod says why, and what runs stays what it was.

use std::io::Write as _;
use std::net::TcpStream;

use appliance::bundle::{CHUNK, Head, Manifest};
use serde_json::Value;
use signing::SecretKey;
use vm_tests::disk::Kept;
use vm_tests::esp;
use vm_tests::machine::{DISK, Machine};
use vm_tests::releases::{self, Release};
use vm_tests::vm::Vm;
use vm_tests::{BOOT, SOON};

use super::LIFE;

/// One that would be installed, taken apart.
struct Good {
    head: Head,
    manifest: Manifest,
    payload: Vec<u8>,
    key: SecretKey,
}

/// What stands before the payload of a bundle, and what the Pod makes of it.
struct Case {
    what: &'static str,
    start: Vec<u8>,
    status: u16,
    error: &'static str,
}

impl Good {
    fn of(release: &Release) -> Good {
        let bytes = std::fs::read(&release.bundle).unwrap();
        let head = Head::parse(bytes[..Head::BYTES].try_into().unwrap()).unwrap();
        let (start, payload) = bytes.split_at(Head::BYTES + head.manifest_length);
        let manifest = Manifest::parse(&start[Head::BYTES..]).unwrap();
        let key = releases::key().unwrap().with_extension("key");
        let key = signing::read_secret(&key).unwrap();
        Good { head, manifest, payload: payload.to_owned(), key }
    }

    /// Its own start.
    fn start(&self) -> Vec<u8> {
        [&self.head.to_bytes()[..], &self.manifest.to_bytes().unwrap()].concat()
    }

    /// Its start with one bit of this byte flipped.
    fn flipped(&self, at: usize) -> Vec<u8> {
        let mut start = self.start();
        start[at] ^= 1;
        start
    }

    /// These bytes in the place of the manifest, signed by the key that is believed.
    fn signed(&self, manifest: &[u8]) -> Vec<u8> {
        [&self.key.sign(manifest).to_bytes()[..], manifest].concat()
    }

    /// Another manifest, possible and signed.
    fn changed(&self, change: impl FnOnce(&mut Manifest)) -> Vec<u8> {
        let mut manifest = self.manifest.clone();
        change(&mut manifest);
        let (chunks, first) = (manifest.payload().div_ceil(CHUNK as u64), manifest.chunks[0]);
        manifest.chunks.resize(chunks as usize, first);
        self.signed(&manifest.to_bytes().unwrap())
    }

    /// By a key that nobody believes, or no more.
    fn by_another(&self) -> Head {
        SecretKey::of_seed(&[7; 32].into()).sign(&self.manifest.to_bytes().unwrap())
    }
}

/// Refused before a byte is written; `running` is the bundle of the system that does.
fn cases(good: &Good, running: &Good) -> Vec<Case> {
    let manifest = good.manifest.to_bytes().unwrap();
    let headed = |head: Head| [&head.to_bytes()[..], &manifest].concat();
    let forged = Head { key: good.head.key, ..good.by_another() };
    let version = |text: &str| text.to_owned().try_into().unwrap();
    let name = |text: &str| text.to_owned().try_into().unwrap();
    let older = good.changed(|it| (it.version, it.floor) = (version("0.9"), None));
    let case = |what, start, status, error| Case { what, start, status, error };
    vec![
        case("another file", good.flipped(0), 400, "not_a_bundle"),
        case("a manifest of 16 MiB", good.flipped(11), 400, "manifest"),
        case(
            "a key that isn't believed, or no more",
            headed(good.by_another()),
            422,
            "unknown_key",
        ),
        case("another id of the key", good.flipped(12), 422, "unknown_key"),
        case("a believed key's id on another's signature", headed(forged), 422, "signature"),
        case("a bit of the signature", good.flipped(20), 422, "signature"),
        case("a bit of the manifest", good.flipped(Head::BYTES + 40), 422, "signature"),
        case("no manifest", good.signed(b"{}"), 400, "manifest"),
        case("a format to come", good.signed(br#"{"format":2}"#), 400, "format"),
        case("another product", good.changed(|it| it.product = name("other")), 422, "product"),
        case(
            "another architecture",
            good.changed(|it| it.architecture = name("arm64")),
            422,
            "architecture",
        ),
        case("what runs, once more", running.start(), 409, "running"),
        case("older than the floor", older, 409, "downgrade"),
        case(
            "one that may not follow",
            good.changed(|it| it.follows = Some(version("1.0.5"))),
            409,
            "downgrade",
        ),
        case("a UKI too large", good.changed(|it| it.uki.size = 40 << 20), 413, "size"),
        case("a root too large", good.changed(|it| it.root.data_blocks = 1 << 15), 413, "size"),
    ]
}

/// A part of the bundle on its way, with more to come that never does.
fn begin(vm: &Vm, bytes: &[u8], total: usize) -> TcpStream {
    let mut stream = TcpStream::connect(vm.http()).unwrap();
    let head = format!(
        "PUT /api/v1/appliance/upgrade HTTP/1.1\r\nHost: 127.0.0.1\r\nContent-Length: {total}\r\n\
         Authorization: Bearer {}\r\n\r\n",
        vm.token()
    );
    stream.write_all(head.as_bytes()).and_then(|()| stream.write_all(bytes)).unwrap();
    stream
}

/// Waits until what the Pod says of the last bundle is this.
fn wait_for_task(vm: &Vm, is_it: impl Fn(&Value) -> bool) -> Value {
    for _ in 0..100 {
        let task = vm.get("/api/v1/appliance").body["upgrade"].clone();
        if is_it(&task) {
            return task;
        }
        vm.must_live_for(SOON / 100);
    }
    panic!("{}", vm.get("/api/v1/appliance").body);
}

fn digests(disk: &Kept) -> [String; 3] {
    ["esp", "slot-a", "slot-b"].map(|name| disk.digest_of(name).unwrap().to_string())
}

#[test]
fn what_may_not_be_installed_is_refused_and_changes_nothing() {
    let [old, new] = ["1.0.0", "1.1.0"].map(|version| Release::of(version, &["test-certificate"]));
    let disk = Kept::of(&old.image, DISK);
    let (good, running) = (Good::of(&new), Good::of(&old));
    let cases = cases(&good, &running);
    let vm = Machine::firmware(&old.image).on(&disk).deadline(LIFE).start();
    vm.pod_serves();
    vm.make_admin();
    let before = digests(&disk);

    // Without a byte written.
    for Case { what, start, status, error } in cases {
        let answer = vm.put_bundle(&[&start[..], &good.payload].concat());
        assert_eq!((answer.status, answer.error()), (status, error), "{what}: {answer:?}");
        eprintln!("{what}: {}", answer.body["message"]);
        assert!(digests(&disk) == before, "{what}");
    }
    for (what, length) in [("half a head", 40), ("half a manifest", 400)] {
        let answer = vm.put_bundle(&good.start()[..length]);
        assert_eq!((answer.status, answer.error()), (400, "truncated"), "{what}: {answer:?}");
        assert!(digests(&disk) == before, "{what}");
    }
    let mut whole = [good.start(), good.payload.clone()].concat();
    let payload = good.start().len();
    whole[payload] ^= 1;
    let answer = vm.put_bundle(&whole);
    assert_eq!((answer.status, answer.error()), (422, "chunk"), "{answer:?}");
    whole[payload] ^= 1;
    assert!(digests(&disk) == before, "the first chunk");
    let answer = vm.put_bundle(&whole[..whole.len() / 2]);
    assert_eq!((answer.status, answer.error()), (400, "truncated"), "{answer:?}");
    whole.push(0);
    let answer = vm.put_bundle(&whole);
    assert_eq!((answer.status, answer.error()), (413, "oversized"), "{answer:?}");
    whole.pop();
    assert!(digests(&disk) == before, "another length");

    // Into a slot that is nobody's, and nothing starts.
    let last = whole.len() - 1;
    whole[last] ^= 1;
    let answer = vm.put_bundle(&whole);
    assert_eq!((answer.status, answer.error()), (422, "chunk"), "{answer:?}");
    whole[last] ^= 1;
    let stream = begin(&vm, &whole[..8 * CHUNK], whole.len());
    wait_for_task(&vm, |task| task["progress"].is_object());
    let answer = vm.put_bundle(&whole);
    assert_eq!((answer.status, answer.error()), (409, "busy"), "{answer:?}");
    drop(stream);
    let failed = wait_for_task(&vm, |task| task["failed"].is_object());
    assert_eq!(failed["failed"]["code"], "truncated", "{failed}");
    assert_eq!(digests(&disk)[1], before[1]);
    vm.slots_are(["blessed", "empty"], SOON);

    // And a good one is as welcome as before.
    vm.install(&new.bundle);
    vm.power_off(BOOT);
    assert_eq!(esp::names(&disk, esp::LINUX), ["p1.efi", "p2+3-0.efi"]);
    assert_eq!(digests(&disk)[1], before[1]);
    let image = Kept::of(&old.image, DISK);
    assert!(esp::read(&disk, "EFI/Linux/p1.efi") == esp::read(&image, "EFI/Linux/p1.efi"));
}
