use super::*;

const MIB: u64 = ALIGNMENT;

fn image() -> Table {
    let partition = |name: &str, kind, sectors| Partition {
        kind,
        id: Guid::derived(name),
        sectors,
        attributes: NO_AUTO,
        name: name.into(),
    };
    Table {
        disk: Guid::derived("disk"),
        disk_sectors: 8 * MIB,
        partitions: vec![
            partition("esp", Guid::ESP, MIB..=3 * MIB - 1),
            partition("seed", Guid::BASIC_DATA, 3 * MIB..=4 * MIB - 1),
            partition("slot-a", Guid::ROOT_X86_64, 4 * MIB..=7 * MIB - 1),
        ],
    }
}

fn ids(mut next: u128) -> impl FnMut() -> Guid {
    move || {
        next += 1;
        Guid(next)
    }
}

/// A disk of which only the two ends are kept.
#[derive(Clone)]
struct Disk {
    sectors: u64,
    head: Vec<u8>,
    tail: Vec<u8>,
}

impl Disk {
    fn with_image(sectors: u64) -> Disk {
        let empty = |sectors| vec![0; (sectors * SECTOR) as usize];
        let mut disk = Disk { sectors, head: empty(HEAD_SECTORS), tail: empty(TAIL_SECTORS) };
        image().to_extents().iter().for_each(|extent| disk.write(extent));
        disk
    }

    /// What is written between the ends is lost.
    fn write(&mut self, Extent { offset, bytes }: &Extent) {
        let tail = (self.sectors - TAIL_SECTORS) * SECTOR;
        let (end, start) = match offset.checked_sub(tail) {
            Some(start) => (&mut self.tail, start as usize),
            None => (&mut self.head, *offset as usize),
        };
        if let Some(place) = end.get_mut(start..start + bytes.len()) {
            place.copy_from_slice(bytes);
        }
    }

    fn grow(&mut self, sectors: u64) {
        self.sectors = sectors;
        self.tail.fill(0);
    }

    /// What the kernel, told `gpt`, takes for the table.
    fn seen(&self) -> Result<Table, Error> {
        Table::parse(&self.head).or_else(|_| Table::parse_backup(&self.tail, self.sectors))
    }
}

/// Applies the writes that lead to the wanted table, and looks at every state in between: after
/// each write, and with each write cut at each of its sectors, from the front and from the back.
fn complete(disk: &mut Disk, fresh: impl FnMut() -> Guid) -> usize {
    let old = disk.seen().unwrap();
    let new = wanted(&old, disk.sectors, fresh).unwrap();
    let writes = writes(&new, &disk.head, &disk.tail).unwrap();
    for write in &writes {
        let sectors = write.bytes.len() / SECTOR as usize;
        for cut in (1..sectors).step_by(5) {
            let cut = cut * SECTOR as usize;
            let mut torn = [disk.clone(), disk.clone()];
            torn[0].write(&Extent { offset: write.offset, bytes: write.bytes[..cut].into() });
            let (offset, bytes) = (write.offset + cut as u64, write.bytes[cut..].into());
            torn[1].write(&Extent { offset, bytes });
            for torn in torn {
                assert_eq!(torn.seen().as_ref(), Ok(&old), "cut at {offset}");
            }
        }
        disk.write(write);
        let seen = disk.seen().unwrap();
        assert!(seen == old || seen == new, "after {}", write.offset);
    }
    assert_eq!(disk.seen(), Ok(new.clone()));
    assert_eq!(Table::parse_backup(&disk.tail, disk.sectors), Ok(new));
    writes.len()
}

