//! Leases that don't come, run out or make no sense, and a cable that is pulled: services don't
//! notice, and the address comes back. The neighbour is the harness itself.

use std::net::Ipv4Addr;
use std::time::Duration;

use vm_tests::console::Line;
use vm_tests::images::Image;
use vm_tests::machine::Machine;
use vm_tests::peer::dhcp::{ADDRESS, Lease, OPTIONS};
use vm_tests::peer::{Asked, Dhcp, Peer, SERVER, Spoil};
use vm_tests::vm::Vm;
use vm_tests::{BOOT, SOON};

const SERVES: &str = "stele-init: service prosody: ready";
const LENT: &str = "stele-init: network: eth0 10.9.0.20/24";
const LENT_OTHER: &str = "stele-init: network: eth0 10.9.0.21/24";
const LOST: &str = "stele-init: network: eth0: lease lost";
const KEEP: Asked = Asked::Keep(Ipv4Addr::new(10, 9, 0, 20));
/// What waits for the network waits so long at most.
const NETWORK_WITHIN: Duration = Duration::from_secs(5);
/// Of a lease that stories wait for the end of.
const SHORT: Duration = Duration::from_secs(12);
/// An address is back so soon after its cable.
const BACK_WITHIN: Duration = Duration::from_secs(10);

/// For how long the guest's own clock ran between two lines.
fn between(first: &Line, second: &Line) -> Duration {
    second.stamp().unwrap() - first.stamp().unwrap()
}

/// Nothing that serves was started again, and nobody was killed.
fn nobody_noticed(vm: &Vm) {
    assert_eq!(vm.lines_with("service prosody: starting").len(), 1);
    assert!(vm.lines_with("service prosody: ended").is_empty());
    for trouble in [": backoff", ": killed", ": not ready in time"] {
        let lines = vm.lines_with(trouble);
        assert!(lines.is_empty(), "{lines:?}");
    }
}

/// Pulls the cable, has the neighbour change its mind, and plugs the cable in again.
fn replug(vm: &Vm, last: &Line, change: impl FnOnce(&mut Peer)) -> Line {
    vm.set_link(false);
    let down = vm.wait_for_next(last, "stele-init: network: eth0: link down", SOON);
    change(&mut vm.peer());
    vm.set_link(true);
    vm.wait_for_next(&down, "stele-init: network: eth0: link up", SOON)
}

#[test]
fn without_a_lease_the_server_is_ready_as_early_and_a_late_one_is_taken() {
    let image = Image::server();
    let machine = |peer| Machine::direct(&image).peer(peer);
    let ready = |vm: &Vm| vm.wait_for(SERVES, BOOT).stamp().unwrap();

    let vm = machine(Peer::lends(Lease::default())).start();
    let with_lease = ready(&vm);
    vm.wait_for(LENT, SOON);
    drop(vm);

    let vm = Machine::direct(&image).without_network().start();
    let alone = ready(&vm);
    drop(vm);

    let vm = machine(Peer::silent()).start();
    let unanswered = ready(&vm);
    eprintln!("ready after {with_lease:?}, alone {alone:?}, unanswered {unanswered:?}");
    for (what, stamp) in [("nobody is there", alone), ("nobody answers", unanswered)] {
        // A busy host may be twice as slow.
        let limit = 2 * with_lease + NETWORK_WITHIN;
        assert!(stamp < limit, "{what}: {stamp:?}, else {with_lease:?}");
    }
    // The Server starts at once after what it does wait for.
    let made = vm.wait_for("stele-init: service certificate: done", SOON);
    let starting = vm.wait_for("stele-init: service prosody: starting", SOON);
    assert!(between(&made, &starting) < Duration::from_secs(1), "{made}\n{starting}");
    let up = vm.wait_for("stele-init: network: eth0: link up", SOON);
    let gave_up = vm.wait_for("stele-init: network: ready", SOON);
    assert!(between(&up, &gave_up) < NETWORK_WITHIN + Duration::from_secs(2));
    assert!(vm.lines_with(LENT).is_empty());

    vm.peer().dhcp = Dhcp::Lends;
    vm.wait_for(LENT, BOOT);
    assert_eq!(vm.lines_with("service dhcp-eth0: starting").len(), 1);
    nobody_noticed(&vm);
}

#[test]
fn a_lease_is_renewed_kept_to_its_end_and_won_again() {
    let short = Lease { seconds: SHORT.as_secs() as u32, ..Lease::default() };
    let vm = Machine::direct(&Image::server()).peer(Peer::lends(short)).start();
    let lent = vm.wait_for(LENT, BOOT);

    // It is renewed at half of its time, without a word.
    let taken = vm.wait_to_hear(Asked::Take, SOON);
    let first = vm.wait_to_hear(KEEP, SOON);
    let second = vm.wait_to_hear_next(&first, KEEP, SOON);
    vm.peer().dhcp = Dhcp::Silent;
    for (last, next) in [(&taken, &first), (&first, &second)] {
        let waited = next.at - last.at;
        assert!(waited >= SHORT / 2 - Duration::from_secs(1), "{waited:?}");
        assert!(waited < SHORT - Duration::from_secs(1), "{waited:?}");
    }
    assert_eq!(vm.lines_with(LENT).len(), 1);

    // Its server is gone: it is asked more than once, and the address is kept to the end.
    let lost = vm.wait_for_next(&lent, LOST, SOON);
    let kept = lost.at - second.at;
    assert!(kept > SHORT - Duration::from_secs(1), "lost after {kept:?}");
    let in_vain = vm
        .heard()
        .iter()
        .filter(|heard| heard.number > second.number)
        .filter(|heard| heard.what == KEEP)
        .count();
    assert!(in_vain >= 2, "asked {in_vain} times");

    // The server returns.
    vm.peer().dhcp = Dhcp::Lends;
    let back = vm.wait_for_next(&lost, LENT, SOON);

    // It takes its address back, and has another.
    vm.peer().dhcp = Dhcp::Refuses;
    let no = vm.wait_for_next(&back, LOST, SOON);
    {
        let mut peer = vm.peer();
        peer.dhcp = Dhcp::Lends;
        peer.lease.address = [10, 9, 0, 21].into();
    }
    let other = vm.wait_for_next(&no, LENT_OTHER, SOON);
    assert_eq!(vm.lines_with("service dhcp-eth0: starting").len(), 1);

    // Nor does it outlive its end when the cable is pulled meanwhile, and who asks has changed.
    let up = replug(&vm, &other, |peer| peer.dhcp = Dhcp::Silent);
    vm.wait_for_next(&up, LOST, SOON);
    nobody_noticed(&vm);
}

