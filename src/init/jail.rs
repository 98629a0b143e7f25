//! What a service sees of the machine: a root of its own, made between fork and exec.
//!
//! | path | what is there |
//! |---|---|
//! | `/` | the appliance's root, read-only; where volumes would be, empty directories |
//! | granted volumes | the volume, read-only or writable |
//! | `/proc` | its own user's processes, and nothing but processes |
//! | `/sys` | nothing |
//! | `/dev` | `null zero full random urandom`, and a `shm` of its own |
//! | `/tmp` | its own, gone with its last process |
//! | `/run` | its own runtime directories, `net` (`resolv.conf`, `hosts`), `notify`, what is granted, init's socket if it may ask |
//!
//! [`plan`] decides which system calls make it, [`Jail::enter`] does them in the child, where
//! nothing may be allocated.

use std::ffi::{CStr, CString};
use std::fs::{self, Permissions};
use std::os::unix::fs::{PermissionsExt as _, symlink};

use appliance::control::CONTROL_SOCKET;
use appliance::service::{Access, Service};
use nix::errno::Errno;
use nix::mount::{MntFlags, MsFlags, mount, umount2};
use nix::sched::{CloneFlags, unshare};
use nix::sys::stat::{Mode, SFlag, makedev, mknod};
use nix::unistd::{chdir, mkdir, pivot_root};

use crate::credentials;
use crate::mounts::make_folder;
use crate::network;
use crate::notify;
use appliance::failure::{Failure, OrCannot as _};

/// Where the new root is put together, in the child's own namespace: for everybody else it stays an
/// empty directory.
const PLACE: &str = "/run/stele/jail";
/// A `/dev` that all services share, and none can change.
const DEVICES: &str = "/run/stele/devices";

/// Name and minor number of the memory devices (major 1) that a service gets.
const NODES: [(&str, u64); 5] =
    [("null", 3), ("zero", 5), ("full", 7), ("random", 8), ("urandom", 9)];
const LINKS: [(&str, &str); 4] = [
    ("fd", "/proc/self/fd"),
    ("stdin", "/proc/self/fd/0"),
    ("stdout", "/proc/self/fd/1"),
    ("stderr", "/proc/self/fd/2"),
];

const BARE: MsFlags = MsFlags::MS_NOSUID.union(MsFlags::MS_NODEV).union(MsFlags::MS_NOEXEC);
const READ_ONLY: MsFlags = BARE.union(MsFlags::MS_RDONLY);
/// Programs run from the root alone.
const ROOT: MsFlags = MsFlags::MS_NOSUID.union(MsFlags::MS_NODEV).union(MsFlags::MS_RDONLY);
const DEVICE_FLAGS: MsFlags =
    MsFlags::MS_NOSUID.union(MsFlags::MS_NOEXEC).union(MsFlags::MS_RDONLY);

/// Processes that it might trace, and nothing else. (`invisible` makes an exception for group 0.)
const PROCESSES: &str = "hidepid=ptraceable,subset=pid";
/// What is written there counts as the service's memory; this bounds it further.
const SCRATCH: &str = "mode=1777,size=10%,nr_inodes=16k";
const RUN: &str = "mode=0755,size=64k,nr_inodes=256";

/// Everything that a process of its own needs apart, besides its mounts: System V's shared memory,
/// the machine's name, the names of cgroups. The network is everybody's.
const NAMESPACES: CloneFlags = CloneFlags::CLONE_NEWNS
    .union(CloneFlags::CLONE_NEWIPC)
    .union(CloneFlags::CLONE_NEWUTS)
    .union(CloneFlags::CLONE_NEWCGROUP);
/// A network of its own, with nothing in it.
const NO_NETWORK: CloneFlags = CloneFlags::CLONE_NEWNET;

