//! `stele upgrade` and `stele rollback`, with a Pod that is played.

mod support;

use std::fs;
use std::io::{BufRead as _, BufReader, Read as _, Write as _};
use std::net::{TcpListener, TcpStream};
use std::path::PathBuf;
use std::process::{Command, Output};
use std::sync::{Arc, Mutex};
use std::thread;
use std::time::Instant;

use serde_json::{Value, json};
use support::{STELE, said};
use tempfile::TempDir;

const TOKEN: &str = "secret-token:admin";
const ROOT: &str = "0202020202020202020202020202020202020202020202020202020202020202";

/// How a Pod that is played does.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Kind {
    /// The new system is blessed.
    Good,
    /// It fails, and the old one is back.
    Bad,
    /// It fails, and neither is seen again.
    Silent,
    /// It isn't taken.
    Refusing,
    /// Its connection breaks off while a bundle is sent.
    Breaking,
}

/// A Pod that is played, and what it saw.
struct Play {
    kind: Kind,
    /// Method and path, of all that changes anything or shows who asks.
    seen: Mutex<Vec<String>>,
    bundle: Mutex<Vec<u8>>,
    rebooted: Mutex<Option<Instant>>,
    looks: Mutex<usize>,
}

/// A request without its body.
struct Asked {
    what: String,
    authorization: String,
    length: usize,
    expects: bool,
}

impl Play {
    /// Its address.
    fn start(kind: Kind) -> (Arc<Play>, String) {
        let listener = TcpListener::bind("127.0.0.1:0").unwrap();
        let address = format!("http://{}", listener.local_addr().unwrap());
        let play = Arc::new(Play {
            kind,
            seen: Mutex::default(),
            bundle: Mutex::default(),
            rebooted: Mutex::default(),
            looks: Mutex::default(),
        });
        let shared = play.clone();
        thread::spawn(move || {
            for stream in listener.incoming() {
                let (play, stream) = (shared.clone(), stream.unwrap());
                thread::spawn(move || play.serve(stream));
            }
        });
        (play, address)
    }

    fn serve(&self, stream: TcpStream) {
        let mut reader = BufReader::new(stream.try_clone().unwrap());
        if let Some(asked) = Asked::read(&mut reader)
            && let Some((status, value)) = self.answer(&asked, &mut reader, &stream)
        {
            let text = if value.is_null() { String::new() } else { value.to_string() };
            let head = format!("HTTP/1.1 {status} X\r\nConnection: close\r\n");
            let _ = write!(&stream, "{head}Content-Length: {}\r\n\r\n{text}", text.len());
        }
    }

    fn answer(
        &self,
        asked: &Asked,
        reader: &mut BufReader<TcpStream>,
        mut stream: &TcpStream,
    ) -> Option<(u16, Value)> {
        if asked.what == "GET /api/v1/appliance" {
            return self.state();
        }
        self.seen.lock().unwrap().push(asked.what.clone());
        if asked.what == "POST /api/v1/login" {
            // alice@example.org:pass word
            return Some(match asked.authorization.as_str() {
                "Basic YWxpY2VAZXhhbXBsZS5vcmc6cGFzcyB3b3Jk" => (200, json!({ "token": TOKEN })),
                _ => (401, problem("invalid_credentials", "The password is wrong.")),
            });
        }
        if asked.authorization != format!("Bearer {TOKEN}") {
            return Some((403, problem("forbidden", "Only an admin may do this.")));
        }
        match asked.what.as_str() {
            "PUT /api/v1/appliance/upgrade" => {
                assert!(asked.expects);
                if self.kind == Kind::Refusing {
                    let message = "1.0.0 is below the floor, 1.5.0";
                    return Some((409, problem("downgrade", message)));
                }
                stream.write_all(b"HTTP/1.1 100 Continue\r\n\r\n").unwrap();
                if self.kind == Kind::Breaking {
                    return None;
                }
                let mut bundle = vec![0; asked.length];
                reader.read_exact(&mut bundle).unwrap();
                *self.bundle.lock().unwrap() = bundle;
                Some((200, json!({ "armed": { "version": "2.0.0", "root_hash": ROOT } })))
            }
            "POST /api/v1/appliance/reboot" => {
                *self.rebooted.lock().unwrap() = Some(Instant::now());
                Some((202, Value::Null))
            }
            "POST /api/v1/appliance/rollback" => Some((202, Value::Null)),
            "GET /api/v1/appliance/last-failure" => Some((200, verdict())),
            other => panic!("nobody asks for {other}"),
        }
    }

