//! Small things that outlive a boot, each a file at the top of the data: who the machine is, and
//! how late it has been.

use std::fs::{self, File, OpenOptions, Permissions};
use std::io::{self, Write as _};
use std::os::unix::fs::{OpenOptionsExt as _, PermissionsExt as _, fchown};
use std::path::{Path, PathBuf};
use std::time::Duration;

use nix::time::ClockId;

use crate::clock::{self, Moment};
use crate::log::{notice, warning};
use crate::{data, random, sys};
use appliance::failure::{Failure, OrCannot as _};

/// User and group of what is nobody else's.
pub const ROOT: (u32, u32) = (0, 0);
/// Where programs look for it; `/etc/machine-id` is a link there.
const MACHINE_ID: &str = "/run/machine-id";
/// Its name on the data.
const MACHINE_ID_FILE: &str = "machine-id";
/// The name of the saved time.
const CLOCK_FILE: &str = "clock";
/// How often the time is saved.
const SAVED_EVERY: Duration = Duration::from_secs(3600);
/// A saved time that is so much later than the build isn't believed: once in 2099 by mistake, the
/// machine would never come back from there.
const LATEST: Duration = Duration::from_secs(20 * 365 * 86_400);

/// Puts `bytes` in the place of `path`'s content, for good; `owner` is a user and a group. And if
/// the power goes here? Until the rename is on the disk, the old content is; a half-written `.new`
/// is written anew next time.
pub fn replace(path: &Path, bytes: &[u8], mode: u32, owner: (u32, u32)) -> io::Result<()> {
    let mut new = path.as_os_str().to_owned();
    new.push(".new");
    match fs::remove_file(&new) {
        Err(error) if error.kind() != io::ErrorKind::NotFound => return Err(error),
        _ => {}
    }
    let mut file = OpenOptions::new().write(true).create_new(true).mode(mode).open(&new)?;
    file.write_all(bytes)?;
    fchown(&file, Some(owner.0), Some(owner.1))?;
    file.set_permissions(Permissions::from_mode(mode))?;
    file.sync_all()?;
    fs::rename(&new, path)?;
    File::open(path.parent().unwrap_or(Path::new("/")))?.sync_all()
}

/// What is at `path` makes no sense: whoever wants to know more finds it under this name.
pub fn damaged(path: &Path) -> PathBuf {
    let mut name = path.as_os_str().to_owned();
    name.push(".damaged");
    name.into()
}

/// Gives it that name, if it has any.
pub fn put_aside(path: &Path) {
    if let Err(error) = fs::rename(path, damaged(path)) {
        warning!("cannot put {} aside: {error}", path.display());
    }
}

/// Gives the machine its id: the one of its first boot, or a random one.
pub fn identify(is_kept: bool) -> Result<(), Failure> {
    let what = "give the machine its id";
    let path = Path::new(data::AT).join(MACHINE_ID_FILE);
    let kept = fs::read_to_string(&path).ok().filter(|_| is_kept);
    let id = match kept.as_deref().map(str::trim_end).filter(|id| is_id(id)) {
        Some(id) => id.to_owned(),
        None => {
            if kept.is_some() {
                warning!("{} holds no machine id; making another", path.display());
            }
            let id: String = random::bytes(16)?.iter().map(|byte| format!("{byte:02x}")).collect();
            if is_kept {
                replace(&path, format!("{id}\n").as_bytes(), 0o444, ROOT).or_cannot(what)?;
                notice!("root: machine id made for this disk");
            }
            id
        }
    };
    replace(Path::new(MACHINE_ID), format!("{id}\n").as_bytes(), 0o444, ROOT).or_cannot(what)
}

fn is_id(text: &str) -> bool {
    let is_digit = |byte: u8| byte.is_ascii_digit() || (b'a'..=b'f').contains(&byte);
    text.len() == 32 && text.bytes().all(is_digit) && text.bytes().any(|byte| byte != b'0')
}

