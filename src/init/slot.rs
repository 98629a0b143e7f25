//! Finds the slot that holds the pinned root: the partition whose hash tree has the right top.
//!
//! No name or GUID of the partition table decides, so an upgrade never has to write there, and a
//! table that says something false leads nowhere.

use std::collections::BTreeMap;
use std::fmt;
use std::fs::{self, File};
use std::io;
use std::os::fd::{AsFd as _, AsRawFd as _, OwnedFd};
use std::os::unix::fs::FileExt as _;
use std::path::Path;
use std::time::Duration;

use appliance::verity::{BLOCK, Geometry};
use nix::poll::{PollFd, PollFlags, PollTimeout, poll};
use nix::sys::socket::{
    AddressFamily, MsgFlags, NetlinkAddr, SockFlag, SockProtocol, SockType, bind, recv, socket,
};

use crate::clock;
use appliance::failure::{Failure, OrCannot as _};

/// All block devices, partitions among them.
pub const BLOCK_DEVICES: &str = "/sys/class/block";
/// The kernel tells of each new device; should that get lost, look again after so long.
const LOOK_AGAIN: Duration = Duration::from_millis(500);

/// The partition that holds the root.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Slot {
    /// As in `/dev`.
    pub name: String,
    /// The kernel's `major:minor`.
    pub number: String,
}

/// What a look at a partition showed.
#[derive(Debug, Clone, PartialEq, Eq)]
enum Look {
    /// It is the slot, on this disk.
    Match { disk: String },
    /// Too short to be it.
    TooSmall,
    /// Something else is there.
    OtherContent,
    /// It may be readable later.
    Unreadable(String),
}

/// Waits for a partition that holds `root`, for as long as `within`.
pub fn find(root: &Geometry, within: Duration) -> Result<Slot, Failure> {
    // Before the first look, so that no device falls in between.
    let news = uevents().or_cannot("listen for new devices")?;
    let deadline = clock::now() + within;
    let mut seen = BTreeMap::new();
    loop {
        look_at_all(root, &mut seen).or_cannot(format_args!("list {BLOCK_DEVICES}"))?;
        if let Some(name) = choose(&seen)? {
            let number = fs::read_to_string(Path::new(BLOCK_DEVICES).join(name).join("dev"))
                .or_cannot(format_args!("read the number of {name}"))?;
            return Ok(Slot { name: name.to_owned(), number: number.trim_end().to_owned() });
        }
        let left = deadline.saturating_sub(clock::now());
        if left.is_zero() {
            let what = format!("find the slot with root {}", root.root_hash);
            return Err(Failure::new(what, said(&seen, within)));
        }
        wait(&news, left.min(LOOK_AGAIN));
    }
}

/// The partition that matches; the first, if several of one disk do. Two disks that both look like
/// ours are refused: one of them is a copy, and which was meant isn't for us to guess.
fn choose(seen: &BTreeMap<String, Look>) -> Result<Option<&str>, Failure> {
    let mut matching = seen.iter().filter_map(|(name, look)| match look {
        Look::Match { disk } => Some((name.as_str(), disk)),
        _ => None,
    });
    let Some((name, disk)) = matching.next() else { return Ok(None) };
    match matching.find(|(_, other)| *other != disk) {
        None => Ok(Some(name)),
        Some((other, _)) => Err(Failure::new(
            "choose the slot",
            format_args!("{name} and {other}, on two disks, both hold this root; remove one disk"),
        )),
    }
}

fn said(seen: &BTreeMap<String, Look>, within: Duration) -> String {
    let looks: Vec<String> = seen.iter().map(|(name, look)| format!("{name} {look}")).collect();
    let looks = if looks.is_empty() { "no partition".to_owned() } else { looks.join(", ") };
    format!("within {} s there was only: {looks}", within.as_secs())
}

/// Looks at every partition that wasn't read yet.
fn look_at_all(root: &Geometry, seen: &mut BTreeMap<String, Look>) -> io::Result<()> {
    for entry in fs::read_dir(BLOCK_DEVICES)? {
        let path = entry?.path();
        let Some(name) = path.file_name().and_then(|name| name.to_str()) else { continue };
        let is_new = matches!(seen.get(name), None | Some(Look::Unreadable(_)));
        if is_new && path.join("partition").exists() {
            let look = look_at(root, &path, name);
            seen.insert(name.to_owned(), look.unwrap_or_else(|e| Look::Unreadable(e.to_string())));
        }
    }
    Ok(())
}