    /// As it is before and after a reboot: at first it still ends, then it can't be reached.
    fn state(&self) -> Option<(u16, Value)> {
        if self.rebooted.lock().unwrap().is_none() {
            return Some((200, state("a", "blessed", 1000)));
        }
        let mut looks = self.looks.lock().unwrap();
        *looks += 1;
        let now = match (*looks, self.kind) {
            (1, _) => state("a", "blessed", 1001),
            (2, _) => return None,
            (3, _) => state("b", "trial", 2),
            (_, Kind::Good) => state("b", "blessed", 4),
            (_, Kind::Silent) => return None,
            (_, _) => state("a", "blessed", 1),
        };
        Some((200, now))
    }
}

impl Asked {
    fn read(reader: &mut BufReader<TcpStream>) -> Option<Asked> {
        let mut lines = vec![];
        loop {
            let mut line = String::new();
            reader.read_line(&mut line).ok().filter(|length| *length > 0)?;
            match line.trim_end() {
                "" => break,
                line => lines.push(line.to_owned()),
            }
        }
        let field = |name: &str| {
            let value = |line: &String| {
                let (found, value) = line.split_once(": ")?;
                found.eq_ignore_ascii_case(name).then(|| value.to_owned())
            };
            lines.iter().find_map(value)
        };
        Some(Asked {
            what: lines[0].strip_suffix(" HTTP/1.1")?.to_owned(),
            authorization: field("authorization").unwrap_or_default(),
            length: field("content-length").map_or(0, |length| length.parse().unwrap()),
            expects: field("expect").as_deref() == Some("100-continue"),
        })
    }
}

fn problem(error: &str, message: &str) -> Value {
    json!({ "error": error, "message": message })
}

fn state(running: &str, trust: &str, uptime: u64) -> Value {
    let slot = |name: &str| {
        let (version, root) = if name == "a" { ("1.0.0", "01") } else { ("2.0.0", "02") };
        let running = name == running;
        let trust = if running { trust } else { "trial" };
        json!({
            "name": name, "running": running, "trust": trust, "tries_left": null,
            "version": version, "root_hash": root.repeat(32),
        })
    };
    let version = if running == "a" { "1.0.0" } else { "2.0.0" };
    json!({
        "name": "pod", "version": version, "uptime": uptime, "phase": "running",
        "slots": [slot("a"), slot("b")], "counting": "proved",
        "upgrade": { "failed": { "code": "truncated", "message": "it ended after 7 of 9 bytes" } },
        "health": [{ "name": "xmpp", "passes": false }],
    })
}

fn verdict() -> Value {
    json!({
        "version": "2.0.0", "root_hash": ROOT, "when": 5, "phase": "degraded", "check": "xmpp",
        "reason": "no answer in 5 s", "console_tail": ["prosody: cannot start", "prosody: again"],
    })
}

/// Somebody's folder, with a bundle and secrets in it.
struct Desk {
    folder: TempDir,
}

impl Desk {
    fn new() -> Desk {
        let desk = Desk { folder: tempfile::tempdir().unwrap() };
        fs::write(desk.path("a.bundle"), vec![7; 300_000]).unwrap();
        fs::write(desk.path("token"), format!("{TOKEN}\n")).unwrap();
        fs::write(desk.path("password"), "pass word\n").unwrap();
        fs::write(desk.path("wrong"), "pass\n").unwrap();
        desk
    }

