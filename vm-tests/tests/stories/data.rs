//! What the appliance keeps outlives reboots, power cuts and a larger disk; and no disk that holds
//! something else is ever formatted.

use std::fs;
use std::path::Path;
use std::time::Duration;

use appliance::gpt::{SECTOR, Table};
use vm_tests::client::{JID, Login, PASSWORD, Session, shown_certificate};
use vm_tests::data::Data;
use vm_tests::disk::{self, Kept};
use vm_tests::images::{self, Image, Tools};
use vm_tests::machine::{DISK, Machine};
use vm_tests::vm::Vm;
use vm_tests::{BOOT, SOON, scratch};

const MADE: &str = "stele-init: data: file system of";
const MOUNTED: &str = "stele-init: data: vda5 mounted";
const STARTS: &str = "stele-init: root: starts";

/// What a service has written is safe after five seconds, and a little for a busy host.
const SAFE_AFTER: Duration = Duration::from_secs(7);
/// Bytes of a disk that has room for everything, and little more.
const SMALL: u64 = 512 << 20;

/// Logs in, says `body`, and returns what came of it.
#[track_caller]
fn talk(vm: &Vm, body: &str) -> Session {
    let certificate = shown_certificate(vm, BOOT);
    vm.wait_for("stele-init: service account: done", BOOT);
    vm.stream_reply("prose.local", BOOT);
    let login = Login { jid: JID, password: PASSWORD, certificate, body: Some(body), peer: None };
    let session = login.run(vm.xmpp());
    assert!(session.message_returned, "{session:?}");
    // To oneself: it was sent, and it was received.
    Session { archive: session.archive.into_iter().step_by(2).collect(), ..session }
}

#[test]
fn accounts_and_messages_survive_a_reboot_a_power_cut_and_a_grown_disk() {
    let image = Image::with_layers(&["test-account", "test-certificate"]);
    let disk = Kept::of(&image, SMALL);
    let start = || Machine::direct(&image).on(&disk).start();

    let vm = start();
    vm.wait_for(MADE, BOOT);
    assert_eq!(talk(&vm, "the first message").archive, ["the first message"]);
    vm.power_off(SOON);

    let vm = start();
    let session = talk(&vm, "the second message");
    assert_eq!(session.archive, ["the first message", "the second message"]);
    vm.must_live_for(SAFE_AFTER);
    vm.cut_power();

    disk.grow(DISK).unwrap();
    let vm = start();
    vm.wait_for("stele-init: data: partition table of vda written, for 2048 MiB", BOOT);
    vm.wait_for("stele-init: data: grown from ", BOOT);
    let session = talk(&vm, "the third message");
    let all = ["the first message", "the second message", "the third message"];
    assert_eq!(session.archive, all);
    vm.power_off(SOON);

    // It was made once, and never after; and nothing is left to be grown.
    let vm = start();
    vm.wait_for(STARTS, BOOT);
    for line in [MADE, "partition table", "data: grown"] {
        assert!(vm.lines_with(line).is_empty(), "{line}");
    }
    vm.power_off(SOON);
}

