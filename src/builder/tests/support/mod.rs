//! What the builder's tests share: a Debian archive made in memory, and a server on loopback that
//! hands it out, truthfully or not.

#![allow(dead_code)] // each test program uses its part

pub mod real;
pub mod tiny;

use std::collections::BTreeMap;
use std::fmt::Write as _;
use std::fs;
use std::io::{BufRead, BufReader, Write};
use std::net::{TcpListener, TcpStream};
use std::path::{Path, PathBuf};
use std::process::{Command, Output};
use std::sync::{Arc, Mutex};
use std::thread;

use appliance::hash::Digest;
use flate2::Compression;
use flate2::write::GzEncoder;
use openpgp::testing::{self, Key};

/// The program under test.
pub const STELE: &str = env!("CARGO_BIN_EXE_stele");

/// A package to be.
#[derive(Clone)]
pub struct Package {
    pub name: &'static str,
    pub version: &'static str,
    pub depends: &'static str,
    pub scripts: Vec<(&'static str, String)>,
    pub files: Vec<(&'static str, File)>,
}

/// What stands at a path of a package.
#[derive(Clone, Copy)]
pub enum File {
    Text(&'static str),
    Bytes(&'static [u8]),
    Link(&'static str),
    HardLink(&'static str),
    SetUser,
    OwnedBy(u64),
    Capable,
}

impl Package {
    pub fn new(name: &'static str, version: &'static str) -> Package {
        Package { name, version, depends: "", scripts: vec![], files: vec![] }
    }

    fn control(&self) -> String {
        let depends = match self.depends {
            "" => String::new(),
            depends => format!("Depends: {depends}\n"),
        };
        format!("Package: {}\nVersion: {}\nArchitecture: amd64\n{depends}", self.name, self.version)
    }

    fn path(&self) -> String {
        format!("pool/{}_{}.deb", self.name, self.version)
    }

    /// The .deb, as `dpkg-deb` would lay it out.
    pub fn deb(&self) -> Vec<u8> {
        let control = self.control();
        let mut members: Vec<(&str, Tar<'_>)> = vec![("control", Tar::file(control.as_bytes()))];
        members.extend(self.scripts.iter().map(|(name, text)| (*name, Tar::file(text.as_bytes()))));
        let doc = format!("usr/share/doc/{}/copyright", self.name);
        let mut files: Vec<(&str, Tar<'_>)> = vec![(&doc, Tar::file(b"Free.\n"))];
        files.extend(self.files.iter().map(|(path, file)| (*path, Tar::of(*file))));
        let mut bytes = b"!<arch>\n".to_vec();
        append_member(&mut bytes, "debian-binary", b"2.0\n");
        append_member(&mut bytes, "control.tar.gz", &tarball(&members));
        append_member(&mut bytes, "data.tar.gz", &tarball(&files));
        bytes
    }
}

fn append_member(archive: &mut Vec<u8>, name: &str, content: &[u8]) {
    let header =
        format!("{name:<16}{:<12}{:<6}{:<6}{:<8}{:<10}`\n", 0, 0, 0, 100644, content.len());
    archive.extend(header.bytes());
    archive.extend(content);
    archive.resize(archive.len().next_multiple_of(2), b'\n');
}

/// An entry of a tar archive.
struct Tar<'a> {
    kind: tar::EntryType,
    mode: u32,
    uid: u64,
    content: &'a [u8],
    target: Option<&'a str>,
    xattr: Option<(&'a str, &'a [u8])>,
}

impl<'a> Tar<'a> {
    fn file(content: &'a [u8]) -> Tar<'a> {
        let kind = tar::EntryType::Regular;
        Tar { kind, mode: 0o755, uid: 0, content, target: None, xattr: None }
    }

    fn of(file: File) -> Tar<'static> {
        let link = |kind, target| Tar { kind, target: Some(target), ..Tar::file(b"") };
        match file {
            File::Text(text) => Tar::file(text.as_bytes()),
            File::Bytes(bytes) => Tar::file(bytes),
            File::Link(target) => link(tar::EntryType::Symlink, target),
            File::HardLink(target) => link(tar::EntryType::Link, target),
            File::SetUser => Tar { mode: 0o4755, ..Tar::file(b"x") },
            File::OwnedBy(uid) => Tar { uid, ..Tar::file(b"x") },
            File::Capable => {
                Tar { xattr: Some(("SCHILY.xattr.security.capability", b"x")), ..Tar::file(b"x") }
            }
        }
    }
}

fn tarball(files: &[(&str, Tar<'_>)]) -> Vec<u8> {
    let mut builder = tar::Builder::new(GzEncoder::new(Vec::new(), Compression::fast()));
    for (path, file) in files {
        builder.append_pax_extensions(file.xattr).unwrap();
        let mut header = tar::Header::new_gnu();
        header.set_entry_type(file.kind);
        header.set_size(file.content.len() as u64);
        header.set_mode(file.mode);
        header.set_uid(file.uid);
        header.set_gid(0);
        match file.target {
            Some(target) => builder.append_link(&mut header, path, target).unwrap(),
            None => builder.append_data(&mut header, path, file.content).unwrap(),
        }
    }
    builder.into_inner().unwrap().finish().unwrap()
}

/// A suite, and everything that a mirror would serve of it.
pub struct Archive {
    pub key: Key,
    /// Its code name; `sid`, unless said.
    pub suite: &'static str,
    pub packages: Vec<Package>,
    /// Text of the Release file's `Date` field.
    pub date: String,
    /// Further fields.
    pub more: String,
}

impl Archive {
    pub fn new(packages: Vec<Package>) -> Archive {
        Archive {
            key: testing::new_key("archive"),
            suite: "sid",
            packages,
            date: "Fri, 20 Nov 2026 02:11:10 UTC".into(),
            more: String::new(),
        }
    }

    /// Path → bytes, as on a mirror.
    pub fn files(&self) -> Files {
        let mut files = Files::new();
        let mut index = String::new();
        for package in &self.packages {
            let deb = package.deb();
            let (control, path) = (package.control(), package.path());
            write!(
                index,
                "{control}Filename: {path}\nSize: {}\nSHA256: {}\n\n",
                deb.len(),
                Digest::of(&deb)
            )
            .unwrap();
            files.insert(format!("/{path}"), deb);
        }
        let mut gzip = GzEncoder::new(Vec::new(), Compression::fast());
        gzip.write_all(index.as_bytes()).unwrap();
        let gzip = gzip.finish().unwrap();
        let release = self.sign(&self.release(&gzip));
        let dists = format!("/dists/{}", self.suite);
        files.insert(format!("{dists}/main/binary-amd64/Packages.gz"), gzip);
        files.insert(format!("{dists}/InRelease"), release.into_bytes());
        files
    }

    pub fn sign(&self, text: &str) -> String {
        testing::sign_cleartext(text, &self.key)
    }

    fn release(&self, index: &[u8]) -> String {
        format!(
            "Origin: Test\nCodename: {}\nDate: {}\n{}SHA256:\n {} {} \
             main/binary-amd64/Packages.gz\n",
            self.suite,
            self.date,
            self.more,
            Digest::of(index),
            index.len()
        )
    }
}

/// What a mirror serves.
pub type Files = BTreeMap<String, Vec<u8>>;

/// A mirror on loopback. It ends with the test.
pub struct Server {
    pub url: String,
    /// Paths that were asked for.
    pub asked: Arc<Mutex<Vec<String>>>,
}

/// How a server treats one path.
#[derive(Clone, Copy, PartialEq, Eq)]
pub enum Manner {
    Honest,
    /// Breaks off half-way, always.
    BreaksOff,
    /// Breaks off half-way unless it is asked for the rest.
    BreaksOffOnce,
}

impl Server {
    pub fn start(files: Files, manner: impl Fn(&str) -> Manner + Send + Sync + 'static) -> Server {
        let listener = TcpListener::bind("127.0.0.1:0").unwrap();
        let url = format!("http://{}", listener.local_addr().unwrap());
        let asked = Arc::new(Mutex::new(Vec::new()));
        let log = asked.clone();
        let shared = Arc::new((files, manner));
        thread::spawn(move || {
            for stream in listener.incoming().flatten() {
                let (shared, log) = (shared.clone(), log.clone());
                thread::spawn(move || answer(stream, &shared.0, &shared.1, &log));
            }
        });
        Server { url, asked }
    }

    pub fn honest(files: Files) -> Server {
        Server::start(files, |_| Manner::Honest)
    }
}

fn answer(
    mut stream: TcpStream,
    files: &Files,
    manner: &impl Fn(&str) -> Manner,
    log: &Mutex<Vec<String>>,
) {
    let mut lines = BufReader::new(stream.try_clone().unwrap()).lines().map_while(Result::ok);
    let Some(request) = lines.next() else { return };
    let path = request.split(' ').nth(1).unwrap_or_default().to_owned();
    let headers: Vec<String> = lines.by_ref().take_while(|line| !line.is_empty()).collect();
    let from = headers.iter().find_map(|line| {
        let range = line.to_ascii_lowercase();
        range.strip_prefix("range: bytes=")?.trim_end_matches('-').parse::<usize>().ok()
    });
    log.lock().unwrap().push(path.clone());
    let Some(bytes) = files.get(&path) else {
        _ = stream.write_all(b"HTTP/1.1 404 Not Found\r\nContent-Length: 0\r\n\r\n");
        return;
    };
    let half = bytes.len() / 2;
    let (status, start, end) = match (manner(&path), from) {
        (Manner::Honest, None) => ("200 OK", 0, bytes.len()),
        (Manner::Honest | Manner::BreaksOffOnce, Some(from)) => {
            ("206 Partial Content", from, bytes.len())
        }
        (Manner::BreaksOff | Manner::BreaksOffOnce, _) => ("200 OK", 0, half),
    };
    let length = bytes.len() - start;
    let head =
        format!("HTTP/1.1 {status}\r\nContent-Length: {length}\r\nConnection: close\r\n\r\n");
    _ = stream.write_all(head.as_bytes());
    _ = stream.write_all(&bytes[start..end]);
}

/// A folder with a recipe, its layers and the archive's key.
pub struct Project {
    pub folder: tempfile::TempDir,
}

/// A layer that takes all of one package; the kernel is never looked for by `stele lock`.
const LAYER: &str = r#"
packages = { tool = ["all"] }
[slices.tool]
all = ["/**"]
[kernel]
image = "/boot/k"
modules = "/m/*"
builtin = "/m/builtin"
initrd = []
root = []
stub = "/stub"
loader = "/loader"
"#;

const RECIPE: &str = r#"
name = "test"
version = "1"
title = "Test"
layers = ["only"]
layers-from = ["layers"]
[debian]
suite = "sid"
architecture = "amd64"
key = "key.asc"
[image]
esp = "48 MiB"
slot = "64 MiB"
seed = "8 MiB"
"#;

impl Project {
    pub fn new(key: &Key) -> Project {
        let folder = tempfile::tempdir().unwrap();
        let project = Project { folder };
        project.write("test.toml", RECIPE);
        project.write("layers/only/layer.toml", LAYER);
        project.write("key.asc", &testing::armored_certificate(key));
        project
    }

    pub fn path(&self, name: &str) -> PathBuf {
        self.folder.path().join(name)
    }

    pub fn write(&self, name: &str, text: &str) {
        let path = self.path(name);
        fs::create_dir_all(path.parent().unwrap()).unwrap();
        fs::write(path, text).unwrap();
    }

    pub fn lock(&self, server: &Server) -> Output {
        stele(&self.folder.path().join("store"))
            .args(["lock", "--mirror", &server.url])
            .arg(self.path("test.toml"))
            .output()
            .unwrap()
    }

    pub fn lock_text(&self) -> Option<String> {
        fs::read_to_string(self.path("test.lock")).ok()
    }
}

/// The program under test, with a store of its own.
pub fn stele(store: &Path) -> Command {
    let mut command = Command::new(STELE);
    command.env("STELE_STORE", store);
    command
}

/// What a program said on standard error.
pub fn said(output: &Output) -> String {
    String::from_utf8_lossy(&output.stderr).into_owned()
}
