//! A layer: a reusable part of appliances. It says which packages it wants and which slices of
//! them, what files, users, volumes and services it adds, and what the maintainer scripts of its
//! packages would have done.

use std::collections::{BTreeMap, BTreeSet};
use std::path::{Path, PathBuf};

use anyhow::Result;
use appliance::control::VerbName;
use appliance::hash::Digest;
#[cfg(doc)]
use appliance::service::Limits;
use appliance::service::{Access, Side};
use serde::Deserialize;

use crate::document;
use crate::glob::Glob;
use crate::programs::Program;
use crate::quantity::{AbsolutePath, Granted, MemoryLimit, Mode, Name, Owner, Span};

/// The document `layers/NAME/layer.toml`.
#[derive(Debug, Clone, Deserialize)]
#[serde(deny_unknown_fields, rename_all = "kebab-case")]
pub struct Layer {
    /// Layers that must come before.
    #[serde(default)]
    pub needs: Vec<Name>,
    /// Package → names of the slices wanted. A name with `*` stands for whatever packages of the
    /// closure it matches; any other name is asked for, with all that it depends on. An empty
    /// list takes the copyright file alone.
    #[serde(default)]
    pub packages: BTreeMap<String, Vec<String>>,
    /// Package → slice → the paths in it. `!` in front leaves paths out.
    #[serde(default)]
    pub slices: BTreeMap<String, BTreeMap<String, Vec<String>>>,
    /// Files, links and directories, by path.
    #[serde(default)]
    pub files: BTreeMap<AbsolutePath, FileEntry>,
    /// Accounts, by name.
    #[serde(default)]
    pub users: BTreeMap<String, Account>,
    /// Directories that outlive a boot.
    #[serde(default)]
    pub volumes: BTreeMap<AbsolutePath, VolumeEntry>,
    /// What makes and checks the file system that these are on.
    pub data: Option<DataEntry>,
    /// Files of the seed partition (a folder's name ends in a slash), and where they go.
    #[serde(default)]
    pub seed: BTreeMap<String, SeedEntry>,
    /// What runs.
    #[serde(default)]
    pub services: BTreeMap<Name, ServiceEntry>,
    /// The kernel and its loader.
    pub kernel: Option<Kernel>,
    /// Libraries that no program is linked to, but that are loaded at run time: globs, and why.
    #[serde(default)]
    pub loaded: BTreeMap<String, String>,
    /// Links that point to nothing in the image: globs, and why.
    #[serde(default)]
    pub dangling: BTreeMap<String, String>,
    /// What the maintainer scripts of packages would do, and who does it instead.
    #[serde(default, rename = "script")]
    pub scripts: Vec<ScriptNote>,
}

/// One path that a layer adds.
#[derive(Debug, Clone, PartialEq, Eq, Deserialize)]
#[serde(try_from = "RawFileEntry")]
pub struct FileEntry {
    /// What is there.
    pub content: Content,
    /// Whose it is.
    pub owner: Owner,
    /// Permission bits; a link has none.
    pub mode: u16,
    /// May it take the place of what an earlier layer or a package has put there?
    pub replaces: bool,
}

/// What stands at a path that a layer adds.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Content {
    /// A copy of a file beside the layer's document.
    From(PathBuf),
    /// A guest program.
    Program(Program),
    /// This text.
    Text(String),
    /// A symbolic link with this target.
    Link(String),
    /// A directory.
    Directory,
    /// The files of the tree that the glob matches, one after the other in order of their paths;
    /// they themselves leave the tree.
    Joined(Glob),
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct RawFileEntry {
    from: Option<PathBuf>,
    program: Option<Program>,
    text: Option<String>,
    link: Option<String>,
    #[serde(default)]
    dir: bool,
    joins: Option<Glob>,
    owner: Option<Owner>,
    mode: Option<Mode>,
    #[serde(default)]
    replaces: bool,
}

impl TryFrom<RawFileEntry> for FileEntry {
    type Error = String;

    fn try_from(raw: RawFileEntry) -> Result<FileEntry, String> {
        let given = [
            raw.from.map(Content::From),
            raw.program.map(Content::Program),
            raw.text.map(Content::Text),
            raw.link.map(Content::Link),
            raw.dir.then_some(Content::Directory),
            raw.joins.map(Content::Joined),
        ];
        let mut given = given.into_iter().flatten();
        let (Some(content), None) = (given.next(), given.next()) else {
            return Err("give one of `from`, `program`, `text`, `link`, `dir` and `joins`".into());
        };
        let usual_mode = match content {
            Content::Directory | Content::Program(_) => 0o755,
            Content::Link(_) => 0o777,
            _ => 0o644,
        };
        if matches!(content, Content::Link(_)) && raw.mode.is_some() {
            return Err("a link has no mode".into());
        }
        Ok(FileEntry {
            content,
            owner: raw.owner.unwrap_or_else(Owner::root),
            mode: raw.mode.map_or(usual_mode, |mode| mode.0),
            replaces: raw.replaces,
        })
    }
}