#[test]
fn two_copies_of_an_image_share_no_id_and_no_secret() {
    let image = Image::release();
    let [one, other] = [(); 2].map(|()| {
        let disk = Kept::of(&image, SMALL);
        let vm = Machine::direct(&image).on(&disk).start();
        vm.wait_for("stele-init: service certificate: done", BOOT);
        vm.power_off(SOON);
        disk
    });
    let (one_data, other_data) = (Data::of(&one), Data::of(&other));
    for file in ["/machine-id", "/random-seed", "/volumes/var/lib/prosody/self-signed.key"] {
        let (one, other) = (one_data.read(file), other_data.read(file));
        assert!(one.len() >= 32 && other.len() >= 32, "{file}");
        assert_ne!(one, other, "{file}");
    }
    // UUIDs: of the file system (its superblock has it at 1024 + 0x68), the disk, its partitions.
    let uuid = |data: &Path| fs::read(data).unwrap()[1128..1144].to_vec();
    assert_ne!(uuid(one_data.path()), uuid(other_data.path()));
    let (one, other) = (table(&one), table(&other));
    assert_ne!(one.disk, other.disk);
    for (one, other) in one.partitions.iter().zip(&other.partitions) {
        assert_eq!(one.name, other.name);
        // Firmware remembers the ESP's.
        assert_eq!(one.id == other.id, one.name == "esp", "{}", one.name);
    }
    // Who owns what, as the guide says.
    for (path, expected) in [
        ("/random-seed", (0o600, 0, 0)),
        ("/volumes/var/lib/prosody", (0o750, 901, 901)),
        ("/volumes/etc/prosody", (0o750, 0, 901)),
        ("/volumes/etc/prose", (0o750, 0, 0)),
        ("/volumes/var/lib/prosody/self-signed.key", (0o600, 901, 901)),
    ] {
        assert_eq!(one_data.owner(path), expected, "{path}");
    }
}

fn table(disk: &Kept) -> Table {
    disk::table(disk.path()).unwrap()
}

