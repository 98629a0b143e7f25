//! The bootstrap gate: nothing answers on the network before the secret that the Pod API and the
//! Server share was changed and that was proved; whoever dies on the way, it heals; whoever lies, it
//! stays shut.

use std::fs::File;
use std::io::{Read, Write as _};
use std::net::TcpStream;
use std::time::Duration;

use vm_tests::console::Line;
use vm_tests::data::Data;
use vm_tests::disk::Kept;
use vm_tests::http::Asked;
use vm_tests::images::{Change, Image};
use vm_tests::machine::{DISK, HTTP, INTERNAL, Machine, XMPP};
use vm_tests::mutant::Edit;
use vm_tests::peer::Peer;
use vm_tests::peer::dhcp::Lease;
use vm_tests::vm::Vm;
use vm_tests::{BOOT, SOON};

const OPEN: &str = "stele-init: gate: open";
const UNROTATED: &str = "gate: shut: the Pod API has not changed the bootstrap secret";
/// A gate that hasn't opened by then won't.
const LONG_ENOUGH: Duration = Duration::from_secs(20);

/// The Pod API of a variant that does nothing, ever.
const IDLE_API: Change = Change {
    layer: "pod-api",
    file: "layer.toml",
    from: "run = [\"/usr/bin/pod-api\"]",
    to: "run = [\"/usr/bin/lua5.4\", \"-e\", \"require('socket').sleep(1e6)\"]",
};
const NO_READINESS: Change = Change {
    layer: "pod-api",
    file: "layer.toml",
    from: "ready = { file = \"/run/pod-api/http.sock\", within = \"60s\" }\n",
    to: "",
};

/// Does anybody answer there? QEMU accepts connections in the guest's place, so that only an answer
/// counts.
fn answers(vm: &Vm, port: u16) -> bool {
    let Ok(mut stream) = TcpStream::connect(vm.port(port)) else { return false };
    stream.set_read_timeout(Some(Duration::from_secs(2))).unwrap();
    let _ = stream.write_all(b"GET / HTTP/1.0\r\n\r\n");
    matches!(stream.read(&mut [0; 16]), Ok(1..))
}

#[test]
fn no_frame_leaves_the_machine_before_the_gate_is_open() {
    let vm = Machine::direct(&Image::release()).peer(Peer::lends(Lease::default())).start();
    let open = vm.wait_for(OPEN, BOOT);
    vm.wait_for("stele-init: network: eth0 10.9.0.20/24", BOOT);
    let first = vm.first_frame().expect("it spoke");
    assert!(first > open.at, "a frame at {first:?}, open at {:?}", open.at);
}

#[test]
fn without_a_rotation_nothing_answers_nor_speaks() {
    let image = Image::pod("idle-api", &[], &[IDLE_API, NO_READINESS]);
    let vm = Machine::direct(&image).peer(Peer::lends(Lease::default())).start();
    vm.wait_for(UNROTATED, BOOT);
    vm.must_live_for(LONG_ENOUGH);
    assert_eq!(vm.first_frame(), None);
    assert!(vm.lines_with(OPEN).is_empty());
    drop(vm);

    let vm = Machine::direct(&image).start();
    vm.wait_for(UNROTATED, BOOT);
    // The front listens, and so does the Server's HTTP; but not to anybody outside.
    vm.wait_for("service front: ready", BOOT);
    for port in [HTTP, XMPP, INTERNAL] {
        assert!(!answers(&vm, port), "{port}");
    }
    assert!(vm.lines_with(OPEN).is_empty());
}

/// Their Server, or their Pod API, does another thing than it should.
#[test]
fn a_server_that_lies_keeps_the_gate_shut_and_the_console_says_why() {
    let module = |name, file, from, to| {
        Image::pod(name, &[], &[Change { layer: "prosody-pod", file, from, to }])
    };
    let access = "mod_stele/access.lib.lua";
    let takes_both = module(
        "takes-both",
        access,
        "    if known and hashes.equals(known, digest(secret)) then return end\n",
        "    if true then return end\n",
    );
    let never_answers = module(
        "never-answers",
        "mod_stele/mod_stele.lua",
        "stele.verbs.version = { run = function()\n",
        "stele.verbs.version = { run = function()\n  if true then return nil end\n",
    );
    let forgets = module(
        "forgets",
        access,
        "    stele.must(usermanager.set_password(API_USER, input.new, module.host))\n    \
         known = digest(input.new)\n",
        "",
    );
    for (image, says) in [
        (takes_both, "the Server still accepts the bootstrap secret"),
        (never_answers, ""),
        (forgets, "the Server still accepts the bootstrap secret"),
    ] {
        let vm = Machine::direct(&image).start();
        vm.wait_for(UNROTATED, BOOT);
        if says.is_empty() {
            vm.must_live_for(LONG_ENOUGH);
        } else {
            vm.wait_for(says, BOOT);
        }
        assert!(vm.lines_with(OPEN).is_empty(), "{says}");
        assert!(!answers(&vm, HTTP), "{says}");
    }
}

