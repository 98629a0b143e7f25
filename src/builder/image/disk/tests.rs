//! An image's ESP in the hands of who upgrades: found, edited, and read by somebody else's FAT.

use std::io::{self, Cursor, Read as _};

use appliance::esp::{Directory, Entry, Esp, SECTOR, Sector};
use appliance::upgrade::Side;
use appliance::verity;

use super::*;

/// The ESP of an image whose UKI is `uki`.
fn image(uki: &[u8], size: u64) -> Vec<u8> {
    let hashes = verity::tree(&[0; 4096], &appliance::hash::Salt([0; 32]));
    let parts = Parts {
        name: "pod",
        architecture: Architecture::Amd64,
        sizes: Sizes { esp: size, seed: 8 << 20, slot: 1 << 20 },
        first: &[1; 9_000],
        loader: &[2; 99_000],
        uki,
        root: &[0; 4096],
        hashes: &hashes,
    };
    let mut bytes = vec![0; size as usize];
    for extent in esp(&parts, size).unwrap() {
        bytes[extent.offset as usize..][..extent.bytes.len()].copy_from_slice(&extent.bytes);
    }
    bytes
}

fn locate(image: &[u8]) -> Esp {
    Esp::locate(|offset, length| {
        let bytes = image.get(offset as usize..offset as usize + length);
        bytes.map(<[u8]>::to_vec).ok_or(io::ErrorKind::UnexpectedEof.into())
    })
    .unwrap()
}

fn directory(image: &[u8], esp: &Esp) -> Directory {
    let sector: Sector = image[esp.directory as usize..][..SECTOR].try_into().unwrap();
    esp.read_directory(&sector).unwrap()
}

/// Names in `/EFI/Linux`, and how each file begins.
fn read(image: &[u8]) -> Vec<(String, Vec<u8>)> {
    let options = fatfs::FsOptions::new();
    let fs = fatfs::FileSystem::new(Cursor::new(image.to_vec()), options).unwrap();
    let folder = fs.root_dir().open_dir("EFI/Linux").unwrap();
    let files = folder.iter().map(|entry| entry.unwrap()).filter(|entry| entry.is_file());
    let begin = |entry: fatfs::DirEntry<'_, _>| {
        let mut begin = vec![0; 5];
        entry.to_file().read_exact(&mut begin).unwrap();
        (entry.file_name(), begin)
    };
    files.map(begin).collect()
}

#[test]
fn another_reader_sees_what_upgrades_make_of_the_esp() {
    for size in [48 << 20, 300 << 20] {
        let mut image = image(b"first system", size);
        let esp = locate(&image);
        let run = esp.run(Side::B);
        image[run.start as usize..][..6].copy_from_slice(b"second");
        type Edit = fn(&Directory) -> Vec<Sector>;
        let edits: [(Edit, &[&str]); 5] = [
            (|now| now.clear(Side::B).unwrap(), &["p1.efi", "SLOTB.OFF"]),
            (|now| now.arm(Side::B, 3).unwrap(), &["p1.efi", "p2+3-0.efi"]),
            (|now| now.bless(Side::B).unwrap(), &["p1.efi", "p2.efi"]),
            (|now| now.clear(Side::A).unwrap(), &["SLOTA.OFF", "p2.efi"]),
            (|now| now.arm(Side::A, 3).unwrap(), &["p3+3-0.efi", "p2.efi"]),
        ];
        assert_eq!(directory(&image, &esp).entry(Side::A), Entry::Blessed { number: 1 });
        for (edit, expected) in edits {
            for sector in edit(&directory(&image, &esp)) {
                image[esp.directory as usize..][..SECTOR].copy_from_slice(&sector);
            }
            let found = read(&image);
            let names: Vec<&str> = found.iter().map(|(name, _)| name.as_str()).collect();
            assert_eq!(names, expected);
            assert_eq!([&found[0].1[..], &found[1].1], [b"first", b"secon"]);
            assert_eq!(locate(&image), esp);
        }
    }
}
