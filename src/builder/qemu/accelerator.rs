//! KVM or TCG? Whether KVM works is only known when a guest has run under it: there are hosts where
//! /dev/kvm opens, QEMU starts, and the guest never executes an instruction that matters.

use std::fs;
use std::io::Write as _;

use anyhow::{Context, Result, bail};
use appliance::hash::Digest;
use serde::{Deserialize, Serialize};

use crate::architecture::Architecture;
use crate::archive::store::Store;

/// What runs a guest's processor.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize)]
#[serde(rename_all = "lowercase")]
pub enum Accelerator {
    /// The host's processor itself, by Linux.
    Kvm,
    /// QEMU's own emulation: it works everywhere, and is slow.
    Tcg,
}

impl Accelerator {
    /// QEMU's name.
    pub fn name(self) -> &'static str {
        match self {
            Accelerator::Kvm => "kvm",
            Accelerator::Tcg => "tcg",
        }
    }
}

/// What the user asked for.
#[derive(Debug, Clone, Copy, PartialEq, Eq, clap::ValueEnum)]
pub enum Wish {
    /// KVM if a guest runs under it, else TCG.
    Auto,
    /// KVM, or nothing.
    Kvm,
    /// TCG.
    Tcg,
}

/// What a guest that tries KVM showed.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Verdict {
    /// It ran to where it had to end.
    Works,
    /// It didn't, for this reason.
    Fails(String),
}

/// How a probe ended.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum End {
    /// QEMU ended, with success or without.
    ByItself(bool),
    /// It was ended, after so many seconds.
    AtDeadline(u64),
}

/// What a kernel says last that finds no root.
const LAST_WORDS: &str = "Kernel panic - not syncing: VFS";

impl Verdict {
    /// The verdict on a probe that said `console` on its serial line, and whose QEMU said
    /// `complaints`.
    pub fn new(console: &str, complaints: &str, end: End) -> Verdict {
        let ran = console.contains(LAST_WORDS);
        let how_far = match console.lines().rfind(|line| !line.trim().is_empty()) {
            Some(line) => format!("its last words were: {}", line.trim()),
            None => "it said nothing".to_owned(),
        };
        let why = match (end, complaints.lines().find(|line| !line.contains("warning:"))) {
            (End::ByItself(true), _) if ran => return Verdict::Works,
            (End::AtDeadline(seconds), _) => {
                format!("a trial guest did not end within {seconds} s; {how_far}")
            }
            (End::ByItself(_), Some(complaint)) => {
                let complaint = complaint.split_once(": ").map_or(complaint, |(_, rest)| rest);
                let complaint = complaint.trim_start_matches("error: ");
                format!("a trial guest did not run: {}", complaint.trim())
            }
            (End::ByItself(_), None) => format!("a trial guest did not run; {how_far}"),
        };
        Verdict::Fails(why)
    }
}

/// What is used, and why.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Choice {
    /// What is used.
    pub accelerator: Accelerator,
    /// Why, for a person.
    pub why: String,
}

/// Chooses for an image of `architecture` on a host whose processor Rust calls `host`. Only where
/// the answer depends on it, KVM is tried.
pub fn choose(
    wish: Wish,
    architecture: Architecture,
    host: &str,
    try_kvm: impl FnOnce() -> Result<Verdict>,
) -> Result<Choice> {
    let is_own = match architecture {
        Architecture::Amd64 => host == "x86_64",
        Architecture::Arm64 => host == "aarch64",
    };
    let chosen = |accelerator, why| Ok(Choice { accelerator, why });
    if wish == Wish::Tcg {
        return chosen(Accelerator::Tcg, "asked for".to_owned());
    }
    let verdict = match is_own {
        true => try_kvm()?,
        false => {
            let image = architecture.debian();
            Verdict::Fails(format!("the image is for {image}, and this host is {host}"))
        }
    };
    match (verdict, wish) {
        (Verdict::Works, _) => chosen(Accelerator::Kvm, "a trial guest ran under it".to_owned()),
        (Verdict::Fails(why), Wish::Kvm) => {
            bail!("KVM does not work here: {why}\nhint: --accelerator tcg")
        }
        (Verdict::Fails(why), _) => {
            chosen(Accelerator::Tcg, format!("KVM does not work here: {why}"))
        }
    }
}

/// What a verdict depends on: it is kept for as long as none of this changes.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Circumstances {
    /// The host's boot.
    pub boot_id: String,
    /// QEMU's version.
    pub qemu: String,
    /// The digest of the kernel that the guest tries.
    pub kernel: Digest,
}

#[derive(Debug, Serialize, Deserialize)]
struct Note {
    #[serde(flatten)]
    circumstances: Circumstances,
    verdict: Verdict,
}

/// Where verdicts are noted in the store.
const NOTES: &str = "kvm.json";

/// What was found before under the same circumstances.
pub fn remembered(store: &Store, circumstances: &Circumstances) -> Option<Verdict> {
    let mut notes = notes(store).into_iter();
    notes.find(|note| note.circumstances == *circumstances).map(|note| note.verdict)
}

