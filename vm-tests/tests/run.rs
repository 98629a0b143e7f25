//! `stele run`, as somebody uses it who wants to see an image work.

use std::fs;
use std::io::{BufRead, BufReader, Read};
use std::process::{Child, Stdio};
use std::sync::mpsc::{self, Receiver};
use std::thread;
use std::time::Instant;

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
    fn start(image: &Image) -> Run {
        let stele = &Tools::find().unwrap().stele;
        let mut child = bounded(stele, LIMIT)
            // Signals go to stele itself: `timeout` passes them on.
            .args(["run", "--json", "--forward", "0:5222"])
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

    fn wait_for(&self, text: &str, within: std::time::Duration) -> String {
        let deadline = Instant::now() + within;
        loop {
            let left = deadline.saturating_duration_since(Instant::now());
            let line = self.lines.recv_timeout(left);
            let line = line.unwrap_or_else(|_| panic!("no line with `{text}` within {within:?}"));
            if line.contains(text) {
                return line;
            }
        }
    }
}

#[test]
fn an_image_is_run_and_ctrl_c_powers_it_off() {
    let image = Image::release();
    let before = fs::metadata(&image.disk).unwrap().modified().unwrap();
    let _turn = Turn::take().unwrap();
    let mut run = Run::start(&image);
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

    kill(Pid::from_raw(run.child.id() as i32), Signal::SIGINT).unwrap();
    run.wait_for("stele-init: system: power off (power button)", SOON);
    let status = run.child.wait().unwrap();
    let mut said = String::new();
    run.child.stderr.take().unwrap().read_to_string(&mut said).unwrap();
    assert!(status.success(), "{status}: {said}");
    assert_eq!(fs::metadata(&image.disk).unwrap().modified().unwrap(), before);
}
