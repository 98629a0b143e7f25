//! QEMU's arguments. Everything is said, nothing is left to QEMU's defaults or to files of the
//! user's (`-nodefaults`, `-no-user-config`).

use crate::architecture::Architecture;
use crate::qemu::accelerator::Accelerator;
use crate::qemu::ports::Forward;

/// A machine that boots an image.
#[derive(Debug)]
pub struct Machine<'a> {
    /// What its processor is.
    pub architecture: Architecture,
    /// What runs its processor.
    pub accelerator: Accelerator,
    /// Its memory in MiB.
    pub memory: u32,
    /// How many processors it has.
    pub cpus: u32,
    /// Its disk, by its absolute path.
    pub disk: &'a str,
    /// Does the disk outlive the guest?
    pub is_kept: bool,
    /// Its ports that are reached from this host.
    pub forwards: &'a [Forward],
    /// What starts it.
    pub boot: Boot,
    /// The socket at which QEMU takes orders.
    pub monitor: &'a str,
}

/// What starts a machine. All paths are absolute.
#[derive(Debug)]
pub enum Boot {
    /// QEMU loads kernel and initrd itself.
    Direct {
        /// The kernel's file.
        kernel: String,
        /// The initrd's file.
        initrd: String,
        /// The command line.
        cmdline: String,
    },
    /// UEFI firmware finds the loader on the disk.
    Firmware {
        /// The file of its code.
        code: String,
        /// The file of its variables, which it writes.
        vars: String,
    },
}

/// Starts `machine`. Its serial console is QEMU's standard output.
pub fn arguments(machine: &Machine<'_>) -> Vec<String> {
    let Machine { architecture, accelerator, memory, cpus, .. } = *machine;
    let mut arguments = bare(architecture, accelerator, memory);
    let mut add = |option: &str, value: String| arguments.extend([option.to_owned(), value]);
    add("-smp", cpus.to_string());
    match &machine.boot {
        Boot::Direct { kernel, initrd, cmdline } => {
            add("-kernel", kernel.clone());
            add("-initrd", initrd.clone());
            add("-append", cmdline.clone());
        }
        Boot::Firmware { code, vars } => {
            let flash = |unit, rest, file| {
                format!("if=pflash,format=raw,unit={unit}{rest},file={}", escaped(file))
            };
            add("-drive", flash(0, ",readonly=on", code));
            add("-drive", flash(1, "", vars));
        }
    }
    // What nobody keeps need not get as far as the host's own disk.
    let cache = if machine.is_kept { "writeback" } else { "unsafe" };
    let disk = escaped(machine.disk);
    add("-drive", format!("if=none,id=disk,format=raw,cache={cache},file={disk}"));
    // Before the network. Place 0 is that of a kernel that QEMU loads.
    add("-device", "virtio-blk-pci,drive=disk,bootindex=1".to_owned());
    add("-netdev", network(machine.forwards));
    // Without a ROM for booting from the network, which nobody needs and not every host has.
    add("-device", "virtio-net-pci,netdev=net,romfile=".to_owned());
    add("-device", "virtio-rng-pci".to_owned());
    let monitor = escaped(machine.monitor);
    add("-chardev", format!("socket,id=monitor,server=on,wait=off,path={monitor}"));
    add("-mon", "chardev=monitor,mode=control".to_owned());
    arguments
}

/// Boots `kernel` with nothing: it says so on the serial console (standard output) and panics, and
/// QEMU ends by itself.
pub fn probe_arguments(
    architecture: Architecture,
    accelerator: Accelerator,
    kernel: &str,
) -> Vec<String> {
    let console = match architecture {
        Architecture::Amd64 => "ttyS0",
        Architecture::Arm64 => "ttyAMA0",
    };
    let mut arguments = bare(architecture, accelerator, PROBE_MEMORY);
    arguments.extend(
        ["-no-reboot", "-kernel", kernel, "-append", &format!("panic=-1 console={console}")]
            .map(str::to_owned),
    );
    arguments
}

/// MiB of memory of a probe: enough for any kernel, little for any host.
const PROBE_MEMORY: u32 = 256;

