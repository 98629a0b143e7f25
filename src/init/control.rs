//! The control socket: who may ask what, and what follows. Pure; [`socket`] has the doing, and
//! [`client`] asks (`stele-init control REQUEST`).
//!
//! A caller is known by its user, which the kernel vouches for (`SO_PEERCRED`): processes come and
//! go, and their numbers with them. What it may ask is what layers grant to services of that user.

pub mod client;
pub mod socket;

use std::collections::BTreeSet;

use appliance::backup::{State, Wish};
use appliance::control::{LONGEST, Machine, Phase, Refusal, Reply, Request, Verb, VerbName};
use appliance::settings::Settings;
use appliance::upgrade;

use crate::end::End;
use crate::gate;

/// Who asks.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Caller {
    /// The user 0: may use every verb.
    Root,
    /// Who may use these verbs: nobody's user, if there are none.
    Granted(BTreeSet<VerbName>),
}

/// What shall be done besides answering.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Effect {
    /// Stop the service of this name and start it again.
    Restart(String),
    /// End the machine.
    End(End),
    /// The gate has to know this.
    Gate(gate::Event),
    /// The Server shall be like this.
    Settings(Box<Settings>),
    /// This shall be done about backups.
    Backup(Box<Wish>),
    /// This shall be done about upgrades, before it is answered.
    Upgrade(upgrade::Wish),
}

/// Where what services, the kernel and init print is kept, and what the Server runs with.
pub trait Papers {
    /// The last lines of what is called so, so many at most, the oldest first. `None`: nothing is.
    fn last(&self, name: &str, lines: usize) -> Option<Vec<String>>;
    /// The Server's configuration. `None`: it serves by none yet.
    fn server_file(&self) -> Option<&str>;
}

/// Who knows what is done about backups.
pub trait Backups {
    /// How that goes.
    fn state(&self) -> State;
    /// May this be done now?
    fn may(&self, wish: &Wish) -> Result<(), Refusal>;
}

/// Who knows what is done about upgrades.
pub trait Upgrades {
    /// How that goes.
    fn state(&self) -> upgrade::State;
    /// May this be done now?
    fn may(&self, wish: &upgrade::Wish) -> Result<(), Refusal>;
}

impl Caller {
    /// The one with this user, of services with theirs and what they are granted.
    pub fn of<'a>(
        user: u32,
        services: impl IntoIterator<Item = &'a (u32, BTreeSet<VerbName>)>,
    ) -> Caller {
        if user == 0 {
            return Caller::Root;
        }
        let own = services.into_iter().filter(|(its, _)| *its == user);
        Caller::Granted(own.flat_map(|(_, verbs)| verbs).copied().collect())
    }

    /// May it use a verb at all?
    pub fn is_known(&self) -> bool {
        !matches!(self, Caller::Granted(verbs) if verbs.is_empty())
    }

    fn may(&self, verb: &Verb) -> bool {
        match self {
            Caller::Root => true,
            Caller::Granted(verbs) => verbs.contains(&verb.name()),
        }
    }
}

