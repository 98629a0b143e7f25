//! Files in place of disks: one of 200 MiB for an image of 18.

use std::os::unix::fs::MetadataExt as _;
use std::path::{Path, PathBuf};

use appliance::gpt::Partition;
use tempfile::TempDir;

use super::*;
use crate::flash::host::Host;

const DISK: u64 = 200 * MIB;
const IMAGE: u64 = 18 * MIB;

struct Desk {
    folder: TempDir,
    table: Table,
    image: File,
}

impl Desk {
    /// An image with a table, and something at some places.
    fn new() -> Desk {
        let partition = |name: &str, mib: Range<u64>| Partition {
            kind: Guid::derived(name),
            id: Guid(0),
            sectors: mib.start * MIB / SECTOR..=mib.end * MIB / SECTOR - 1,
            attributes: 0,
            name: name.into(),
        };
        let partitions = vec![partition("esp", 1..9), partition("slot-a", 9..17)];
        let table = Table { disk: Guid(0), disk_sectors: IMAGE / SECTOR, partitions };
        let image = tempfile::tempfile().unwrap();
        image.set_len(IMAGE).unwrap();
        for extent in table.to_extents() {
            image.write_all_at(&extent.bytes, extent.offset).unwrap();
        }
        for place in [MIB, 3 * MIB + 70_000, 16 * MIB + 5] {
            image.write_all_at(b"something", place).unwrap();
        }
        Desk { folder: tempfile::tempdir().unwrap(), table, image }
    }

    fn path(&self) -> PathBuf {
        self.folder.path().join("disk")
    }

    /// A disk, with something at these places.
    fn disk(&self, places: &[u64]) -> File {
        let mut options = File::options();
        let file = options.create(true).truncate(true).write(true).read(true).open(self.path());
        let file = file.unwrap();
        file.set_len(DISK).unwrap();
        for place in places {
            file.write_all_at(&[0xaa; 5000], *place).unwrap();
        }
        file
    }

    fn target(&self) -> Target {
        Target::open(&self.path(), &Host::at(Path::new("/nowhere"))).unwrap()
    }

    fn flash(&self) -> Result<Done> {
        let (target, progress) = (self.target(), Progress::new(true));
        Pass::new(&self.image, &self.table, &target, &progress)?.run()
    }

    fn has_image(&self, disk: &File) -> bool {
        bytes(disk, 0..IMAGE) == bytes(&self.image, 0..IMAGE)
    }
}

fn bytes(file: &File, place: Range<u64>) -> Vec<u8> {
    let mut bytes = vec![0; (place.end - place.start) as usize];
    file.read_exact_at(&mut bytes, place.start).unwrap();
    bytes
}

#[test]
fn an_image_takes_the_place_of_what_was_there() {
    let desk = Desk::new();
    let wanted = completion::wanted(&desk.table, DISK / SECTOR, || Guid(0)).unwrap();
    let place = |name| wanted.named(name).unwrap().offset();
    let (slot_b, data) = (place("slot-b"), place("data"));
    let end = DISK - 6000;
    // In the image, where it has something and where it has nothing; and behind it.
    let old = [0, 2 * MIB, 3 * MIB + 69_000, slot_b + 4096, data + MIB - 5000, data + MIB, end];
    let disk = desk.disk(&old);
    let done = desk.flash().unwrap();
    assert!(desk.has_image(&disk));
    assert_eq!(done.verified, IMAGE + 3 * MIB);
    for blank in [slot_b..slot_b + MIB, data..data + MIB, DISK - MIB..DISK] {
        assert!(is_zero(&bytes(&disk, blank)));
    }
    assert_eq!(bytes(&disk, data + MIB..data + MIB + 5000), [0xaa; 5000], "nobody reads that");

    let again = desk.flash().unwrap();
    assert!(desk.has_image(&disk));
    assert_eq!((again.written, again.zeroed), (done.written, MIB), "the table alone is taken away");
    assert!(done.zeroed > 4 * MIB && done.written < 2 * MIB, "{done:?}");
}

#[test]
fn zeros_onto_zeros_are_skipped() {
    let desk = Desk::new();
    let disk = desk.disk(&[]);
    assert_eq!(desk.flash().unwrap().zeroed, 0);
    assert!(desk.has_image(&disk));
    assert!(disk.metadata().unwrap().blocks() * 512 < MIB, "zeros were written");
}

#[test]
fn a_disk_that_wasnt_written_to_the_end_has_no_table() {
    let desk = Desk::new();
    let disk = desk.disk(&[]);
    desk.flash().unwrap();
    let (target, progress) = (desk.target(), Progress::new(true));
    let pass = Pass::new(&desk.image, &desk.table, &target, &progress).unwrap();
    desk.image.set_len(IMAGE / 2).unwrap();
    assert!(pass.run().is_err());
    assert!(is_zero(&bytes(&disk, 0..MIB)));
}

#[test]
fn what_a_disk_gives_back_must_be_what_was_written() {
    let desk = Desk::new();
    let disk = desk.disk(&[]);
    for (place, length) in [(7 * MIB + 1, 1), (16 * MIB + 5, 9), (DISK - 1, 1)] {
        desk.flash().unwrap();
        let (target, progress) = (desk.target(), Progress::new(true));
        let pass = Pass::new(&desk.image, &desk.table, &target, &progress).unwrap();
        disk.write_all_at(&vec![0xbb; length], place).unwrap();
        let said = pass.verify(MIB..IMAGE).unwrap_err().to_string();
        assert!(said.starts_with(&format!("it doesn't hold what was written, from byte {place}")));
        disk.write_all_at(&vec![0; length], place).unwrap();
    }
}

/// Then slot and data belong to the image.
#[test]
fn of_a_disk_that_was_in_use_all_is_copied() {
    let desk = Desk::new();
    let table = completion::wanted(&desk.table, DISK / SECTOR, || Guid(1)).unwrap();
    let blanked = |disk| -> Vec<(u64, u64)> {
        let blanks = blanks(&table, DISK, disk).unwrap();
        blanks.into_iter().map(|blank| (blank.start, blank.end)).collect()
    };
    assert_eq!(blanked(DISK), []);
    let larger = DISK + 10 * MIB;
    assert_eq!(blanked(larger), [(larger - MIB, larger)]);
    assert_eq!(blanked(DISK + 512), [(DISK, DISK + 512)]);
}
