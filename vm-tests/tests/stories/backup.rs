//! What people wrote survives an erased Pod, and a lost machine: as one file that nobody can read
//! without its passphrase.

use std::fs;
use std::path::Path;

use serde_json::{Value, json};
use vm_tests::client::{Login, Session, shown_certificate};
use vm_tests::disk::Kept;
use vm_tests::http::{Answer, Asked};
use vm_tests::images::Image;
use vm_tests::machine::{DISK, Machine};
use vm_tests::pod::{ADMIN, PASSWORD};
use vm_tests::vm::Vm;
use vm_tests::{BOOT, SOON};

const PASSPHRASE: &str = "a passphrase that is nowhere else";
const NEEDLE: &str = "a message that outlives its machine";
const EXCHANGED: &str = "stele-init: backup: the data has been exchanged";
const STOPPED: &str = "stele-init: service prosody: stopped";
const NAME: &str = "kept.tar.zst.age";

/// Alice writes to herself; returns what came of it.
fn write(vm: &Vm, certificate: &Path, text: &str) -> Session {
    let login = Login {
        jid: ADMIN,
        password: PASSWORD,
        certificate: certificate.to_owned(),
        body: Some(text),
        peer: Some((ADMIN, text)),
    };
    login.run(vm.xmpp())
}

/// Asks as the admin, who logs in for that.
fn ask(vm: &Vm, asked: Asked) -> Answer {
    let answer = vm.log_in(ADMIN, PASSWORD);
    let token = answer.body["token"].as_str().unwrap_or_else(|| panic!("{answer:?}")).to_owned();
    vm.asks(&asked.with(&format!("Authorization: Bearer {token}")))
}

fn ask_json(vm: &Vm, method: &str, path: &str, body: &Value) -> Answer {
    ask(vm, Asked::json(method, path, body))
}

/// Makes a backup, and returns its bytes.
fn back_up(vm: &Vm) -> Vec<u8> {
    let body = json!({ "description": "Before it all ends", "passphrase": PASSPHRASE });
    let made = ask_json(vm, "POST", "/api/v1/backups", &body);
    assert_eq!(made.status, 201, "{made:?}");
    assert_eq!(made.body["is_intact"], true, "{made:?}");
    let id = made.body["id"].as_str().unwrap();
    let offered = ask(vm, Asked::get(&format!("/api/v1/backups/{id}/download")));
    assert_eq!(offered.status, 303, "{offered:?}");
    let head = offered.head.lines().find_map(|line| line.split_once("../../"));
    let (_, path) = head.unwrap_or_else(|| panic!("{offered:?}"));
    let (status, bytes) = Asked::get(&format!("/api/v1/{path}")).fetch(vm.http()).unwrap();
    assert_eq!((status, bytes.len()), (200, made.body["size_bytes"].as_u64().unwrap() as usize));
    bytes
}

/// Uploads a backup, and has it verified; returns the code that confirms its restoration.
fn prepare(vm: &Vm, bytes: &[u8]) -> Value {
    let upload = Asked::new("PUT", &format!("/api/v1/backups/{NAME}"), bytes);
    let answer = ask(vm, upload.with("Content-Type: application/octet-stream"));
    assert_eq!(answer.status, 201, "{answer:?}");
    let path = format!("/api/v1/backups/{NAME}/restore");
    let answer = ask_json(vm, "PUT", &path, &json!({ "passphrase": "not the right one" }));
    assert_eq!((answer.status, answer.error()), (400, "invalid_backup_key"), "{answer:?}");
    let answer = ask_json(vm, "PUT", &path, &json!({ "passphrase": PASSPHRASE }));
    assert_eq!(answer.status, 202, "{answer:?}");
    json!({ "confirmation": answer.body["confirmation"] })
}

fn restore(vm: &Vm, code: &Value) {
    let answer = ask_json(vm, "PUT", &format!("/api/v1/backups/{NAME}/restore"), code);
    assert_eq!(answer.status, 205, "{answer:?}");
}

