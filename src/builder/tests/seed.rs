//! `stele seed` on the real image: mtools and fsck.fat judge what it writes.

mod support;

use std::fs::{self, Permissions};
use std::os::unix::fs::PermissionsExt as _;
use std::path::{Path, PathBuf};
use std::process::{Command, Output};

use serde_json::Value;
use support::real::{Built, image, succeeded, tool};
use support::{STELE, said};
use tempfile::TempDir;

/// A copy of the image, and an operator's files beside it.
struct Desk(TempDir);

impl Desk {
    fn new() -> Desk {
        let desk = Desk(tempfile::tempdir().unwrap());
        fs::copy(&image().image, desk.image()).unwrap();
        fs::set_permissions(desk.image(), Permissions::from_mode(0o644)).unwrap();
        desk.write("Prose.toml", "domain = \"example.org\"\n");
        desk.write("env", "PROSE_LOG=debug\n");
        desk.write("certs/example.org.pem", &"certificate\n".repeat(500));
        desk.write("certs/example.org.key", "key\n");
        desk
    }

    fn path(&self, name: &str) -> PathBuf {
        self.0.path().join(name)
    }

    fn image(&self) -> PathBuf {
        self.path("image.img")
    }

    fn write(&self, name: &str, text: &str) {
        fs::create_dir_all(self.path(name).parent().unwrap()).unwrap();
        fs::write(self.path(name), text).unwrap();
    }

    fn seed(&self, names: &[&str]) -> Output {
        let mut command = Command::new(STELE);
        command.args(["seed", "--json"]).arg(self.image());
        command.args(names.iter().map(|name| self.path(name))).output().unwrap()
    }

    fn mode(&self) -> u32 {
        fs::metadata(self.image()).unwrap().permissions().mode() & 0o777
    }

    /// The seed partition, which is clean.
    fn volume(&self) -> PathBuf {
        let built = Built { image: self.image(), outcome: Value::Null };
        let volume = built.partition("seed", self.0.path());
        succeeded(tool("fsck.fat", &["-n", "-v", text(&volume)]));
        volume
    }

    /// What stands on the partition under this name.
    fn read(&self, name: &str) -> String {
        let from = format!("::/{name}");
        let read = tool("mcopy", &["-n", "-i", text(&self.volume()), &from, "-"]);
        assert!(read.status.success(), "{name}: {}", said(&read));
        String::from_utf8(read.stdout).unwrap()
    }
}

fn text(path: &Path) -> &str {
    path.to_str().unwrap()
}

#[test]
fn files_are_put_where_others_find_them() {
    let desk = Desk::new();
    let output = desk.seed(&["Prose.toml", "env", "certs"]);
    assert!(output.status.success(), "{}", said(&output));
    let outcome: Value = serde_json::from_slice(&output.stdout).unwrap();
    let files = outcome["files"].as_array().unwrap();
    let went: Vec<[&str; 2]> =
        files.iter().map(|file| ["file", "to"].map(|key| file[key].as_str().unwrap())).collect();
    let expected = [
        ["Prose.toml", "/etc/prose-pod-api/Prose.toml"],
        ["certs/example.org.key", "/etc/prosody/certs/example.org.key"],
        ["certs/example.org.pem", "/etc/prosody/certs/example.org.pem"],
        ["env", "/etc/prose/env"],
    ];
    assert_eq!(went, expected);
    assert_eq!((&outcome["made_private"], desk.mode()), (&Value::Bool(true), 0o600));
    for [name, _] in expected {
        assert_eq!(desk.read(name), fs::read_to_string(desk.path(name)).unwrap(), "{name}");
    }
    let listing = succeeded(tool("mdir", &["-i", text(&desk.volume()), "::/"]));
    assert!(listing.contains("STELE-SEED") && listing.contains("1980-01-01"), "{listing}");
    assert!(desk.read("README.TXT").starts_with("Put the configuration"));

    // All else is the image as it was.
    let (before, after) = (fs::read(&image().image).unwrap(), fs::read(desk.image()).unwrap());
    let table = image().table();
    let place = table.named("seed").unwrap().place();
    let (start, end) = (place.start as usize, place.end as usize);
    assert!(before[..start] == after[..start] && before[end..] == after[end..]);
    assert!(before[start..end] != after[start..end]);
}