#[test]
fn a_pod_api_that_dies_between_change_and_report_heals() {
    let edit = Edit {
        file: "src/pod-api/rotation.rs",
        from: "                self.report(init, new).await?\n",
        to: "                let _ = self.report(init, new).await;\n                \
             std::process::exit(9)\n",
    };
    // It dies after the report was sent, at each start that had something to change.
    let reports = Image::pod_mutant("dies-after-report", &[], &[edit]);
    let edit =
        Edit { to: "                drop(new);\n                std::process::exit(9)\n", ..edit };
    let reports_not = Image::pod_mutant("dies-before-report", &[], &[edit]);
    for image in [reports_not, reports] {
        let vm = Machine::direct(&image).start();
        let ended = vm.wait_for("service pod-api: ended: exit status 9", BOOT);
        vm.pod_serves();
        assert_eq!(vm.lines_with("exit status 9").len(), 1, "at {:?}", ended.at);
        assert_eq!(vm.lines_with(OPEN).len(), 1);
        // What was pending was taken; nobody made another.
        assert_eq!(vm.lines_with("Account password changed").len(), 1);
    }
}

/// PID 1 of these kills others at the moments that the kernel's command line names: `kill.done=api`.
const KILLER: [Edit; 2] = [
    Edit {
        file: "src/init/event_loop/gate.rs",
        from: "        let Some(bootstrap) = &mut self.bootstrap else { return };\n        \
               let effects = bootstrap.gate.on(event);\n",
        to: "        let moment = format!(\"{event:?}\");\n        \
             self.kill_at(moment.split('(').next().unwrap_or_default());\n        \
             let Some(bootstrap) = &mut self.bootstrap else { return };\n        \
             let effects = bootstrap.gate.on(event);\n",
    },
    Edit {
        file: "src/init/event_loop/configuration.rs",
        from: "    fn configure(&mut self, effect: Effect) -> Result<(), Failure> {\n",
        to: "    pub(super) fn kill_at(&mut self, moment: &str) {\n        \
             let told = std::fs::read_to_string(\"/proc/cmdline\").unwrap_or_default();\n        \
             let begin = format!(\"kill.{moment}=\");\n        \
             let Some(word) = told.split_whitespace().find(|it| it.starts_with(&begin)) else {\n            \
             return;\n        };\n        \
             let stamp = std::path::Path::new(\"/run\").join(word);\n        \
             if stamp.exists() {\n            return;\n        }\n        \
             std::fs::write(stamp, \"\").unwrap();\n        \
             notice!(\"mutant: {word}\");\n        \
             let victims: &[&str] = match word.rsplit('=').next() {\n            \
             Some(\"server\") => &[\"prosody\"],\n            \
             Some(\"api\") => &[\"pod-api\"],\n            _ => &[\"prosody\", \"pod-api\"],\n        };\n        \
             self.workers.iter().filter(|it| victims.contains(&it.name())).for_each(Worker::kill);\n    }\n\n    \
             fn configure(&mut self, effect: Effect) -> Result<(), Failure> {\n        \
             let moment = format!(\"{effect:?}\");\n        \
             self.kill_at(moment.split(['(', ' ']).next().unwrap_or_default());\n",
    },
];

/// Moments of the way from a shut gate to a Server that serves by its settings: events of the gate,
/// effects of the configuration.
const MOMENTS: [&str; 8] =
    ["Ready", "Pending", "Done", "Proved", "Render", "Install", "Load", "Keep"];

#[test]
fn whoever_is_killed_at_whatever_moment_the_pod_serves() {
    let image = Image::pod_mutant("killer", &[], &KILLER);
    // Two moments a boot, so that a death on the way of healing is among them.
    let boots = ["server", "api", "both"].into_iter().flat_map(|victim| {
        MOMENTS.chunks(2).map(move |pair| {
            let words: Vec<String> =
                pair.iter().map(|moment| format!("kill.{moment}={victim}")).collect();
            words.join(" ")
        })
    });
    for words in boots {
        let vm = Machine::direct(&image).say(&words).start();
        // The last of them may come when the Pod serves already.
        for word in words.split(' ') {
            vm.wait_for(&format!("mutant: {word}"), BOOT);
        }
        vm.pod_serves();
        assert_eq!(vm.lines_with(OPEN).len(), 1, "{words}");
        let reply = vm.stream_reply("prose.local", BOOT);
        let (at, _) = vm.age();
        eprintln!("{words}: serves after {at:?}");
        assert!(reply.text.contains("from='prose.local'"), "{words}: {}", reply.text);
    }
}

