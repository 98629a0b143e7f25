//! Mutants: systems that don't serve, rightly signed, each bad in a way of its own. Whatever it is,
//! the old system is back within bounds, with its data, and tells which version was bad, and why.
//!
//! Those of CI are put together without a build, but one, and are over within the tries that a trial
//! has. The long lane has them all.

use std::time::Duration;

use anyhow::Result;
use serde_json::Value;
use vm_tests::altered::{Bundle, Changes};
use vm_tests::cpio::Archive;
use vm_tests::disk::Kept;
use vm_tests::images::Change;
use vm_tests::machine::{DISK, Machine};
use vm_tests::releases::Release;
use vm_tests::tiny::{ENDS, FAULTS, program};
use vm_tests::uki::make_unloadable;
use vm_tests::vm::Vm;
use vm_tests::{BOOT, SOON};

const OLD: &str = "1.0.0";
/// What mutants are made of that are altered without a build.
const GOOD: &str = "1.1.0";
/// What their consoles may show.
const TROUBLE: [&str; 7] = [
    "Kernel panic",
    "Call Trace:",
    "segfault at",
    "Out of memory",
    "SQUASHFS error",
    "I/O error",
    "stele-init: cannot ",
];
/// All tries of a system that doesn't come far.
const TRIES_WITHIN: Duration = Duration::from_secs(240);
/// One try, at the end of which it wasn't healthy.
const TRIAL_WITHIN: Duration = Duration::from_secs(600);
/// Of one machine, through all mutants.
const LIFE: Duration = Duration::from_secs(7200);

/// A system that doesn't serve.
struct Mutant {
    /// Its version, which says what is wrong with it.
    version: &'static str,
    made: Made,
    /// What the last failure says: the check, if it got to the point of being looked at.
    check: Option<&'static str>,
    /// And in which words.
    why: &'static str,
    /// How often it is started.
    tries: usize,
    within: Duration,
}

enum Made {
    /// Of another release's bytes.
    Altered(Changes),
    /// Of these changed layers.
    Built(&'static [Change<'static>]),
}

impl Mutant {
    fn bundle(&self, good: &Release) -> Bundle {
        match &self.made {
            Made::Altered(changes) => Bundle::altered(good, self.version, changes),
            Made::Built(changes) => Bundle::of(&Release::changed(self.version, &[], changes, &[])),
        }
    }

    /// It is installed and started, and the old system is back.
    fn goes_back(&self, vm: &Vm, good: &Release) {
        let bundle = self.bundle(good);
        vm.install(&bundle.path);
        let (before, line) = (vm.resets().len(), vm.last_line());
        vm.order_reboot();
        let rebooted = vm.wait_for_next(&line, "stele-init: system: reboots", BOOT);
        let root = vm.serves_after(&rebooted, OLD, self.within);
        let resets = vm.resets().len() - before;
        let verdict = vm.admin_get("/api/v1/appliance/last-failure");
        println!(
            "{}: the old system is back after {:.1} s; {}: {}",
            self.version,
            (root.at - rebooted.at).as_secs_f64(),
            verdict["check"],
            verdict["reason"]
        );
        assert_eq!(verdict["version"], self.version, "{verdict}");
        assert_eq!(verdict["root_hash"], bundle.root_hash, "{verdict}");
        assert_eq!(verdict["check"], self.check.map_or(Value::Null, Value::from), "{verdict}");
        assert!(verdict["reason"].as_str().unwrap().contains(self.why), "{verdict}");
        // What could write why it ended has written what the console showed, too.
        let is_told = verdict["console_tail"].as_array().is_some_and(|lines| !lines.is_empty());
        assert_eq!(is_told, self.why != NOTHING, "{verdict}");
        vm.runs("a", "blessed", SOON);
        vm.slots_are(["blessed", "empty"], SOON);
        // One into its first try; each try ends in another.
        assert_eq!(resets, 1 + self.tries, "{}", self.version);
    }
}

/// Of one that could say nothing, what can have been the matter.
const NOTHING: &str = "it could not be loaded, its kernel panicked or hung before its init ran, or that \
                       has no driver for the disk";

/// One that doesn't come far, and says this of it; or nothing, if its initrd didn't come to its disk.
const fn early(version: &'static str, changes: Changes, why: &'static str) -> Mutant {
    let made = Made::Altered(changes);
    Mutant { version, made, check: None, why, tries: 3, within: TRIES_WITHIN }
}

/// One that runs, and isn't well.
const fn unwell(
    version: &'static str,
    changes: &'static [Change<'static>],
    check: &'static str,
    why: &'static str,
    within: Duration,
) -> Mutant {
    Mutant { version, made: Made::Built(changes), check: Some(check), why, tries: 1, within }
}

const NONE: Changes = Changes::NONE;