/// What a caller gets for its request, the machine being so.
pub fn answer(
    caller: &Caller,
    request: Result<Request, Refusal>,
    machine: &Machine,
    about: &(impl Papers + Backups + Upgrades),
) -> (Reply, Option<Effect>) {
    let verb = match request {
        Ok(Request { verb, .. }) if caller.may(&verb) => verb,
        Ok(_) => return (Reply::Refused(Refusal::Forbidden), None),
        Err(refusal) => return (Reply::Refused(refusal), None),
    };
    let granted = match verb {
        Verb::State => Ok((Reply::State(Box::new(machine.clone())), None)),
        Verb::Services => Ok((Reply::Services(machine.services.clone()), None)),
        Verb::Logs { service, lines } => {
            printed(service, lines, about).map(|lines| (Reply::Logs(lines), None))
        }
        Verb::Restart { service } => restart(service, machine).map(accepted),
        Verb::Reboot => Ok(accepted(Effect::End(End::Reboot))),
        Verb::PowerOff => Ok(accepted(Effect::End(End::PowerOff))),
        Verb::RotationPending { .. } | Verb::RotationDone | Verb::Backup(_)
            if machine.gate.is_none() =>
        {
            Err(Refusal::NoGate)
        }
        Verb::RotationPending { secret } => {
            Ok(accepted(Effect::Gate(gate::Event::Pending(secret))))
        }
        Verb::RotationDone => Ok(accepted(Effect::Gate(gate::Event::Done))),
        Verb::Settings(settings) => submit(settings, machine).map(accepted),
        Verb::SettingsState => match &machine.settings {
            Some(state) => Ok((Reply::SettingsState(state.clone()), None)),
            None => Err(Refusal::NoGate),
        },
        Verb::ServerFile { from } => {
            let text = about.server_file().ok_or(Refusal::NoSettings);
            text.map(|text| (part(text, from), None))
        }
        Verb::Backup(wish) if *wish == Wish::State => {
            Ok((Reply::Backup(Box::new(Backups::state(about))), None))
        }
        Verb::Backup(_) if machine.phase == Phase::Ending => Err(Refusal::Ending),
        Verb::Backup(wish) => Backups::may(about, &wish).map(|()| accepted(Effect::Backup(wish))),
        Verb::UpgradeState => Ok((Reply::Upgrade(Box::new(Upgrades::state(about))), None)),
        Verb::Upgrade(_) if machine.phase == Phase::Ending => Err(Refusal::Ending),
        Verb::Upgrade(wish) => {
            Upgrades::may(about, &wish).map(|()| accepted(Effect::Upgrade(wish)))
        }
    };
    granted.unwrap_or_else(|refusal| (Reply::Refused(refusal), None))
}

fn accepted(effect: Effect) -> (Reply, Option<Effect>) {
    (Reply::Accepted, Some(effect))
}

fn submit(settings: Box<Settings>, machine: &Machine) -> Result<Effect, Refusal> {
    let holds_lua = settings.prosody_overrides_raw.is_some();
    match &machine.settings {
        None => Err(Refusal::NoGate),
        Some(state) if holds_lua && !state.may_hold_lua => Err(Refusal::Lua),
        Some(_) => Ok(Effect::Settings(settings)),
    }
}

/// As much of a text, from a byte on, as goes into a packet.
fn part(text: &str, from: u32) -> Reply {
    let from = text.ceil_char_boundary(from as usize);
    let to = text.floor_char_boundary(from.saturating_add(ROOM));
    let length = text.len().try_into().unwrap_or(u32::MAX);
    Reply::ServerFile { text: text[from..to].to_owned(), length }
}

fn restart(name: String, machine: &Machine) -> Result<Effect, Refusal> {
    let service = machine.services.iter().find(|service| service.name == name);
    match service.map(|service| service.state.as_str()) {
        None => Err(Refusal::NoSuchService(name)),
        Some(_) if machine.phase == Phase::Ending => Err(Refusal::Ending),
        // Starting it would pass over what it waits for.
        Some("waiting" | "stopped") => Err(Refusal::NotStarted(name)),
        Some(_) => Ok(Effect::Restart(name)),
    }
}

/// The last lines, as many as go into a packet.
fn printed(name: String, lines: u32, papers: &impl Papers) -> Result<Vec<String>, Refusal> {
    let lines = papers.last(&name, lines.min(MOST_LINES) as usize);
    let lines = lines.ok_or(Refusal::NoSuchService(name))?;
    // A line has two quotes and a comma besides.
    let mut room = ROOM;
    let fits = |line: &&String| match room.checked_sub(line.len() + 1) {
        Some(left) => {
            room = left;
            true
        }
        None => false,
    };
    let mut fitting: Vec<String> = lines.iter().rev().take_while(fits).cloned().collect();
    fitting.reverse();
    Ok(fitting)
}

/// So many bytes of text fit into a packet: in JSON one can take six (`\u0000`).
const ROOM: usize = (LONGEST - 100) / 6;
/// More lines don't fit into a packet anyway.
const MOST_LINES: u32 = 10_000;

#[cfg(test)]
mod tests;
