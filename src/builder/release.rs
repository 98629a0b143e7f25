//! From an assembled tree to the bytes of a release: root, hash tree, UKI, disk.

use anyhow::Result;
use appliance::boot::{INITRD_FILE, INITRD_MODULES, Initrd};
use appliance::hash::{Digest, Salt};
use appliance::verity::{self, Geometry};

use crate::assemble::Assembled;
use crate::image::cpio::{self, Member};
use crate::image::disk::{self, Disk, Sizes};
use crate::image::squashfs;
use crate::image::uki::{self, Parts};
use crate::lock::Lock;
use crate::plan::Plan;
use crate::programs::Programs;

/// All that the kernel is told besides what layers and recipe add: look at a backup partition
/// table too, and restart when nothing else is left.
const CMDLINE: [&str; 2] = ["gpt", "panic=1"];

/// Everything that is written out.
#[derive(Debug)]
pub struct Release {
    /// The root file system.
    pub root: Vec<u8>,
    /// What the initrd pins.
    pub geometry: Geometry,
    /// Kernel, initrd and command line in one file.
    pub uki: Vec<u8>,
    /// The disk image.
    pub disk: Disk,
}

/// Makes the release's bytes. Each line's result feeds the next.
pub fn make(
    plan: &Plan,
    lock: &Lock,
    assembled: &Assembled,
    programs: &Programs,
) -> Result<Release> {
    let root = squashfs::write(&assembled.tree, lock.clock.seconds())?;
    let salt = Salt(Digest::of(&root).0);
    let hashes = verity::tree(&root, &salt);
    let data_blocks = (root.len() / verity::BLOCK) as u64;
    let geometry = Geometry { root_hash: hashes.root_hash, salt, data_blocks };
    let initrd = initrd(assembled, &geometry, programs)?;
    let uki = uki(plan, assembled, &initrd)?;
    let sizes = &plan.recipe().image;
    let disk = Disk::new(&disk::Parts {
        name: plan.recipe().name.as_str(),
        architecture: plan.recipe().debian.architecture,
        sizes: Sizes { esp: sizes.esp.0, seed: sizes.seed.0, slot: sizes.slot.0 },
        first: &programs.loader,
        loader: &assembled.boot.loader,
        uki: &uki,
        root: &root,
        hashes: &hashes,
    })?;
    Ok(Release { root, geometry, uki, disk })
}

/// `stele-init`, the modules that it needs to see the disk, and the one root that it may open.
fn initrd(assembled: &Assembled, geometry: &Geometry, programs: &Programs) -> Result<Vec<u8>> {
    let modules = &assembled.boot.initrd;
    let pin = Initrd {
        modules: modules.iter().map(|(name, _)| name.clone()).collect(),
        root: geometry.clone(),
    };
    let pin = serde_json::to_string_pretty(&pin)? + "\n";
    let folder = INITRD_MODULES.trim_start_matches('/');
    let paths: Vec<String> = modules.iter().map(|(name, _)| format!("{folder}/{name}")).collect();
    let mut members = vec![
        Member { path: "init", mode: cpio::PROGRAM, content: &programs.init },
        Member {
            path: INITRD_FILE.trim_start_matches('/'),
            mode: cpio::FILE,
            content: pin.as_bytes(),
        },
        Member { path: folder, mode: cpio::DIRECTORY, content: &[] },
    ];
    for (path, (_, bytes)) in paths.iter().zip(modules) {
        members.push(Member { path, mode: cpio::FILE, content: bytes });
    }
    cpio::write(&members)
}

fn uki(plan: &Plan, assembled: &Assembled, initrd: &[u8]) -> Result<Vec<u8>> {
    let recipe = plan.recipe();
    let title = recipe.title.replace(['"', '\\', '$', '`', '\n'], "");
    let words = CMDLINE.iter().copied();
    let layers = plan.kernel.cmdline.iter().map(String::as_str);
    let own = recipe.boot.cmdline.iter().map(String::as_str);
    let cmdline: Vec<&str> = words.chain(layers).chain(own).collect();
    uki::write(
        &assembled.boot.stub,
        &Parts {
            os_release: &format!("PRETTY_NAME=\"{title} {}\"\n", recipe.version),
            cmdline: &cmdline.join(" "),
            release: &assembled.boot.release,
            kernel: &assembled.boot.kernel,
            initrd,
        },
    )
}
