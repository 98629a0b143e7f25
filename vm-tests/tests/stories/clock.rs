//! Clocks that are wrong: a battery that is dead or dreams of 2090, and time servers that know
//! better or lie.

use std::net::Ipv4Addr;

use vm_tests::console::Line;
use vm_tests::data::Data;
use vm_tests::disk::Kept;
use vm_tests::images::Image;
use vm_tests::machine::{DISK, Machine};
use vm_tests::peer::dhcp::Lease;
use vm_tests::peer::sntp::Says;
use vm_tests::peer::{Asked, Peer};
use vm_tests::vm::Vm;
use vm_tests::{BOOT, SOON};

const SERVES: &str = "stele-init: service prosody: ready";
const DAY: u64 = 86_400;
/// 2090-01-01: what is 68 years away, QEMU takes for the past, and so must any reader of SNTP.
const IN_2090: u64 = 3_786_912_000;
const DREAM: &str = "2090-01-01T00:00:00";
const DEAD: &str = "1970-01-01T00:00:00";
const HONEST: Ipv4Addr = Ipv4Addr::new(10, 9, 0, 4);
const BEHIND: Ipv4Addr = Ipv4Addr::new(10, 9, 0, 5);
const AHEAD: Ipv4Addr = Ipv4Addr::new(10, 9, 0, 6);
const SHY: Ipv4Addr = Ipv4Addr::new(10, 9, 0, 7);

/// A neighbour whose DHCP server names this time server.
fn names(server: Ipv4Addr) -> Peer {
    Peer::lends(Lease { time: vec![server], ..Lease::default() })
}

/// The date that a line says the clock was set to.
fn set_to(line: &Line) -> u64 {
    let seconds = line.rest_after(" to ").and_then(|rest| rest.split(' ').next());
    seconds.and_then(|seconds| seconds.parse().ok()).unwrap_or_else(|| panic!("{line}"))
}

/// The date that the disk remembers.
fn saved(disk: &Kept) -> u64 {
    Data::of(disk).text("/clock").parse().unwrap()
}

fn nobody_noticed(vm: &Vm) {
    assert_eq!(vm.lines_with("service prosody: starting").len(), 1);
    assert!(vm.lines_with("service prosody: ended").is_empty());
}

/// Has the lease name another time server.
fn turn_to(vm: &Vm, last: &Line, server: Ipv4Addr) {
    vm.set_link(false);
    vm.wait_for_next(last, "stele-init: network: eth0: link down", SOON);
    vm.peer().lease.time = vec![server];
    vm.set_link(true);
    vm.wait_to_hear(Asked::Time(server), SOON);
}

#[test]
fn a_dead_battery_is_made_up_for_by_the_build_the_network_and_the_disk() {
    let image = Image::server();
    let disk = Kept::of(&image, DISK);
    let machine = |peer| Machine::direct(&image).on(&disk).clock(DEAD).peer(peer);

    let vm = machine(names(HONEST)).start();
    let built = set_to(&vm.wait_for("stele-init: root: clock set from ", BOOT));
    let today = built + 30 * DAY;
    vm.peer().time.push((HONEST, Says::Date(today)));
    let stepped = set_to(&vm.wait_for("stele-init: time: clock set from ", BOOT));
    assert!((today..today + 120).contains(&stepped), "{today}: set to {stepped}");
    vm.wait_for("stele-init: time: synced to 10.9.0.4", SOON);
    vm.wait_for(SERVES, BOOT);
    nobody_noticed(&vm);
    vm.power_off(SOON);
    let before = saved(&disk);
    assert!((stepped..today + 120).contains(&before), "{stepped}: saved {before}");

    // What it knows now holds against the battery, and against servers.
    let peer = names(BEHIND)
        .with_time(BEHIND, Says::Date(before - DAY))
        .with_time(AHEAD, Says::Date(IN_2090))
        .with_time(SHY, Says::Deny);
    let vm = machine(peer).start();
    let restored = vm.wait_for("s, the one when it last ran", BOOT);
    assert_eq!(set_to(&restored), before);
    vm.wait_for(SERVES, BOOT);
    let refused = vm.wait_for("stele-init: time: not set by -", SOON);
    turn_to(&vm, &refused, AHEAD);
    let refused = vm.wait_for_next(&refused, "stele-init: time: not set by 1", SOON);
    turn_to(&vm, &refused, SHY);
    vm.wait_for("stele-init: time: 10.9.0.7 gives none", SOON);
    assert!(vm.lines_with("time: clock set").is_empty());
    assert!(vm.lines_with("time: synced").is_empty());
    nobody_noticed(&vm);
    vm.power_off(SOON);
    let after = saved(&disk);
    assert!((before..before + 120).contains(&after), "{before}: saved {after}");
}

#[test]
fn a_battery_that_dreams_of_2090_is_forgotten_when_it_is_right_again() {
    let image = Image::server();
    let disk = Kept::of(&image, DISK);
    let machine = || Machine::direct(&image).on(&disk);

    let vm = machine().clock(DREAM).start();
    vm.stream_reply("prose.local", BOOT);
    vm.power_off(SOON);
    assert!(saved(&disk) >= IN_2090);

    let vm = machine().start();
    vm.wait_for("/clock holds no time to believe; ignored", BOOT);
    vm.stream_reply("prose.local", BOOT);
    nobody_noticed(&vm);
    vm.power_off(SOON);
    let date = saved(&disk);
    assert!(date < IN_2090 - 20 * 365 * DAY, "still {date}");
}
