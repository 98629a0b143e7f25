//! A bit of the disk is another: whatever serves after that is one of the two systems, whole.

use std::fs;
use std::fs::File;
use std::os::unix::fs::FileExt as _;
use std::time::Duration;

use appliance::esp::{Esp, SECTOR, Sector};
use appliance::upgrade::Side;
use appliance::verity::{BLOCK, Geometry};
use vm_tests::disk::{self, Kept};
use vm_tests::images::Image;
use vm_tests::machine::{DISK, Machine};
use vm_tests::releases::Release;
use vm_tests::{BOOT, is_long};

/// As often as a system that was good is tried before the other one is: 12 boots, some of them with
/// the wait of a watchdog.
const SERVES_WITHIN: Duration = Duration::from_secs(1500);
/// What fails for a reason that PID 1 knows, or before there is one in the root, isn't tried as often:
/// 4 boots, one that finds that to be enough, and the other system's.
const MOST_KERNELS: usize = 6;
/// What machines show whose disk has rotted.
const ROTTEN: [&str; 6] = [
    "is corrupted",
    "stele-init: cannot ",
    "Kernel panic",
    "Call Trace:",
    "SQUASHFS error",
    "I/O error",
];

/// The system that runs, and the one before it, which is still there.
struct Both {
    old: Release,
    new: Release,
    disk: Kept,
    esp: Esp,
}

fn geometry(image: &Image) -> Geometry {
    let root = &image.outcome["report"]["root"];
    let field = |name: &str| root[name].as_str().unwrap();
    Geometry {
        root_hash: field("root_hash").parse().unwrap(),
        salt: field("salt").parse().unwrap(),
        data_blocks: root["data_blocks"].as_u64().unwrap(),
    }
}

fn read(disk: &Kept, offset: u64, length: usize) -> Vec<u8> {
    let mut bytes = vec![0; length];
    File::open(disk.path()).unwrap().read_exact_at(&mut bytes, offset).unwrap();
    bytes
}

/// Puts a second system beside the one on the disk, as an upgrade that went well leaves it.
fn put_beside(disk: &Kept, new: &Release) -> Esp {
    let start = disk::partition(disk.path(), "esp").unwrap().offset();
    let locate = |disk: &Kept| Esp::locate(|at, length| Ok(read(disk, start + at, length)));
    let esp = locate(disk).unwrap();
    let from = Kept::of(&new.image, DISK);
    let slot = disk::partition(disk.path(), "slot-b").unwrap().offset();
    disk.write_at(&fs::read(from.take_out("slot-a")).unwrap(), slot).unwrap();
    let run = locate(&from).unwrap().run(Side::A);
    let uki = read(&from, start + run.start, (run.end - run.start) as usize);
    disk.write_at(&uki, start + esp.run(Side::B).start).unwrap();
    let sector: Sector = read(disk, start + esp.directory, SECTOR).try_into().unwrap();
    let mut directory = esp.read_directory(&sector).unwrap();
    for sector in directory.arm(Side::B, 3).unwrap() {
        directory = esp.read_directory(&sector).unwrap();
    }
    let blessed = *directory.bless(Side::B).unwrap().last().unwrap();
    disk.write_at(&blessed, start + esp.directory).unwrap();
    esp
}

impl Both {
    /// Of a disk that has been used.
    fn prepare() -> Both {
        let [old, new] =
            ["1.0.0", "1.1.0"].map(|version| Release::of(version, &["test-certificate"]));
        let disk = Kept::of(&old.image, DISK);
        let serves_once = |version: &str| {
            let vm = Machine::firmware(&old.image).on(&disk).start();
            vm.pod_serves();
            assert_eq!(vm.get("/api/v1/appliance").body["version"], version);
            vm.power_off(BOOT);
        };
        // There is no second slot before the first boot.
        serves_once("1.0.0");
        let esp = put_beside(&disk, &new);
        serves_once("1.1.0");
        Both { old, new, disk, esp }
    }

    fn start_of(&self, partition: &str) -> u64 {
        disk::partition(self.disk.path(), partition).unwrap().offset()
    }

    /// The byte at this offset of a side's UKI.
    fn uki(&self, side: Side, at: u64) -> u64 {
        self.start_of("esp") + self.esp.run(side).start + at
    }