/// One system call, with all that it takes. Paths of the new root are relative to it.
#[derive(Debug, Clone, PartialEq, Eq)]
enum Deed {
    /// Namespaces of its own.
    Unshare(CloneFlags),
    /// `mount(2)`.
    Mount {
        source: Option<CString>,
        target: CString,
        kind: Option<CString>,
        flags: MsFlags,
        options: Option<CString>,
    },
    /// `mkdir(2)`.
    Folder(CString),
    /// `mknod(2)`: an empty file, to mount a socket on.
    File(CString),
    /// `chdir(2)`.
    Enter(CString),
    /// The current directory becomes the root, and the old root is nowhere any more.
    Pivot,
}

/// Ready to be entered, as often as it takes.
#[derive(Debug)]
pub struct Jail(Vec<Deed>);

/// Makes what all jails are made of. Once, before the first service.
pub fn set_up() -> Result<(), Failure> {
    make_folder("/run/stele")?;
    make_folder(PLACE)?;
    make_folder(DEVICES)?;
    let what = format_args!("make the devices of services at {DEVICES}");
    let flags = MsFlags::MS_NOSUID | MsFlags::MS_NOEXEC;
    mount(Some("tmpfs"), DEVICES, Some("tmpfs"), flags, Some(RUN)).or_cannot(what)?;
    for (name, minor) in NODES {
        let path = format!("{DEVICES}/{name}");
        // The mode is subject to the umask, which would take others' right to write.
        let bits = Mode::from_bits_truncate(0o666);
        mknod(path.as_str(), SFlag::S_IFCHR, bits, makedev(1, minor)).or_cannot(what)?;
        fs::set_permissions(&path, Permissions::from_mode(0o666)).or_cannot(what)?;
    }
    for (name, target) in LINKS {
        symlink(target, format!("{DEVICES}/{name}")).or_cannot(what)?;
    }
    make_folder(format!("{DEVICES}/shm"))
}

impl Jail {
    /// The jail of this service.
    pub fn new(service: &Service) -> Result<Jail, Failure> {
        Ok(Jail(plan(service).or_cannot(format_args!("plan the jail of {}", service.name))?))
    }

    /// The same without a network.
    pub fn alone(self) -> Jail {
        let mut deeds = self.0;
        deeds.insert(0, Deed::Unshare(NO_NETWORK));
        Jail(deeds)
    }

    /// In the child. Fails with the number of what failed, for [`Jail::deed`].
    pub fn enter(&self) -> Result<(), (u8, Errno)> {
        for (number, deed) in (0..=u8::MAX).zip(&self.0) {
            deed.perform().map_err(|errno| (number, errno))?;
        }
        Ok(())
    }

    /// What it was that failed.
    pub fn deed(&self, number: u8) -> String {
        let show = |path: &CStr| path.to_string_lossy().into_owned();
        match self.0.get(usize::from(number)) {
            Some(Deed::Unshare(_)) => "get namespaces of its own".into(),
            Some(Deed::Mount { target, .. }) => format!("mount {} in its jail", show(target)),
            Some(Deed::Folder(path)) => format!("make folder {} in its jail", show(path)),
            Some(Deed::File(path)) => format!("make file {} in its jail", show(path)),
            Some(Deed::Enter(path)) => format!("enter {}", show(path)),
            Some(Deed::Pivot) => "change its root".into(),
            None => "enter its jail".into(),
        }
    }
}

impl Deed {
    /// Nothing but system calls: no path is so long that nix would copy it to the heap.
    fn perform(&self) -> nix::Result<()> {
        match self {
            Deed::Unshare(namespaces) => unshare(*namespaces),
            Deed::Mount { source, target, kind, flags, options } => mount(
                source.as_deref(),
                target.as_c_str(),
                kind.as_deref(),
                *flags,
                options.as_deref(),
            ),
            Deed::Folder(path) => mkdir(path.as_c_str(), Mode::from_bits_truncate(0o755)),
            Deed::File(path) => {
                mknod(path.as_c_str(), SFlag::S_IFREG, Mode::from_bits_truncate(0o644), 0)
            }
            Deed::Enter(path) => chdir(path.as_c_str()),
            Deed::Pivot => {
                // The old root comes to lie over the new one, and is taken off.
                pivot_root(c".", c".")?;
                umount2(c".", MntFlags::MNT_DETACH)?;
                chdir(c"/")
            }
        }
    }
}

