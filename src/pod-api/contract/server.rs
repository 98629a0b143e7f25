//! The Server: a fake that enforces what `mod_stele` promises. It refuses what isn't the secret of
//! this moment, numbers its changes, forgets old ones, and knows no verb but those.

use std::collections::BTreeMap;
use std::sync::{Mutex, MutexGuard};
use std::time::Duration;

use appliance::secret::Secret;
use serde_json::{Value, json};
use tokio::sync::Notify;
use tokio::time::timeout;

use crate::server::{Answer, Error, Server};

const HOST: &str = "example.org";
/// That are remembered: few, so that forgetting is tested.
const MOST_CHANGES: usize = 16;

/// A Prosody with our module.
pub struct FakeServer {
    state: Mutex<State>,
    changed: Notify,
}

pub struct State {
    /// What the API's account has as its password now.
    pub secret: String,
    /// Doesn't answer.
    pub is_down: bool,
    /// The host that members have; a bootstrap configuration has none.
    pub serves: bool,
    /// Its name.
    pub host: String,
    /// The next so many verbs but `version` fail after they were obeyed: the answer gets lost.
    pub loses: u32,
    /// The answer to the next verb of this name gets lost as well.
    pub loses_to: Option<&'static str>,
    /// Nobody who waits for changes is told.
    pub is_mute: bool,
    /// Everything that was asked, in order.
    pub asked: Vec<&'static str>,
    accounts: BTreeMap<String, Account>,
    seq: u64,
    first: u64,
    changes: Vec<Value>,
    starts: u64,
}

struct Account {
    password: String,
    role: String,
    created: u64,
    sessions: u32,
    /// What it shows: `nickname`, `avatar`, and what only services show.
    profile: serde_json::Map<String, Value>,
    picture: String,
}

impl FakeServer {
    pub fn new(secret: &str) -> FakeServer {
        let state = State {
            secret: secret.into(),
            is_down: false,
            serves: true,
            host: HOST.into(),
            loses: 0,
            loses_to: None,
            is_mute: false,
            asked: vec![],
            accounts: BTreeMap::new(),
            seq: 1 << 20,
            first: 1 << 20,
            changes: vec![],
            starts: 1,
        };
        FakeServer { state: Mutex::new(state), changed: Notify::new() }
    }

    pub fn state(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap()
    }

    pub fn seq(&self) -> u64 {
        self.state().seq
    }

    /// Dies and comes back with this secret: accounts last, presence doesn't, numbers begin anew.
    pub fn restart(&self, secret: &str) {
        let mut state = self.state();
        state.secret = secret.into();
        state.starts += 1;
        state.first = state.starts << 20;
        state.seq = state.first;
        state.changes.clear();
        state.accounts.values_mut().for_each(|account| account.sessions = 0);
        state.is_down = false;
        drop(state);
        self.changed.notify_waiters();
    }

    pub fn go_down(&self) {
        self.state().is_down = true;
        self.changed.notify_waiters();
    }

    pub fn create(&self, name: &str, password: &str, role: &str) {
        self.record(|state| state.create(name, password, role));
    }

    pub fn delete(&self, name: &str) {
        self.record(|state| state.delete(name));
    }

    pub fn set_role(&self, name: &str, role: &str) {
        self.record(|state| state.set_role(name, role));
    }

    pub fn set_password(&self, name: &str, password: &str) {
        self.record(|state| {
            state.accounts.get_mut(name).unwrap().password = password.into();
            json!({ "kind": "password", "localpart": name })
        });
    }

    pub fn set_online(&self, name: &str, online: bool) {
        self.record(|state| {
            state.accounts.get_mut(name).unwrap().sessions = online.into();
            json!({ "kind": "presence", "localpart": name, "online": online })
        });
    }

    /// As a client of theirs does.
    pub fn show(&self, name: &str, key: &str, value: Value) {
        self.record(|state| {
            state.accounts.get_mut(name).unwrap().profile.insert(key.into(), value);
            state.profile_change(name)
        });
    }

    /// What an account shows.
    pub fn shown(&self, name: &str) -> Value {
        self.state().accounts.get(name).map_or(Value::Null, |it| it.profile.clone().into())
    }

    fn record(&self, change: impl FnOnce(&mut State) -> Value) {
        let mut state = self.state();
        let change = change(&mut state);
        state.record(change);
        self.tell(state);
    }

    fn tell(&self, state: MutexGuard<'_, State>) {
        let is_mute = state.is_mute;
        drop(state);
        if !is_mute {
            self.changed.notify_waiters();
        }
    }

    async fn answer(&self, secret: &str, verb: &'static str, with: &Value) -> Result<Value, Error> {
        // Registered before looking, so that nothing that happens in between is missed.
        let changed = self.changed.notified();
        tokio::pin!(changed);
        changed.as_mut().enable();
        let starts = {
            let mut state = self.state();
            state.asked.push(verb);
            let waits = verb == "changes" && state.may_wait(secret, with)?;
            if !waits {
                let answer = state.answer(secret, verb, with);
                self.tell(state);
                return answer;
            }
            state.starts
        };
        let wait = Duration::from_secs(with["wait"].as_u64().unwrap());
        let _ = timeout(wait, changed).await;
        let mut state = self.state();
        if state.is_down || state.starts != starts {
            return Err(Error::Unreachable("the connection was closed".into()));
        }
        state.answer(secret, verb, with)
    }
}