/// The machine says `why`, serves nothing, and has written nothing to its disk.
#[track_caller]
fn must_refuse(image: &Image, disk: &Kept, why: &[&'static str]) {
    let before = disk.digest().unwrap();
    let machine = Machine::direct(image).on(disk).expect("stele-init: cannot ");
    let vm = machine.expect("EXT4-fs error").start();
    let line = vm.wait_for("stele-init: cannot ", BOOT);
    vm.wait_for("data: nothing is served without it; tries again in 60 s", SOON);
    assert!(why.iter().all(|part| line.text.contains(part)), "{line} has not all of {why:?}");
    assert!(vm.lines_with(STARTS).is_empty() && vm.lines_with(MADE).is_empty());
    vm.cut_power();
    assert_eq!(disk.digest().unwrap(), before, "the disk was written to: {line}");
}

#[test]
fn what_belongs_to_somebody_else_is_never_formatted() {
    let image = Image::release();
    // The first sectors of slot-b and of the data, as the first boot would place them.
    let end = fs::metadata(&image.disk).unwrap().len();
    let slot = disk::partition(&image.disk, "slot-a").unwrap().bytes();
    let (slot_b, data) = (end, end + slot);

    let disk = Kept::of(&image, SMALL);
    disk.write_at(b"XFSB", data).unwrap();
    must_refuse(&image, &disk, &["take sectors", "for data: there is", "dd if=/dev/zero"]);

    let disk = Kept::of(&image, SMALL);
    disk.write_at(b"somebody's", slot_b + 4096).unwrap();
    must_refuse(&image, &disk, &["for slot-b: there is"]);

    // Another system's ext4, whole, and with nothing in its first KiB.
    let disk = Kept::of(&image, SMALL);
    disk.write_at(&vm_tests::data::another_systems(16 << 20).unwrap(), data).unwrap();
    must_refuse(&image, &disk, &["for data: there is an ext file system labelled `home`"]);

    // A disk that had another partition table, whose end outlives the image at its start.
    let disk = Kept::of(&image, SMALL);
    disk.had_another_table(slot_b / SECTOR, data / SECTOR + 2048).unwrap();
    must_refuse(&image, &disk, &["the partition table at its end has `"]);
}

#[test]
fn damaged_data_is_named_and_kept() {
    let image = Image::release();
    let disk = Kept::of(&image, SMALL);
    let vm = Machine::direct(&image).on(&disk).start();
    vm.wait_for(MOUNTED, BOOT);
    vm.cut_power();
    let data = table(&disk).named("data").unwrap().clone();

    let no_superblock = disk.fork();
    no_superblock.write_at(&[0; 1024], data.offset() + 1024).unwrap();
    must_refuse(&image, &no_superblock, &["use the data on vda5", "not the data's file system"]);

    let no_start = disk.fork();
    no_start.write_at(&[0; 1 << 20], data.offset()).unwrap();
    must_refuse(&image, &no_start, &["use the data on vda5", "there is"]);

    // The table is taken for what it is as long as one of its two copies is whole.
    let no_table = disk.fork();
    no_table.write_at(&[0xff; SECTOR as usize], SECTOR).unwrap();
    let vm = Machine::direct(&image).on(&no_table).start();
    vm.wait_for("stele-init: data: partition table of vda repaired", BOOT);
    vm.wait_for(STARTS, BOOT);
    vm.cut_power();
    assert_eq!(table(&no_table), table(&disk));
}

#[test]
fn a_seed_arrives_where_it_belongs_and_leaves_nothing_behind() {
    let image = Image::release();
    let disk = Kept::of(&image, SMALL);
    let folder = tempfile::tempdir().unwrap();
    let write = |name: &str, text: &str| {
        let path = folder.path().join(name);
        fs::create_dir_all(path.parent().unwrap()).unwrap();
        fs::write(&path, text).unwrap();
    };
    write("Prose.toml", "[server]\ndomain = \"example.org\"\n");
    write("env", "PROSE_BOOTSTRAP__PROSE_POD_API_XMPP_PASSWORD=told-to-nobody\n");
    write("certs/example.org.key", "a private key\n");
    let mut seed = scratch::bounded(&Tools::find().unwrap().stele, 60);
    seed.arg("seed").arg(disk.path());
    seed.args(["Prose.toml", "env", "certs"].map(|name| folder.path().join(name)));
    images::run(&mut seed, "seed the disk").unwrap();

    let vm = Machine::direct(&image).on(&disk).start();
    vm.wait_for("stele-init: seed: 3 files removed from the seed partition", BOOT);
    vm.power_off(SOON);
    let data = Data::of(&disk);
    for (path, text, owner) in [
        ("/etc/prose-pod-api/Prose.toml", "example.org", (0o640, 0, 0)),
        ("/etc/prose/env", "told-to-nobody", (0o600, 0, 0)),
        ("/etc/prosody/certs/example.org.key", "a private key", (0o640, 0, 901)),
    ] {
        let path = format!("/volumes{path}");
        assert!(data.text(&path).contains(text), "{path}");
        assert_eq!(data.owner(&path), owner, "{path}");
    }
    assert_eq!(data.owner("/volumes/etc/prosody/certs"), (0o750, 0, 901));
    // A secret moved: where it came from, no sector has it any more.
    let left = fs::read(disk.take_out("seed")).unwrap();
    for secret in ["told-to-nobody", "a private key"] {
        assert!(!left.windows(secret.len()).any(|found| found == secret.as_bytes()), "{secret}");
    }

    // There is nothing to take a second time.
    let vm = Machine::direct(&image).on(&disk).start();
    vm.wait_for(STARTS, BOOT);
    assert!(vm.lines_with("stele-init: seed:").is_empty());
}

#[test]
fn a_full_disk_harms_nobody_but_who_fills_it() {
    let image = Image::with_layers(&["test-account", "test-certificate", "test-filler"]);
    let disk = Kept::of(&image, SMALL);
    let start = || Machine::direct(&image).on(&disk).start();
    let vm = start();
    vm.wait_for("filler: the disk is full", BOOT);
    let certificate = shown_certificate(&vm, BOOT);
    vm.stream_reply("prose.local", BOOT);
    let login = Login { jid: JID, password: PASSWORD, certificate, body: None, peer: None };
    // Who is there can log in; what they say gets through, though it can't be kept.
    let session = login.run(vm.xmpp());
    assert!(session.message_returned, "{session:?}");
    vm.power_off(SOON);

    let vm = start();
    vm.wait_for("filler: has made room", BOOT);
    assert!(talk(&vm, "there is room").archive.contains(&"there is room".to_owned()));
    assert!(vm.lines_with("stele-init: service prosody: ended").is_empty());
    vm.power_off(SOON);
    assert_eq!(Data::of(&disk).text("/machine-id").len(), 32);
}
