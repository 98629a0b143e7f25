//! `stele run`, as somebody uses it who wants to see an image work.

use std::fs;
use std::io::{BufRead, BufReader, Read};
use std::path::Path;
use std::process::{Child, Stdio};
use std::sync::mpsc::{self, Receiver};
use std::thread;
use std::time::{Duration, Instant};

use nix::sys::signal::{Signal, kill};
use nix::unistd::Pid;
use serde_json::Value;
use vm_tests::images::{Image, Tools};
use vm_tests::scratch::{Turn, bounded};
use vm_tests::{BOOT, SOON, xmpp};

/// Beyond this, in seconds, it is ended from outside.
const LIMIT: u32 = 180;

/// `stele run`, its first line understood and the others as they come.
struct Run {
    child: Child,
    launch: Value,
    lines: Receiver<String>,
}

impl Run {
    fn start(image: &Image, options: &[&str]) -> Run {
        let stele = &Tools::find().unwrap().stele;
        let mut child = bounded(stele, LIMIT)
            .args(["run", "--json", "--forward", "0:5222"])
            .args(options)
            .arg(&image.disk)
            .stdout(Stdio::piped())
            .stderr(Stdio::piped())
            .spawn()
            .unwrap();
        let (sender, lines) = mpsc::channel();
        let console = BufReader::new(child.stdout.take().unwrap());
        thread::spawn(move || {
            for line in console.split(b'\n').map_while(Result::ok) {
                let _ = sender.send(String::from_utf8_lossy(&line).into_owned());
            }
        });
        // The first line comes once the accelerator is chosen, which may take a probe.
        let first = lines.recv_timeout(BOOT).expect("stele run says what it launches");
        Run { child, launch: serde_json::from_str(&first).expect(&first), lines }
    }

    /// All lines up to the one with `text` in it.
    fn wait_for(&self, text: &str, within: Duration) -> String {
        let deadline = Instant::now() + within;
        let mut said = String::new();
        while !said.contains(text) {
            let left = deadline.saturating_duration_since(Instant::now());
            let line = self.lines.recv_timeout(left);
            let line = line.unwrap_or_else(|_| panic!("no `{text}` within {within:?}: {said}"));
            said += &line;
            said.push('\n');
        }
        said
    }

    /// Presses Ctrl-C; the machine powers off.
    fn stop(mut self) {
        // Not by way of `timeout`, which passes a signal on to its child and to their group: that may
        // count as two.
        let timeout = self.child.id();
        let children =
            fs::read_to_string(format!("/proc/{timeout}/task/{timeout}/children")).unwrap();
        kill(Pid::from_raw(children.trim().parse().unwrap()), Signal::SIGINT).unwrap();
        self.wait_for("stele-init: system: power off (power button)", SOON);
        let status = self.child.wait().unwrap();
        let mut said = String::new();
        self.child.stderr.take().unwrap().read_to_string(&mut said).unwrap();
        assert!(status.success(), "{status}: {said}");
    }
}

#[test]
fn an_image_is_run_and_ctrl_c_powers_it_off() {
    let image = Image::release();
    let before = fs::metadata(&image.disk).unwrap().modified().unwrap();
    let _turn = Turn::take().unwrap();
    let run = Run::start(&image, &[]);
    assert!(!run.launch["why"].as_str().unwrap().is_empty(), "{}", run.launch);
    let port = run.launch["forwards"][0]["host"].as_u64().unwrap();
    run.wait_for("stele-init: service prosody: ready", BOOT);
    let server = format!("127.0.0.1:{port}").parse().unwrap();
    let deadline = Instant::now() + BOOT;
    let reply = loop {
        match xmpp::ask(server, "prose.local") {
            Ok(reply) => break reply,
            Err(error) => assert!(Instant::now() < deadline, "no stream reply: {error}"),
        }
    };
    assert!(reply.contains("from='prose.local'"), "{reply}");
    run.stop();
    assert_eq!(fs::metadata(&image.disk).unwrap().modified().unwrap(), before);
}

/// Data is made by the first run, found by the second; the third takes over what the operator has
/// put onto the disk in between.
#[test]
fn a_kept_disk_has_its_data_and_takes_a_seed() {
    const READY: &str = "stele-init: service prosody: ready";
    const MADE: &str = "data: file system of";
    const MOUNTED: &str = "data: vda5 mounted";
    const TAKEN: &str = "seed: Prose.toml taken over to /etc/prose-pod-api/Prose.toml";
    let image = Image::release();
    let folder = tempfile::tempdir().unwrap();
    let data = folder.path().join("data.img");
    let keep = ["--keep", data.to_str().unwrap()];
    let _turn = Turn::take().unwrap();

    let run = Run::start(&image, &keep);
    assert_eq!(run.launch["disk"]["made"], true, "{}", run.launch);
    let said = run.wait_for(READY, BOOT);
    assert!(said.contains(MADE) && said.contains(MOUNTED), "{said}");
    assert!(seed(&data, &folder.path().join("nothing")).contains("an appliance is running on it"));
    run.stop();

    let run = Run::start(&image, &keep);
    let done = ["made", "replaced", "grown"].map(|key| run.launch["disk"][key] == true);
    assert_eq!(done, [false; 3], "{}", run.launch);
    let said = run.wait_for(READY, BOOT);
    assert!(said.contains(MOUNTED) && !said.contains(MADE), "{said}");
    run.stop();

    let file = folder.path().join("Prose.toml");
    fs::write(&file, "# nothing yet\n").unwrap();
    let said = seed(&data, &file);
    assert!(said.contains("Prose.toml -> /etc/prose-pod-api/Prose.toml"), "{said}");
    // More room, too.
    let run = Run::start(&image, &[keep[0], keep[1], "--disk", "5 GiB"]);
    let said = run.wait_for(READY, BOOT);
    assert!(said.contains(TAKEN) && said.contains("data: grown from "), "{said}");
    run.stop();
}

/// What `stele seed` says.
fn seed(disk: &Path, file: &Path) -> String {
    let stele = &Tools::find().unwrap().stele;
    let output = bounded(stele, LIMIT).arg("seed").arg(disk).arg(file).output().unwrap();
    String::from_utf8_lossy(&[output.stdout, output.stderr].concat()).into_owned()
}