#[test]
fn a_cable_that_is_pulled_and_plugged_in_again_brings_a_lease_again() {
    const NAMES: &str = "resolver: /etc/resolv.conf: ";
    let lease =
        Lease { router: Some(SERVER), dns: vec![SERVER, [9, 9, 9, 9].into()], ..Lease::default() };
    let image = Image::with_layers(&["test-network"]);
    let vm = Machine::direct(&image).peer(Peer::lends(lease)).start();
    vm.wait_for(&format!("{LENT} via 10.9.0.1, dns 10.9.0.1, dns 9.9.9.9, for 3600 s"), BOOT);
    // A service sees what the lease said.
    let names = vm.wait_for("|nameserver 10.9.0.1|nameserver 9.9.9.9|", BOOT);
    assert!(names.text.contains(NAMES), "{names}");
    let hosts = vm.wait_for("resolver: /etc/hosts: ", SOON);
    assert!(hosts.text.contains("127.0.0.1 localhost|"), "{hosts}");
    assert!(hosts.text.contains("127.0.1.1 prosody|"), "{hosts}");
    let served = vm.wait_for(SERVES, BOOT);

    let up = replug(&vm, &served, |peer| peer.lease.dns = vec![[9, 9, 9, 10].into()]);
    let back = vm.wait_for_next(&up, LENT, SOON);
    assert!(between(&up, &back) < BACK_WITHIN, "{up}\n{back}");
    let names = vm.wait_for_next(&back, NAMES, SOON);
    assert!(names.text.ends_with("|nameserver 9.9.9.10|"), "{names}");

    let mut last = names;
    for _ in 0..19 {
        last = replug(&vm, &last, |_| {});
    }
    let up = replug(&vm, &last, |peer| peer.lease.address = [10, 9, 0, 21].into());
    let back = vm.wait_for_next(&up, LENT_OTHER, SOON);
    assert!(between(&up, &back) < BACK_WITHIN, "{up}\n{back}");
    let count = |text: &str| vm.lines_with(&format!("service dhcp-eth0: {text}")).len();
    let (starts, ends) = (count("starting"), count("ended"));
    assert!(starts <= 22 && starts == ends + 1, "{starts} starts, {ends} ends");
    nobody_noticed(&vm);
}

/// Where [`Lease`]'s mask and time are in a message.
const MASK: usize = OPTIONS + 11;
const SECONDS: usize = OPTIONS + 17;

/// What no DHCP server says who means well.
const NONSENSE: [Spoil; 14] = [
    |message| message[ADDRESS..ADDRESS + 4].copy_from_slice(&[0, 0, 0, 0]),
    |message| message[ADDRESS..ADDRESS + 4].copy_from_slice(&[127, 0, 0, 1]),
    |message| message[ADDRESS..ADDRESS + 4].copy_from_slice(&[224, 0, 0, 1]),
    |message| message[ADDRESS..ADDRESS + 4].copy_from_slice(&[255, 255, 255, 255]),
    |message| message[MASK..MASK + 4].copy_from_slice(&[0, 0, 0, 0]),
    |message| message[MASK..MASK + 4].copy_from_slice(&[255, 0, 255, 0]),
    |message| message[SECONDS..SECONDS + 4].copy_from_slice(&[0, 0, 0, 0]),
    // An option longer than the message, of no length, and none at all.
    |message| message[MASK - 1] = 255,
    |message| message[MASK - 1] = 0,
    |message| message.truncate(OPTIONS),
    // Torn, empty, and as long as a frame can be.
    |message| message.truncate(100),
    |message| message.clear(),
    |message| {
        message.truncate(OPTIONS);
        message.resize(1472, 6);
    },
    // Another client's.
    |message| message[28] ^= 0xff,
];

#[test]
fn answers_that_make_no_sense_are_not_applied() {
    let mut peer = Peer::lends(Lease::default());
    peer.spoil = NONSENSE.to_vec();
    let vm = Machine::direct(&Image::server()).peer(peer).start();
    // Offers and acknowledgements come after fourteen bad ones each: the good ones are taken.
    vm.wait_for(LENT, BOOT);
    vm.wait_for(SERVES, BOOT);
    assert_eq!(vm.lines_with("stele-init: network: eth0 ").len(), 1);
    assert!(vm.lines_with("cannot accept").is_empty());
    assert_eq!(vm.lines_with("service dhcp-eth0: starting").len(), 1);
    nobody_noticed(&vm);
}
