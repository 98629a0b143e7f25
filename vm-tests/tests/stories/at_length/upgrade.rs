//! Upgrades by swapping the image: a Pod gets a bundle, tries it, and is one or the other in the end.

mod flipped;
mod refused;

use std::path::Path;
use std::time::Duration;

use vm_tests::client::shown_certificate;
use vm_tests::disk::Kept;
use vm_tests::images::Change;
use vm_tests::machine::{DISK, Machine};
use vm_tests::pod::{ADMIN, PASSWORD};
use vm_tests::releases::Release;
use vm_tests::session::Session;
use vm_tests::upgrade::Said;
use vm_tests::vm::Vm;
use vm_tests::{BOOT, SOON};

const BOB: &str = "bob@prose.local";
/// A trial proves itself for 30 s, once everything serves.
pub const BLESSED_WITHIN: Duration = Duration::from_secs(240);
/// Six boots, and what is between them.
pub const LIFE: Duration = Duration::from_secs(1800);
/// A Server that ends as soon as it starts.
const NEVER_SERVES: Change = Change {
    layer: "prosody-pod",
    file: "layer.toml",
    from: "\"--config\", \"/etc/prosody/prosody.cfg.lua\"",
    to: "\"--config\", \"/etc/prosody/there-is-none.cfg.lua\"",
};

/// A Pod's people, and what they have written.
struct People<'a> {
    vm: &'a Vm,
    certificate: &'a Path,
    written: Vec<String>,
}

impl People<'_> {
    fn come(&self) -> [Session; 2] {
        [ADMIN, BOB].map(|jid| {
            let opened = Session::open(self.vm.xmpp(), jid, PASSWORD, self.certificate);
            opened.unwrap_or_else(|error| panic!("{jid}: {error:#}"))
        })
    }

    /// Bob writes to Alice.
    fn write(&mut self, text: &str) {
        let [mut hers, mut his] = self.come();
        his.message(ADMIN, text);
        hers.wait_for("message", text).unwrap();
        self.written.push(text.to_owned());
    }

    /// This version runs, and all is there that was: accounts, roles, rosters, messages.
    fn find_everything(&self, version: &str) {
        self.vm.pod_serves();
        let state = self.vm.get("/api/v1/appliance").body;
        assert_eq!(state["version"], version, "{state}");
        let member = self.vm.admin_get(&format!("/api/v1/members/{BOB}"));
        assert_eq!(member["role"], "MEMBER", "{member}");
        let [mut hers, mut his] = self.come();
        assert!(hers.roster().contains(BOB), "{}", hers.roster());
        assert!(his.roster().contains(ADMIN), "{}", his.roster());
        let (hers, his) = (hers.archive().unwrap(), his.archive().unwrap());
        for text in &self.written {
            assert!(hers.contains(text) && his.contains(text), "{text}: {hers:?}, {his:?}");
        }
    }
}

/// The new system runs.
fn assert_blessed(said: &Said, version: &str) {
    assert_eq!(said.code, Some(0), "{said:?}");
    let outcome = (&said.outcome["outcome"], &said.outcome["version"]);
    assert_eq!(outcome, (&"blessed".into(), &version.into()), "{said:?}");
    eprintln!("{version} is trusted {} s after the reboot", said.outcome["seconds"]);
}

/// One machine, which reboots: by bundle, back, by bundle again, and by one that is no good.
#[test]
fn a_pod_is_upgraded_again_and_again_and_keeps_its_data() {
    let shown = &["test-certificate"];
    let old = Release::of("1.0.0", shown);
    let new = Release::of("1.1.0", shown);
    let bad = Release::changed("1.2.0", shown, &[NEVER_SERVES], &[]);
    let disk = Kept::of(&old.image, DISK);
    let vm = Machine::firmware(&old.image).on(&disk).reboots().deadline(LIFE).start();
    let certificate = &shown_certificate(&vm, BOOT);
    let mut people = People { vm: &vm, certificate, written: vec![] };
    vm.pod_serves();
    vm.make_admin();
    vm.make_member("bob");
    people.write("from the first system");
    people.find_everything("1.0.0");
    vm.slots_are(["blessed", "empty"], SOON);

    // Left running, it is what it was; rebooted, it takes nothing until it has proved itself.
    vm.install(&new.bundle);
    vm.slots_are(["blessed", "trial"], SOON);
    people.find_everything("1.0.0");
    vm.order_reboot();
    vm.runs("b", "trial", 2 * BOOT);
    vm.pod_serves();
    let answer = vm.put_bundle(&std::fs::read(&bad.bundle).unwrap());
    assert_eq!((answer.status, answer.error()), (409, "unblessed"), "{answer:?}");
    vm.wait_for("in slot b is blessed", BLESSED_WITHIN);
    vm.runs("b", "blessed", BOOT);
    people.find_everything("1.1.0");
    people.write("from the second system");

    // Back, and there again: whoever asks for it waits.
    assert_blessed(&vm.rollback(), "1.0.0");
    people.find_everything("1.0.0");
    people.write("from the first again");
    assert_blessed(&vm.upgrade(&new.bundle), "1.1.0");
    people.find_everything("1.1.0");
    people.write("from the second again");
    vm.slots_are(["blessed", "blessed"], SOON);

    // What never serves goes back by itself, and isn't taken again.
    let said = vm.upgrade(&bad.bundle);
    assert_eq!((said.code, &said.outcome["outcome"]), (Some(3), &"back".into()), "{said:?}");
    eprintln!("{}", said.errors);
    assert_eq!(said.outcome["running"], "1.1.0", "{said:?}");
    assert!(said.errors.contains("prosody"), "{said:?}");
    people.find_everything("1.1.0");
    let failure = vm.admin_get("/api/v1/appliance/last-failure");
    assert_eq!(failure["version"], "1.2.0", "{failure}");
    assert_eq!(failure["root_hash"], bad.root_hash(), "{failure}");
    assert_eq!(failure["check"], "crash_loop", "{failure}");
    let answer = vm.put_bundle(&std::fs::read(&bad.bundle).unwrap());
    assert_eq!((answer.status, answer.error()), (409, "known_bad"), "{answer:?}");
    people.find_everything("1.1.0");
}