/// What a client finds: old messages.
fn has_the_old(vm: &Vm, certificate: &Path) {
    vm.pod_serves();
    let session = write(vm, certificate, "and this is new");
    assert!(session.archive.iter().any(|text| text == NEEDLE), "{session:?}");
}

#[test]
fn a_backup_brings_an_erased_pod_back_here_or_elsewhere_and_whenever_the_power_goes() {
    let image = Image::pod("backup", &["test-certificate"], &[]);
    let disk = Kept::of(&image, DISK);
    let vm = Machine::direct(&image).on(&disk).start();
    let certificate = shown_certificate(&vm, BOOT);
    vm.pod_serves();
    vm.make_admin();
    write(&vm, &certificate, NEEDLE);
    let bytes = back_up(&vm);
    for plain in [NEEDLE, "alice", "prose.local", PASSPHRASE] {
        assert!(!bytes.windows(plain.len()).any(|it| it == plain.as_bytes()), "{plain}");
    }
    assert!(vm.lines_with(PASSPHRASE).is_empty());
    // Nobody noticed.
    assert!(vm.lines_with("service prosody: ended").is_empty());

    // All is given up but the operator's own, and the gate is open still.
    let answer = ask_json(&vm, "DELETE", "/api/", &json!({ "password": PASSWORD }));
    assert_eq!(answer.status, 202, "{answer:?}");
    let code = json!({ "confirmation": answer.body["confirmation"] });
    assert_eq!(ask_json(&vm, "DELETE", "/api/", &code).status, 205);
    let erased = vm.wait_for(EXCHANGED, SOON);
    vm.wait_for_next(&erased, "stele-init: service pod-api: ready", SOON);
    vm.pod_serves();
    let exists = Asked::new("HEAD", "/api/v1/init/first-account", "");
    assert_eq!(vm.asks(&exists).status, 204);
    assert_eq!(vm.log_in(ADMIN, PASSWORD).status, 401);

    // Whoever sets it up anew finds the backup, which outlives that; and the one that was taken away.
    vm.make_admin();
    let all = ask(&vm, Asked::get("/api/v1/backups"));
    assert_eq!(all.body[0]["description"], "Before it all ends", "{all:?}");
    let code = prepare(&vm, &bytes);
    restore(&vm, &code);
    let restored = vm.wait_for_next(&erased, EXCHANGED, SOON);
    vm.wait_for_next(&restored, "stele-init: service pod-api: ready", SOON);
    has_the_old(&vm, &certificate);
    // It goes with the machine; the restored one elsewhere shows the same.
    let certificate = fs::read(&certificate).unwrap();
    let certificate_for = |vm: &Vm| {
        let path = vm.folder().join("certificate.pem");
        fs::write(&path, &certificate).unwrap();
        path
    };
    drop(vm);

    // Another machine has never heard of it. The power goes before everything is exchanged.
    let other = Kept::of(&image, DISK);
    let vm = Machine::direct(&image).on(&other).start();
    vm.pod_serves();
    vm.make_admin();
    let code = prepare(&vm, &bytes);
    restore(&vm, &code);
    vm.wait_for(STOPPED, SOON);
    vm.cut_power();
    let vm = Machine::direct(&image).on(&other).start();
    vm.pod_serves();
    // Old or new, but whole: the upload is there, and the first account too.
    let code = match vm.lines_with("what the power cut short is finished").is_empty() {
        true => ask_json(
            &vm,
            "PUT",
            &format!("/api/v1/backups/{NAME}/restore"),
            &json!({ "passphrase": PASSPHRASE }),
        ),
        false => return has_the_old(&vm, &certificate_for(&vm)),
    };
    assert_eq!(code.status, 202, "{code:?}");
    restore(&vm, &json!({ "confirmation": code.body["confirmation"] }));
    // And right after.
    vm.wait_for(EXCHANGED, SOON);
    vm.cut_power();
    let vm = Machine::direct(&image).on(&other).start();
    has_the_old(&vm, &certificate_for(&vm));
}
