//! What `stele build` refuses, each with a package or a layer that asks for it.

mod support;

use std::fs;

use support::tiny::{LAYER, Tiny};
use support::{Archive, File, Package, Project, Server, said};

/// Builds with these files in the package and this text added to the layer; what is said.
fn said_of(files: &[(&'static str, File)], layer: &str) -> String {
    let tiny = Tiny::new(files, layer, File::Text("stub"));
    let output = tiny.make(&["build"], "out");
    assert_eq!(output.status.code(), Some(1), "{}", said(&output));
    assert!(!tiny.path("out/test-1.img").exists());
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
