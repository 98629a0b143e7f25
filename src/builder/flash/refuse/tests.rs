//! A machine with disks in all kinds of use, told of in a folder as its kernel would.

use std::fs;
use std::os::unix::fs::symlink;
use std::path::Path;

use appliance::gpt::Partition;

use super::*;
use crate::flash::host::Host;

const MIB: u64 = 1 << 20;

/// Name, number and who holds it; partitions are named as their disk and a digit.
type Block<'a> = (&'a str, &'a str, &'a [&'a str]);

const BLOCKS: [Block; 19] = [
    ("sda", "8:0", &[]),
    ("sda1", "8:1", &[]),
    ("sda2", "8:2", &["dm-0"]),
    ("dm-0", "253:0", &["dm-1"]),
    ("dm-1", "253:1", &[]),
    ("sdb", "8:16", &[]),
    ("sdb1", "8:17", &[]),
    ("sdc", "8:32", &[]),
    ("sdc1", "8:33", &[]),
    ("sdd", "8:48", &["dm-3"]),
    ("dm-3", "253:3", &[]),
    ("sde", "8:64", &[]),
    ("sde1", "8:65", &["md0"]),
    ("md0", "9:0", &[]),
    ("sdf", "8:80", &[]),
    ("sdg", "8:96", &[]),
    ("sdh", "8:112", &[]),
    ("sdi", "8:128", &[]),
    ("sdi1", "8:129", &[]),
];

const MOUNTS: &str = "\
22 27 0:21 / /proc rw,relatime - proc proc rw
27 1 253:1 / / rw,relatime shared:1 - ext4 /dev/mapper/system-root rw
28 27 8:1 / /boot/efi rw,relatime - vfat /dev/sda1 rw
29 27 8:33 / /media/my\\040stick rw,relatime - vfat /dev/sdc1 rw
30 27 0:40 /@home /srv rw,relatime - btrfs /dev/sdh rw
31 27 0:41 / /dev/shm rw - tmpfs sdb rw
";

const SWAPS: &str = "\
Filename\t\t\t\tType\t\tSize\t\tUsed\t\tPriority
/dev/mapper/swap                        partition\t1048572\t\t0\t\t-2
/swapfile                               file\t1048572\t\t0\t\t-3
/dev/sdi1                               partition\t1048572\t\t0\t\t-4
";

fn machine(root: &Path) {
    let write = |path: &str, text: &str| {
        let path = root.join(path);
        fs::create_dir_all(path.parent().unwrap()).unwrap();
        fs::write(path, text).unwrap();
    };
    let link = |to: &Path, at: &str| {
        let at = root.join(at);
        fs::create_dir_all(at.parent().unwrap()).unwrap();
        symlink(to, at).unwrap();
    };
    for (name, number, holders) in BLOCKS {
        let disk = name.strip_suffix(['1', '2']).filter(|disk| disk.starts_with("sd"));
        let folder = match disk {
            Some(disk) => format!("sys/devices/block/{disk}/{name}"),
            None => format!("sys/devices/block/{name}"),
        };
        match disk {
            Some(_) => write(&format!("{folder}/partition"), "1\n"),
            None => write(
                &format!("{folder}/queue/logical_block_size"),
                if name == "sdg" { "4096\n" } else { "512\n" },
            ),
        }
        write(&format!("{folder}/dev"), &format!("{number}\n"));
        write(&format!("{folder}/size"), "2097152\n");
        write(&format!("{folder}/ro"), if name == "sdf" { "1\n" } else { "0\n" });
        for holder in holders {
            write(&format!("{folder}/holders/{holder}"), "");
        }
        link(&root.join(&folder), &format!("sys/dev/block/{number}"));
        link(&root.join(&folder), &format!("sys/class/block/{name}"));
        write(&format!("dev/{name}"), "");
    }
    write("sys/devices/block/sdb/device/vendor", "ACME    \n");
    write("sys/devices/block/sdb/device/model", "Stick   \n");
    write("sys/block/loop7/loop/backing_file", "/home/pod.img\n");
    link(Path::new("../dm-3"), "dev/mapper/swap");
    write("proc/self/mountinfo", MOUNTS);
    write("proc/swaps", SWAPS);
}

#[test]
fn what_is_in_use_is_refused_and_by_what_is_told() {
    let root = tempfile::tempdir().unwrap();
    machine(root.path());
    let host = Host::at(root.path());
    let system = "the system that is running here is on it: ";
    for ((major, minor), expected) in [
        ((8, 0), format!("{system}dm-1 is mounted at /")),
        ((253, 0), format!("{system}dm-1 is mounted at /")),
        ((8, 1), "it is a partition of sda\nhint: an image takes a whole disk: /dev/sda".into()),
        ((8, 17), "it is a partition of sdb\nhint: an image takes a whole disk: /dev/sdb".into()),
        (
            (8, 32),
            "it is in use: sdc1 is mounted at /media/my stick\nhint: unmount it first".into(),
        ),
        (
            (8, 48),
            "it is in use: dm-3 is swap space; dm-3 is made of sdd\nhint: unmount it first".into(),
        ),
        ((8, 64), "it is in use: md0 is made of sde1\nhint: unmount it first".into()),
        ((8, 80), "it is read-only".into()),
        ((8, 96), "its sectors have 4096 bytes; the image is for 512".into()),
        ((8, 112), "it is in use: sdh is mounted at /srv\nhint: unmount it first".into()),
        ((8, 128), "it is in use: sdi1 is swap space\nhint: unmount it first".into()),
    ] {
        let refused = device(&host.device(major, minor).unwrap());
        let said = refused.err().map(|error| error.to_string());
        assert_eq!(said.as_ref(), Some(&expected), "{major}:{minor}");
    }
    let free = host.device(8, 16).unwrap();
    device(&free).unwrap();
    assert_eq!((free.name.as_str(), free.model.as_str()), ("sdb", "ACME Stick"));
    assert_eq!((free.bytes, free.partitions), (1 << 30, 1));
    let unknown = host.device(8, 250).unwrap_err().to_string();
    assert_eq!(unknown, "the kernel knows no device 8:250");
    let behind = |path: &str| host.loop_of(Path::new(path)).unwrap();
    assert_eq!(behind("/home/pod.img").as_deref(), Some("loop7"));
    assert_eq!(behind("/home/other.img"), None);
}

#[test]
fn of_many_uses_some_are_told() {
    let mounted = |number| Use::Mounted { on: "sdb1".into(), at: format!("/mnt/{number}") };
    let used = Device {
        name: "sdb".into(),
        model: String::new(),
        bytes: 1 << 30,
        sector: SECTOR,
        is_read_only: false,
        partition_of: None,
        partitions: 1,
        uses: (0..7).map(mounted).collect(),
    };
    let said = device(&used).unwrap_err().to_string();
    assert!(said.contains("sdb1 is mounted at /mnt/3; and 3 more\nhint"), "{said}");
}

#[test]
fn there_must_be_room_for_what_the_first_boot_adds() {
    let partition = |name: &str, mib: std::ops::Range<u64>| Partition {
        kind: Guid::derived(name),
        id: Guid(0),
        sectors: mib.start * MIB / SECTOR..=mib.end * MIB / SECTOR - 1,
        attributes: 0,
        name: name.into(),
    };
    let partitions = vec![partition("esp", 1..9), partition("slot-a", 9..17)];
    let fresh = Table { disk: Guid(0), disk_sectors: 18 * MIB / SECTOR, partitions };
    let booted = completion::wanted(&fresh, 300 * MIB / SECTOR, || Guid(1)).unwrap();
    let needs = |mib| format!("image, second slot and the least of data need {mib} MiB");
    for (table, least, bytes, expected) in [
        (&fresh, 18, 187, Ok(())),
        (&fresh, 18, 186, Err(needs(187))),
        (&fresh, 18, 1, Err(needs(187))),
        (&booted, 300, 300, Ok(())),
        (&booted, 300, 500, Ok(())),
        (&booted, 300, 299, Err(needs(300))),
        (&booted, 300, 200, Err(needs(300))),
    ] {
        let said = size(table, least * MIB, bytes * MIB).map_err(|error| error.to_string());
        match (&said, expected) {
            (Ok(()), Ok(())) => {}
            (Err(said), Err(expected)) => assert!(said.ends_with(&expected), "{bytes}: {said}"),
            _ => panic!("{bytes} MiB: {said:?}"),
        }
    }
}
