//! Upgrades by swapping the image: a Pod gets a bundle, tries it, and is one or the other in the end.

use std::process::Command;
use std::time::Duration;

use serde_json::Value;
use vm_tests::BOOT;
use vm_tests::disk::Kept;
use vm_tests::http::Asked;
use vm_tests::images::{Tools, run};
use vm_tests::machine::{DISK, Machine};
use vm_tests::pod::{ADMIN, PASSWORD};
use vm_tests::releases::Release;
use vm_tests::scratch::bounded;
use vm_tests::vm::Vm;

/// A bundle is sent, written and read back, in seconds.
const INSTALL_WITHIN: u32 = 240;
/// A trial proves itself for 30 s, once everything serves.
pub const BLESSED_WITHIN: Duration = Duration::from_secs(240);
pub const LIFE: Duration = Duration::from_secs(600);

/// `stele VERB --pod …`, as the admin, which leaves the Pod running.
fn stele(vm: &Vm, verb: &str) -> Command {
    let password = vm.folder().join("password");
    std::fs::write(&password, PASSWORD).unwrap();
    let mut command = bounded(&Tools::find().unwrap().stele, INSTALL_WITHIN);
    command.arg(verb).arg("--pod").arg(format!("http://{}", vm.http()));
    command.args(["--user", ADMIN, "--json", "--no-reboot", "--password-file"]).arg(password);
    command
}

/// Has the Pod take the bundle.
pub fn install(vm: &Vm, release: &Release) -> Value {
    let mut command = stele(vm, "upgrade");
    let printed = run(command.arg(&release.bundle), "upgrade").unwrap();
    serde_json::from_str(&printed).unwrap()
}

pub fn reboot(vm: Vm) {
    let token = vm.log_in(ADMIN, PASSWORD).body["token"].as_str().unwrap().to_owned();
    let asked = Asked::new("POST", "/api/v1/appliance/reboot", "");
    let answer = vm.asks(&asked.with(&format!("Authorization: Bearer {token}")));
    assert_eq!(answer.status, 202, "{answer:?}");
    vm.wait_for_end(BOOT);
}

fn slot(vm: &Vm, name: &str) -> Value {
    let state = vm.get("/api/v1/appliance").body;
    let slots = state["slots"].as_array().unwrap_or_else(|| panic!("{state}")).clone();
    slots.into_iter().find(|slot| slot["name"] == name).unwrap()
}

/// The Pod is there with its data, and this version of it.
pub fn serves(vm: &Vm, version: &str) {
    vm.pod_serves();
    assert_eq!(vm.get("/api/v1/appliance").body["version"], version);
    assert_eq!(vm.log_in(ADMIN, PASSWORD).status, 200);
}

#[test]
fn a_pod_is_upgraded_again_and_again_and_keeps_its_data() {
    let releases = [Release::of("1.0.0", &[]), Release::of("1.1.0", &[])];
    let disk = Kept::of(&releases[0].image, DISK);
    let start = || Machine::firmware(&releases[0].image).on(&disk).deadline(LIFE).start();
    let vm = start();
    vm.pod_serves();
    vm.make_admin();
    serves(&vm, "1.0.0");
    assert_eq!(slot(&vm, "a")["trust"], "blessed");
    let armed = install(&vm, &releases[1]);
    assert_eq!(armed["outcome"], "armed", "{armed}");
    reboot(vm);

    let vm = start();
    serves(&vm, "1.1.0");
    assert_eq!(slot(&vm, "b")["trust"], "trial");
    vm.wait_for("in slot b is blessed", BLESSED_WITHIN);
    let new = slot(&vm, "b");
    assert_eq!((&new["trust"], &new["running"]), (&"blessed".into(), &true.into()), "{new}");
}
