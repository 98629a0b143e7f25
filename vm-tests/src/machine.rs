//! A machine to be: which image, booted how, with how much memory, and what is broken in it.

use std::os::fd::OwnedFd;
use std::path::{Path, PathBuf};
use std::process::Command;
use std::time::Duration;

use anyhow::{Context, Result};

use crate::disk::{self, Disk, Kept};
use crate::images::Image;
use crate::peer::{self, Peer};
use crate::uki::BootFiles;
use crate::vm::Vm;

/// Debian's package `ovmf`.
const FIRMWARE: &str = "/usr/share/OVMF/OVMF_CODE_4M.fd";
const FIRMWARE_VARIABLES: &str = "/usr/share/OVMF/OVMF_VARS_4M.fd";
const QEMU: &str = "qemu-system-x86_64";
/// Never KVM: what tests see must not depend on where they run. Without cx16, since QEMU 7.2 now
/// and then breaks a 6.12 guest with it.
const ALWAYS: [&str; 11] = [
    "-accel",
    "tcg",
    "-cpu",
    "max,-cx16",
    "-machine",
    "q35",
    "-nodefaults",
    "-no-user-config",
    "-display",
    "none",
    "-device",
];
/// Bytes of a disk, unless the story wants others.
pub const DISK: u64 = 2 << 30;
/// The port of the guest that clients connect to.
pub const XMPP: u16 = 5222;
/// The port of its web front.
pub const HTTP: u16 = 3030;
/// The port at which its services speak to the Server: nobody outside shall reach it.
pub const INTERNAL: u16 = 5280;
/// The port at which the layer `test-trigger` waits.
pub const TRIGGER: u16 = 7777;
/// Ports of the guest that this host has a way to.
pub(crate) const FORWARDED: [u16; 4] = [XMPP, HTTP, INTERNAL, TRIGGER];

/// How the kernel gets started.
#[derive(Debug, Clone)]
enum Boot {
    /// By QEMU: seconds faster, and the story may change the initrd.
    Direct(BootFiles),
    /// By UEFI firmware and systemd-boot, as on a real machine.
    Firmware,
}

/// What the machine's network card is plugged into.
#[derive(Debug, Clone)]
enum Network {
    /// QEMU's own network, with its DHCP server; this host reaches the Server.
    Qemus,
    /// Nobody else is there.
    Silent,
    /// The harness's own.
    Peer(Peer),
}

/// What will be started; see [`Machine::start`].
#[derive(Debug, Clone)]
pub struct Machine {
    image: PathBuf,
    boot: Boot,
    memory: u32,
    /// Bytes of a disk; in the image's there would be no room for data.
    disk_size: u64,
    /// The first disk, if it outlives the machine.
    kept: Option<PathBuf>,
    /// How many disks hold a copy of the image.
    copies: usize,
    /// Bytes of the first disk in which a bit is flipped.
    flips: Vec<u64>,
    network: Network,
    /// What the clock with the battery says at the start.
    clock: Option<&'static str>,
    trace_reads: bool,
    log_writes: bool,
    /// Does firmware look for a system in the network, too?
    network_boot: bool,
    /// Does it go on after a reset?
    reboots: bool,
    /// Trouble that the story causes itself.
    pub(crate) expected: Vec<&'static str>,
    /// Killed when it is older.
    pub(crate) deadline: Duration,
}

impl Machine {
    /// Kernel, initrd and command line are taken out of the image and started by QEMU.
    pub fn direct(image: &Image) -> Machine {
        let boot = BootFiles::of(&image.disk).unwrap_or_else(|error| panic!("{error:#}"));
        Machine::new(image, Boot::Direct(boot))
    }

    /// The firmware finds the loader on the disk.
    pub fn firmware(image: &Image) -> Machine {
        Machine::new(image, Boot::Firmware)
    }

    fn new(image: &Image, boot: Boot) -> Machine {
        Machine {
            image: image.disk.clone(),
            boot,
            memory: 512,
            disk_size: DISK,
            kept: None,
            copies: 1,
            flips: vec![],
            network: Network::Qemus,
            clock: None,
            trace_reads: false,
            log_writes: false,
            network_boot: false,
            reboots: false,
            expected: vec![],
            deadline: Duration::from_secs(120),
        }
    }

    /// With so many MiB of memory.
    pub fn memory(self, memory: u32) -> Machine {
        Machine { memory, ..self }
    }

    /// With more words on the kernel's command line. For direct boots.
    pub fn say(mut self, words: &str) -> Machine {
        let Boot::Direct(files) = &mut self.boot else { panic!("firmware has its own words") };
        files.cmdline = format!("{} {words}", files.cmdline);
        self
    }

    /// On the disk in this file: bytes of a disk, or QEMU's own format if its name ends in that.
    pub fn on_file(self, file: &Path) -> Machine {
        Machine { kept: Some(file.to_owned()), ..self }
    }