/// An account; user and group have one name and one number.
#[derive(Debug, Clone, PartialEq, Eq, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Account {
    /// Fixed for ever: it is written on the data partition.
    pub uid: u32,
    /// Its home directory.
    #[serde(default = "nowhere")]
    pub home: AbsolutePath,
    /// What it is for, as `/etc/passwd` shows it.
    #[serde(default)]
    pub comment: String,
}

/// Who has no home gets this one, which doesn't exist.
fn nowhere() -> AbsolutePath {
    AbsolutePath::try_from("/nonexistent".to_owned()).unwrap_or_else(|_| unreachable!())
}

/// A directory on the data partition.
#[derive(Debug, Clone, PartialEq, Eq, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct VolumeEntry {
    /// Whose it is.
    pub owner: Owner,
    /// Permission bits.
    pub mode: Mode,
    /// Files in it that are never changed once they have their names, only deleted: paths within
    /// the volume, perhaps with `*`. They needn't be copied to be kept.
    #[serde(default)]
    pub immutable: Vec<String>,
}

/// The programs of e2fsprogs.
#[derive(Debug, Clone, PartialEq, Eq, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct DataEntry {
    /// `mke2fs`.
    pub make: AbsolutePath,
    /// `e2fsck`.
    pub check: AbsolutePath,
}

/// Where a file of the seed partition goes.
#[derive(Debug, Clone, PartialEq, Eq, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct SeedEntry {
    /// A path on a volume; for a folder, one that ends in a slash.
    pub to: String,
    /// Whose it is there.
    #[serde(default = "Owner::root")]
    pub owner: Owner,
    /// Permission bits there.
    pub mode: Mode,
}

/// A service, as a layer describes it.
#[derive(Debug, Clone, PartialEq, Eq, Deserialize)]
#[serde(deny_unknown_fields, rename_all = "kebab-case")]
pub struct ServiceEntry {
    /// Program and arguments.
    pub run: Vec<String>,
    /// Who it runs as.
    pub user: String,
    /// Environment.
    #[serde(default)]
    pub env: BTreeMap<String, String>,
    /// What must be ready before it starts.
    #[serde(default)]
    pub after: Vec<String>,
    /// Ends by itself: `{ creates = "/path", within = "30s" }`.
    pub once: Option<Once>,
    /// When it is up: `{ tcp = 5222, within = "20s" }`.
    pub ready: Option<ReadyEntry>,
    /// How one knows that it still is: `{ tcp = 5222, send = "…", every = "60s", within = "30s" }`.
    pub alive: Option<AliveEntry>,
    /// Directories under `/run` made for it.
    #[serde(default)]
    pub runtime: Vec<AbsolutePath>,
    /// Volumes, and other services' runtime directories, that it sees: `{ "/var/lib/x" = "rw" }`.
    /// One with `?` behind it is granted where another layer declares it.
    #[serde(default)]
    pub grants: BTreeMap<Granted, Access>,
    /// What it may ask of stele-init: `["state", "logs"]`.
    #[serde(default)]
    pub control: BTreeSet<VerbName>,
    /// Its part in the bootstrap: `server` or `api`.
    pub gate: Option<Side>,
    /// How much of the machine it may take.
    #[serde(default)]
    pub limits: LimitsEntry,
    /// The most open files.
    #[serde(default = "usual_open_files")]
    pub open_files: u64,
    /// How long it may take to stop.
    #[serde(default)]
    pub stop: Stop,
}

fn usual_open_files() -> u64 {
    1024
}

/// How much of the machine a service may take; what isn't said is [`Limits::default`].
#[derive(Debug, Clone, Default, PartialEq, Eq, Deserialize)]
#[serde(deny_unknown_fields, rename_all = "kebab-case")]
pub struct LimitsEntry {
    /// Past this all its processes are killed.
    pub memory: Option<MemoryLimit>,
    /// The most processes and threads.
    pub pids: Option<u32>,
    /// Its share of a busy processor, from 1 to 10000.
    pub cpu_weight: Option<u32>,
}

/// How a task is done.
#[derive(Debug, Clone, PartialEq, Eq, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Once {
    /// Not run when this exists.
    pub creates: Option<AbsolutePath>,
    /// Not done by then is a failure.
    pub within: Span,
}

/// How a daemon shows that it is up.
#[derive(Debug, Clone, PartialEq, Eq, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct ReadyEntry {
    /// A port that answers.
    pub tcp: Option<u16>,
    /// A path that exists.
    pub file: Option<AbsolutePath>,
    /// It says so, as sd_notify does.
    #[serde(default)]
    pub notify: bool,
    /// Not ready by then is a failure.
    pub within: Span,
}