/// The clock is never earlier than it was when this disk last ran. `built` is the build's time.
pub fn restore_clock(built: u64) -> Result<(), Failure> {
    let path = Path::new(data::AT).join(CLOCK_FILE);
    let Ok(text) = fs::read_to_string(&path) else { return Ok(()) };
    match believed(&text, Duration::from_secs(built)) {
        Some(saved) => clock::not_before(saved.as_secs(), "the one when it last ran"),
        None => {
            warning!("{} holds no time to believe; ignored", path.display());
            Ok(())
        }
    }
}

fn believed(text: &str, built: Duration) -> Option<Duration> {
    let saved = Duration::from_secs(text.trim_end().parse().ok()?);
    (saved <= built + LATEST).then_some(saved)
}

/// What the next boot shall find, when this one ends in order.
pub fn save_all() {
    for result in [save_clock(), random::save_seed()] {
        if let Err(failure) = result {
            warning!("{failure}");
        }
    }
}

fn save_clock() -> Result<(), Failure> {
    let now = ClockId::CLOCK_REALTIME.now().map(Duration::from).or_cannot("read the clock")?;
    let path = Path::new(data::AT).join(CLOCK_FILE);
    replace(&path, format!("{}\n", now.as_secs()).as_bytes(), 0o644, ROOT)
        .or_cannot("save the time")
}

/// Saves the time now and then.
#[derive(Debug, Default)]
pub struct Hourly {
    due: Option<Moment>,
}

impl Hourly {
    /// The time has just become a better one: it is saved next.
    pub fn is_due(&mut self) {
        self.due = Some(Moment::ZERO);
    }

    /// To be called often. A child writes, since a disk may never answer.
    pub fn on_time(&mut self, now: Moment) {
        if now < *self.due.get_or_insert(now + SAVED_EVERY) {
            return;
        }
        self.due = Some(now + SAVED_EVERY);
        let saved = sys::fork(&[], || match save_clock() {
            Ok(()) => 0,
            Err(failure) => {
                warning!("{failure}");
                1
            }
        });
        if let Err(errno) = saved {
            warning!("cannot save the time: {errno}");
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_id_is_32_digits() {
        for (text, is) in [
            ("0123456789abcdef0123456789abcdef", true),
            ("0123456789ABCDEF0123456789abcdef", false),
            ("00000000000000000000000000000000", false),
            ("0123456789abcdef0123456789abcde", false),
            ("uninitialized", false),
            ("", false),
        ] {
            assert_eq!(is_id(text), is, "{text}");
        }
    }

    #[test]
    fn a_time_far_from_the_build_is_not_believed() {
        let built = Duration::from_secs(1_800_000_000);
        for (text, seconds) in [
            ("1800000001\n", Some(1_800_000_001)),
            ("0", Some(0)),
            ("4070908800\n", None), // 2099
            ("18446744073709551615", None),
            ("-1", None),
            ("", None),
            ("soon", None),
        ] {
            assert_eq!(believed(text, built), seconds.map(Duration::from_secs), "{text}");
        }
    }

    #[test]
    fn a_file_is_replaced_as_a_whole() {
        let folder = std::env::temp_dir().join(format!("stele-keep-{}", std::process::id()));
        fs::create_dir_all(&folder).unwrap();
        let path = folder.join("x");
        let own = (nix::unistd::getuid().as_raw(), nix::unistd::getgid().as_raw());
        fs::write(folder.join("x.new"), "half").unwrap();
        for text in ["one", "two"] {
            replace(&path, text.as_bytes(), 0o440, own).unwrap();
            assert_eq!(fs::read_to_string(&path).unwrap(), text);
        }
        assert_eq!(fs::metadata(&path).unwrap().permissions().mode() & 0o7777, 0o440);
        assert_eq!(fs::read_dir(&folder).unwrap().count(), 1);
        fs::remove_dir_all(folder).unwrap();
    }
}
