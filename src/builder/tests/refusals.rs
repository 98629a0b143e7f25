//! What `stele build` refuses, each with a package or a layer that asks for it.

mod support;

use std::fs;

use support::{Archive, File, Package, Project, Server, said, stele};

/// The smallest file that passes for a static program: an ELF header and nothing else.
const STATIC_PROGRAM: &[u8] = b"\x7fELF\x02\x01\x01\0\0\0\0\0\0\0\0\0\x02\0\x3e\0\x01\0\0\0\
    \0\0\0\0\0\0\0\0\0\0\0\0\0\0\0\0\0\0\0\0\0\0\0\0\0\0\0\0\x40\0\x38\0\0\0\x40\0\0\0\0\0";

/// The smallest that passes for what firmware starts: all of it is one segment of code.
fn program_of_firmware() -> Vec<u8> {
    let mut elf = STATIC_PROGRAM.to_vec();
    // It is position-independent, and its one program header follows: load, readable code.
    (elf[16], elf[32], elf[56]) = (3, 64, 1);
    elf.extend([1u32, 5].iter().flat_map(|word| word.to_le_bytes()));
    elf.extend([0u64, 0, 0, 120, 120, 4096].iter().flat_map(|word| word.to_le_bytes()));
    elf
}

/// What a layer's [kernel] looks for.
const KERNEL_FILES: [(&str, File); 5] = [
    ("boot/k-6", File::Text("kernel")),
    ("usr/modules/a.ko", File::Text("")),
    ("usr/modules.builtin", File::Text("kernel/b.ko\n")),
    ("usr/stub", File::Text("stub")),
    ("usr/loader", File::Text("loader")),
];

const LAYER: &str = r#"
packages = { tool = ["all"] }
[slices.tool]
all = ["/**"]
[kernel]
image = "/boot/k-*"
modules = "/usr/modules/*.ko"
builtin = "/usr/modules.builtin"
initrd = ["b"]
root = []
stub = "/usr/stub"
loader = "/usr/loader"
[users.root]
uid = 0
"#;

/// Builds with these files in the package and this text added to the layer; what is said.
fn said_of(files: &[(&'static str, File)], layer: &str) -> String {
    let files = [&KERNEL_FILES, files].concat();
    let archive = Archive::new(vec![Package { files, ..Package::new("tool", "1.0") }]);
    let project = Project::new(&archive.key);
    project.write("layers/only/layer.toml", &format!("{LAYER}\n{layer}"));
    project.write("layers/only/beside.txt", "beside");
    let locked = project.lock(&Server::honest(archive.files()));
    assert!(locked.status.success(), "{}", said(&locked));
    fs::create_dir(project.path("programs")).unwrap();
    fs::write(project.path("programs/stele-init"), STATIC_PROGRAM).unwrap();
    fs::write(project.path("programs/stele-loader"), program_of_firmware()).unwrap();
    let output = stele(&project.path("store"))
        .args(["build", "--programs"])
        .arg(project.path("programs"))
        .arg("--out")
        .arg(project.path("out"))
        .arg(project.path("test.toml"))
        .output()
        .unwrap();
    assert_eq!(output.status.code(), Some(1), "{}", said(&output));
    assert!(!project.path("out/test-1.img").exists());
    said(&output)
}

#[test]
fn what_an_image_cannot_hold_is_refused() {
    let lost: [(File, &str); 4] = [
        (File::HardLink("usr/stub"), "cannot take /usr/x of tool: it is a hard link to /usr/stub"),
        (File::Capable, "cannot take /usr/x of tool: it has the extended attribute security.cap"),
        (File::SetUser, "cannot take /usr/x of tool: it is set-user-id"),
        (File::OwnedBy(7), "cannot take /usr/x of tool: no layer declares its owner 7:0"),
    ];
    for (file, cause) in lost {
        let error = said_of(&[("usr/x", file)], "");
        assert!(error.contains(cause), "{error}");
    }
}

#[test]
fn a_tree_that_does_not_close_is_refused() {
    // This very test is linked to libraries that the tree doesn't have.
    let dynamic = fs::read(std::env::current_exe().unwrap()).unwrap().leak();
    let broken: [(&[(&str, File)], &str); 3] = [
        (
            &[("usr/x", File::Link("nowhere/at/all"))],
            "cannot ship link /usr/x of package tool: it leads to /usr/nowhere/at/all",
        ),
        (&[("usr/bin/x", File::Bytes(dynamic))], "cannot close the tree: "),
        (&[("usr/bin/x", File::Bytes(b"\x7fELF"))], "cannot read ELF file /usr/bin/x"),
    ];
    for (files, cause) in broken {
        let error = said_of(files, "");
        assert!(error.contains(cause), "{error}");
    }
    // With the reason written down, the link may stay: then the stub, which is none, is in the way.
    let noted = said_of(&[("usr/x", File::Link("nowhere"))], "[dangling]\n\"/usr/x\" = \"why\"");
    assert!(noted.contains("cannot read the UKI stub"), "{noted}");
}

#[test]
fn a_path_is_claimed_once_or_replaced_on_purpose() {
    let files = [("usr/x", File::Text("theirs"))];
    let error = said_of(&files, "[files]\n\"/usr/x\" = { from = \"beside.txt\" }");
    assert!(error.contains("cannot add /usr/x: package tool and layer only disagree"), "{error}");
    let error = said_of(&files, "[files]\n\"/usr/x\" = { text = \"a\", replaces = true }");
    assert!(error.contains("cannot read the UKI stub"), "{error}");
}

#[test]
fn layers_that_do_not_fit_are_refused() {
    let layers = [
        (
            "[slices.other]\nall = []\n[files]\n\"/a\" = { text = \"x\", owner = \"who\" }",
            "no layer declares user or group `who`",
        ),
        (
            "[services.s]\nrun = [\"/usr/bin/none\"]\nuser = \"root\"",
            "cannot run service s: there is no /usr/bin/none",
        ),
        (
            "[users.s]\nuid = 5\n[services.s]\nrun = [\"/usr/share/doc/tool/copyright\"]\nuser = \"s\"",
            "cannot run service s: there is no /nonexistent, the home of user `s`",
        ),
        (
            "[services.s]\nrun = [\"/usr/stub\"]\nuser = \"who\"",
            "it runs as `who`, which no layer declares",
        ),
        ("[files]\n\"/x\" = { program = \"front\" }", "/programs/front"),
        (
            "[files]\n\"/x\" = { program = \"frond\" }",
            "unknown program `frond`, expected one of `stele-backup`, `front`, `stele-install`, `pod-api`, `stele-probe`",
        ),
        ("[services.init]\nrun = [\"/usr/stub\"]\nuser = \"root\"", "the name is stele-init's own"),
        (
            "[volumes]\n\"/usr\" = { owner = \"root\", mode = \"0755\" }",
            "cannot mount volume /usr: ",
        ),
    ];
    for (layer, cause) in layers {
        // Some of these are found before anything is locked: the plan itself is refused.
        let error = plan_or_build(layer);
        assert!(error.contains(cause), "{error}\ndoes not say: {cause}");
    }
}

fn plan_or_build(layer: &str) -> String {
    let archive = Archive::new(vec![Package::new("tool", "1.0")]);
    let project = Project::new(&archive.key);
    project.write("layers/only/layer.toml", &format!("{LAYER}\n{layer}"));
    let locked = project.lock(&Server::honest(archive.files()));
    match locked.status.success() {
        true => said_of(&[], layer),
        false => said(&locked),
    }
}