impl State {
    fn create(&mut self, name: &str, password: &str, role: &str) -> Value {
        let created = crate::pod::now();
        let account = Account {
            password: password.into(),
            role: role.into(),
            created,
            sessions: 0,
            profile: serde_json::Map::new(),
            picture: String::new(),
        };
        self.accounts.insert(name.into(), account);
        json!({ "kind": "account", "localpart": name, "exists": true, "role": role })
    }

    fn delete(&mut self, name: &str) -> Value {
        self.accounts.remove(name);
        json!({ "kind": "account", "localpart": name, "exists": false })
    }

    fn set_role(&mut self, name: &str, role: &str) -> Value {
        self.accounts.get_mut(name).unwrap().role = role.into();
        json!({ "kind": "role", "localpart": name, "role": role })
    }

    fn record(&mut self, mut change: Value) {
        self.seq += 1;
        change["seq"] = self.seq.into();
        change["host"] = self.host.clone().into();
        self.changes.push(change);
        if self.changes.len() > MOST_CHANGES {
            self.changes.remove(0);
        }
    }

    fn may_wait(&self, secret: &str, with: &Value) -> Result<bool, Error> {
        self.check(secret)?;
        Ok(with["since"] == self.seq && with["wait"].as_u64().is_some_and(|wait| wait > 0))
    }

    fn check(&self, secret: &str) -> Result<(), Error> {
        match (self.is_down, secret == self.secret) {
            (true, _) => Err(Error::Unreachable("connection refused".into())),
            (false, false) => Err(Error::Unauthorized),
            (false, true) => Ok(()),
        }
    }

    fn answer(&mut self, secret: &str, verb: &str, with: &Value) -> Result<Value, Error> {
        self.check(secret)?;
        let answer = self.obey(verb, with)?;
        if self.loses_to.take_if(|it| *it == verb).is_some() {
            return Err(Error::Unreachable("the connection broke".into()));
        }
        if self.loses > 0 && verb != "version" {
            self.loses -= 1;
            return Err(Error::Unreachable("the connection broke".into()));
        }
        Ok(answer)
    }

    fn obey(&mut self, verb: &str, with: &Value) -> Result<Value, Error> {
        let known = match verb {
            "version" => vec![],
            "rotate_secret" => vec!["new"],
            "accounts" | "sessions" => vec!["host"],
            "changes" => vec!["since", "wait"],
            "check_password" | "set_password" => vec!["host", "localpart", "password"],
            "create_account" => vec!["host", "localpart", "password", "role"],
            "set_role" => vec!["host", "localpart", "role"],
            "delete_account" | "avatar" => vec!["host", "localpart"],
            "profiles" => vec!["host", "localparts"],
            "set_profile" if !with["nickname"].is_null() => vec!["host", "localpart", "nickname"],
            "set_profile" => {
                let [color, api, dashboard] = ["accent_color", "api_url", "dashboard_url"];
                vec![color, api, dashboard, "host", "kind", "localpart", "name"]
            }
            "set_avatar" => vec!["host", "localpart", "picture"],
            _ => return Err(refused(404, "no_such_verb")),
        };
        let names: Vec<&String> = with.as_object().unwrap().keys().collect();
        assert_eq!(names, known, "the module refuses other fields: {verb}");
        let text = |name: &str| with[name].as_str().unwrap_or("").to_owned();
        if !with["host"].is_null() && (!self.serves || text("host") != self.host) {
            return Err(refused(404, "no_such_host"));
        }
        let name = text("localpart");
        match verb {
            "version" => Ok(json!({ "prosody": "13.0.2", "module": 1, "started": self.starts })),
            "rotate_secret" => self.rotate(&text("new")),
            "accounts" => {
                let accounts = self.accounts.iter().map(|(name, account)| {
                    let Account { role, created, .. } = account;
                    json!({ "localpart": name, "role": role, "created": created })
                });
                Ok(json!({ "seq": self.seq, "accounts": accounts.collect::<Vec<_>>() }))
            }
            "sessions" => {
                let online = self.accounts.iter().filter(|(_, account)| account.sessions > 0);
                let session = |name| json!({ "localpart": name, "resource": "r", "since": 1 });
                let sessions: Vec<Value> = online.map(|(name, _)| session(name)).collect();
                Ok(json!({ "sessions": sessions }))
            }
            "changes" => self.changes_after(with["since"].as_u64().unwrap()),
            "check_password" => {
                let account = self.accounts.get(&name);
                let ok = account.is_some_and(|account| account.password == text("password"));
                Ok(json!({ "ok": ok }))
            }
            "profiles" => Ok(self.profiles(with["localparts"].as_array().unwrap())),
            "set_role" | "set_password" | "delete_account" | "avatar" | "set_profile"
            | "set_avatar"
                if !self.accounts.contains_key(&name) =>
            {
                Err(refused(404, "no_such_account"))
            }
            "set_password" if text("password").contains('\u{fffe}') => {
                Err(refused(400, "malformed"))
            }
            "set_password" => {
                let account = self.accounts.get_mut(&name).unwrap();
                (account.password, account.sessions) = (text("password"), 0);
                self.record(json!({ "kind": "password", "localpart": name }));
                Ok(json!({}))
            }
            "set_role" => {
                let change = self.set_role(&name, &text("role"));
                self.record(change);
                Ok(json!({}))
            }
            "delete_account" => {
                let change = self.delete(&name);
                self.record(change);
                Ok(json!({}))
            }
            "avatar" => self.avatar(&name),
            "set_profile" => Ok(self.set_profile(&name, with)),
            "set_avatar" => Ok(self.set_avatar(&name, &text("picture"))),
            _ if self.accounts.contains_key(&name) => Err(refused(409, "exists")),
            _ if text("password").is_empty() => Err(refused(400, "malformed")),
            _ => {
                let change = self.create(&name, &text("password"), &text("role"));
                self.record(change);
                Ok(json!({ "localpart": name }))
            }
        }
    }