    fn path(&self, name: &str) -> PathBuf {
        self.folder.path().join(name)
    }

    /// Without a token in the environment.
    fn stele(&self, arguments: &[&str]) -> Command {
        let mut command = Command::new(STELE);
        command.args(arguments).current_dir(self.folder.path()).env_remove("STELE_TOKEN");
        command
    }

    fn upgrade(&self, pod: &str, more: &[&str]) -> Output {
        let arguments = ["upgrade", "a.bundle", "--pod", pod];
        self.stele(&[&arguments, more].concat()).output().unwrap()
    }
}

const PUT: &str = "PUT /api/v1/appliance/upgrade";
const REBOOT: &str = "POST /api/v1/appliance/reboot";
const WHY: &str = "GET /api/v1/appliance/last-failure";
const BY_FILE: [&str; 2] = ["--token-file", "token"];

#[test]
fn a_new_system_is_waited_for_until_it_is_trusted() {
    let (play, pod) = Play::start(Kind::Good);
    let output = Desk::new()
        .stele(&["upgrade", "a.bundle", "--pod", &pod])
        .env("STELE_TOKEN", TOKEN)
        .output();
    let output = output.unwrap();
    assert_eq!(output.status.code(), Some(0), "{}", said(&output));
    let words = String::from_utf8_lossy(&output.stdout);
    assert!(words.starts_with("2.0.0 runs and is trusted, "), "{words}");
    let told = said(&output);
    for step in [
        "sending 293.0 KiB",
        "waiting until the Pod has ended",
        "answers",
        "on trial: not yet xmpp",
    ] {
        assert!(told.contains(step), "{step}: {told}");
    }
    assert!(!told.contains(TOKEN), "{told}");
    assert_eq!(*play.seen.lock().unwrap(), [PUT, REBOOT]);
    assert_eq!(*play.bundle.lock().unwrap(), vec![7; 300_000]);
}

#[test]
fn the_old_system_is_told_of_when_it_is_back() {
    let (play, pod) = Play::start(Kind::Bad);
    let output = Desk::new().upgrade(&pod, &BY_FILE);
    assert_eq!(output.status.code(), Some(3), "{}", said(&output));
    let errors = String::from_utf8_lossy(&output.stderr);
    let expected = "error: 2.0.0 did not prove itself, 1.0.0 is back: check xmpp: no answer in 5 s (phase degraded)\n";
    assert!(errors.ends_with(expected), "{errors}");
    let console = "| prosody: cannot start\n| prosody: again\n";
    assert_eq!(String::from_utf8_lossy(&output.stdout), console);
    assert_eq!(*play.seen.lock().unwrap(), [PUT, REBOOT, WHY]);
    let (_, pod) = Play::start(Kind::Bad);
    let output = Desk::new().upgrade(&pod, &["--token-file", "token", "--json"]);
    assert_eq!(output.status.code(), Some(3), "{}", said(&output));
    let told: Value = serde_json::from_slice(&output.stdout).unwrap();
    assert_eq!((&told["outcome"], &told["running"]), (&json!("back"), &json!("1.0.0")));
    assert_eq!(told["why"]["check"], "xmpp");
}

#[test]
fn a_refusal_says_why_and_nothing_is_rebooted() {
    let (play, pod) = Play::start(Kind::Refusing);
    let output = Desk::new().upgrade(&pod, &BY_FILE);
    assert_eq!(output.status.code(), Some(1), "{}", said(&output));
    let expected = format!(
        "error: cannot install a.bundle at {pod}: 1.0.0 is below the floor, 1.5.0 (downgrade, 409 Conflict)\n"
    );
    assert!(said(&output).ends_with(&expected), "{}", said(&output));
    assert_eq!(*play.seen.lock().unwrap(), [PUT]);
}