/// The calls, in order.
fn plan(service: &Service) -> Result<Vec<Deed>, std::ffi::NulError> {
    let mut plan = Plan(vec![Deed::Unshare(NAMESPACES)]);
    // From here on nothing that is mounted shows outside, nor the other way round.
    plan.mount(None, "/", None, MsFlags::MS_REC | MsFlags::MS_PRIVATE, None)?;
    // Without what is mounted on it: volumes, devices, processes, run.
    plan.bind("/", PLACE, ROOT)?;
    plan.0.push(Deed::Enter(CString::new(PLACE)?));
    plan.fresh("proc", "proc", PROCESSES)?;
    plan.bind(DEVICES, "dev", DEVICE_FLAGS)?;
    plan.fresh("tmpfs", "dev/shm", SCRATCH)?;
    plan.fresh("tmpfs", "tmp", SCRATCH)?;
    plan.fresh("tmpfs", "run", RUN)?;
    plan.folder_of(network::resolver::FOLDER, READ_ONLY)?;
    if service.gate.is_some() {
        plan.0.push(Deed::Folder(CString::new(inside(credentials::FOLDER))?));
        let folder = credentials::folder_of(&service.name);
        plan.bind(&folder.to_string_lossy(), inside(credentials::FOLDER), READ_ONLY)?;
    }
    if let Some(folder) = notify::folder_of(service) {
        plan.0.push(Deed::Folder(CString::new("run/notify")?));
        plan.bind(&folder, "run/notify", READ_ONLY)?;
    }
    for path in &service.runtime {
        plan.folder_of(path, BARE)?;
    }
    for (path, access) in &service.grants {
        let flags = match access {
            Access::Read => READ_ONLY,
            Access::Write => BARE,
        };
        match path.starts_with("/run/") {
            true if service.runtime.contains(path) => {}
            true => plan.folder_of(path, flags)?,
            // The image has an empty directory there.
            false => plan.bind(path, inside(path), flags)?,
        }
    }
    if !service.control.is_empty() {
        plan.0.push(Deed::Folder(CString::new("run/stele")?));
        plan.0.push(Deed::File(CString::new(inside(CONTROL_SOCKET))?));
        plan.bind(CONTROL_SOCKET, inside(CONTROL_SOCKET), READ_ONLY)?;
    }
    let sealed = MsFlags::MS_BIND | MsFlags::MS_REMOUNT | READ_ONLY;
    plan.mount(None, "run", None, sealed, None)?;
    plan.0.push(Deed::Pivot);
    Ok(plan.0)
}

/// A path of the new root, while that isn't the root yet.
fn inside(path: &str) -> &str {
    path.trim_start_matches('/')
}

struct Plan(Vec<Deed>);

impl Plan {
    fn mount(
        &mut self,
        source: Option<&str>,
        target: &str,
        kind: Option<&str>,
        flags: MsFlags,
        options: Option<&str>,
    ) -> Result<(), std::ffi::NulError> {
        let owned = |text: Option<&str>| text.map(CString::new).transpose();
        self.0.push(Deed::Mount {
            source: owned(source)?,
            target: CString::new(target)?,
            kind: owned(kind)?,
            flags,
            options: owned(options)?,
        });
        Ok(())
    }

    /// A file system of its own, empty.
    fn fresh(&mut self, kind: &str, target: &str, options: &str) -> Result<(), std::ffi::NulError> {
        self.mount(Some(kind), target, Some(kind), BARE, Some(options))
    }

