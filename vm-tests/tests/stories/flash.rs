//! An image comes onto a disk as an operator puts it there, and boots from that.

use std::fs;
use std::path::Path;

use vm_tests::disk::Kept;
use vm_tests::images::{Image, POD, Tools, recipes, run};
use vm_tests::machine::{DISK, Machine};
use vm_tests::scratch::bounded;
use vm_tests::{BOOT, SOON};

/// Seconds that `stele` may take.
const WITHIN: u32 = 300;
const MIB: u64 = 1 << 20;
const MADE: &str = "data: file system of";
const READY: &str = "stele-init: service prosody: ready";

/// Whatever was on the disk, a first boot finds nothing that it would have to refuse.
#[test]
fn a_flashed_disk_that_had_another_life_boots() {
    let image = Image::release();
    let length = fs::metadata(&image.disk).unwrap().len();
    let everywhere: Vec<u64> = (0..DISK / MIB).map(|mib| mib * MIB + 1024).collect();
    let disk = Kept::used(DISK, &[0x53; 4096], &everywhere);
    disk.had_another_table((length + 300 * MIB) / 512, DISK / 512 - 100).unwrap();
    let stele = &Tools::find().unwrap().stele;
    let mut flash = bounded(stele, WITHIN);
    run(flash.args(["flash", "--yes"]).arg(&image.disk).arg(disk.path()), "flash").unwrap();
    let vm = Machine::firmware(&image).on(&disk).start();
    vm.wait_for(MADE, BOOT);
    vm.wait_for(READY, BOOT);
    vm.power_off(SOON);
}

/// The image stays as it is below a larger disk, as a hypervisor would have it.
#[test]
fn an_image_in_qemus_own_format_boots() {
    let folder = tempfile::tempdir().unwrap();
    let tools = Tools::find().unwrap();
    let mut build = bounded(&tools.stele, WITHIN);
    build.args(["build", "--format", "qcow2", "--out"]).arg(folder.path());
    build.arg("--programs").arg(&tools.programs);
    run(build.arg(recipes().join(format!("{POD}.toml"))), "build").unwrap();
    let is_image = |path: &Path| path.extension().is_some_and(|extension| extension == "qcow2");
    let mut files = fs::read_dir(folder.path()).unwrap().map(|entry| entry.unwrap().path());
    let image = files.find(|path| is_image(path)).unwrap();
    let before = fs::read(&image).unwrap();
    let disk = folder.path().join("disk.qcow2");
    let mut create = bounded("qemu-img", WITHIN);
    create.args(["create", "-q", "-f", "qcow2", "-F", "qcow2", "-b"]).arg(&image).arg(&disk);
    run(create.arg(DISK.to_string()), "make a disk").unwrap();
    let vm = Machine::firmware(&Image::release()).on_file(&disk).start();
    vm.wait_for(MADE, BOOT);
    vm.wait_for(READY, BOOT);
    vm.power_off(SOON);
    assert!(fs::read(image).unwrap() == before);
}