/// Notes `verdict`, and forgets those of other boots. Of two that do so at once one may win: the
/// other's verdict is then found once more.
pub fn remember(store: &Store, circumstances: Circumstances, verdict: Verdict) -> Result<()> {
    let mut notes = notes(store);
    notes.retain(|Note { circumstances: old, .. }| {
        old.boot_id == circumstances.boot_id && *old != circumstances
    });
    notes.push(Note { circumstances, verdict });
    let path = store.notes(NOTES);
    let context = || format!("cannot write {}", path.display());
    let mut file = store.new_file().with_context(context)?;
    file.write_all(&serde_json::to_vec_pretty(&notes)?).with_context(context)?;
    file.persist(&path).map_err(|error| error.error).with_context(context)?;
    Ok(())
}

/// Notes that can't be read are none.
fn notes(store: &Store) -> Vec<Note> {
    let text = fs::read(store.notes(NOTES)).unwrap_or_default();
    serde_json::from_slice(&text).unwrap_or_default()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_probe_is_judged_by_what_the_guest_said() {
        let panic = "[ 1.0] Kernel panic - not syncing: VFS: Unable to mount root fs\n[ 1.1] x\n";
        let broken = "qemu-system-x86_64: warning: host lacks x\n\
                      qemu-system-x86_64: error: failed to set MSR 0x10a to 0x69\n\
                      qemu-system-x86_64: kvm.c: Assertion failed";
        let rows = [
            (panic, "", End::ByItself(true), None),
            (
                panic,
                "",
                End::ByItself(false),
                Some("a trial guest did not run; its last words were: [ 1.1] x"),
            ),
            (
                panic,
                "",
                End::AtDeadline(10),
                Some("a trial guest did not end within 10 s; its last words were: [ 1.1] x"),
            ),
            (
                "",
                "",
                End::AtDeadline(10),
                Some("a trial guest did not end within 10 s; it said nothing"),
            ),
            (
                "",
                broken,
                End::ByItself(false),
                Some("a trial guest did not run: failed to set MSR 0x10a to 0x69"),
            ),
            ("", "", End::ByItself(true), Some("a trial guest did not run; it said nothing")),
            (
                "Kernel panic - not syncing: Attempted to kill init",
                "",
                End::ByItself(true),
                Some(
                    "a trial guest did not run; its last words were: Kernel panic - not syncing: Attempted to kill init",
                ),
            ),
        ];
        for (console, complaints, end, expected) in rows {
            let expected = expected.map_or(Verdict::Works, |why| Verdict::Fails(why.into()));
            assert_eq!(Verdict::new(console, complaints, end), expected, "{console:?} {end:?}");
        }
    }

    #[test]
    fn the_accelerator_is_chosen() {
        let (works, fails) = (Verdict::Works, Verdict::Fails("why".into()));
        let (amd64, arm64) = (Architecture::Amd64, Architecture::Arm64);
        let tcg = |why: &str| Ok((Accelerator::Tcg, why.to_owned()));
        let kvm = Ok((Accelerator::Kvm, "a trial guest ran under it".to_owned()));
        let foreign = "KVM does not work here: the image is for arm64, and this host is x86_64";
        let rows = [
            (Wish::Auto, amd64, Some(works.clone()), kvm.clone()),
            (Wish::Kvm, amd64, Some(works), kvm),
            (Wish::Auto, amd64, Some(fails.clone()), tcg("KVM does not work here: why")),
            (
                Wish::Kvm,
                amd64,
                Some(fails),
                Err("KVM does not work here: why\nhint: --accelerator tcg".to_owned()),
            ),
            (Wish::Tcg, amd64, None, tcg("asked for")),
            (Wish::Auto, arm64, None, tcg(foreign)),
            (Wish::Kvm, arm64, None, Err(format!("{foreign}\nhint: --accelerator tcg"))),
        ];
        for (wish, architecture, verdict, expected) in rows {
            let shown = format!("{wish:?} {architecture:?} {verdict:?}");
            let chosen =
                choose(wish, architecture, "x86_64", || verdict.context("not to be tried"));
            let chosen = chosen.map(|choice| (choice.accelerator, choice.why));
            assert_eq!(chosen.map_err(|error| error.to_string()), expected, "{shown}");
        }
    }

    #[test]
    fn a_verdict_is_kept_for_a_boot() {
        let folder = tempfile::tempdir().unwrap();
        let store = Store::open(Some(folder.path())).unwrap();
        let case = |boot: &str, kernel: &[u8]| Circumstances {
            boot_id: boot.into(),
            qemu: "7.2".into(),
            kernel: Digest::of(kernel),
        };
        assert_eq!(remembered(&store, &case("a", b"k")), None);
        remember(&store, case("a", b"k"), Verdict::Works).unwrap();
        remember(&store, case("a", b"l"), Verdict::Fails("x".into())).unwrap();
        remember(&store, case("a", b"k"), Verdict::Fails("y".into())).unwrap();
        assert_eq!(remembered(&store, &case("a", b"k")), Some(Verdict::Fails("y".into())));
        assert_eq!(remembered(&store, &case("a", b"l")), Some(Verdict::Fails("x".into())));
        remember(&store, case("b", b"k"), Verdict::Works).unwrap();
        assert_eq!(remembered(&store, &case("a", b"k")), None);
        fs::write(store.notes(NOTES), "torn").unwrap();
        assert_eq!(remembered(&store, &case("b", b"k")), None);
    }
}
