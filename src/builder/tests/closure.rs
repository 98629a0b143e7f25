//! The closure of packages is apt's.

mod support;

use std::collections::BTreeSet;
use std::fs;
use std::path::Path;
use std::process::Command;

use serde_json::Value;
use support::real::succeeded;
use support::{STELE, said};

const ROOTS: [&[&str]; 7] = [
    &["prosody"],
    &["nginx", "openssh-server"],
    &["ejabberd", "coturn"],
    &["postgresql"],
    &["systemd", "network-manager"],
    &["chromium"],
    &["prosody", "ca-certificates", "linux-image-cloud-amd64", "systemd-boot-efi", "e2fsprogs"],
];

const RECIPE: &str = r#"
name = "closure"
version = "1"
title = "Closure"
layers = ["only"]
layers-from = ["."]
[debian]
suite = "trixie"
architecture = "amd64"
[image]
esp = "48 MiB"
slot = "64 MiB"
seed = "8 MiB"
"#;

const KERNEL: &str = r#"
[kernel]
image = "/k"
modules = "/m"
builtin = "/b"
initrd = []
root = []
stub = "/s"
loader = "/l"
"#;

#[test]
fn closures_are_what_apt_would_install() {
    let folder = tempfile::tempdir().unwrap();
    let apt = Apt::new(&folder.path().join("apt"));
    for roots in ROOTS {
        let ours = closure(folder.path(), roots);
        let theirs = apt.would_install(roots);
        let only_ours: Vec<_> = ours.difference(&theirs).collect();
        let only_theirs: Vec<_> = theirs.difference(&ours).collect();
        assert_eq!(ours, theirs, "{roots:?}: ours has {only_ours:?}, apt has {only_theirs:?}");
        println!("{roots:?}: {} packages", ours.len());
    }
}

/// `name version` of each package.
fn closure(folder: &Path, roots: &[&str]) -> BTreeSet<String> {
    let packages: String = roots.iter().map(|root| format!("{root} = []\n")).collect();
    fs::create_dir_all(folder.join("only")).unwrap();
    fs::write(folder.join("closure.toml"), RECIPE).unwrap();
    fs::write(folder.join("only/layer.toml"), format!("[packages]\n{packages}{KERNEL}")).unwrap();
    let output = Command::new(STELE)
        .args(["lock", "--dry-run", "--json"])
        .arg(folder.join("closure.toml"))
        .output()
        .unwrap();
    assert!(output.status.success(), "{}", said(&output));
    let outcome: Value = serde_json::from_slice(&output.stdout).unwrap();
    ["packages", "omitted"]
        .iter()
        .flat_map(|part| outcome[part].as_object().unwrap())
        .map(|(name, version)| format!("{name} {}", version.as_str().unwrap()))
        .collect()
}

/// apt with folders of its own, in which nothing is installed.
struct Apt {
    config: std::path::PathBuf,
}

impl Apt {
    fn new(folder: &Path) -> Apt {
        for name in ["lists/partial", "cache/archives/partial", "parts"] {
            fs::create_dir_all(folder.join(name)).unwrap();
        }
        fs::write(folder.join("status"), "").unwrap();
        let (debian, security) = mirrors();
        let sources = format!(
            "deb [trusted=yes] {debian} trixie main\ndeb [trusted=yes] {debian} trixie-updates \
             main\ndeb [trusted=yes] {security} trixie-security main\n"
        );
        fs::write(folder.join("sources.list"), sources).unwrap();
        let at = folder.display();
        let config = folder.join("apt.conf");
        let text = format!(
            "Dir::State \"{at}\"; Dir::State::lists \"{at}/lists\"; Dir::State::status \
             \"{at}/status\"; Dir::Cache \"{at}/cache\"; Dir::Etc::sourcelist \
             \"{at}/sources.list\"; Dir::Etc::sourceparts \"{at}/parts\"; \
             Dir::Etc::preferencesparts \"{at}/parts\"; Dir::Etc::preferences \"{at}/none\"; \
             APT::Architecture \"amd64\"; APT::Architectures {{ \"amd64\"; }}; APT::Sandbox::User \
             \"root\"; Acquire::Languages \"none\";\n"
        );
        fs::write(&config, text).unwrap();
        let apt = Apt { config };
        succeeded(apt.get(&["update"]));
        apt
    }

    fn get(&self, arguments: &[&str]) -> std::process::Output {
        Command::new("apt-get")
            .args(arguments)
            .env("APT_CONFIG", &self.config)
            .env("LC_ALL", "C")
            .output()
            .unwrap()
    }

    fn would_install(&self, roots: &[&str]) -> BTreeSet<String> {
        let arguments = [&["-s", "--no-install-recommends", "install"], roots].concat();
        succeeded(self.get(&arguments)).lines().filter_map(installed).collect()
    }
}

/// `Inst zlib1g (1:1.3 Debian:13/stable [amd64])` → `zlib1g 1:1.3`
fn installed(line: &str) -> Option<String> {
    let (name, rest) = line.strip_prefix("Inst ")?.split_once(" (")?;
    Some(format!("{name} {}", rest.split(' ').next()?))
}

/// What this host's apt uses, asked of apt itself.
fn mirrors() -> (String, String) {
    let output = Command::new("apt-get")
        .args([
            "indextargets",
            "--format",
            "$(CREATED_BY) $(REPO_URI) $(RELEASE)",
            "Created-By: Packages",
        ])
        .output()
        .unwrap();
    let lines = succeeded(output);
    let find = |security: bool| {
        let debian = ["bookworm", "trixie", "forky", "sid"];
        lines.lines().find_map(|line| {
            let words: Vec<&str> = line.split(' ').collect();
            let [_, uri, release] = words.as_slice() else { return None };
            let (name, rest) = release.split_once('-').unwrap_or((release, ""));
            let wanted = if security { "security" } else { "" };
            (debian.contains(&name) && rest == wanted).then(|| (*uri).to_owned())
        })
    };
    (find(false).expect("a Debian mirror"), find(true).expect("a mirror of Debian's security"))
}
