//! A Pod that is given another system, as its admin does it.

use std::path::Path;
use std::process::Command;
use std::time::Duration;

use serde_json::Value;

use crate::console::Line;
use crate::http::Asked;
use crate::images::{Tools, run};
use crate::pod::{ADMIN, PASSWORD};
use crate::scratch::bounded;
use crate::vm::Vm;

/// A bundle is sent, written and read back, in seconds.
const INSTALL_WITHIN: u32 = 240;

impl Vm {
    /// Has the Pod take the bundle, which it tries when it boots next.
    #[track_caller]
    pub fn install(&self, bundle: &Path) {
        let printed = run(self.stele("upgrade").arg(bundle), "upgrade");
        let printed = printed.unwrap_or_else(|error| panic!("{error:#}"));
        let answer: Value = serde_json::from_str(&printed).unwrap_or_default();
        assert_eq!(answer["outcome"], "armed", "{printed}");
    }

    /// `stele VERB --pod …`, as the admin, which leaves the Pod running.
    #[track_caller]
    fn stele(&self, verb: &str) -> Command {
        let password = self.folder().join("password");
        std::fs::write(&password, PASSWORD).unwrap_or_else(|error| panic!("{error}"));
        let stele = &Tools::find().unwrap_or_else(|error| panic!("{error:#}")).stele;
        let mut command = bounded(stele, INSTALL_WITHIN);
        command.arg(verb).arg("--pod").arg(format!("http://{}", self.http()));
        command.args(["--user", ADMIN, "--json", "--no-reboot", "--password-file"]).arg(password);
        command
    }

    /// Asks it to boot anew.
    #[track_caller]
    pub fn ask_to_reboot(&self) {
        let token = self.log_in(ADMIN, PASSWORD).body["token"].clone();
        let asked = Asked::new("POST", "/api/v1/appliance/reboot", "");
        let answer = self.asks(&asked.bearer(token.as_str().unwrap_or_default()));
        assert_eq!(answer.status, 202, "{answer:?}");
    }

    /// Waits for this version to serve, in a boot after the line `previous`, and finds its data;
    /// returns the line with which that boot's root began.
    #[track_caller]
    pub fn serves_after(&self, previous: &Line, version: &str, within: Duration) -> Line {
        let root = self.wait_for_next(previous, &format!(" {version} starts"), within);
        self.wait_for_next(&root, "stele-init: gate: open", within);
        self.wait_for_next(&root, "stele-init: network: ready", within);
        self.serves(version);
        root
    }

    /// This version serves, and has its data.
    #[track_caller]
    pub fn serves(&self, version: &str) {
        self.pod_serves();
        assert_eq!(self.get("/api/v1/appliance").body["version"], version);
        assert_eq!(self.log_in(ADMIN, PASSWORD).status, 200);
    }

    /// What is in the slot of this name.
    #[track_caller]
    pub fn slot(&self, name: &str) -> Value {
        let state = self.get("/api/v1/appliance").body;
        let slot = state["slots"]
            .as_array()
            .and_then(|slots| slots.iter().find(|slot| slot["name"] == name).cloned());
        slot.unwrap_or_else(|| panic!("there is no slot {name}: {state}"))
    }

    /// The newest line of its console.
    #[track_caller]
    pub fn last_line(&self) -> Line {
        self.wait("a line on the console", Duration::ZERO, |seen| seen.lines.last().cloned())
    }

    /// When the guest has reset the machine so far, since QEMU's start.
    pub fn resets(&self) -> Vec<Duration> {
        let is_guests = |event: &&crate::qmp::Event| {
            event.name == "RESET" && event.data.get("guest").is_some_and(|guest| guest == true)
        };
        self.watch().seen().events.iter().filter(is_guests).map(|event| event.at).collect()
    }
}
