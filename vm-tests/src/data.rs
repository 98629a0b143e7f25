//! What is on a data partition, looked at without the appliance: by Debian's e2fsprogs.

use std::path::{Path, PathBuf};
use std::process::Output;

use anyhow::{Context, Result, ensure};

use crate::disk::Kept;
use crate::scratch;

/// How long looking may take, in seconds.
const WITHIN: u32 = 60;

/// A copy of a data partition.
#[derive(Debug)]
pub struct Data {
    part: PathBuf,
}

impl Data {
    /// Takes it out of a disk that no machine runs on, checks it, and repairs the copy as a boot
    /// would: a cut leaves a journal to be replayed.
    #[track_caller]
    pub fn of(disk: &Kept) -> Data {
        let part = disk.take_out("data");
        repair(&part).unwrap_or_else(|error| panic!("{error:#}"));
        Data { part }
    }

    /// Was it unmounted in order?
    #[track_caller]
    pub fn is_clean(disk: &Kept) -> bool {
        let data = Data { part: disk.take_out("data") };
        let output = data.debugfs("show_super_stats -h");
        let output = output.unwrap_or_else(|error| panic!("{error:#}"));
        let said = String::from_utf8_lossy(&output.stdout);
        let state = said.lines().find_map(|line| line.strip_prefix("Filesystem state:"));
        state.is_some_and(|state| state.trim() == "clean") && !said.contains("needs_recovery")
    }

    /// The copy.
    pub fn path(&self) -> &Path {
        &self.part
    }

    /// The bytes of a file: `/random-seed`.
    #[track_caller]
    pub fn read(&self, path: &str) -> Vec<u8> {
        let output = self.debugfs(&format!("cat {path}"));
        let output = output.unwrap_or_else(|error| panic!("{error:#}"));
        let said = String::from_utf8_lossy(&output.stderr);
        assert!(!said.contains("File not found"), "cannot read {path}: {said}");
        output.stdout
    }

    /// A file's text, without the white space around it.
    #[track_caller]
    pub fn text(&self, path: &str) -> String {
        String::from_utf8_lossy(&self.read(path)).trim().to_owned()
    }

    /// Mode, owner and group of a file or folder.
    #[track_caller]
    pub fn owner(&self, path: &str) -> (u32, u32, u32) {
        let output = self.debugfs(&format!("stat {path}"));
        let output = output.unwrap_or_else(|error| panic!("{error:#}"));
        owner(&String::from_utf8_lossy(&output.stdout)).unwrap_or_else(|| panic!("no {path}"))
    }

    /// The names in a folder.
    #[track_caller]
    pub fn names(&self, folder: &str) -> Vec<String> {
        let output = self.debugfs(&format!("ls -p {folder}"));
        let output = output.unwrap_or_else(|error| panic!("{error:#}"));
        names(&String::from_utf8_lossy(&output.stdout))
    }

    fn debugfs(&self, request: &str) -> Result<Output> {
        let mut command = scratch::judge("debugfs", WITHIN);
        command.args(["-R", request]).arg(&self.part).env("DEBUGFS_PAGER", "cat");
        command.output().context("cannot start debugfs\nhint: install e2fsprogs")
    }
}

/// The bytes of an ext4 of so many, as another system makes it.
pub fn another_systems(size: u64) -> Result<Vec<u8>> {
    let file = tempfile::NamedTempFile::new()?;
    file.as_file().set_len(size)?;
    let mut command = scratch::judge("mke2fs", WITHIN);
    command.args(["-q", "-F", "-t", "ext4", "-L", "home"]).arg(file.path());
    ensure!(command.status().context("cannot start mke2fs")?.success(), "cannot make an ext4");
    Ok(std::fs::read(file.path())?)
}

/// Has e2fsck do what needs no question; anything else is an error.
pub fn repair(part: &Path) -> Result<()> {
    e2fsck(part, &["-f", "-p"])
}

/// The same of one whose superblock is torn: by the first copy. Should that fail, the journal may
/// have brought the superblock back.
pub fn repair_torn(part: &Path) -> Result<()> {
    e2fsck(part, &["-f", "-p", "-b", "32768", "-B", "4096"]).or_else(|_| repair(part))
}

fn e2fsck(part: &Path, arguments: &[&str]) -> Result<()> {
    let mut command = scratch::judge("e2fsck", WITHIN);
    let output = command.args(arguments).arg(part).output();
    let output = output.context("cannot start e2fsck\nhint: install e2fsprogs")?;
    let said = String::from_utf8_lossy(&output.stdout);
    ensure!(
        matches!(output.status.code(), Some(0 | 1)),
        "{} is damaged: e2fsck: {}: {}",
        part.display(),
        output.status,
        said.trim_end()
    );
    Ok(())
}

/// From what debugfs says of an inode: `Mode:  0750`, and `User:   901   Group:   901`.
fn owner(stat: &str) -> Option<(u32, u32, u32)> {
    let words: Vec<&str> = stat.split_whitespace().collect();
    let after = |label: &str| words.iter().skip_while(|word| **word != label).nth(1).copied();
    let mode = u32::from_str_radix(after("Mode:")?, 8).ok()?;
    Some((mode & 0o7777, after("User:")?.parse().ok()?, after("Group:")?.parse().ok()?))
}

/// From lines `/INODE/MODE/UID/GID/NAME/SIZE/`.
fn names(list: &str) -> Vec<String> {
    let names = list.lines().filter_map(|line| line.split('/').nth(5));
    names.filter(|name| !["", ".", ".."].contains(name)).map(str::to_owned).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_debugfs_says_is_understood() {
        let stat = "Inode: 12   Type: directory    Mode:  0750   Flags: 0x80000\n\
                    Generation: 1    Version: 0x0:1\nUser:   901   Group:   902   Project:     0";
        assert_eq!(owner(stat), Some((0o750, 901, 902)));
        assert_eq!(owner("debugfs: File not found"), None);
        let list = "/2/040755/0/0/.//\n/2/040755/0/0/..//\n/12/100600/0/0/random-seed/512/\n\n";
        assert_eq!(names(list), ["random-seed"]);
    }

    #[test]
    fn a_damaged_file_system_is_not_repaired_in_silence() {
        let folder = tempfile::tempdir().unwrap();
        let part = folder.path().join("part");
        std::fs::File::create(&part).unwrap().set_len(16 << 20).unwrap();
        assert!(repair(&part).is_err());
        let made =
            scratch::judge("mke2fs", WITHIN).args(["-q", "-F", "-t", "ext4"]).arg(&part).status();
        assert!(made.unwrap().success());
        repair(&part).unwrap();
        // The root's inode, in the table that the first group's descriptor names.
        let output = scratch::judge("dumpe2fs", WITHIN).arg(&part).output().unwrap();
        let text = String::from_utf8_lossy(&output.stdout);
        let at = text.split("Inode table at ").nth(1).unwrap();
        let block: u64 = at.split(['-', ' ']).next().unwrap().parse().unwrap();
        let size: u64 = text
            .lines()
            .find_map(|l| l.strip_prefix("Block size:"))
            .unwrap()
            .trim()
            .parse()
            .unwrap();
        let file = std::fs::File::options().write(true).open(&part).unwrap();
        std::os::unix::fs::FileExt::write_all_at(&file, &[0xff; 512], block * size).unwrap();
        assert!(repair(&part).is_err());
    }
}
