//! Foreign tools judge what the builder has written: each format by somebody else's reader.

mod support;

use std::collections::BTreeMap;
use std::fs;
use std::os::unix::fs::PermissionsExt;
use std::path::{Path, PathBuf};

use serde_json::Value;
use support::real::{checkout, image, recipes, store, succeeded, tool};

fn text(path: &Path) -> &str {
    path.to_str().unwrap()
}

#[test]
fn the_partition_table_is_sound() {
    let image = &image().image;
    let verdict = succeeded(tool("sgdisk", &["-v", text(image)]));
    assert!(verdict.contains("No problems found"), "{verdict}");
    let verdict = succeeded(tool("sfdisk", &["--verify", text(image)]));
    assert!(verdict.contains("No errors detected"), "{verdict}");
    let shown: Value =
        serde_json::from_str(&succeeded(tool("sfdisk", &["--json", text(image)]))).unwrap();
    let partitions = shown["partitiontable"]["partitions"].as_array().unwrap();
    let names: Vec<&str> = partitions.iter().map(|p| p["name"].as_str().unwrap()).collect();
    assert_eq!(names, ["esp", "seed", "slot-a"]);
}

#[test]
fn the_fat_volumes_are_clean() {
    let folder = tempfile::tempdir().unwrap();
    for name in ["esp", "seed"] {
        let volume = image().partition(name, folder.path());
        succeeded(tool("fsck.fat", &["-n", "-v", text(&volume)]));
        // The check can fail: a lost chain is noticed.
        let mut bytes = fs::read(&volume).unwrap();
        bytes[512 + 100..512 + 104].fill(0xff);
        fs::write(&volume, bytes).unwrap();
        assert!(!tool("fsck.fat", &["-n", text(&volume)]).status.success());
    }
}

#[test]
fn qemu_reads_the_same_disk_from_its_own_format() {
    let folder = tempfile::tempdir().unwrap();
    let build = |out: &str, formats: &str| {
        let out = folder.path().join(out);
        let mut command = std::process::Command::new(support::STELE);
        command.args(["build", "--json", "--format", formats, "--out"]).arg(&out);
        let output = command.arg(recipes().join("prose-pod.toml")).output().unwrap();
        assert!(output.status.success(), "{}", support::said(&output));
        let outcome: Value = serde_json::from_slice(&output.stdout).unwrap();
        let image = PathBuf::from(outcome["image"].as_str().unwrap());
        assert_eq!(image.extension().unwrap(), "qcow2");
        (out, image)
    };
    let (out, both) = build("both", "qcow2,raw");
    let raw = out.join(image().image.file_name().unwrap());
    assert!(fs::read(&raw).unwrap() == fs::read(&image().image).unwrap());
    let verdict = succeeded(tool("qemu-img", &["check", "-f", "qcow2", text(&both)]));
    assert!(verdict.contains("No errors were found on the image."), "{verdict}");
    let compare = ["compare", "-f", "qcow2", "-F", "raw", text(&both), text(&raw)];
    assert!(succeeded(tool("qemu-img", &compare)).contains("Images are identical."));
    let (out, alone) = build("alone", "qcow2");
    assert!(!out.join(raw.file_name().unwrap()).exists());
    assert!(fs::read(alone).unwrap() == fs::read(both).unwrap(), "it isn't repeatable");
}

#[test]
fn the_hash_tree_is_the_one_that_veritysetup_makes() {
    let folder = tempfile::tempdir().unwrap();
    let slot = image().partition("slot-a", folder.path());
    let root = &image().outcome["report"]["root"];
    let (hash, salt) = (root["root_hash"].as_str().unwrap(), root["salt"].as_str().unwrap());
    let blocks = root["data_blocks"].as_u64().unwrap();
    let options = [
        "--no-superblock".to_owned(),
        format!("--data-blocks={blocks}"),
        format!("--hash-offset={}", blocks * 4096),
        format!("--salt={salt}"),
    ];
    let mut arguments = vec!["verify"];
    arguments.extend(options.iter().map(String::as_str));
    arguments.extend([text(&slot), text(&slot), hash]);
    succeeded(tool("veritysetup", &arguments));
    // The check can fail: one bit of the data.
    let mut bytes = fs::read(&slot).unwrap();
    bytes[4096 * 7 + 1] ^= 1;
    fs::write(&slot, bytes).unwrap();
    assert!(!tool("veritysetup", &arguments).status.success());
}

