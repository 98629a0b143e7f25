//! UEFI firmware for a guest: where distributions put it.

use std::path::Path;

use anyhow::{Result, bail};

use crate::architecture::Architecture;

/// Files of a firmware: its code, and the variables that a new machine has. Debian's places first,
/// then those of Arch, Fedora, openSUSE, and QEMU's own. None of them has Secure Boot turned on.
const AMD64: [(&str, &str); 7] = [
    ("/usr/share/OVMF/OVMF_CODE_4M.fd", "/usr/share/OVMF/OVMF_VARS_4M.fd"),
    ("/usr/share/OVMF/OVMF_CODE.fd", "/usr/share/OVMF/OVMF_VARS.fd"),
    ("/usr/share/edk2/x64/OVMF_CODE.4m.fd", "/usr/share/edk2/x64/OVMF_VARS.4m.fd"),
    ("/usr/share/edk2-ovmf/x64/OVMF_CODE.fd", "/usr/share/edk2-ovmf/x64/OVMF_VARS.fd"),
    ("/usr/share/edk2/ovmf/OVMF_CODE.fd", "/usr/share/edk2/ovmf/OVMF_VARS.fd"),
    ("/usr/share/qemu/ovmf-x86_64-4m-code.bin", "/usr/share/qemu/ovmf-x86_64-4m-vars.bin"),
    ("/usr/share/qemu/edk2-x86_64-code.fd", "/usr/share/qemu/edk2-i386-vars.fd"),
];
/// See [`AMD64`].
const ARM64: [(&str, &str); 5] = [
    ("/usr/share/AAVMF/AAVMF_CODE.no-secboot.fd", "/usr/share/AAVMF/AAVMF_VARS.fd"),
    ("/usr/share/AAVMF/AAVMF_CODE.fd", "/usr/share/AAVMF/AAVMF_VARS.fd"),
    (
        "/usr/share/edk2/aarch64/QEMU_EFI-pflash.raw",
        "/usr/share/edk2/aarch64/vars-template-pflash.raw",
    ),
    ("/usr/share/edk2/aarch64/QEMU_CODE.fd", "/usr/share/edk2/aarch64/QEMU_VARS.fd"),
    ("/usr/share/qemu/edk2-aarch64-code.fd", "/usr/share/qemu/edk2-arm-vars.fd"),
];

/// The first firmware for `architecture` both of whose files are there.
pub fn find(
    architecture: Architecture,
    is_there: impl Fn(&Path) -> bool,
) -> Result<(&'static Path, &'static Path)> {
    let (known, package): (&[(&'static str, &'static str)], _) = match architecture {
        Architecture::Amd64 => (&AMD64, "ovmf"),
        Architecture::Arm64 => (&ARM64, "qemu-efi-aarch64"),
    };
    let mut known = known.iter().map(|(code, vars)| (Path::new(*code), Path::new(*vars)));
    match known.find(|(code, vars)| is_there(code) && is_there(vars)) {
        Some(found) => Ok(found),
        None => bail!("no UEFI firmware is installed\nhint: apt-get install {package}"),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn firmware_is_found_with_its_variables_or_not_at_all() {
        let found = |architecture, there: &[&str]| {
            let found = find(architecture, |path| there.iter().any(|t| Path::new(t) == path));
            found.map(|(code, _)| code.display().to_string()).map_err(|error| error.to_string())
        };
        let old = ["/usr/share/OVMF/OVMF_CODE.fd", "/usr/share/OVMF/OVMF_VARS.fd"];
        assert_eq!(found(Architecture::Amd64, &old), Ok(old[0].to_owned()));
        let missing = "no UEFI firmware is installed\nhint: apt-get install ";
        assert_eq!(found(Architecture::Amd64, &old[..1]), Err(format!("{missing}ovmf")));
        assert_eq!(found(Architecture::Arm64, &old), Err(format!("{missing}qemu-efi-aarch64")));
    }
}
