//! Only the root that the initrd pins is ever used, and only bytes of it that are as they were.

use appliance::verity::{BLOCK, Geometry};
use vm_tests::images::Image;
use vm_tests::machine::Machine;
use vm_tests::reads::Read;
use vm_tests::vm::Vm;
use vm_tests::{BOOT, disk, initrd};

/// What a machine shows that has opened the root.
const OPENED: &str = "stele-init: initrd: hands over to the root";
const SERVES: &str = "stele-init: service prosody: ready";

/// Where the slot begins on the disk, and what is in it.
fn slot(image: &Image) -> (u64, Geometry) {
    let slot = disk::partition(&image.disk, "slot-a").unwrap();
    let root = &image.outcome["report"]["root"];
    let field = |name: &str| root[name].as_str().unwrap().parse().unwrap();
    let geometry = Geometry {
        root_hash: field("root_hash"),
        salt: root["salt"].as_str().unwrap().parse().unwrap(),
        data_blocks: root["data_blocks"].as_u64().unwrap(),
    };
    (slot.offset(), geometry)
}

fn must_restart(vm: &Vm, what: &str) {
    assert_eq!(vm.wait_for_end(BOOT), "guest-reset", "{what}");
    assert!(vm.lines_with(SERVES).is_empty(), "{what}: the Server became ready");
}

#[test]
fn a_flipped_bit_in_the_root_is_caught() {
    let image = Image::release();
    let (start, geometry) = slot(&image);
    let tree = start + geometry.tree_offset();
    let end = start + geometry.slot_bytes();

    // The control, which also tells what is surely read on the way to a stream reply.
    let vm = Machine::direct(&image).trace_reads().start();
    vm.stream_reply("prose.local", BOOT);
    let reads = vm.reads();
    drop(vm);
    let largest = |from: u64, to: u64| -> Read {
        let inside = |read: &&Read| read.offset >= from && read.offset + read.bytes <= to;
        *reads.iter().filter(inside).max_by_key(|read| read.bytes).expect("nothing was read there")
    };
    let read = largest(start + BLOCK as u64, tree);
    let data = read.offset + read.bytes / 2;
    // That block's digest, in the tree's last level. (Of the tree more is read than is looked at.)
    let (digest, per_block) = (32, BLOCK as u64 / 32);
    let block = (data - start) / BLOCK as u64;
    let leaves = geometry.data_blocks.div_ceil(per_block);
    let leaf = end - (leaves - block / per_block) * BLOCK as u64 + block % per_block * digest;

    for (what, offset) in [("superblock", start + 1), ("data", data), ("hash tree", leaf)] {
        let vm = Machine::direct(&image).flip(offset).expect("is corrupted").start();
        vm.wait_for("is corrupted", BOOT);
        must_restart(&vm, what);
    }
}

#[test]
fn another_root_hash_than_the_pinned_one_does_not_boot() {
    let image = Image::release();
    let (start, geometry) = slot(&image);
    let refusal = "stele-init: cannot find the slot with root";

    // The control: it isn't the repacking that keeps it from booting.
    let vm = Machine::direct(&image).change_initrd(initrd::repacked).start();
    vm.wait_for(OPENED, BOOT);
    drop(vm);

    let other_pin = Machine::direct(&image).change_initrd(initrd::with_another_root_hash);
    let other_tree = Machine::direct(&image).flip(start + geometry.tree_offset());
    for (what, machine) in [("pin", other_pin), ("top of the tree", other_tree)] {
        let vm = machine.expect(refusal).start();
        let line = vm.wait_for(refusal, BOOT);
        assert!(line.text.contains("vda3 (other content)"), "{what}: {line}");
        must_restart(&vm, what);
        assert!(vm.lines_with(OPENED).is_empty(), "{what}: the root was opened");
    }
}

#[test]
fn two_disks_that_both_look_like_ours_are_refused() {
    let refusal = "stele-init: cannot choose the slot";
    let vm = Machine::direct(&Image::release()).second_copy().expect(refusal).start();
    let line = vm.wait_for(refusal, BOOT);
    assert!(line.text.contains("vda3 and vdb3"), "{line}");
    must_restart(&vm, "two disks");
}
