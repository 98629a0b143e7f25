//! A Pod that is upgraded: by `stele`, as its operator does it, and by the API below that.

use std::ffi::OsStr;
use std::path::Path;
use std::process::Command;
use std::time::Duration;

use anyhow::{Context, Result, ensure};
use serde_json::Value;

use crate::console::Line;
use crate::http::{Answer, Asked};
use crate::images::Tools;
use crate::pod::{ADMIN, PASSWORD};
use crate::scratch::bounded;
use crate::vm::Vm;

/// The longest that `stele` may take, in seconds: to send a bundle, to have it written and read back,
/// and until the trial after that is over (300 s at most, and then the old system boots).
const WITHIN: u32 = 900;
/// A look at the slots costs the guest a little.
const AGAIN: Duration = Duration::from_millis(500);
const APPLIANCE: &str = "/api/v1/appliance";

/// What `stele` said.
#[derive(Debug)]
pub struct Said {
    /// Its exit code.
    pub code: Option<i32>,
    /// What it printed as JSON, or nothing.
    pub outcome: Value,
    /// What it told people.
    pub errors: String,
}

impl Vm {
    /// Has `stele` give it this bundle, and wait for what becomes of that.
    #[track_caller]
    pub fn upgrade(&self, bundle: &Path) -> Said {
        self.stele([OsStr::new("upgrade"), bundle.as_os_str()])
    }

    /// Has `stele` give it this bundle, which it tries when it boots next.
    #[track_caller]
    pub fn install(&self, bundle: &Path) {
        let said =
            self.stele([OsStr::new("upgrade"), bundle.as_os_str(), OsStr::new("--no-reboot")]);
        assert_eq!((said.code, &said.outcome["outcome"]), (Some(0), &"armed".into()), "{said:?}");
    }

    /// Has `stele` bring the other system back, and wait.
    #[track_caller]
    pub fn rollback(&self) -> Said {
        self.stele([OsStr::new("rollback")])
    }

    /// `stele ARGUMENTS`, as the admin.
    #[track_caller]
    fn stele<'a>(&self, arguments: impl IntoIterator<Item = &'a OsStr>) -> Said {
        let said = || -> Result<Said> {
            let password = self.folder().join("password");
            std::fs::write(&password, PASSWORD)?;
            let mut command: Command = bounded(&Tools::find()?.stele, WITHIN);
            command.args(arguments).arg("--pod").arg(format!("http://{}", self.http()));
            command.args(["--user", ADMIN, "--json", "--password-file"]).arg(password);
            let output = command.output().with_context(|| format!("cannot start {command:?}"))?;
            let outcome = serde_json::from_slice(&output.stdout).unwrap_or_default();
            let errors = String::from_utf8_lossy(&output.stderr).into_owned();
            Ok(Said { code: output.status.code(), outcome, errors })
        };
        said().unwrap_or_else(|error| panic!("{error:#}"))
    }

    /// Sends these bytes as a bundle.
    #[track_caller]
    pub fn put_bundle(&self, bytes: &[u8]) -> Answer {
        let asked = Asked::new("PUT", &format!("{APPLIANCE}/upgrade"), bytes);
        self.asks(&asked.bearer(&self.token()))
    }

    /// Has it reboot, or end with the machine if that doesn't reboot.
    #[track_caller]
    pub fn order_reboot(&self) {
        let asked = Asked::new("POST", &format!("{APPLIANCE}/reboot"), "");
        let answer = self.asks_as_admin(asked);
        assert_eq!(answer.status, 202, "{answer:?}");
    }

    /// Waits until the slot of this name runs, and is so much trusted.
    #[track_caller]
    pub fn runs(&self, name: &str, trust: &str, within: Duration) {
        self.retry(&format!("slot {name} that runs, {trust}"), within, |slots| {
            let is_it = |slot: &Value| {
                slot["name"] == name && slot["running"] == true && slot["trust"] == trust
            };
            slots.iter().any(is_it)
        });
    }

    /// Waits until slots a and b are so much trusted.
    #[track_caller]
    pub fn slots_are(&self, trust: [&str; 2], within: Duration) {
        self.retry(&format!("slots that are {trust:?}"), within, |slots| {
            slots.iter().map(|slot| slot["trust"].as_str()).eq(trust.map(Some))
        });
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
        assert_eq!(self.get(APPLIANCE).body["version"], version);
        assert_eq!(self.log_in(ADMIN, PASSWORD).status, 200);
    }

    #[track_caller]
    fn retry(&self, what: &str, within: Duration, is_it: impl Fn(&[Value]) -> bool) {
        let look = || {
            let answer = Asked::get(APPLIANCE).send(self.http())?;
            let slots = answer.body["slots"].as_array().map_or(&[][..], Vec::as_slice);
            ensure!(is_it(slots), "{answer:?}");
            Ok(())
        };
        let seen = self.watch().retry(what, within, AGAIN, look);
        seen.unwrap_or_else(|missed| panic!("{missed}"));
    }
}
