//! `stele lock` against archives that lie, each served from loopback.

mod support;

use openpgp::testing;
use support::{Archive, File, Files, Manner, Package, Project, Server, said};

const INRELEASE: &str = "/dists/sid/InRelease";
const PACKAGES: &str = "/dists/sid/main/binary-amd64/Packages.gz";
const DEB: &str = "/pool/tool_1.0.deb";

fn tool() -> Package {
    Package { files: vec![("usr/bin/tool", File::Text("#!tool"))], ..Package::new("tool", "1.0") }
}

fn archive() -> Archive {
    let library = Package::new("library", "2");
    Archive::new(vec![Package { depends: "library (>= 1)", ..tool() }, library])
}

fn changed(mut files: Files, path: &str, change: impl Fn(&mut Vec<u8>)) -> Files {
    change(files.get_mut(path).unwrap());
    files
}

/// Locks against `server`; must fail, say `cause`, and leave no lock.
fn refused(summary: &str, project: &Project, server: &Server, cause: &str) {
    let before = project.lock_text();
    let output = project.lock(server);
    let error = said(&output);
    assert_eq!(output.status.code(), Some(1), "{summary}: {error}");
    assert!(error.contains(cause), "{summary}: {error}\ndoes not say: {cause}");
    assert_eq!(project.lock_text(), before, "{summary}: something was written");
}

#[test]
fn an_honest_archive_is_locked() {
    let archive = archive();
    let project = Project::new(&archive.key);
    let server = Server::honest(archive.files());
    let output = project.lock(&server);
    assert!(output.status.success(), "{}", said(&output));
    let lock = project.lock_text().unwrap();
    assert!(lock.contains("name = \"tool\"") && lock.contains("why = [\"layer only\"]"), "{lock}");
    assert!(lock.contains("[[omitted]]\nname = \"library\""), "{lock}");
    assert!(!lock.contains("127.0.0.1"), "a lock names no mirror: {lock}");
    // What is omitted isn't even fetched.
    assert!(!server.asked.lock().unwrap().iter().any(|path| path.contains("library")));
    // Once more: nothing has changed, and no package is fetched again.
    let output = project.lock(&server);
    assert!(String::from_utf8_lossy(&output.stdout).contains("no package changed"));
    assert_eq!(project.lock_text().unwrap(), lock);
    let asked = server.asked.lock().unwrap();
    assert_eq!(asked.iter().filter(|path| *path == DEB).count(), 1);
}

#[test]
fn a_lying_archive_is_refused_and_nothing_is_written() {
    let honest = archive();
    let unsigned = |document: &str| {
        let text = document.split("-----BEGIN PGP SIGNATURE").next().unwrap();
        text.split_once("\n\n").unwrap().1.to_owned()
    };
    let expired =
        Archive { more: "Valid-Until: Sat, 21 Nov 2020 00:00:00 UTC\n".into(), ..archive() };
    let other_suite = Files::from([(
        INRELEASE.to_owned(),
        honest
            .sign("Suite: stable\nCodename: trixie\nDate: Fri, 20 Nov 2026 02:11:10 UTC\nSHA256:\n")
            .into_bytes(),
    )]);
    let stranger = Archive { key: testing::new_key("stranger"), ..archive() };
    let cases: [(&str, Files, &str); 8] = [
        (
            "a forged signature",
            changed(honest.files(), INRELEASE, |bytes| {
                let text = String::from_utf8(bytes.clone()).unwrap();
                *bytes = text.replace("Origin: Test", "Origin: Fest").into_bytes();
            }),
            "cannot trust InRelease of sid: bad signature",
        ),
        (
            "a stripped signature",
            changed(honest.files(), INRELEASE, |bytes| {
                let text = String::from_utf8(bytes.clone()).unwrap();
                *bytes = unsigned(&text).into_bytes();
            }),
            "cannot trust InRelease of sid: it has no cleartext signature",
        ),
        ("a stranger's key", stranger.files(), "signed by unknown keys only"),
        ("an expired index", expired.files(), "it expired at 2020-11-21"),
        ("another suite's index", other_suite, "it is the index of stable or trixie, not of sid"),
        (
            "packages that the index doesn't name",
            changed(honest.files(), PACKAGES, |bytes| *bytes.last_mut().unwrap() ^= 1),
            "not ",
        ),
        (
            "another package than the list says",
            changed(honest.files(), DEB, |bytes| *bytes.last_mut().unwrap() ^= 1),
            "cannot fetch tool 1.0: it has SHA-256 ",
        ),
        (
            "a longer package than the list says",
            changed(honest.files(), DEB, |bytes| bytes.push(0)),
            "cannot fetch tool 1.0: it is longer than ",
        ),
    ];
    for (summary, files, cause) in cases {
        refused(summary, &Project::new(&honest.key), &Server::honest(files), cause);
    }
}

