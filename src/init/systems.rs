//! The two systems of this machine: what is found of them at a boot, and what is done to them.
//!
//! | when | what |
//! |---|---|
//! | before the data is mounted | the ESP is looked at: a trial that fails from here on is condemned |
//! | once it is | what earlier boots knew ([`crate::upgrade::kept`]) is read, and settled |
//! | in the loop | the trial, bundles, wishes |

use std::fs::{self, File};
use std::io::{ErrorKind, Read as _};
use std::os::fd::OwnedFd;
use std::os::unix::fs::{MetadataExt as _, OpenOptionsExt as _};
use std::path::{Path, PathBuf};

use appliance::boot::{Appliance, Volume};
use appliance::esp::Entry;
use appliance::gpt::{Guid, Table};
use appliance::upgrade::{Order, Side, Space, Trust};
use appliance::verity::Geometry;

use crate::clock::{self, Moment};
use crate::data::disk::Disk;
use crate::esp_device::{self, EspDevice};
use crate::log::{error, notice, warning};
use crate::upgrade::kept::{Kept, System};
use crate::upgrade::trace::Trace;
use crate::upgrade::{Boot, Edit, Effect, Event, Found, Listed, Passed, Upgrade, boot};
use crate::{aside, data, keep, last_failure, loader, second_net, trial_word};
use appliance::failure::{Failure, OrCannot as _};

/// Where the initrd leaves word of the root that it opened.
const ROOT: &str = "/run/stele/root.json";
/// What boots tell one another, on the data.
const FILE: &str = "upgrade.json";
/// The most bytes of that.
const LONGEST: u64 = 256 * 1024;

/// What is found before the data is mounted.
#[derive(Debug)]
pub struct Look {
    esp: EspDevice,
    passed: Passed,
    listed: Listed,
    running: System,
    root: Geometry,
    trace: Trace,
}

/// Both systems, and what is known of them.
#[derive(Debug)]
pub struct Systems {
    /// What decides.
    pub upgrade: Upgrade,
    esp: EspDevice,
    root: Geometry,
    trust: Trust,
    data_format: u32,
}

/// In the initrd: this root has been opened.
pub fn leave_word(root: &Geometry) -> Result<(), Failure> {
    let what = format_args!("write {ROOT}");
    if let Some(folder) = Path::new(ROOT).parent() {
        fs::create_dir_all(folder).or_cannot(what)?;
    }
    fs::write(ROOT, serde_json::to_vec(root).or_cannot(what)?).or_cannot(what)
}

/// The root that the initrd has opened.
pub fn root() -> Result<Geometry, Failure> {
    let what = format_args!("read {ROOT}");
    serde_json::from_slice(&fs::read(ROOT).or_cannot(what)?).or_cannot(what)
}

/// Looks at what boots, if this appliance keeps data: one that doesn't has no second slot either.
/// What isn't as it was made is told, and left alone. Fails if this boot must not go on.
pub fn look(appliance: &Appliance) -> Result<Option<Look>, Failure> {
    if appliance.data.is_none() {
        return Ok(None);
    }
    let passed = loader::passed();
    let is_counted = passed.is_counted();
    match look_at(appliance, passed) {
        Ok(look) => {
            last_failure::is_of(&look.running.version, look.running.root_hash);
            Ok(Some(look))
        }
        // It would change the data, of which nothing was kept aside. The loader takes a try off.
        Err(failure) if is_counted => Err(failure),
        // Of one that isn't blessed, and takes no try, the next boot would be the same: it serves.
        Err(failure) => {
            error!("upgrade: {failure}");
            Ok(None)
        }
    }
}

fn look_at(appliance: &Appliance, passed: Passed) -> Result<Look, Failure> {
    let root = root()?;
    let (disk, start) = Disk::and_slot_of_root()?;
    let running = System {
        side: side_at(&disk, start)?,
        version: appliance.version.clone(),
        root_hash: root.root_hash,
    };
    let esp = esp_of(&disk)?;
    let listed = esp.listed()?;
    let trace = trial_word::read(&disk);
    let look = Look { esp, passed, listed, running, root, trace };
    look.tell();
    second_net::take_over(&disk, &look.listed, look.running.side);
    Ok(look)
}

impl Look {
    /// How this boot came about.
    fn boot(&self) -> Boot {
        boot(&self.passed, self.listed.of(self.running.side))
    }

    fn tell(&self) {
        let System { side, version, .. } = &self.running;
        match self.boot() {
            Boot::NotBooted | Boot::Steady => {}
            Boot::Trial { left } => {
                notice!("upgrade: {version} in slot {side} is on trial; tries left: {left}");
            }
            Boot::Uncounted { .. } => {
                error!(
                    "upgrade: {version} in slot {side} was never blessed, nor is its try counted"
                );
            }
        }
        // From here on: not even the data may come to be mounted.
        if !self.is_settled() && matches!(self.listed.of(side.other()), Entry::Blessed { .. }) {
            esp_device::condemn_on_failure(Some((self.esp.clone(), *side)));
        }
    }