    fn profiles(&self, names: &[Value]) -> Value {
        assert!((1..=64).contains(&names.len()), "the module refuses it");
        let known = names.iter().filter_map(|it| {
            let name = it.as_str().unwrap();
            let mut shown = told(&self.accounts.get(name)?.profile);
            shown["localpart"] = name.into();
            Some(shown)
        });
        json!({ "seq": self.seq, "profiles": known.collect::<Vec<_>>() })
    }

    fn set_profile(&mut self, name: &str, with: &Value) -> Value {
        let profile = &mut self.accounts.get_mut(name).unwrap().profile;
        let before = profile.clone();
        for (key, value) in with.as_object().unwrap() {
            match value.as_str() {
                _ if ["host", "localpart"].contains(&key.as_str()) => (),
                Some("") => drop(profile.remove(key)),
                _ => drop(profile.insert(key.clone(), value.clone())),
            }
        }
        if *profile != before {
            let change = self.profile_change(name);
            self.record(change);
        }
        json!({})
    }

    fn set_avatar(&mut self, name: &str, picture: &str) -> Value {
        let account = self.accounts.get_mut(name).unwrap();
        if account.picture != picture {
            account.picture = picture.into();
            // Another one has another: that is all that it must do.
            let id = format!("{:040x}", self.seq);
            let avatar = json!({ "id": id, "type": "image/png", "bytes": picture.len() * 3 / 4 });
            account.profile.insert("avatar".into(), avatar);
            let change = self.profile_change(name);
            self.record(change);
        }
        self.accounts[name].profile["avatar"].clone()
    }

    fn avatar(&self, name: &str) -> Result<Value, Error> {
        let Account { picture, profile, .. } = &self.accounts[name];
        if picture.is_empty() {
            return Err(refused(404, "no_avatar"));
        }
        let mut avatar = profile["avatar"].clone();
        avatar["picture"] = picture.as_str().into();
        Ok(avatar)
    }

    fn profile_change(&self, name: &str) -> Value {
        let mut change = told(&self.accounts[name].profile);
        change["kind"] = "profile".into();
        change["localpart"] = name.into();
        change
    }

    fn rotate(&mut self, new: &str) -> Result<Value, Error> {
        let is_strong =
            (32..=512).contains(&new.len()) && new.bytes().all(|it| it.is_ascii_graphic());
        assert!(is_strong, "the module refuses it");
        if new == self.secret {
            return Err(refused(409, "unchanged"));
        }
        self.secret = new.to_owned();
        Ok(json!({}))
    }

    fn changes_after(&self, since: u64) -> Result<Value, Error> {
        let oldest = self.seq - self.changes.len() as u64;
        if since > self.seq || since < oldest.max(self.first) {
            return Err(Error::Gone);
        }
        let after = self.changes.iter().filter(|change| change["seq"].as_u64().unwrap() > since);
        Ok(json!({ "seq": self.seq, "changes": after.collect::<Vec<_>>() }))
    }
}

/// Of a profile, what is told of all members.
fn told(profile: &serde_json::Map<String, Value>) -> Value {
    let is_told = |key: &String| key == "nickname" || key == "avatar";
    let some = profile.iter().filter(|(key, _)| is_told(key));
    some.map(|(key, value)| (key.clone(), value.clone())).collect::<serde_json::Map<_, _>>().into()
}

fn refused(status: u16, error: &str) -> Error {
    Error::Refused { status, error: error.into(), message: format!("cannot: {error}") }
}

impl Server for FakeServer {
    fn ask<'a>(&'a self, secret: &'a Secret, verb: &'static str, with: Value) -> Answer<'a, Value> {
        Box::pin(async move { self.answer(secret.reveal(), verb, &with).await })
    }
}