#[test]
fn a_download_that_breaks_off_is_resumed_or_named() {
    let archive = archive();
    let manner =
        |manner: Manner| move |path: &str| if path == DEB { manner } else { Manner::Honest };
    let server = Server::start(archive.files(), manner(Manner::BreaksOffOnce));
    let output = Project::new(&archive.key).lock(&server);
    assert!(output.status.success(), "{}", said(&output));
    assert_eq!(server.asked.lock().unwrap().iter().filter(|path| *path == DEB).count(), 2);

    let server = Server::start(archive.files(), manner(Manner::BreaksOff));
    let cause = "cannot fetch tool 1.0: the download ended after ";
    refused("truncated", &Project::new(&archive.key), &server, cause);
}

#[test]
fn an_older_index_than_the_locks_is_refused() {
    let newer = archive();
    let project = Project::new(&newer.key);
    assert!(project.lock(&Server::honest(newer.files())).status.success());
    let older = Archive { date: "Thu, 19 Nov 2026 02:11:10 UTC".into(), ..archive() };
    let cause = "older than the lock's of 2026-11-20";
    refused("replayed", &project, &Server::honest(older.files()), cause);
}

#[test]
fn a_maintainer_script_that_nobody_looked_at_is_shown() {
    let scripted =
        Package { scripts: vec![("postinst", "#!/bin/sh\nadduser x\n".into())], ..tool() };
    let archive = Archive::new(vec![scripted]);
    let project = Project::new(&archive.key);
    let server = Server::honest(archive.files());
    refused("unknown", &project, &server, "postinst of tool 1.0: no layer says what it does");
    let error = said(&project.lock(&server));
    assert!(error.contains("| adduser x"), "{error}");

    // The snippet that it prints is what a layer needs, once the reason is filled in.
    let from = error.find("[[script]]").unwrap();
    let to = error[from..].find("because").unwrap() + from;
    let layer = std::fs::read_to_string(project.path("layers/only/layer.toml")).unwrap();
    let noted = format!("{layer}\n{}because = \"x is of no use here\"\n", &error[from..to]);
    project.write("layers/only/layer.toml", &noted);
    let output = project.lock(&server);
    assert!(output.status.success(), "{}", said(&output));
}

#[test]
fn a_lock_made_from_other_inputs_is_stale() {
    let archive = archive();
    let project = Project::new(&archive.key);
    let server = Server::honest(archive.files());
    let build = || {
        let store = project.path("store");
        let mut command = support::stele(&store);
        command.arg("build").arg(project.path("test.toml")).args(["--programs", "/nonexistent"]);
        said(&command.output().unwrap())
    };
    assert!(build().contains("there is no "), "{}", build());
    assert!(project.lock(&server).status.success());
    assert!(build().contains("cannot read /nonexistent/stele-init"), "{}", build());
    let layer = std::fs::read_to_string(project.path("layers/only/layer.toml")).unwrap();
    let more = layer.replace("tool = [\"all\"]", "tool = [\"all\"], library = []");
    project.write("layers/only/layer.toml", &more);
    let error = build();
    assert!(error.contains("was made from another recipe or other layers"), "{error}");
    assert!(error.contains("\nhint: stele lock "), "{error}");
}

#[test]
fn packages_are_taken_from_another_suite_where_the_recipe_says_so() {
    let older = Archive::new(vec![
        Package { depends: "library", ..tool() },
        Package::new("library", "1"),
        Package::new("loader", "1"),
    ]);
    let newer = Archive {
        suite: "experimental",
        key: older.key.clone(),
        ..Archive::new(vec![Package::new("library", "2"), Package::new("loader", "3")])
    };
    let mut files = older.files();
    files.extend(newer.files());
    let server = Server::honest(files);
    let project = Project::new(&older.key);
    let recipe = std::fs::read_to_string(project.path("test.toml")).unwrap();
    let from = |names: &str| {
        let from = format!("suite = \"sid\"\nfrom = {{ experimental = [{names}] }}\n");
        project.write("test.toml", &recipe.replace("suite = \"sid\"\n", &from));
    };
    let layer = std::fs::read_to_string(project.path("layers/only/layer.toml")).unwrap();
    let more = layer.replace("tool = [\"all\"]", "tool = [\"all\"], loader = []");
    project.write("layers/only/layer.toml", &more);

    // The newest isn't enough: it must be named.
    from("\"load*\"");
    let output = project.lock(&server);
    assert!(output.status.success(), "{}", said(&output));
    let lock = project.lock_text().unwrap();
    for part in [
        "suite = \"experimental\"",
        "name = \"loader\"\nversion = \"3\"",
        "name = \"library\"\nversion = \"1\"",
    ] {
        assert!(lock.contains(part), "{part}: {lock}");
    }
    // One that is named is never the usual suite's.
    from("\"tool\"");
    refused("absent", &project, &server, "cannot find package tool: no source has one");
    from("\"loader\", \"leader\"");
    let cause = "cannot take leader from experimental: no package of the closure is called so";
    refused("idle", &project, &server, cause);
}