/// A machine with a processor, memory and a serial console, which is standard output. Ctrl-C isn't
/// QEMU's to catch.
fn bare(architecture: Architecture, accelerator: Accelerator, memory: u32) -> Vec<String> {
    use {Accelerator::*, Architecture::*};
    let machine = match architecture {
        Amd64 => "q35",
        Arm64 => "virt,gic-version=max",
    };
    let cpu = match (accelerator, architecture) {
        (Kvm, _) => "host",
        // TCG of QEMU 7.2 gets cmpxchg16b wrong now and then, and the guest's kernel panics.
        (Tcg, Amd64) => "max,-cx16",
        // Pointer authentication as the architecture has it is very slow to emulate.
        (Tcg, Arm64) => "max,pauth-impdef=on",
    };
    let memory = memory.to_string();
    let arguments = [
        "-no-user-config",
        "-nodefaults",
        "-display",
        "none",
        "-machine",
        machine,
        "-accel",
        accelerator.name(),
        "-cpu",
        cpu,
        "-m",
        &memory,
        "-chardev",
        "stdio,id=console,signal=off",
        "-serial",
        "chardev:console",
    ];
    arguments.map(str::to_owned).to_vec()
}

fn network(forwards: &[Forward]) -> String {
    let forwards = forwards
        .iter()
        .map(|Forward { host, guest, .. }| format!(",hostfwd=tcp:127.0.0.1:{host}-:{guest}"));
    format!("user,id=net,restrict=off{}", forwards.collect::<String>())
}

/// In an option of QEMU's, a comma of a path is written twice.
fn escaped(path: &str) -> String {
    path.replace(',', ",,")
}

#[cfg(test)]
mod tests {
    use super::*;

    fn line(architecture: Architecture, accelerator: Accelerator, boot: Boot) -> String {
        let forward = |host, guest| Forward { host, guest, instead: None };
        let forwards = [forward(40001, 5222), forward(3030, 3030)];
        let machine = Machine {
            architecture,
            accelerator,
            memory: 512,
            cpus: 2,
            disk: "/a,b.img",
            is_kept: accelerator == Accelerator::Kvm,
            forwards: &forwards,
            boot,
            monitor: "/t/monitor",
        };
        arguments(&machine).join(" ")
    }

    #[test]
    fn a_machine_is_what_was_asked_for() {
        let direct = || Boot::Direct {
            kernel: "/t/linux".into(),
            initrd: "/t/initrd".into(),
            cmdline: "gpt x,y".into(),
        };
        let firmware = || Boot::Firmware { code: "/c,d".into(), vars: "/t/vars".into() };
        let (amd64, arm64) = (Architecture::Amd64, Architecture::Arm64);
        let rows = [
            (
                line(amd64, Accelerator::Tcg, direct()),
                vec![
                    "-machine q35 -accel tcg -cpu max,-cx16 -m 512",
                    "-smp 2 -kernel /t/linux -initrd /t/initrd -append gpt x,y",
                    "-drive if=none,id=disk,format=raw,cache=unsafe,file=/a,,b.img",
                    "hostfwd=tcp:127.0.0.1:40001-:5222,hostfwd=tcp:127.0.0.1:3030-:3030",
                    "path=/t/monitor",
                ],
            ),
            (
                line(amd64, Accelerator::Kvm, direct()),
                vec!["-accel kvm -cpu host", "cache=writeback"],
            ),
            (
                line(amd64, Accelerator::Tcg, firmware()),
                vec![
                    "-drive if=pflash,format=raw,unit=0,readonly=on,file=/c,,d",
                    "-drive if=pflash,format=raw,unit=1,file=/t/vars",
                ],
            ),
            (
                line(arm64, Accelerator::Tcg, direct()),
                vec!["-machine virt,gic-version=max -accel tcg -cpu max,pauth-impdef=on"],
            ),
        ];
        for (line, parts) in rows {
            for part in parts {
                assert!(line.contains(part), "{part} is not in {line}");
            }
        }
        assert!(!line(amd64, Accelerator::Tcg, firmware()).contains("-kernel"));
    }

    #[test]
    fn a_probe_has_no_disk_and_does_not_start_again() {
        let line = probe_arguments(Architecture::Arm64, Accelerator::Kvm, "/t/linux").join(" ");
        assert!(line.ends_with("-no-reboot -kernel /t/linux -append panic=-1 console=ttyAMA0"));
        assert!(!line.contains("-drive") && !line.contains("-initrd"), "{line}");
    }
}