    /// Is this a system that was blessed, or one that nobody tries?
    fn is_settled(&self) -> bool {
        matches!(self.boot(), Boot::NotBooted | Boot::Steady)
    }

    /// The data is mounted, and what the last boot left has been taken: settles what it says.
    /// Fails if this boot must not go on.
    pub fn begin(self, appliance: &Appliance) -> Result<Systems, Failure> {
        let Look { esp, passed, listed, running, root, trace } = self;
        let trust = appliance.trust.clone().unwrap_or_default();
        let found = Found {
            running,
            passed,
            listed,
            kept: read_kept(),
            word: last_failure::last().map(last_failure::word),
            trace,
            date: clock::date().as_secs(),
            floor: trust.floor.as_ref().map(ToString::to_string),
        };
        let (upgrade, effects) = Upgrade::begin(found);
        let data_format = appliance.data_format;
        let mut this = Systems { upgrade, esp, root, trust, data_format };
        for effect in effects {
            if let Effect::Reboot(why) = effect {
                if this.upgrade.would_come_back() {
                    error!("upgrade: goes on, since a reboot would lead here again: {why}");
                    continue;
                }
                return Err(Failure::new("go on with this system", why));
            }
            this.carry_out(&effect, clock::now());
        }
        Ok(this)
    }
}

impl Systems {
    /// Carries out what needs nobody else, and says what follows.
    pub fn carry_out(&mut self, effect: &Effect, now: Moment) -> Vec<Effect> {
        match effect {
            Effect::Keep => {
                if let Err(failure) = keep_this(self.upgrade.kept()) {
                    error!("upgrade: {failure}");
                }
                vec![]
            }
            Effect::ForgetWord => {
                // What could not be kept is said by the next boot once more.
                if read_kept() == *self.upgrade.kept() {
                    last_failure::forget();
                }
                vec![]
            }
            Effect::Write(edit) => self.write(*edit, now),
            Effect::KeepReason { check, why } => {
                last_failure::keep_of(check.as_deref(), why);
                vec![]
            }
            Effect::Settled => {
                if let Err(failure) = self.adopt_data() {
                    // It is done before another one comes, or by the next boot.
                    error!("upgrade: {failure}");
                }
                vec![]
            }
            Effect::ReadRoot | Effect::Reboot(_) => vec![],
        }
    }

    /// Another system will be tried: what the last trial left isn't about that.
    pub fn forget_trial(&self) -> Result<(), Failure> {
        trial_word::blank(&Disk::of_root()?);
        Ok(())
    }

    fn write(&mut self, edit: Edit, now: Moment) -> Vec<Effect> {
        let written = self.esp.write(edit);
        if let Err(failure) = &written {
            error!("upgrade: {failure}");
        }
        if written.is_ok() {
            // It is blessed, or condemned already; of the other there is nothing to fear.
            esp_device::condemn_on_failure(None);
        }
        if matches!((edit, &written), (Edit::Bless(_), Ok(_))) {
            trial_word::is_blessed();
            let System { side, version, .. } = self.upgrade.running();
            notice!("upgrade: {version} in slot {side} is blessed");
        }
        let written = written.map_err(|failure| failure.to_string());
        self.upgrade.on(Event::Written(edit, written), now)
    }

    /// What runs, as far as its data is concerned.
    fn of_data(&self) -> aside::System {
        let System { version, root_hash, .. } = self.upgrade.running();
        let data_format = self.data_format;
        aside::System { root: *root_hash, version: version.clone(), data_format }
    }

    /// The data is this system's own, since that was blessed. Does nothing if that is written already.
    pub fn adopt_data(&self) -> Result<(), Failure> {
        aside::bless(Path::new(data::AT), &self.of_data())
    }

    /// Sees to it that the data is what this system may use, before anybody uses it.
    pub fn settle_data(&mut self, volumes: &[Volume]) -> Result<(), Failure> {
        let begun = clock::now();
        let boot = aside::Boot {
            system: self.of_data(),
            is_trial: self.upgrade.is_unproven(),
            is_other_blessed: self.upgrade.has_other(),
        };
        aside::settle(Path::new(data::AT), &boot, volumes)?;
        self.upgrade.kept_aside(clock::now().saturating_sub(begun));
        Ok(())
    }

    /// What the ESP lists now.
    pub fn listed(&self) -> Option<Listed> {
        match self.esp.listed() {
            Ok(listed) => Some(listed),
            Err(failure) => {
                error!("upgrade: {failure}");
                None
            }
        }
    }

    /// Was this image built to believe anybody?
    pub fn has_keys(&self) -> bool {
        !self.trust.keys.is_empty()
    }