fn those_of_ci() -> Vec<Mutant> {
    vec![
        early("2-no-init", Changes { initrd: |initrd| initrd.remove("init"), ..NONE }, NOTHING),
        early(
            "2-wrong-root-hash",
            Changes { pin: |pin| pin.root.root_hash.0[31] ^= 1, ..NONE },
            "cannot find the slot with root ",
        ),
        early(
            "2-no-superblock",
            Changes { root: |root| root[..4096].fill(0), ..NONE },
            "as squashfs: ",
        ),
        early(
            "2-no-virtio-blk",
            Changes {
                pin: |pin| pin.modules.retain(|name| !name.starts_with("virtio_blk")),
                ..NONE
            },
            NOTHING,
        ),
        early("2-unloadable", Changes { uki: |uki| make_unloadable(uki), ..NONE }, NOTHING),
        unwell("2-crash-loop", CRASH_LOOP, "crash_loop", "prosody is crash-loop", TRIAL_WITHIN),
    ]
}

fn those_of_the_long_lane() -> Vec<Mutant> {
    vec![
        early("2-init-ends", Changes { initrd: |it| init_is(it, ENDS), ..NONE }, NOTHING),
        early("2-init-faults", Changes { initrd: |it| init_is(it, FAULTS), ..NONE }, NOTHING),
        early(
            "2-cut-short",
            Changes { root: |root| root.truncate(root.len() - 4096), ..NONE },
            "as squashfs: ",
        ),
        unwell("2-leaks", LEAKS, "crash_loop", "prosody is crash-loop", TRIAL_WITHIN),
        unwell("2-no-stream", NO_STREAM, "xmpp", "s: xmpp: ", TRIAL_WITHIN),
        unwell("2-no-sasl", NO_SASL, "xmpp", "s: xmpp: ", TRIAL_WITHIN),
        unwell("2-no-host", NO_HOST, "xmpp", "s: xmpp: ", TRIAL_WITHIN),
        unwell("2-deaf-api", DEAF_API, "api", "s: api: ", TRIAL_WITHIN),
    ]
}

/// This is the initrd's first program, in the place of `stele-init`.
fn init_is(initrd: &mut Archive, code: &[u8]) -> Result<()> {
    *initrd.file("init")? = program(code);
    Ok(())
}

/// The Server ends by itself, every three seconds.
const CRASH_LOOP: &[Change] = &[server_also(
    "local NAME = roles.PROBE\n\
     require \"util.timer\".add_task(3, function() os.exit(1) end)\n",
)];

/// It takes 50 MB more each half a second: out of memory before it is ready, whoever is slow.
const LEAKS: &[Change] = &[server_also(
    "local NAME = roles.PROBE\n\
     local leak = {}\n\
     require \"util.timer\".add_task(0.5, function()\n  \
     leak[#leak + 1] = (\"x\"):rep(50000000) .. #leak\n  return 0.5\nend)\n",
)];

/// It takes connections, and says nothing of what it could do on them.
const NO_STREAM: &[Change] = &[at_login(
    "    admit(host, handler.profile or {})\n    \
     handler.mechanisms = function() while true do require \"socket\".sleep(1) end end\n",
)];

/// Nobody is who they say.
const NO_SASL: &[Change] = &[at_login(
    "    admit(host, handler.profile or {})\n    \
     handler.process = function() return \"failure\", \"not-authorized\" end\n",
)];

/// Its domain isn't there.
const NO_HOST: &[Change] = &[server_also(
    "local NAME = roles.PROBE\n\
     require \"util.timer\".add_task(1, function()\n  \
     for host in pairs(prosody.hosts) do\n    \
     if host ~= module.host then require \"core.hostmanager\".deactivate(host) end\n  end\n  \
     return 1\nend)\n",
)];

/// The front takes connections, and never answers.
const DEAF_API: &[Change] = &[Change {
    layer: "front",
    file: "layer.toml",
    from: "run = [\"/usr/bin/front\"]",
    to: "run = [\"/usr/bin/lua5.4\", \"-e\", \"local s = assert(require('socket').bind('*', 3030)) \
         local kept = {} while true do kept[#kept + 1] = s:accept() end\"]",
}];

/// More in the module by which the Server is asked.
const fn server_also(to: &str) -> Change<'_> {
    let (layer, file) = ("prosody-pod", "mod_stele/probe.lib.lua");
    Change { layer, file, from: "local NAME = roles.PROBE\n", to }
}

/// More where somebody logs in.
const fn at_login(to: &str) -> Change<'_> {
    let (layer, file) = ("prosody-pod", "mod_stele/probe.lib.lua");
    Change { layer, file, from: "    admit(host, handler.profile or {})\n", to }
}

/// One machine gets them, one after the other.
fn go_back(mutants: &[Mutant]) {
    let (old, good) = (Release::of(OLD, &[]), Release::of(GOOD, &[]));
    let disk = Kept::of(&old.image, DISK);
    let machine = Machine::firmware(&old.image).on(&disk).reboots().deadline(LIFE);
    let vm = TROUBLE.iter().fold(machine, |machine, trouble| machine.expect(trouble)).start();
    vm.pod_serves();
    vm.make_admin();
    for mutant in mutants {
        mutant.goes_back(&vm, &good);
    }
}

#[test]
fn a_system_that_does_not_serve_goes_back_by_itself() {
    go_back(&those_of_ci());
}

#[test]
#[ignore = "three quarters of an hour: vm-tests/long"]
fn so_does_one_that_is_bad_in_another_way() {
    go_back(&those_of_the_long_lane());
}
