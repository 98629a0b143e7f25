//! The program itself, with files for disks and a socket for the stream, and how much memory it takes.

use std::fs::{self, File};
use std::io::{BufRead as _, BufReader, Write as _};
use std::os::fd::OwnedFd;
use std::os::unix::fs::FileExt as _;
use std::os::unix::net::UnixStream;
use std::process::{Child, Command, Stdio};
use std::thread;
use std::time::Duration;

use appliance::bundle::{CHUNK, FORMAT, Manifest, Part};
use appliance::esp::testing;
use appliance::hash::{Digest, RootHash, Salt};
use appliance::upgrade::{Code, Line, Order, Side, Space, Trust};
use appliance::verity::{self, Geometry};
use signing::SecretKey;
use tempfile::TempDir;
use zeroize::Zeroizing;

/// Bytes of the root: the bundle has a good 60 MB.
const ROOT: usize = 60 << 20;
/// Resident memory of the program, in KiB, its code included: two MiB of it are buffers.
const MOST_KIB: u64 = 12 << 10;

fn order(key: &SecretKey) -> Order {
    let keys = vec![key.public().to_string()];
    let (product, architecture) = ("pod".into(), "amd64".into());
    Order {
        side: Side::B,
        announced: None,
        trust: Trust { product, architecture, keys, floor: None },
        version: "1".into(),
        running: Geometry { root_hash: RootHash([1; 32]), salt: Salt([1; 32]), data_blocks: 1 },
        floor: None,
        bad: vec![],
        data_format: 1,
        space: Space::default(),
    }
}

fn bundle(key: &SecretKey) -> Vec<u8> {
    let uki = vec![5; 3 << 20];
    let root: Vec<u8> = (0..ROOT as u32).map(|at| (at >> 12) as u8 ^ at as u8).collect();
    let salt = Salt([3; 32]);
    let tree = verity::tree(&root, &salt);
    let payload = [&uki[..], &tree.blocks, &root].concat();
    let text = |text: &str| text.to_owned();
    let manifest = Manifest {
        format: FORMAT,
        product: text("pod").try_into().unwrap(),
        version: text("2").try_into().unwrap(),
        architecture: text("amd64").try_into().unwrap(),
        follows: None,
        floor: None,
        data: 1,
        uki: Part { size: uki.len() as u64, sha256: Digest::of(&uki) },
        root: Geometry { root_hash: tree.root_hash, salt, data_blocks: (ROOT / 4096) as u64 },
        chunks: payload.chunks(CHUNK).map(Digest::of).collect(),
    };
    let manifest = manifest.to_bytes().unwrap();
    [&key.sign(&manifest).to_bytes()[..], &manifest, &payload].concat()
}

/// Starts it; the stream's other end comes back.
fn start(folder: &TempDir, key: &SecretKey) -> (Child, UnixStream) {
    fs::write(folder.path().join("esp"), testing::image(b"old", 1000)).unwrap();
    File::create(folder.path().join("slot")).unwrap().set_len(64 << 20).unwrap();
    let order = serde_json::to_vec(&order(key)).unwrap();
    fs::write(folder.path().join("order"), order).unwrap();
    let (here, there) = UnixStream::pair().unwrap();
    let child = Command::new("sh")
        .args(["-c", "exec \"$0\" 3<>esp 4<>slot 5<order", env!("CARGO_BIN_EXE_stele-install")])
        .current_dir(folder.path())
        .stdin(OwnedFd::from(there))
        .stdout(Stdio::piped())
        .spawn()
        .unwrap();
    (child, here)
}

fn lines(from: impl std::io::Read) -> Vec<Line> {
    let lines = BufReader::new(from).lines().map_while(Result::ok);
    lines.map(|line| serde_json::from_str(&line).unwrap()).collect()
}

/// The most memory that a process has had, in KiB, looked at until it ends.
fn peak(pid: u32) -> u64 {
    let mut peak = 0;
    while let Ok(status) = fs::read_to_string(format!("/proc/{pid}/status")) {
        let is_it = status.starts_with("Name:\tstele-install");
        let line = status.lines().find_map(|line| line.strip_prefix("VmHWM:"));
        let Some(line) = line.filter(|_| is_it) else {
            if peak > 0 || status.contains("State:\tZ") {
                break;
            }
            continue;
        };
        peak = line.trim().trim_end_matches(" kB").parse().unwrap();
        thread::sleep(Duration::from_millis(2));
    }
    peak
}

#[test]
fn a_large_bundle_takes_little_memory() {
    let key = SecretKey::of_seed(&Zeroizing::new([1; 32]));
    let bundle = bundle(&key);
    let folder = tempfile::tempdir().unwrap();
    let (mut child, mut stream) = start(&folder, &key);
    let pid = child.id();
    let watch = thread::spawn(move || peak(pid));
    let said = child.stdout.take().unwrap();
    let said = thread::spawn(|| lines(said));
    stream.write_all(&bundle).unwrap();
    stream.shutdown(std::net::Shutdown::Write).unwrap();
    let heard = lines(&stream);
    assert!(child.wait().unwrap().success());
    let said = said.join().unwrap();
    for lines in [&said, &heard] {
        assert!(matches!(lines.first(), Some(Line::Begun { .. })));
        assert!(matches!(lines.last(), Some(Line::Armed { version, .. }) if version == "2"));
    }
    assert!(said.len() > 30, "only {} lines", said.len());
    let peak = watch.join().unwrap();
    println!("{peak} KiB for a bundle of {} bytes", bundle.len());
    assert!((1..MOST_KIB).contains(&peak), "{peak} KiB");
    let mut long_name = [0; 10];
    let esp = File::open(folder.path().join("esp")).unwrap();
    esp.read_exact_at(&mut long_name, testing::directory() as u64 + 4 * 32 + 1).unwrap();
    assert_eq!(&long_name, b"p\x002\0+\x003\0-\0");
}

#[test]
fn who_hangs_up_is_told_and_so_is_pid_1() {
    let key = SecretKey::of_seed(&Zeroizing::new([1; 32]));
    let folder = tempfile::tempdir().unwrap();
    let (mut child, mut stream) = start(&folder, &key);
    stream.write_all(b"STELE").unwrap();
    stream.shutdown(std::net::Shutdown::Write).unwrap();
    let heard = lines(&stream);
    assert!(!child.wait().unwrap().success());
    let said = lines(child.stdout.take().unwrap());
    for lines in [said, heard] {
        assert!(matches!(&lines[..], [Line::Failed(refused)] if refused.code == Code::Truncated));
    }
}