    /// On this disk, which was made of the same image, or of another with slots of the same size.
    pub fn on(self, disk: &Kept) -> Machine {
        Machine { kept: Some(disk.path().to_owned()), ..self }
    }

    /// With a card that is plugged into nothing.
    pub fn without_network(self) -> Machine {
        Machine { network: Network::Silent, ..self }
    }

    /// With a card that is plugged into this neighbour; this host doesn't reach the Server.
    pub fn peer(self, peer: Peer) -> Machine {
        Machine { network: Network::Peer(peer), ..self }
    }

    /// The clock with the battery starts at this date: `1970-01-01T00:00:00`.
    pub fn clock(self, date: &'static str) -> Machine {
        Machine { clock: Some(date), ..self }
    }

    /// With a second disk that holds the same.
    pub fn second_copy(self) -> Machine {
        Machine { copies: 2, ..self }
    }

    /// With one bit flipped in the byte at `offset` of the disk.
    pub fn flip(mut self, offset: u64) -> Machine {
        self.flips.push(offset);
        self
    }

    /// With another initrd. For direct boots.
    pub fn change_initrd(mut self, change: impl FnOnce(&[u8]) -> Result<Vec<u8>>) -> Machine {
        let Boot::Direct(files) = &mut self.boot else { panic!("firmware reads its own initrd") };
        files.initrd = change(&files.initrd).unwrap_or_else(|error| panic!("{error:#}"));
        self
    }

    /// Notes what is read from the disk; see [`Vm::reads`].
    pub fn trace_reads(self) -> Machine {
        Machine { trace_reads: true, ..self }
    }

    /// Logs what is written to its first disk, a kept one; see [`Kept::writes`].
    pub fn log_writes(self) -> Machine {
        Machine { log_writes: true, ..self }
    }

    /// Its firmware looks for a system in the network when the disks have none.
    pub fn network_boot(self) -> Machine {
        Machine { network_boot: true, ..self }
    }

    /// A reset starts it again, in place of ending it.
    pub fn reboots(self) -> Machine {
        Machine { reboots: true, ..self }
    }

    /// This part of a line of the denylist is what the story is about.
    pub fn expect(mut self, trouble: &'static str) -> Machine {
        self.expected.push(trouble);
        self
    }

    /// Killed when it is older than that, in place of 120 s.
    pub fn deadline(self, deadline: Duration) -> Machine {
        Machine { deadline, ..self }
    }

    /// Starts it, once no other VM runs.
    pub fn start(self) -> Vm {
        Vm::start(self).unwrap_or_else(|error| panic!("{error:#}"))
    }

    /// Makes its disks and files in `folder`; returns the command that runs it. QMP is the socket
    /// at its standard input, the console the one at its standard output, and the neighbour, if it
    /// has one, at the other end of `cable`.
    pub(crate) fn prepare(&self, folder: &Path, cable: Option<&OwnedFd>) -> Result<Command> {
        // It dies with the thread that started it, even if that is killed.
        let mut command = Command::new("setpriv");
        command.args(["--pdeathsig", "KILL", QEMU]).args(ALWAYS).arg("virtio-rng-pci");
        command.args(["-m", &self.memory.to_string()]);
        match &self.boot {
            Boot::Direct(files) => direct(&mut command, files, folder)?,
            Boot::Firmware => firmware(&mut command, folder)?,
        }
        if !self.reboots {
            command.arg("-no-reboot");
        }
        if let Some(date) = self.clock {
            command.args(["-rtc", &format!("base={date}")]);
        }
        for number in 0..self.copies {
            let file = self.disk(number, folder)?;
            let mut device = format!("virtio-blk-pci,drive=disk{number},bootindex={}", number + 1);
            if number == 0 && self.log_writes {
                logged(&mut command, &file)?;
                device += UNABRIDGED;
            } else {
                let file = escaped(&file);
                let format = if file.ends_with(".qcow2") { "qcow2" } else { "raw" };
                let drive = format!("if=none,id=disk{number},format={format},file={file}");
                command.args(["-drive", &drive]);
            }
            command.args(["-device", &device]);
        }
        let last = if self.network_boot {
            format!(",bootindex={}", self.copies + 1)
        } else {
            String::new()
        };
        command.args(["-device", &format!("virtio-net-pci,netdev=net,romfile={last}")]);
        if self.trace_reads {
            let log = folder.join(READS).display().to_string();
            command.args(["-trace", "blk_co_preadv", "-D", &log]);
        }
        let network = match self.network {
            Network::Qemus => {
                let forward = |port| format!(",hostfwd=tcp:127.0.0.1:0-:{port}");
                format!("user,id=net{}", FORWARDED.map(forward).concat())
            }
            Network::Silent | Network::Peer(_) => "hubport,id=net,hubid=0".to_owned(),
        };
        // A replay has no neighbour.
        let script = replay(&command, &network);
        disk::write(&folder.join("replay.sh"), script.as_bytes())?;
        command.arg("-netdev").arg(cable.map_or(network, |cable| peer::option("net", cable)));
        command.args(["-chardev", "socket,id=qmp,fd=0", "-mon", "chardev=qmp,mode=control"]);
        command.args(["-chardev", "socket,id=console,fd=1", "-serial", "chardev:console"]);
        Ok(command)
    }