#[test]
fn what_breaks_off_is_not_sent_again() {
    let (play, pod) = Play::start(Kind::Breaking);
    let output = Desk::new().upgrade(&pod, &BY_FILE);
    assert_eq!(output.status.code(), Some(1), "{}", said(&output));
    let told = said(&output);
    assert!(
        told.contains(&format!("cannot install a.bundle at {pod}: the answer was lost: ")),
        "{told}"
    );
    assert!(told.ends_with("\nhint: it says: it ended after 7 of 9 bytes\n"), "{told}");
    assert_eq!(*play.seen.lock().unwrap(), [PUT]);
}

#[test]
fn nobody_waits_for_ever() {
    let (play, pod) = Play::start(Kind::Silent);
    let output = Desk::new().upgrade(&pod, &["--token-file", "token", "--within", "9s"]);
    assert_eq!(output.status.code(), Some(1), "{}", said(&output));
    let expected =
        format!("cannot tell what became of {pod}: after 9 s, waiting until the Pod answers\n");
    assert!(said(&output).ends_with(&expected), "{}", said(&output));
    assert_eq!(*play.seen.lock().unwrap(), [PUT, REBOOT]);
}

#[test]
fn a_bundle_can_be_left_for_the_next_boot() {
    let (play, pod) = Play::start(Kind::Good);
    let output = Desk::new().upgrade(&pod, &["--token-file", "token", "--no-reboot", "--json"]);
    assert_eq!(output.status.code(), Some(0), "{}", said(&output));
    let told: Value = serde_json::from_slice(&output.stdout).unwrap();
    assert_eq!(told, json!({ "outcome": "armed", "version": "2.0.0", "root_hash": ROOT }));
    assert_eq!(*play.seen.lock().unwrap(), [PUT]);
}

#[test]
fn an_admin_logs_in_with_a_password() {
    let desk = Desk::new();
    let login = "POST /api/v1/login";
    let by = |file| ["--user", "alice@example.org", "--password-file", file, "--no-reboot"];
    let (play, pod) = Play::start(Kind::Good);
    let output = desk.upgrade(&pod, &by("password"));
    assert_eq!(output.status.code(), Some(0), "{}", said(&output));
    assert_eq!(*play.seen.lock().unwrap(), [login, PUT]);
    let (play, pod) = Play::start(Kind::Good);
    let output = desk.upgrade(&pod, &by("wrong"));
    assert_eq!(output.status.code(), Some(1));
    let expected = format!("cannot log in to {pod} as alice@example.org: The password is wrong.");
    assert!(said(&output).contains(&expected), "{}", said(&output));
    assert_eq!(*play.seen.lock().unwrap(), [login]);
}

#[test]
fn secrets_stay_where_they_are_safe() {
    let desk = Desk::new();
    let (play, pod) = Play::start(Kind::Good);
    let output = desk.upgrade(&pod, &[]);
    assert_eq!(output.status.code(), Some(1));
    assert!(
        said(&output).contains("there is no token\nhint: name an admin with --user"),
        "{}",
        said(&output)
    );
    for (pod, words) in [
        ("http://192.0.2.1:3030", "others on the network could read it\nhint: reach it by https"),
        ("http://alice:word@127.0.0.1", "is not an address such as http://127.0.0.1:3030"),
        ("127.0.0.1:3030", "is not an address such as http://127.0.0.1:3030"),
    ] {
        let output = desk.upgrade(pod, &BY_FILE);
        assert!(!output.status.success());
        assert!(said(&output).contains(words), "{}", said(&output));
    }
    assert_eq!(*play.seen.lock().unwrap(), [""; 0]);
}

#[test]
fn a_pod_goes_back_when_it_is_told_to() {
    let (play, pod) = Play::start(Kind::Good);
    let output =
        Desk::new().stele(&["rollback", "--pod", &pod, "--token-file", "token"]).output().unwrap();
    assert_eq!(output.status.code(), Some(0), "{}", said(&output));
    assert!(String::from_utf8_lossy(&output.stdout).starts_with("2.0.0 runs and is trusted, "));
    assert_eq!(*play.seen.lock().unwrap(), ["POST /api/v1/appliance/rollback", REBOOT]);
}