    /// What is at a place, at another. A bind mount takes its own flags only when mounted again.
    fn bind(
        &mut self,
        source: &str,
        target: &str,
        flags: MsFlags,
    ) -> Result<(), std::ffi::NulError> {
        self.mount(Some(source), target, None, MsFlags::MS_BIND, None)?;
        self.mount(None, target, None, MsFlags::MS_BIND | MsFlags::MS_REMOUNT | flags, None)
    }

    /// A directory of `/run`, at the same path; or one of init's own, in `/run/stele`.
    fn folder_of(&mut self, path: &str, flags: MsFlags) -> Result<(), std::ffi::NulError> {
        let above = path.match_indices('/').map(|(at, _)| path.get(..at).unwrap_or_default());
        let above = above.filter(|folder| !matches!(*folder, "" | "/run"));
        for folder in above.chain([path]) {
            self.0.push(Deed::Folder(CString::new(inside(folder))?));
        }
        self.bind(path, inside(path), flags)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::worker::tests::service;
    use appliance::control::VerbName;

    /// Where something from outside is mounted, and whether it can be written there.
    fn shown(service: &Service) -> Vec<(String, String, bool)> {
        let deeds = plan(service).unwrap();
        let path = |path: &CString| path.to_str().unwrap().to_owned();
        let binds = deeds.iter().zip(deeds.iter().skip(1));
        binds
            .filter_map(|pair| match pair {
                (
                    Deed::Mount { source: Some(source), target, flags: MsFlags::MS_BIND, .. },
                    Deed::Mount { target: again, flags, .. },
                ) => {
                    assert_eq!(target, again);
                    assert!(flags.contains(MsFlags::MS_REMOUNT | MsFlags::MS_NOSUID));
                    let is_writable = !flags.contains(MsFlags::MS_RDONLY);
                    Some((path(source), path(target), is_writable))
                }
                _ => None,
            })
            .collect()
    }

    fn row(source: &str, target: &str, is_writable: bool) -> (String, String, bool) {
        (source.into(), target.into(), is_writable)
    }

    #[test]
    fn a_service_that_is_granted_nothing_sees_nothing_that_is_kept() {
        let base = vec![
            row("/", PLACE, false),
            row(DEVICES, "dev", false),
            row("/run/net", "run/net", false),
        ];
        assert_eq!(shown(&service("a")), base);
    }

    #[test]
    fn a_granted_folder_of_inits_own_is_at_its_own_path() {
        let mut service = service("a");
        service.grants = [("/run/stele/data/probe".into(), Access::Write)].into();
        let folders = plan(&service).unwrap().into_iter().filter_map(|deed| match deed {
            Deed::Folder(path) => path.into_string().ok().filter(|it| it.starts_with("run/stele")),
            _ => None,
        });
        let all = ["run/stele", "run/stele/data", "run/stele/data/probe"];
        assert_eq!(folders.collect::<Vec<_>>(), all);
    }

    #[test]
    fn grants_and_runtime_directories_are_shown() {
        let mut service = service("a");
        service.runtime = vec!["/run/a".into()];
        let grants =
            [("/etc/a", Access::Read), ("/run/b", Access::Read), ("/var/lib/a", Access::Write)];
        service.grants = grants.map(|(path, access)| (path.into(), access)).into();
        let expected = [
            row("/run/a", "run/a", true),
            row("/etc/a", "etc/a", false),
            row("/run/b", "run/b", false),
            row("/var/lib/a", "var/lib/a", true),
        ];
        assert_eq!(shown(&service)[3..], expected);
        service.control = [VerbName::State].into();
        service.grants = [("/run/stele/data".into(), Access::Write)].into();
        service.control.clear();
        let data = row("/run/stele/data", "run/stele/data", true);
        assert_eq!(shown(&service).last(), Some(&data));
        service.control = [VerbName::State].into();
        service.grants.clear();
        let socket = row(CONTROL_SOCKET, "run/stele/control.sock", false);
        assert_eq!(shown(&service).last(), Some(&socket));
        assert_eq!(plan(&service).unwrap().last(), Some(&Deed::Pivot));
    }
}
