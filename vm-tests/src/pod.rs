//! A Pod as people use it: by its web front.

use std::net::TcpStream;
use std::time::Duration;

use serde_json::{Value, json};

use crate::BOOT;
use crate::http::{Answer, Asked, base64};
use crate::machine::TRIGGER;
use crate::vm::Vm;

/// The first account that stories make.
pub const ADMIN: &str = "alice@prose.local";
/// Its password.
pub const PASSWORD: &str = "correct horse battery staple";
/// A look at something costs the guest a little.
const AGAIN: Duration = Duration::from_millis(200);

impl Vm {
    /// Asks the front, which must answer.
    #[track_caller]
    pub fn asks(&self, asked: &Asked) -> Answer {
        let answer = asked.send(self.http());
        answer.unwrap_or_else(|error| panic!("{asked:?}: {error:#}"))
    }

    /// Asks the front for what lies at a path.
    #[track_caller]
    pub fn get(&self, path: &str) -> Answer {
        self.asks(&Asked::get(path))
    }

    /// Waits until the Pod serves: the gate is open, the API is in step with the Server.
    #[track_caller]
    pub fn pod_serves(&self) {
        self.wait_for("stele-init: gate: open", BOOT);
        self.wait_for("stele-init: network: ready", BOOT);
        self.is_healthy_within(BOOT);
    }

    /// Waits until the API is in step with the Server, whatever the machine goes through before.
    #[track_caller]
    pub fn is_healthy_within(&self, within: Duration) {
        let healthy = || -> anyhow::Result<()> {
            let answer = Asked::get("/api/health").send(self.http())?;
            anyhow::ensure!(answer.status == 200, "{answer:?}");
            Ok(())
        };
        let served = self.watch().retry("a healthy Pod", within, AGAIN, healthy);
        served.unwrap_or_else(|missed| panic!("{missed}"));
    }

    /// Names the workspace and makes the first account, as the Dashboard does.
    #[track_caller]
    pub fn make_admin(&self) {
        let answer = self.asks(&Asked::json("PUT", "/api/v1/workspace", &json!({"name": "Acme"})));
        assert_eq!(answer.status, 201, "{answer:?}");
        let (name, _) = ADMIN.split_once('@').unwrap_or_default();
        let account = json!({"username": name, "password": PASSWORD, "nickname": "Alice"});
        let answer = self.asks(&Asked::json("PUT", "/api/v1/init/first-account", &account));
        assert_eq!(answer.status, 201, "{answer:?}");
    }

    /// Logs in at the API.
    #[track_caller]
    pub fn log_in(&self, jid: &str, password: &str) -> Answer {
        let credentials = base64(format!("{jid}:{password}").as_bytes());
        let asked = Asked::new("POST", "/api/v1/login", "");
        self.asks(&asked.with(&format!("Authorization: Basic {credentials}")))
    }

    /// Asks the API for a path, as the admin.
    #[track_caller]
    pub fn admin_get(&self, path: &str) -> Value {
        let answer = self.asks_as_admin(Asked::get(path));
        assert!([200, 206].contains(&answer.status), "{answer:?}");
        answer.body
    }

    /// Puts something there, as the admin.
    #[track_caller]
    pub fn admin_put(&self, path: &str, value: &Value) {
        let answer = self.asks_as_admin(Asked::json("PUT", path, value));
        assert_eq!(answer.status, 200, "{answer:?}");
    }

    /// Makes a colleague of this name, whose password is [`PASSWORD`]: in the rosters of all.
    #[track_caller]
    pub fn make_member(&self, name: &str) {
        let wish = json!({"username": name, "pre_assigned_role": "MEMBER", "channel": "link"});
        let made = self.asks_as_admin(Asked::json("POST", "/api/v1/invitations", &wish));
        let link = made.body["accept_url"].as_str().unwrap_or_else(|| panic!("{made:?}"));
        let (_, token) = link.rsplit_once('/').unwrap_or_default();
        let path = format!("/api/v1/invitation-tokens/{token}/accept");
        let account = json!({"nickname": name, "password": PASSWORD});
        let answer = self.asks(&Asked::json("PUT", &path, &account));
        assert_eq!(answer.status, 200, "{answer:?}");
    }

    /// Asks the API for anything, as the admin.
    #[track_caller]
    pub fn asks_as_admin(&self, asked: Asked) -> Answer {
        let token = self.token();
        self.asks(&asked.bearer(&token))
    }

    /// Shows that one is the admin.
    #[track_caller]
    pub fn token(&self) -> String {
        let answer = self.log_in(ADMIN, PASSWORD);
        let token = answer.body["token"].as_str();
        token.unwrap_or_else(|| panic!("{answer:?}")).to_owned()
    }

    /// Pulls the trigger of the layer `test-trigger`.
    #[track_caller]
    pub fn pull_trigger(&self) {
        self.wait_for("trigger: waits", BOOT);
        drop(TcpStream::connect(self.port(TRIGGER)));
        self.wait_for("stele-init: service trigger: done", BOOT);
    }

    /// Has the layer `test-api-restart` restart the Pod API.
    #[track_caller]
    pub fn restart_api(&self) {
        self.pull_trigger();
        let restart = self.wait_for("service pod-api: restart (control)", BOOT);
        self.wait_for_next(&restart, "service pod-api: ready", BOOT);
    }
}
