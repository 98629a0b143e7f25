//! The machines that Stele makes appliances for, and what each calls things.

use appliance::gpt::Guid;
use serde::Deserialize;

/// A machine that Stele knows how to boot.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Deserialize, clap::ValueEnum)]
#[serde(rename_all = "lowercase")]
pub enum Architecture {
    /// x86-64.
    Amd64,
    /// 64-bit ARM.
    Arm64,
}

impl Architecture {
    /// Debian's name.
    pub fn debian(self) -> &'static str {
        match self {
            Architecture::Amd64 => "amd64",
            Architecture::Arm64 => "arm64",
        }
    }

    /// Rust's name of the target that guest programs are built for.
    pub fn rust_target(self) -> &'static str {
        match self {
            Architecture::Amd64 => "x86_64-unknown-linux-gnu",
            Architecture::Arm64 => "aarch64-unknown-linux-gnu",
        }
    }

    /// The name of what firmware starts at UEFI's fallback path.
    pub fn efi_fallback(self) -> &'static str {
        match self {
            Architecture::Amd64 => "BOOTX64.EFI",
            Architecture::Arm64 => "BOOTAA64.EFI",
        }
    }

    /// The partition type of its root (Discoverable Partitions Specification).
    pub fn root_partition(self) -> Guid {
        match self {
            Architecture::Amd64 => Guid::ROOT_X86_64,
            Architecture::Arm64 => Guid::ROOT_ARM64,
        }
    }
}