    /// The disk of this number, made if it isn't there.
    fn disk(&self, number: usize, folder: &Path) -> Result<PathBuf> {
        if let (0, Some(kept)) = (number, &self.kept) {
            return Ok(kept.clone());
        }
        let disk = Disk::copy(&self.image, folder.join(format!("disk{number}.img")))?;
        disk.grow(self.disk_size)?;
        let flips = if number == 0 { self.flips.as_slice() } else { &[] };
        flips.iter().try_for_each(|offset| disk.flip(*offset))?;
        Ok(disk.path().to_owned())
    }

    /// Does this host reach it?
    pub(crate) fn is_reachable(&self) -> bool {
        matches!(self.network, Network::Qemus)
    }

    /// The neighbour to be.
    pub(crate) fn neighbour(&self) -> Option<&Peer> {
        match &self.network {
            Network::Peer(peer) => Some(peer),
            Network::Qemus | Network::Silent => None,
        }
    }
}

/// The file of a VM's folder that lists what was read from its disk.
pub(crate) const READS: &str = "reads.txt";

fn direct(command: &mut Command, files: &BootFiles, folder: &Path) -> Result<()> {
    let (kernel, initrd) = (folder.join("kernel"), folder.join("initrd"));
    disk::write(&kernel, &files.kernel)?;
    disk::write(&initrd, &files.initrd)?;
    command.arg("-kernel").arg(kernel).arg("-initrd").arg(initrd);
    command.args(["-append", &files.cmdline]);
    Ok(())
}

fn firmware(command: &mut Command, folder: &Path) -> Result<()> {
    let variables = folder.join("variables.fd");
    std::fs::copy(FIRMWARE_VARIABLES, &variables)
        .with_context(|| format!("cannot copy {FIRMWARE_VARIABLES}\nhint: install ovmf"))?;
    let code = format!("if=pflash,unit=0,format=raw,readonly=on,file={FIRMWARE}");
    let variables = format!("if=pflash,unit=1,format=raw,file={}", escaped(&variables));
    command.args(["-drive", &code, "-drive", &variables]);
    Ok(())
}

/// Of a disk whose writes are logged: each request of the guest by itself (merged, it may have one
/// part more than the log's file takes), zeros written as such (QEMU up to 8.2 spoils its log when a
/// request for zeros meets another), and nothing discarded.
const UNABRIDGED: &str = ",request-merging=off,write-zeroes=off,discard=off";

/// The disk 0 at `file` goes through QEMU's driver that logs writes and flushes, in their order.
fn logged(command: &mut Command, file: &Path) -> Result<()> {
    let log = disk::log_of(file);
    disk::write(&log, &[])?;
    let (file, log) = (escaped(file), escaped(&log));
    command.args(["-blockdev", &format!("driver=file,node-name=file0,filename={file}")]);
    command.args(["-blockdev", &format!("driver=file,node-name=log0,filename={log}")]);
    let driver = "driver=blklogwrites,node-name=disk0,file=file0,log=log0,log-sector-size=512";
    command.args(["-blockdev", driver]);
    Ok(())
}

/// QEMU's options end at a comma, unless it is doubled.
fn escaped(path: &Path) -> String {
    path.display().to_string().replace(',', ",,")
}

/// A script that starts the same machine for a person, on the disk as the story left it.
fn replay(command: &Command, network: &str) -> String {
    let quoted =
        |word: &std::ffi::OsStr| format!("'{}'", word.to_string_lossy().replace('\'', r"'\''"));
    // Without setpriv and its two arguments: it shall not die with anything.
    let words: Vec<String> = command.get_args().skip(2).map(quoted).collect();
    let words = words.join(" ");
    format!("#!/bin/sh\nexec {words} -netdev {network} -serial mon:stdio \"$@\"\n")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_replay_quotes_what_a_shell_would_act_on() {
        let mut command = Command::new("setpriv");
        command.args(["--pdeathsig", "KILL", "qemu", "-append", "a b=$c 'd'"]);
        let expected = "#!/bin/sh\nexec 'qemu' '-append' 'a b=$c '\\''d'\\''' -netdev user,id=net \
                        -serial mon:stdio \"$@\"\n";
        assert_eq!(replay(&command, "user,id=net"), expected);
    }

    #[test]
    fn a_path_cannot_end_an_option() {
        assert_eq!(escaped(Path::new("/a,b")), "/a,,b");
    }
}