#[test]
fn the_same_files_give_the_same_bytes() {
    let (one, other) = (Desk::new(), Desk::new());
    assert!(one.seed(&["Prose.toml", "env", "certs"]).status.success());
    assert!(other.seed(&["certs/", "env", "Prose.toml"]).status.success());
    let first = fs::read(one.image()).unwrap();
    assert!(first == fs::read(other.image()).unwrap());
    assert!(one.seed(&["env", "Prose.toml", "certs"]).status.success());
    assert!(first == fs::read(one.image()).unwrap());
}

#[test]
fn a_file_is_replaced() {
    let desk = Desk::new();
    assert!(desk.seed(&["env", "certs"]).status.success());
    desk.write("new/ENV", "PROSE_LOG=info\n");
    desk.write("new/CERTS/example.org.pem", "renewed\n");
    let output = desk.seed(&["new/ENV", "new/CERTS"]);
    assert!(output.status.success(), "{}", said(&output));
    let outcome: Value = serde_json::from_slice(&output.stdout).unwrap();
    let replaced: Vec<&Value> =
        outcome["files"].as_array().unwrap().iter().map(|file| &file["replaced"]).collect();
    assert_eq!(replaced, [true, true]);
    assert_eq!(outcome["made_private"], false);
    assert_eq!(desk.read("env"), "PROSE_LOG=info\n");
    assert_eq!(desk.read("certs/example.org.pem"), "renewed\n");
    assert_eq!(desk.read("certs/example.org.key"), "key\n");
    let listing = succeeded(tool("mdir", &["-b", "-/", "-i", text(&desk.volume()), "::/"]));
    let lower = listing.to_lowercase();
    assert_eq!(lower.matches("/env").count(), 1, "{listing}");
    assert_eq!(lower.matches("example.org.pem").count(), 1, "{listing}");
}

#[test]
fn what_is_refused_changes_nothing() {
    let desk = Desk::new();
    let before = fs::read(desk.image()).unwrap();
    desk.write("Prosy.toml", "x");
    desk.write("sub/env", "");
    desk.write("sub/Prose.toml", "a = \"\0\"");
    desk.write("sub/certs/with blank.pem", "x");
    desk.write("cert/a.pem", "x");
    // Room for seven of a MiB each.
    for number in 0..8 {
        desk.write(&format!("many/certs/{number}.pem"), &"x".repeat(1 << 20));
    }
    let wanted = "hint: this appliance takes certs/, env, network.toml, Prose.toml";
    for (names, cause, hint) in [
        (&["env", "Prosy.toml"][..], "Prosy.toml: this appliance has no use for it", wanted),
        (&["sub/env"], "env: it is empty", wanted),
        (&["sub/Prose.toml"], "Prose.toml: it is no text", wanted),
        (&["sub/certs"], "its name has more than letters", wanted),
        (&["cert"], "cert/: this appliance has no use for it", wanted),
        (&["many/certs"], "there is not enough room", "hint: a larger `seed` under [image]"),
        (&["missing"], "cannot read ", "No such file"),
    ] {
        let output = desk.seed(names);
        assert_eq!(output.status.code(), Some(1));
        let said = said(&output);
        assert!(said.starts_with("error: cannot seed ") && said.contains(cause), "{said}");
        assert!(said.contains(hint), "{said}");
        assert!(before == fs::read(desk.image()).unwrap() && desk.mode() == 0o644, "{said}");
    }
    fs::write(desk.image(), "no image").unwrap();
    assert!(said(&desk.seed(&["env"])).contains("cannot read image"));
}