#[test]
fn the_first_boot_adds_two_partitions() {
    let table = wanted(&image(), 200 * MIB, ids(0)).unwrap();
    let places: Vec<_> = table.partitions.iter().map(|p| (p.name.as_str(), &p.sectors)).collect();
    assert_eq!(
        places,
        [
            ("esp", &(MIB..=3 * MIB - 1)),
            ("seed", &(3 * MIB..=4 * MIB - 1)),
            ("slot-a", &(4 * MIB..=7 * MIB - 1)),
            ("slot-b", &(8 * MIB..=11 * MIB - 1)),
            ("data", &(11 * MIB..=199 * MIB - 1)),
        ]
    );
    let other = wanted(&image(), 200 * MIB, ids(100)).unwrap();
    assert_ne!(table.disk, other.disk);
    for (one, other) in table.partitions.iter().zip(&other.partitions) {
        assert_eq!(one.id == other.id, one.name == "esp", "{}", one.name);
    }
}

#[test]
fn every_state_on_the_way_is_a_valid_table() {
    let mut disk = Disk::with_image(200 * MIB);
    assert_eq!(complete(&mut disk, ids(0)), 5);
    assert_eq!(complete(&mut disk, ids(9)), 0, "a complete table is left alone");
    // Grown again and again, it changes banks each time.
    for (size, writes) in [(210 * MIB, 5), (220 * MIB, 5), (220 * MIB + 8, 5), (300 * MIB, 5)] {
        disk.grow(size);
        assert_eq!(complete(&mut disk, ids(9)), writes, "{size}");
        assert_eq!(complete(&mut disk, ids(9)), 0);
    }
    let data = disk.seen().unwrap().named(DATA).unwrap().sectors.clone();
    assert_eq!(data, 11 * MIB..=299 * MIB - 1);
}

#[test]
fn a_cut_completion_is_repeated_with_other_ids() {
    for done in 0..5 {
        let mut disk = Disk::with_image(200 * MIB);
        let new = wanted(&image(), disk.sectors, ids(0)).unwrap();
        let all = writes(&new, &disk.head, &disk.tail).unwrap();
        all[..done].iter().for_each(|write| disk.write(write));
        complete(&mut disk, ids(50));
        assert_eq!(stranger(&disk.seen().unwrap(), &disk.tail), None);
    }
}

#[test]
fn damage_is_repaired_from_the_other_copy() {
    let mut disk = Disk::with_image(200 * MIB);
    complete(&mut disk, ids(0));
    for (damage, writes) in
        [(SECTOR, 2), (2 * SECTOR, 2), (disk.sectors * SECTOR - 512, 2), (450, 1)]
    {
        let before = disk.seen().unwrap();
        disk.write(&Extent { offset: damage, bytes: vec![0; 3] });
        assert_eq!(complete(&mut disk, ids(9)), writes, "{damage}");
        assert_eq!(disk.seen(), Ok(before));
    }
}

#[test]
fn what_cannot_be_completed_is_refused() {
    let refusal = |table: &Table, sectors| wanted(table, sectors, ids(0)).unwrap_err().to_string();
    assert_eq!(
        refusal(&image(), 171 * MIB),
        "it has 171 MiB; a second slot and the least of data need 172 MiB"
    );
    assert!(wanted(&image(), 172 * MIB, ids(0)).is_ok());
    let table = wanted(&image(), 200 * MIB, ids(0)).unwrap();
    assert_eq!(
        refusal(&table, 100 * MIB),
        format!(
            "it has {} sectors, but its partition `data` ends at sector {}",
            100 * MIB,
            199 * MIB - 1
        )
    );
    let mut torn = table;
    torn.partitions.pop();
    assert_eq!(refusal(&torn, 200 * MIB), "its partition table has no data");
    torn.partitions.clear();
    assert_eq!(refusal(&torn, 200 * MIB), "its partition table has no slot-a");
}

#[test]
fn a_used_disk_is_known_by_the_table_at_its_end() {
    let disk = Disk::with_image(200 * MIB);
    let new = wanted(&image(), disk.sectors, ids(0)).unwrap();
    assert_eq!(stranger(&new, &disk.tail), None);
    let mut used = disk.clone();
    let mut old = new.clone();
    old.partitions[4].sectors = 20 * MIB..=199 * MIB - 1;
    old.to_extents().iter().for_each(|extent| used.write(extent));
    assert_eq!(stranger(&new, &used.tail).map(|p| p.name), Some("data".into()));
}
