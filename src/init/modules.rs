//! Kernel modules: loaded as they lie in Debian's packages, compressed, in the builder's order.

use std::fs::File;
use std::path::Path;

use nix::errno::Errno;
use nix::kmod::{ModuleInitFlags, finit_module};

use crate::log::notice;
use appliance::failure::{Failure, OrCannot as _};

/// `MODULE_INIT_COMPRESSED_FILE`, which nix has no name for.
const COMPRESSED: ModuleInitFlags = ModuleInitFlags::from_bits_retain(4);

/// Loads `name` of `folder`. One that is loaded already is fine, and so is one that finds no
/// hardware for it: the machine just has another processor or device.
pub fn load(folder: &str, name: &str) -> Result<(), Failure> {
    let what = format_args!("load module {name}");
    let file = File::open(Path::new(folder).join(name)).or_cannot(what)?;
    match finit_module(&file, c"", flags(name)) {
        Err(Errno::ENODEV) => notice!("module {name}: not for this machine"),
        Ok(()) | Err(Errno::EEXIST) => {}
        Err(errno) => return Err(Failure::new(what, errno)),
    }
    Ok(())
}

fn flags(name: &str) -> ModuleInitFlags {
    let is_compressed = [".xz", ".zst", ".gz"].iter().any(|suffix| name.ends_with(suffix));
    if is_compressed { COMPRESSED } else { ModuleInitFlags::empty() }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_kernel_is_told_which_modules_are_compressed() {
        for (name, bits) in [("a.ko", 0), ("a.ko.xz", 4), ("a.ko.zst", 4), ("xz.ko", 0)] {
            assert_eq!(flags(name).bits(), bits, "{name}");
        }
    }
}