/// What a daemon is asked, and how soon it must answer something.
#[derive(Debug, Clone, PartialEq, Eq, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct AliveEntry {
    /// A port of its.
    pub tcp: u16,
    /// What it is told there.
    pub send: String,
    /// From one question to the next.
    pub every: Span,
    /// No answer by then is a failure.
    pub within: Span,
}

/// How a service is stopped.
#[derive(Debug, Clone, PartialEq, Eq, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Stop {
    /// After SIGTERM, until SIGKILL.
    pub within: Span,
}

impl Default for Stop {
    fn default() -> Stop {
        Stop { within: Span(std::time::Duration::from_secs(10)) }
    }
}

/// Which files of the tree start the machine. They go into the UKI, the ESP and the initrd, and
/// leave the tree.
#[derive(Debug, Clone, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Kernel {
    /// The kernel image.
    pub image: Glob,
    /// All kernel modules that may be chosen from.
    pub modules: Glob,
    /// The kernel package's list of what it has in itself.
    pub builtin: Glob,
    /// Modules (with all they depend on) loaded before the root is there. One with `?` behind its
    /// name is loaded where the kernel package has it.
    pub initrd: Vec<String>,
    /// Modules loaded once it is.
    pub root: Vec<String>,
    /// systemd's UKI stub.
    pub stub: Glob,
    /// systemd-boot.
    pub loader: Glob,
    /// What the kernel is told.
    #[serde(default)]
    pub cmdline: Vec<String>,
}

/// What one maintainer script does, and why it needn't run.
#[derive(Debug, Clone, PartialEq, Eq, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct ScriptNote {
    /// The package's name, perhaps with `*`.
    pub package: Glob,
    /// `preinst`, `postinst`, `config` or `triggers`.
    pub script: String,
    /// Digest of its text, see [`crate::scripts::normalised`]: one for each text that was read.
    pub sha256: Vec<Digest>,
    /// Who does what it would have done, or why nobody must.
    pub because: String,
}

/// A layer, its name and the folder it was read from.
#[derive(Debug, Clone)]
pub struct LayerFolder {
    /// Its name.
    pub name: Name,
    /// The folder that holds `layer.toml`.
    pub folder: PathBuf,
    /// What the document says.
    pub layer: Layer,
}

impl LayerFolder {
    /// Reads `FOLDER/NAME/layer.toml` from the first of `folders` that has it; `None` if none has.
    pub fn load(name: &Name, folders: &[PathBuf]) -> Result<Option<LayerFolder>> {
        let folder = folders
            .iter()
            .map(|folder| folder.join(name.as_str()))
            .find(|folder| folder.join("layer.toml").is_file());
        let Some(folder) = folder else { return Ok(None) };
        let layer = document::load(&folder.join("layer.toml"))?;
        Ok(Some(LayerFolder { name: name.clone(), folder, layer }))
    }

    /// A file beside the layer's document.
    pub fn beside(&self, path: &Path) -> PathBuf {
        self.folder.join(path)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn layer(text: &str) -> Result<Layer> {
        document::parse("layer.toml", text)
    }

    #[test]
    fn a_path_is_one_thing() {
        for bad in [
            "[files]\n\"/x\" = { text = \"a\", link = \"b\" }\n",
            "[files]\n\"/x\" = { mode = \"0644\" }\n",
            "[files]\n\"/x\" = { program = \"front\", from = \"front\" }\n",
            "[files]\n\"/x\" = { link = \"b\", mode = \"0644\" }\n",
            "[files]\n\"x\" = { text = \"a\" }\n",
        ] {
            assert!(layer(bad).is_err(), "{bad}");
        }
        let good = layer("[files]\n\"/x\" = { dir = true, owner = \"root:mail\" }\n").unwrap();
        let entry = good.files.values().next().unwrap();
        assert_eq!((entry.mode, entry.owner.group.as_str()), (0o755, "mail"));
    }

    #[test]
    fn a_program_is_one_that_a_layer_may_place() {
        let of = |name: &str| layer(&format!("[files]\n\"/x\" = {{ program = \"{name}\" }}\n"));
        let entry = of("pod-api").unwrap().files.into_values().next().unwrap();
        assert_eq!((entry.content, entry.mode), (Content::Program(Program::PodApi), 0o755));
        for (name, hint) in [("fornt", true), ("stele-init", false), ("nginx", false)] {
            let error = of(name).unwrap_err().to_string();
            let unknown = format!(
                "unknown program `{name}`, expected one of `stele-backup`, `front`, \
                 `stele-install`, `pod-api`, `stele-probe`"
            );
            assert!(error.contains(&unknown), "{error}");
            assert_eq!(error.contains("did you mean `front`?"), hint, "{error}");
        }
    }

    #[test]
    fn a_mistyped_key_is_shown_with_the_nearest_known_one() {
        let error = layer("[services.prosody]\nrunn = [\"/bin/x\"]\n").unwrap_err().to_string();
        assert!(error.contains("layer.toml:2:1"), "{error}");
        assert!(error.contains("did you mean `run`?"), "{error}");
    }
}