    /// A byte of a FAT: of the entry for a cluster in the middle of a side's run.
    fn fat(&self, number: u64, side: Side) -> u64 {
        let boot = read(&self.disk, self.start_of("esp"), SECTOR);
        let word = |at: usize| u64::from(u16::from_le_bytes([boot[at], boot[at + 1]]));
        let (reserved, fats, roots) = (word(14), u64::from(boot[16]), word(17));
        let length = match word(22) {
            0 => word(36) | word(38) << 16,
            length => length,
        };
        let (entry, bytes) =
            (if word(22) == 0 { 4 } else { 2 }, u64::from(boot[13]) * SECTOR as u64);
        let first = (reserved + fats * length) * SECTOR as u64 + roots * 32;
        let run = self.esp.run(side);
        let cluster = 2 + ((run.start + run.end) / 2 - first) / bytes;
        self.start_of("esp") + (reserved + number * length) * SECTOR as u64 + cluster * entry
    }

    /// A byte of the directory's entry of this number.
    fn entry(&self, number: u64, at: u64) -> u64 {
        self.start_of("esp") + self.esp.directory + 32 * number + at
    }

    /// The top of a slot's hash tree.
    fn tree(&self, slot: &str, release: &Release) -> u64 {
        self.start_of(slot) + geometry(&release.image).tree_offset()
    }

    /// Boots with these bits flipped; returns the version that serves in the end, and how many kernels
    /// that took.
    fn serves(&self, what: &str, flips: &[u64]) -> (String, usize) {
        let disk = self.disk.fork();
        flips.iter().for_each(|offset| disk.flip(*offset).unwrap());
        let machine = Machine::firmware(&self.old.image).on(&disk).reboots();
        let machine = ROTTEN.into_iter().fold(machine, Machine::expect);
        let vm = machine.deadline(SERVES_WITHIN + BOOT).start();
        vm.is_healthy_within(SERVES_WITHIN);
        vm.pod_serves();
        let state = vm.get("/api/v1/appliance").body;
        let version = state["version"].as_str().unwrap_or_default().to_owned();
        let served =
            [&self.old, &self.new].into_iter().find(|release| release.version() == version);
        let served = served.unwrap_or_else(|| panic!("{what}: {state}"));
        let slots = state["slots"].as_array().unwrap();
        for slot in slots.iter().filter(|slot| slot["running"] == true) {
            assert_eq!(slot["root_hash"], served.root_hash(), "{what}: {state}");
        }
        let kernels = vm.lines_with("stele-init: initrd: starts").len();
        eprintln!("{what}: {version} serves after {:?}, {kernels} kernels started", vm.age().0);
        (version, kernels)
    }
}

#[test]
fn with_a_bit_flipped_anywhere_one_of_both_systems_serves() {
    let both = Both::prepare();
    let backup = DISK - 512 + 56;
    // Its superblock.
    let root = |slot| both.start_of(slot) + 1;
    // What nothing needs that runs.
    let idle = [
        ("the table's backup", backup),
        ("FAT 2", both.fat(1, Side::B)),
        ("FAT 1 of the old UKI", both.fat(0, Side::A)),
        ("the old UKI", both.uki(Side::A, 4 << 20)),
        ("the old root", root("slot-a")),
        ("the old hash tree", both.tree("slot-a", &both.old)),
    ];
    // What is there twice.
    let mended =
        [("the table", 512 + 56), ("the data's superblock", both.start_of("data") + 1024 + 0x0c)];
    // What a system cannot do without.
    let lost = [("the new hash tree's top", both.tree("slot-b", &both.new))];
    let corrupted = [("the new root", root("slot-b"))];
    for (what, group, version, most) in [
        ("idle", &idle[..], "1.1.0", 1),
        ("mended", &mended[..], "1.1.0", 1),
        ("lost", &lost[..], "1.0.0", MOST_KERNELS),
        ("corrupted", &corrupted[..], "1.0.0", MOST_KERNELS),
    ] {
        let flips: Vec<u64> = group.iter().map(|(_, offset)| *offset).collect();
        let (served, kernels) = both.serves(what, &flips);
        assert_eq!(served, version, "{what}");
        assert!(kernels <= most, "{what}: {kernels} kernels");
    }
    if !is_long() {
        return;
    }
    for (what, offset) in idle.into_iter().chain(mended) {
        assert_eq!(both.serves(what, &[offset]).0, "1.1.0", "{what}");
    }
    // Whichever it is, it is whole.
    for (what, offset) in [
        ("FAT 1 of the new UKI", both.fat(0, Side::B)),
        ("the new UKI's header", both.uki(Side::B, 0)),
        ("the new UKI", both.uki(Side::B, 4 << 20)),
        ("the new hash tree", both.tree("slot-b", &both.new) + BLOCK as u64),
        ("the directory: the new one's long name", both.entry(4, 1)),
        ("the directory: its short name", both.entry(5, 0)),
        ("the directory: its first cluster", both.entry(5, 26)),
        ("the directory: its length", both.entry(5, 28)),
    ] {
        both.serves(what, &[offset]);
    }
}
