//! The closure of packages is apt's.

mod support;

use std::collections::BTreeSet;
use std::fs;
use std::path::{Path, PathBuf};
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

/// What `prose-pod-0.12` takes of trixie.
const OF_TRIXIE: [&str; 2] = ["linux-*", "systemd-boot-efi"];

const RECIPE: &str = r#"
name = "closure"
version = "1"
title = "Closure"
layers = ["only"]
layers-from = ["."]
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
    let apt = Apt::new(&folder.path().join("apt"), &["trixie"]);
    for roots in ROOTS {
        compare(folder.path(), "suite = \"trixie\"", &apt, roots);
    }
}

#[test]
fn closures_of_two_suites_are_what_apt_would_install() {
    let folder = tempfile::tempdir().unwrap();
    let apt = Apt::new(&folder.path().join("apt"), &["bookworm", "trixie"]);
    let names = OF_TRIXIE.join(" ");
    apt.prefer(&[("*", "trixie", -1), (&names, "bookworm", -1), (&names, "trixie", 500)]);
    let suites = format!("suite = \"bookworm\"\nfrom = {{ trixie = {OF_TRIXIE:?} }}");
    compare(folder.path(), &suites, &apt, ROOTS[ROOTS.len() - 1]);
}

/// `suites` is what a recipe says of them.
fn compare(folder: &Path, suites: &str, apt: &Apt, roots: &[&str]) {
    let ours = closure(folder, suites, roots);
    let theirs = apt.would_install(roots);
    let only_ours: Vec<_> = ours.difference(&theirs).collect();
    let only_theirs: Vec<_> = theirs.difference(&ours).collect();
    assert_eq!(ours, theirs, "{roots:?}: ours has {only_ours:?}, apt has {only_theirs:?}");
    println!("{roots:?}: {} packages", ours.len());
}

/// `name version` of each package.
fn closure(folder: &Path, suites: &str, roots: &[&str]) -> BTreeSet<String> {
    let packages: String = roots.iter().map(|root| format!("{root} = []\n")).collect();
    fs::create_dir_all(folder.join("only")).unwrap();
    let recipe = format!("{RECIPE}[debian]\narchitecture = \"amd64\"\n{suites}\n");
    fs::write(folder.join("closure.toml"), recipe).unwrap();
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
    config: PathBuf,
    preferences: PathBuf,
}

impl Apt {
    fn new(folder: &Path, suites: &[&str]) -> Apt {
        for name in ["lists/partial", "cache/archives/partial", "parts"] {
            fs::create_dir_all(folder.join(name)).unwrap();
        }
        fs::write(folder.join("status"), "").unwrap();
        let (debian, security) = mirrors();
        let of = |suite: &&str| {
            format!(
                "deb [trusted=yes] {debian} {suite} main\ndeb [trusted=yes] {debian} \
                 {suite}-updates main\ndeb [trusted=yes] {security} {suite}-security main\n"
            )
        };
        let sources: String = suites.iter().map(of).collect();
        fs::write(folder.join("sources.list"), sources).unwrap();
        let at = folder.display();
        let config = folder.join("apt.conf");
        let text = format!(
            "Dir::State \"{at}\"; Dir::State::lists \"{at}/lists\"; Dir::State::status \
             \"{at}/status\"; Dir::Cache \"{at}/cache\"; Dir::Etc::sourcelist \
             \"{at}/sources.list\"; Dir::Etc::sourceparts \"{at}/parts\"; \
             Dir::Etc::preferencesparts \"{at}/parts\"; Dir::Etc::preferences \"{at}/preferences\"; \
             APT::Architecture \"amd64\"; APT::Architectures {{ \"amd64\"; }}; APT::Sandbox::User \
             \"root\"; Acquire::Languages \"none\";\n"
        );
        fs::write(&config, text).unwrap();
        let apt = Apt { config, preferences: folder.join("preferences") };
        succeeded(apt.get(&["update"]));
        apt
    }

    /// Packages, a suite with its updates and security, and the priority that they have there.
    fn prefer(&self, pins: &[(&str, &str, i32)]) {
        let pin = |(packages, suite, priority): &(&str, &str, i32)| {
            format!("Package: {packages}\nPin: release n={suite}*\nPin-Priority: {priority}\n\n")
        };
        fs::write(&self.preferences, pins.iter().map(pin).collect::<String>()).unwrap();
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
