//! Every reason for which a bundle is refused before a byte is written.

use appliance::bundle::Head;
use appliance::hash::RootHash;
use appliance::upgrade::Order;

use super::*;
use sample::{key, version};

type Change = fn(&mut Sample);

/// Installs a sample that was changed; nothing may have been written.
fn refusal(change: Change) -> Refused {
    let mut sample = Sample::new();
    change(&mut sample);
    let mut machine = Machine::new(&sample);
    let bundle = sample.bundle.clone();
    let refused = machine.install(&sample, &bundle).unwrap_err();
    assert!(machine.log.borrow().is_empty() && machine.lines.is_empty(), "{refused:?}");
    refused
}

#[test]
fn what_can_be_refused_is_refused_before_a_byte_is_written() {
    let cases: [(Code, Change, &str); 27] = [
        (Code::NotABundle, |s| s.bundle[0] ^= 1, "begin"),
        (Code::Manifest, |s| s.bundle[8..12].fill(0xff), "1048576"),
        (Code::Truncated, |s| s.bundle.truncate(0), "it ended"),
        (Code::Truncated, |s| s.bundle.truncate(Head::BYTES + 10), "it ended"),
        (Code::NoKeys, |s| s.order.trust.keys.clear(), "without keys"),
        (Code::UnknownKey, |s| s.order.trust.keys = vec![key(7).public().to_string()], "signed by"),
        (Code::Signature, |s| s.bundle[30] ^= 1, "signature"),
        (Code::Signature, |s| s.bundle[Head::BYTES + 30] ^= 1, "signature"),
        (Code::Manifest, |s| s.bundle = s.with_text(b"{\"format\":1}"), "understood"),
        (Code::Format, |s| s.bundle = s.with_text(b"{\"format\":2}"), "format 2"),
        (Code::Product, |s| s.order.trust.product = "other".into(), "of pod, this is other"),
        (Code::Architecture, |s| s.order.trust.architecture = "arm64".into(), "for amd64"),
        (Code::Running, |s| s.order.running.root_hash = s.geometry.root_hash, "runs already"),
        (Code::KnownBad, |s| s.order.bad.push(s.geometry.root_hash), "found bad"),
        (Code::Downgrade, |s| s.order.floor = Some("2.0.1".into()), "before 2.0.1"),
        (Code::Downgrade, |s| s.order.trust.floor = Some(version("3")), "before 3"),
        (Code::Downgrade, |s| s.order.version = "0.9".into(), "follow 1.0.0 or later"),
        (Code::Downgrade, |s| s.order.data_format = 2, "format 1 at most"),
        (Code::Size, |s| *s = Sample::of(vec![1; 1_638_401], vec![2; 4096]), "1638400"),
        (Code::Size, |s| *s = Sample::of(vec![1; 99], vec![2; SLOT]), "5242880"),
        (Code::Space, |s| s.order.space.free = 999, "999 are free"),
        (Code::Manifest, |s| s.bundle = s.with_text(b"\xff"), "understood"),
        (Code::Truncated, |s| s.bundle.truncate(7), "it ended"),
        (Code::Truncated, |s| s.order.announced = Some(1), "1 are announced"),
        (Code::Oversized, |s| s.order.announced = Some(1 << 30), "1073741824 are announced"),
        (Code::Chunk, |s| s.damage(0), "chunk 0 is damaged"),
        (Code::Truncated, |s| s.bundle.truncate(Head::BYTES + 1500), "it ended"),
    ];
    for (code, change, says) in cases {
        let refused = refusal(change);
        assert_eq!(refused.code, code, "{}", refused.message);
        assert!(refused.message.contains(says), "{}", refused.message);
        assert!(refused.message.len() < 400);
    }
}

#[test]
fn a_manifest_signed_for_others_sizes_is_refused() {
    let sample = Sample::new();
    let machine = |order: &Order, bundle: &[u8]| {
        let sample = Sample { order: order.clone(), ..Sample::new() };
        let mut machine = Machine::new(&sample);
        let refused = machine.install(&sample, bundle).unwrap_err();
        assert!(machine.is_as_it_was(&sample));
        refused.code
    };
    let other = sample.with(|manifest| manifest.uki.sha256 = manifest.chunks[0]);
    assert_eq!(machine(&sample.order, &other), Code::ReadBack);
    let other = sample.with(|manifest| manifest.root.root_hash = RootHash([5; 32]));
    assert_eq!(machine(&sample.order, &other), Code::ReadBack);
    let other = sample.with(|manifest| manifest.chunks.swap(1, 2));
    assert_eq!(machine(&sample.order, &other), Code::Chunk);
    let longer = [&sample.bundle[..], &[0]].concat();
    assert_eq!(machine(&sample.order, &longer), Code::Oversized);
}

#[test]
fn a_disk_that_is_not_laid_out_for_it_is_refused() {
    let sample = Sample::new();
    let at = appliance::esp::testing::directory();
    let machine = |change: &dyn Fn(&mut Machine)| {
        let mut machine = Machine::new(&sample);
        change(&mut machine);
        let refused = machine.install(&sample, &sample.bundle).unwrap_err();
        assert_eq!(machine.writes(), 0, "{refused:?}");
        refused.code
    };
    assert_eq!(machine(&|machine| machine.esp.bytes[510] = 0), Code::Disk);
    assert_eq!(machine(&|machine| machine.esp.bytes.truncate(1_000_000)), Code::Disk);
    assert_eq!(machine(&|machine| machine.slot.bytes.truncate(1 << 20)), Code::Size);
    let other_file = |machine: &mut Machine| machine.esp.bytes[at + 5 * 32] = b'X';
    assert_eq!(machine(&other_file), Code::Disk);
    // `p1.efi` → `p1+3-0.efi`, which is what a trial that runs looks like.
    let on_trial = |machine: &mut Machine| {
        let name: Vec<u16> = "p1+3-0.efi\0".encode_utf16().collect();
        let places = (1..11).step_by(2).chain((14..26).step_by(2));
        for (place, unit) in places.zip(name) {
            machine.esp.bytes[at + 64 + place..][..2].copy_from_slice(&unit.to_le_bytes());
        }
    };
    assert_eq!(machine(&on_trial), Code::Unblessed);
    let running = |machine: &mut Machine| {
        let top = [7; verity::BLOCK];
        machine.slot.bytes[100 * 4096..][..4096].copy_from_slice(&top);
    };
    let mut sample = Sample::new();
    let hash = verity::block_hash(&sample.order.running.salt, &[7; verity::BLOCK]);
    sample.order.running.root_hash = RootHash(hash);
    let mut machine = Machine::new(&sample);
    running(&mut machine);
    let refused = machine.install(&sample, &sample.bundle).unwrap_err();
    assert_eq!((refused.code, machine.writes()), (Code::Disk, 0));
}