#[test]
fn the_uki_has_its_sections() {
    let folder = tempfile::tempdir().unwrap();
    let esp = image().partition("esp", folder.path());
    let uki = folder.path().join("uki");
    succeeded(tool("mcopy", &["-i", text(&esp), "::/EFI/Linux/p1.efi", text(&uki)]));
    let listing = succeeded(tool("objdump", &["-h", text(&uki)]));
    for section in [".osrel", ".cmdline", ".uname", ".linux", ".initrd"] {
        assert!(listing.contains(section), "{section} is missing: {listing}");
    }
    let section = |name: &str| {
        let to = folder.path().join(name.trim_start_matches('.'));
        let copy = format!("{name}={}", text(&to));
        succeeded(tool(
            "objcopy",
            &["-O", "binary", "--dump-section", &copy, text(&uki), "/dev/null"],
        ));
        to
    };
    let cmdline = fs::read_to_string(section(".cmdline")).unwrap();
    assert!(cmdline.starts_with("gpt panic=1 "), "{cmdline}");
    let release = fs::read_to_string(section(".osrel")).unwrap();
    assert!(release.starts_with("PRETTY_NAME=") && !release.contains("ID="), "{release}");
    let initrd = section(".initrd");
    let plain = folder.path().join("cpio");
    succeeded(tool("zstd", &["-q", "-d", text(&initrd), "-o", text(&plain)]));
    let names = succeeded(tool("cpio", &["-t", "--quiet", "-F", text(&plain)]));
    let names: Vec<&str> = names.lines().collect();
    assert_eq!(&names[..3], ["init", "initrd.json", "modules"]);
    assert!(names.iter().any(|name| name.starts_with("modules/dm-verity.ko")), "{names:?}");
}

#[test]
fn the_root_holds_what_dpkg_unpacks() {
    let folder = tempfile::tempdir().unwrap();
    let slot = image().partition("slot-a", folder.path());
    let root = folder.path().join("root");
    succeeded(tool("unsquashfs", &["-no-progress", "-d", text(&root), text(&slot)]));
    let provenance = fs::read(root.join("usr/share/stele/provenance.json")).unwrap();
    let provenance: Value = serde_json::from_slice(&provenance).unwrap();
    let mut compared = 0;
    for (name, digest) in locked_packages() {
        let deb = store().join("sha256").join(&digest[..2]).join(&digest);
        let unpacked = folder.path().join("dpkg").join(&name);
        fs::create_dir_all(&unpacked).unwrap();
        succeeded(tool("dpkg-deb", &["-x", text(&deb), text(&unpacked)]));
        let paths = provenance["paths"][format!("package {name}")].as_array();
        for path in paths.into_iter().flatten() {
            let path = path.as_str().unwrap().trim_start_matches('/');
            match path.starts_with("usr/lib/stele/modules/") {
                // The kernel's modules have a place of their own in the root.
                true => compare(&root.join(path), &found(&unpacked, Path::new(path))),
                false => compare(&root.join(path), &unpacked.join(path)),
            }
            compared += 1;
        }
    }
    assert!(compared > 200, "only {compared} paths came from packages");
}

/// The file of the same name, wherever it is below `folder`.
fn found(folder: &Path, name: &Path) -> PathBuf {
    let name = text(Path::new(name.file_name().unwrap()));
    let paths = succeeded(tool("find", &[text(folder), "-name", name]));
    paths.trim_end().into()
}

fn compare(ours: &Path, theirs: &Path) {
    let context = format!("{} and {}", ours.display(), theirs.display());
    let (a, b) =
        (fs::symlink_metadata(ours).unwrap(), fs::symlink_metadata(theirs).expect(&context));
    assert_eq!(a.file_type(), b.file_type(), "{context}");
    if a.is_symlink() {
        assert_eq!(fs::read_link(ours).unwrap(), fs::read_link(theirs).unwrap(), "{context}");
    } else {
        assert_eq!(a.permissions().mode(), b.permissions().mode(), "{context}");
        assert!(fs::read(ours).unwrap() == fs::read(theirs).unwrap(), "{context} differ");
    }
}

fn locked_packages() -> BTreeMap<String, String> {
    let lock = fs::read_to_string(recipes().join("prose-pod.lock")).unwrap();
    let lock: toml::Table = lock.parse().unwrap();
    lock["package"]
        .as_array()
        .unwrap()
        .iter()
        .map(|package| {
            let field = |name: &str| package[name].as_str().unwrap().to_owned();
            (field("name"), field("sha256"))
        })
        .collect()
}

#[test]
fn nothing_of_this_machine_is_in_the_image() {
    let here = checkout();
    for secret in [text(&here), "PRIVATE KEY"] {
        let found = tool("grep", &["-a", "-c", "-F", secret, text(&image().image)]);
        assert_eq!(found.status.code(), Some(1), "`{secret}` stands in the image");
    }
    // The search can find something.
    let found = tool("grep", &["-a", "-c", "-F", "PRETTY_NAME=", text(&image().image)]);
    assert!(found.status.success());
}
