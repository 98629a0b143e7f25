//! What the Server runs with: from settings that were submitted to a configuration that it serves by,
//! or back to the last good one.
//!
//! ```text
//!            Submitted             Rendered, gate open, Server up          Loaded
//!  Idle ──────────────► Rendering ─────────────────────────────► Loading ────────► Idle: good
//!   ▲                       │ refused                             │   │ needs a restart, or
//!   ├───────────────────────┘                    refused, unclear │   ▼ the Server ended
//!   └── after five ── Resting ◄── the last good one is put back ──┴─ Restarting ── Ready ──► good
//!                        └──── after a wait ──► Rendering             ended again ─┘
//! ```
//!
//! Pure; what is asked for here is done by [`crate::event_loop`]. A refusal of what was rendered is
//! final, since the same settings make the same text. A Server that fails to load it may have been
//! killed by chance: then it is tried again, a few times.

use std::time::Duration;

use appliance::control::SettingsStep;
use appliance::settings::Settings;

/// The wait before what failed is tried again; it doubles.
const FIRST_WAIT: Duration = Duration::from_secs(1);
/// So often a configuration is given to a Server that serves by another, before it is given up.
const TRIES: u32 = 5;

/// Settings, and the Server's configuration of them.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Rendered {
    /// What was submitted.
    pub settings: Settings,
    /// What the Server reads.
    pub text: String,
}

/// What happened.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Event {
    /// The Server shall be like this.
    Submitted(Settings),
    /// What became of the last [`Effect::Render`]: the text, or why there is none.
    Rendered(Result<String, String>),
    /// The gate is open.
    Opened,
    /// The Server serves.
    Ready,
    /// The Server's process ended.
    Ended,
    /// What became of the last [`Effect::Load`].
    Loaded(Loaded),
    /// The time set by the last [`Effect::WakeIn`] is over.
    Timeout,
}

/// What the Server said of a configuration.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Loaded {
    /// It serves by it.
    Wholly,
    /// It will, once it has been started anew.
    AfterRestart,
    /// It goes on with the one before.
    Refused,
    /// It gave no answer that says.
    Unclear,
}

/// What shall be done.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Effect {
    /// Make a text of these, and check it.
    Render(Settings),
    /// Put this where the Server reads it; `None`: what it starts with before there are settings.
    Install(Option<String>),
    /// Have the Server read it.
    Load,
    /// Start the Server anew.
    RestartServer,
    /// These work: keep them for the next boot.
    Keep(Rendered),
    /// Set the one timer, replacing the last.
    WakeIn(Duration),
}

/// What is being done.
#[derive(Debug, Clone, PartialEq, Eq)]
enum Work {
    Idle,
    Rendering(Settings),
    /// It waits for the gate, or for the Server.
    Waiting(Rendered),
    Loading(Rendered),
    /// How often the Server ended meanwhile: once it was told to.
    Restarting(Rendered, u32),
    Resting,
}

/// The Server's configuration in one boot.
#[derive(Debug)]
pub struct Configuration {
    work: Work,
    wanted: Option<Settings>,
    good: Option<Rendered>,
    is_open: bool,
    is_up: bool,
    tries: u32,
    trouble: Option<String>,
}

impl Configuration {
    /// Nothing is known yet.
    pub fn new() -> Configuration {
        Configuration {
            work: Work::Idle,
            wanted: None,
            good: None,
            is_open: false,
            is_up: false,
            tries: 0,
            trouble: None,
        }
    }

    /// Where it is.
    pub fn step(&self) -> SettingsStep {
        match self.work {
            Work::Idle if self.wanted.is_none() => SettingsStep::None,
            Work::Idle if self.trouble.is_some() => SettingsStep::Refused,
            Work::Idle => SettingsStep::Applied,
            Work::Rendering(_) => SettingsStep::Rendering,
            Work::Waiting(_) => SettingsStep::Waiting,
            Work::Loading(_) | Work::Restarting(..) => SettingsStep::Loading,
            Work::Resting => SettingsStep::Resting,
        }
    }

    /// What was submitted last.
    pub fn wanted(&self) -> Option<&Settings> {
        self.wanted.as_ref()
    }

    /// What the Server runs with.
    pub fn good(&self) -> Option<&Rendered> {
        self.good.as_ref()
    }

    /// Why the last try failed.
    pub fn trouble(&self) -> Option<&str> {
        self.trouble.as_deref()
    }

    /// Something happened.
    pub fn on(&mut self, event: Event) -> Vec<Effect> {
        match event {
            Event::Submitted(settings) => self.on_submitted(settings),
            Event::Rendered(result) => self.on_rendered(result),
            Event::Opened => {
                self.is_open = true;
                self.load_if_possible()
            }
            Event::Ready => self.on_ready(),
            Event::Ended => self.on_ended(),
            Event::Loaded(loaded) => self.on_loaded(loaded),
            Event::Timeout if self.work == Work::Resting => self.begin(),
            Event::Timeout => vec![],
        }
    }