    /// What the child that installs is told.
    pub fn order(&self, announced: Option<u64>, space: Space) -> Order {
        let (running, kept) = (self.upgrade.running(), self.upgrade.kept());
        Order {
            side: running.side.other(),
            announced,
            trust: self.trust.clone(),
            version: running.version.clone(),
            running: self.root.clone(),
            floor: kept.floor.clone(),
            bad: kept.verdicts.iter().map(|verdict| verdict.root_hash).collect(),
            data_format: self.data_format,
            space,
        }
    }

    /// The two devices that the child which installs may write: the ESP, and the other slot. Nobody
    /// else has either open, least of all the root.
    pub fn devices(&self) -> Result<[OwnedFd; 2], Failure> {
        let side = self.upgrade.running().side.other();
        let (disk, _) = Disk::and_slot_of_root()?;
        let slot = device(&disk, &table_of(&disk)?, |_, name| side_of(name) == Some(side))?;
        let open = |path: &Path| -> Result<OwnedFd, Failure> {
            let mut options = File::options();
            let options = options.read(true).write(true).custom_flags(libc::O_EXCL);
            Ok(options.open(path).or_cannot(format_args!("open {}", path.display()))?.into())
        };
        Ok([open(self.esp.path())?, open(&slot)?])
    }
}

/// The device below the root, each block of which is checked when it is read.
pub fn root_device() -> Result<File, Failure> {
    let what = "open the root's device";
    let minor = nix::sys::stat::minor(fs::metadata("/").or_cannot(what)?.dev());
    File::open(format!("/dev/dm-{minor}")).or_cannot(what)
}

/// The ESP of a disk.
pub fn esp_of(disk: &Disk) -> Result<EspDevice, Failure> {
    EspDevice::open(device(disk, &table_of(disk)?, |kind, _| kind == Guid::ESP)?)
}

/// Which slot begins at this sector of a disk.
pub fn side_at(disk: &Disk, start: u64) -> Result<Side, Failure> {
    let table = table_of(disk)?;
    let mut slots = table.partitions.iter();
    let slot = slots.find(|partition| *partition.sectors.start() == start);
    let side = slot.and_then(|slot| side_of(&slot.name)).ok_or("the table has another name there");
    side.or_cannot("find the slot of the root")
}

fn side_of(name: &str) -> Option<Side> {
    match name {
        "slot-a" => Some(Side::A),
        "slot-b" => Some(Side::B),
        _ => None,
    }
}

fn table_of(disk: &Disk) -> Result<Table, Failure> {
    let what = format_args!("read the partition table of {}", disk.name);
    let ends = disk.ends()?;
    let backup = |_| Table::parse_backup(&ends.tail, disk.sectors);
    Table::parse(&ends.head).or_else(backup).or_cannot(what)
}

/// The device of the first partition of this kind and name.
fn device(
    disk: &Disk,
    table: &Table,
    is_it: impl Fn(Guid, &str) -> bool,
) -> Result<PathBuf, Failure> {
    let mut all = table.partitions.iter().enumerate();
    let found = all.find(|(_, partition)| is_it(partition.kind, &partition.name));
    let what = format_args!("find the system partitions of {}", disk.name);
    let (index, partition) = found.ok_or("the table doesn't name them").or_cannot(what)?;
    disk.device(index, partition)
}

fn read_kept() -> Kept {
    read_kept_at(&Path::new(data::AT).join(FILE))
}

/// What can't be understood is put aside: nothing that boots depends on it.
fn read_kept_at(path: &Path) -> Kept {
    let file = match File::open(path) {
        Err(error) if error.kind() == ErrorKind::NotFound => return Kept::default(),
        file => file,
    };
    let mut bytes = vec![];
    let read = file.and_then(|file| file.take(LONGEST).read_to_end(&mut bytes));
    let kept = read.ok().and_then(|_| serde_json::from_slice(&bytes).ok());
    kept.unwrap_or_else(|| {
        warning!("{} says nothing that can be understood; it is put aside", path.display());
        keep::put_aside(path);
        Kept::default()
    })
}

fn keep_this(kept: &Kept) -> Result<(), Failure> {
    let path = Path::new(data::AT).join(FILE);
    let what = format_args!("keep {}", path.display());
    let bytes = serde_json::to_vec(kept).or_cannot(what)?;
    keep::replace(&path, &bytes, 0o600, keep::ROOT).or_cannot(what)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_kept_of_upgrades_is_put_aside_if_it_is_damaged() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join(FILE);
        assert_eq!(read_kept_at(&path), Kept::default());
        assert_eq!(fs::read_dir(folder.path()).unwrap().count(), 0);
        let kept = Kept { had_network: true, ..Kept::default() };
        fs::write(&path, serde_json::to_vec(&kept).unwrap()).unwrap();
        assert_eq!(read_kept_at(&path), kept);
        for damage in ["", "{", "\0\0", "[1]", "{\"verdicts\": 1}"] {
            fs::write(&path, damage).unwrap();
            assert_eq!(read_kept_at(&path), Kept::default(), "{damage:?}");
            assert_eq!(fs::read_to_string(keep::damaged(&path)).unwrap(), damage);
            assert!(!path.exists());
        }
    }
}