/// The operator's own secret, which must show nowhere, and the one that the Pod API made, which this
/// PID 1 tells backwards, when it has looked at every process's words and environment.
const TELLTALE: Edit = Edit {
    file: "src/init/event_loop/gate.rs",
    from: "    fn give_current(&self, secret: &Secret) -> Result<(), Failure> {\n",
    to: "    fn give_current(&self, secret: &Secret) -> Result<(), Failure> {\n        \
         let told: String = secret.reveal().chars().rev().collect();\n        \
         let mut shown = vec![];\n        let mut looked = 0;\n        \
         for entry in std::fs::read_dir(\"/proc\").unwrap().flatten() {\n            \
         for file in [\"cmdline\", \"environ\"] {\n                \
         let text = std::fs::read(entry.path().join(file)).unwrap_or_default();\n                \
         looked += usize::from(!text.is_empty());\n                \
         let text = String::from_utf8_lossy(&text).into_owned();\n                \
         if text.contains(secret.reveal()) || text.contains(\"the-operators-own\") {\n                    \
         shown.push(entry.path());\n                }\n            }\n        }\n        \
         notice!(\"mutant: looked at {looked}, shown in {shown:?}, told {told}\");\n",
};

#[test]
fn neither_secret_is_on_the_console_the_disk_or_in_any_processs_words() {
    const OPERATORS: &str = "the-operators-own-secret-of-this-story";
    let image = Image::pod_mutant("telltale", &[], &[TELLTALE]);
    let disk = Kept::of(&image, DISK);
    let env =
        format!("# of an operator\nPROSE_BOOTSTRAP__PROSE_POD_API_XMPP_PASSWORD={OPERATORS}\n");
    disk.seed(&[("env", env.as_bytes())]);
    let vm = Machine::direct(&image).on(&disk).start();
    vm.pod_serves();
    let told = vm.wait_for("mutant: looked at ", SOON);
    let rest = told.rest_after("looked at ").unwrap().to_owned();
    assert!(rest.contains("shown in []"), "{rest}");
    let (looked, _) = rest.split_once(',').unwrap();
    assert!(looked.parse::<u32>().unwrap() >= 6, "{rest}");
    let current: String = rest.rsplit(' ').next().unwrap().chars().rev().collect();
    assert!(current.len() >= 32, "{rest}");
    // The old one is refused from outside as well as the new one: that account is nobody there.
    internal_account_is_nobody_outside(&vm, &[OPERATORS, &current]);
    let console: Vec<Line> = vm.lines_with("");
    vm.power_off(SOON);

    for secret in [OPERATORS, &current] {
        assert!(console.iter().all(|line| !line.text.contains(secret)));
        let count = |reader: &mut dyn Read| occurrences(reader, secret.as_bytes());
        let places = count(&mut File::open(disk.path()).unwrap());
        let own = Data::of(&disk).read("/volumes/etc/prose/env");
        let is_own = count(&mut own.as_slice());
        // The operator's file has it, where it was put; and nothing else does.
        assert_eq!((places, is_own), (is_own, usize::from(secret == OPERATORS)), "{secret}");
    }
    assert_eq!(occurrences(&mut b"xaxxaa".as_slice(), b"xa"), 2);
}

/// How often `wanted` is there; parts of a disk at a time, since it is larger than memory may be.
fn occurrences(reader: &mut dyn Read, wanted: &[u8]) -> usize {
    let (mut window, mut part, mut count) = (vec![], vec![0; 1 << 20], 0);
    loop {
        let length = reader.read(&mut part).unwrap();
        if length == 0 {
            return count;
        }
        window.extend_from_slice(&part[..length]);
        let first = |at: &usize| window[*at] == wanted[0];
        let is_it = |at: &usize| window[*at..].starts_with(wanted);
        count += (0..window.len()).filter(first).filter(is_it).count();
        // What may be the beginning of one stays, and is too short to be counted again.
        window.drain(..window.len() - (wanted.len() - 1).min(window.len()));
    }
}

fn internal_account_is_nobody_outside(vm: &Vm, secrets: &[&str]) {
    let stream = vm_tests::xmpp::ask(vm.xmpp(), "admin.prose.local");
    let said = stream.expect_err("there is no such host for clients").to_string();
    assert!(said.contains("host-unknown") || said.contains("closed"), "{said}");
    assert!(!answers(vm, INTERNAL));
    for secret in secrets {
        let answer = vm.log_in("prose-pod-api@admin.prose.local", secret);
        assert_eq!(answer.status, 401, "{answer:?}");
        for path in ["/stele/v1/version", "/api/stele/v1/version", "/api/../stele/v1/version"] {
            let asked =
                Asked::new("POST", path, "{}").by("prose-pod-api@admin.prose.local", secret);
            let status = vm.asks(&asked).status;
            assert!((400..500).contains(&status), "{path}: {status}");
        }
    }
}