    fn on_submitted(&mut self, settings: Settings) -> Vec<Effect> {
        let has_failed = self.work == Work::Idle && self.trouble.is_some();
        if self.wanted.as_ref() == Some(&settings) && !has_failed {
            return vec![];
        }
        self.wanted = Some(settings);
        self.tries = 0;
        match self.work {
            Work::Idle | Work::Waiting(_) | Work::Resting => self.begin(),
            // What is being done is finished first.
            Work::Rendering(_) | Work::Loading(_) | Work::Restarting(..) => vec![],
        }
    }

    /// Works on what is wanted, if that isn't what the Server runs with.
    fn begin(&mut self) -> Vec<Effect> {
        self.work = Work::Idle;
        match &self.wanted {
            Some(wanted) if self.good.as_ref().is_none_or(|good| good.settings != *wanted) => {
                self.work = Work::Rendering(wanted.clone());
                vec![Effect::Render(wanted.clone())]
            }
            _ => {
                self.trouble = None;
                vec![]
            }
        }
    }

    fn on_rendered(&mut self, result: Result<String, String>) -> Vec<Effect> {
        let Work::Rendering(settings) = &self.work else { return vec![] };
        let settings = settings.clone();
        if self.wanted.as_ref() != Some(&settings) {
            return self.begin();
        }
        match result {
            Ok(text) => {
                self.work = Work::Waiting(Rendered { settings, text });
                self.load_if_possible()
            }
            Err(why) => {
                self.trouble = Some(why);
                self.work = Work::Idle;
                vec![]
            }
        }
    }

    fn load_if_possible(&mut self) -> Vec<Effect> {
        match &self.work {
            Work::Waiting(rendered) if self.is_open && self.is_up => {
                let text = rendered.text.clone();
                self.work = Work::Loading(rendered.clone());
                vec![Effect::Install(Some(text)), Effect::Load]
            }
            _ => vec![],
        }
    }

    fn on_ready(&mut self) -> Vec<Effect> {
        self.is_up = true;
        match &self.work {
            // It was started with what lies there.
            Work::Restarting(rendered, _) => self.is_good(rendered.clone()),
            _ => self.load_if_possible(),
        }
    }

    /// Whoever ends while loading is started anew with what lies there, as if that had been asked.
    fn on_ended(&mut self) -> Vec<Effect> {
        self.is_up = false;
        match &self.work {
            Work::Loading(rendered) => {
                self.work = Work::Restarting(rendered.clone(), 1);
                vec![]
            }
            Work::Restarting(rendered, 0) => {
                self.work = Work::Restarting(rendered.clone(), 1);
                vec![]
            }
            Work::Restarting(..) => self.put_back("the Server doesn't start with it", false),
            _ => vec![],
        }
    }

    fn on_loaded(&mut self, loaded: Loaded) -> Vec<Effect> {
        let Work::Loading(rendered) = &self.work else { return vec![] };
        let rendered = rendered.clone();
        match loaded {
            Loaded::Wholly => self.is_good(rendered),
            Loaded::AfterRestart => {
                self.work = Work::Restarting(rendered, 0);
                vec![Effect::RestartServer]
            }
            Loaded::Refused => self.put_back("the Server refuses it", false),
            Loaded::Unclear => self.put_back("the Server doesn't say that it loaded it", true),
        }
    }

    fn is_good(&mut self, rendered: Rendered) -> Vec<Effect> {
        self.good = Some(rendered.clone());
        self.trouble = None;
        self.tries = 0;
        let mut effects = vec![Effect::Keep(rendered)];
        effects.extend(self.begin());
        effects
    }

    /// The Server runs with the last good one, or is started with it; `is_loaded`: it may have
    /// taken over the other, and must be told.
    fn put_back(&mut self, why: &str, is_loaded: bool) -> Vec<Effect> {
        self.trouble = Some(why.to_owned());
        let good = self.good.as_ref().map(|good| good.text.clone());
        let mut effects = vec![];
        self.tries += 1;
        self.work = Work::Idle;
        // A Server that serves nothing yet has nobody to disturb.
        if self.tries < TRIES || self.good.is_none() {
            self.work = Work::Resting;
            // First: should the file not be written either, there is another try all the same.
            effects.push(Effect::WakeIn(FIRST_WAIT * (1 << (self.tries - 1).min(TRIES))));
        }
        effects.push(Effect::Install(good));
        effects.extend(is_loaded.then_some(Effect::Load));
        effects
    }
}

#[cfg(test)]
mod tests;