fn look_at(root: &Geometry, sysfs: &Path, name: &str) -> io::Result<Look> {
    let sectors: u64 = fs::read_to_string(sysfs.join("size"))?.trim().parse().unwrap_or_default();
    if sectors.saturating_mul(512) < root.slot_bytes() {
        return Ok(Look::TooSmall);
    }
    let mut top = [0; BLOCK];
    File::open(Path::new("/dev").join(name))?.read_exact_at(&mut top, root.tree_offset())?;
    if !root.is_topped_by(&top) {
        return Ok(Look::OtherContent);
    }
    // …/block/vda/vda2: a partition lies in its disk's folder.
    let disk = sysfs.canonicalize()?.parent().map(|disk| disk.display().to_string());
    Ok(Look::Match { disk: disk.unwrap_or_default() })
}

/// A socket on which the kernel tells of devices.
fn uevents() -> nix::Result<OwnedFd> {
    /// The group that the kernel itself speaks to.
    const KERNEL: u32 = 1;
    let flags = SockFlag::SOCK_CLOEXEC | SockFlag::SOCK_NONBLOCK;
    let kind = SockProtocol::NetlinkKObjectUEvent;
    let socket = socket(AddressFamily::Netlink, SockType::Datagram, flags, kind)?;
    bind(socket.as_raw_fd(), &NetlinkAddr::new(0, KERNEL))?;
    Ok(socket)
}

/// Until there is news, or for so long. What the news is doesn't matter: everything is looked at.
fn wait(news: &OwnedFd, within: Duration) {
    let timeout = PollTimeout::try_from(within).unwrap_or(PollTimeout::ZERO);
    let _ = poll(&mut [PollFd::new(news.as_fd(), PollFlags::POLLIN)], timeout);
    let mut message = [0; 4096];
    while recv(news.as_raw_fd(), &mut message, MsgFlags::empty()).is_ok() {}
}

impl fmt::Display for Look {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Look::Match { .. } => f.write_str("(matches)"),
            Look::TooSmall => f.write_str("(too small)"),
            Look::OtherContent => f.write_str("(other content)"),
            Look::Unreadable(cause) => write!(f, "({cause})"),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn matching(disk: &str) -> Look {
        Look::Match { disk: disk.into() }
    }

    #[test]
    fn the_slot_is_chosen_among_what_was_seen() {
        type Row<'a> = (&'a [(&'a str, Look)], Result<Option<&'a str>, &'a str>);
        let table: [Row; 5] = [
            (&[], Ok(None)),
            (&[("vda1", Look::TooSmall), ("vda2", Look::OtherContent)], Ok(None)),
            (&[("vda1", Look::OtherContent), ("vda2", matching("vda"))], Ok(Some("vda2"))),
            (&[("vda2", matching("vda")), ("vda3", matching("vda"))], Ok(Some("vda2"))),
            (
                &[("vda2", matching("vda")), ("vdb2", matching("vdb"))],
                Err("cannot choose the slot: vda2 and vdb2, on two disks, both hold this root; \
                     remove one disk"),
            ),
        ];
        for (seen, expected) in table {
            let seen = seen.iter().map(|(name, look)| ((*name).into(), look.clone())).collect();
            let chosen = choose(&seen).map_err(|failure| failure.to_string());
            assert_eq!(chosen, expected.map_err(str::to_owned), "{seen:?}");
        }
    }

    #[test]
    fn a_vain_search_says_what_was_looked_at() {
        let mut seen = BTreeMap::new();
        let within = Duration::from_secs(10);
        assert_eq!(said(&seen, within), "within 10 s there was only: no partition");
        seen.insert("vda1".into(), Look::TooSmall);
        seen.insert("vda2".into(), Look::OtherContent);
        let expected = "within 10 s there was only: vda1 (too small), vda2 (other content)";
        assert_eq!(said(&seen, within), expected);
    }
}
