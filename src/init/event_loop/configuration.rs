//! The Server's configuration among services: what its events are here, and how its effects are
//! carried out.

use appliance::control::{SettingsState, SettingsStep};
use appliance::settings::{Domain, Settings};

use super::EventLoop;
use crate::ask::About;
use crate::clock::{self, Moment};
use crate::configuration::{Configuration, Effect, Event, Loaded};
use crate::lifecycle;
use crate::log::{error, notice, warning};
use crate::render::{self, Order};
use crate::server_file::{self, Kept};
use crate::supervisor::Id;
use crate::worker::{Input, Worker};
use appliance::failure::{Failure, OrCannot as _};

/// What the Server of this machine is configured with.
#[derive(Debug)]
pub struct Configured {
    configuration: Configuration,
    /// What worked in an earlier boot.
    kept: Option<Kept>,
    /// The child that renders, once there was something to render.
    renderer: Option<Id>,
    /// The number of its last order.
    ordered: u32,
    wake_at: Option<Moment>,
    /// Does the operator allow Lua in settings?
    may_hold_lua: bool,
    /// What was said last.
    told: Option<(SettingsStep, Option<String>)>,
}

impl Configured {
    /// Puts the bootstrap file in its place, for a Server of this group. Should there be no room for
    /// it, the Server starts with what lies there: the gate is shut all the same.
    pub fn begin(group: u32, may_hold_lua: bool) -> Configured {
        if let Err(failure) = server_file::begin(group) {
            error!("settings: {failure}");
        }
        Configured {
            configuration: Configuration::new(),
            kept: server_file::kept(),
            renderer: None,
            ordered: 0,
            wake_at: None,
            may_hold_lua,
            told: None,
        }
    }

    /// The Server's data is another's now: whatever was wanted or worked is forgotten, and a Server
    /// that starts finds what it does at a boot. The gate is open.
    pub fn begin_anew(&mut self, group: u32, may_hold_lua: bool) {
        // A child that still renders answers an order that isn't the last any more.
        let (renderer, ordered) = (self.renderer, self.ordered + 1);
        let begun = Configured::begin(group, may_hold_lua);
        *self = Configured { renderer, ordered, ..begun };
        self.configuration.on(Event::Opened);
    }

    /// The domain that the Server was said to serve last.
    pub fn domain(&self) -> Option<String> {
        let settings = self.configuration.wanted().or(self.kept.as_ref().map(|it| &it.settings));
        settings.map(|settings| settings.domain.to_string())
    }

    /// The domain that the Server serves now.
    pub fn served_domain(&self) -> Option<&Domain> {
        self.configuration.good().map(|good| &good.settings.domain)
    }

    /// When it shall be looked at again.
    pub fn deadline(&self) -> Option<Moment> {
        self.wake_at
    }

    /// As the control socket tells it.
    pub fn state(&self) -> SettingsState {
        SettingsState {
            of: self.configuration.wanted().map(Settings::digest),
            step: self.configuration.step(),
            why: self.configuration.trouble().map(str::to_owned),
            may_hold_lua: self.may_hold_lua,
        }
    }

    /// What the Server runs with.
    pub fn text(&self) -> Option<&str> {
        self.configuration.good().map(|good| good.text.as_str())
    }

    /// What it is like now, if that is news.
    fn news(&mut self) -> Option<(SettingsStep, Option<String>)> {
        let now = (self.configuration.step(), self.configuration.trouble().map(str::to_owned));
        (self.told.as_ref() != Some(&now)).then(|| {
            self.told = Some(now.clone());
            now
        })
    }
}

impl EventLoop {
    /// The last settings that worked are good until there are others: should those that come be
    /// wrong, or the Pod API not come at all, the Pod serves.
    pub(super) fn settle_as_before(&mut self) {
        let Some(configured) = self.bootstrap.as_ref().map(|all| &all.configured) else { return };
        let Some(settings) = configured.kept.as_ref().map(|kept| kept.settings.clone()) else {
            return;
        };
        // What the operator allowed then, and doesn't any more, the Pod API leaves out.
        if configured.may_hold_lua || settings.prosody_overrides_raw.is_none() {
            self.settle(settings);
        }
    }

    /// The Server shall be like this.
    pub(super) fn settle(&mut self, settings: Settings) {
        if settings.prosody_overrides_raw.is_some() {
            warning!("settings: they hold Lua of an admin's, which the operator allows");
        }
        self.tell_configuration(Event::Submitted(settings));
    }

    /// The renderer has something to say.
    pub(super) fn on_rendered(&mut self, id: Id, line: &str) {
        let Some(bootstrap) = &self.bootstrap else { return };
        let ordered = bootstrap.configured.ordered;
        let paper = self.workers.get_mut(id.0).and_then(Worker::paper);
        match paper.and_then(|paper| render::from_line(line, paper)) {
            Some((number, result)) if number == ordered => {
                self.tell_configuration(Event::Rendered(result));
            }
            Some(_) => {}
            None => error!("settings: cannot accept what the renderer says"),
        }
    }

    /// Is it time to try again?
    pub(super) fn on_configuration_time(&mut self, now: Moment) {
        let configured = self.bootstrap.as_mut().map(|bootstrap| &mut bootstrap.configured);
        if configured.and_then(|it| it.wake_at.take_if(|at| *at <= now)).is_some() {
            self.tell_configuration(Event::Timeout);
        }
    }

    pub(super) fn tell_configuration(&mut self, event: Event) {
        let Some(bootstrap) = &mut self.bootstrap else { return };
        let configured = &mut bootstrap.configured;
        let effects = configured.configuration.on(event);
        match configured.news() {
            Some((step, Some(why))) => warning!("settings: {step} ({why})"),
            Some((step, None)) => notice!("settings: {step}"),
            None => {}
        }
        for effect in effects {
            let is_rendering = matches!(effect, Effect::Render(_));
            if let Err(failure) = self.configure(effect) {
                error!("settings: {failure}");
                // Whatever was to follow would be about another file than the one that lies there.
                return self.tell_configuration(match is_rendering {
                    true => Event::Rendered(Err(failure.to_string())),
                    false => Event::Loaded(Loaded::Unclear),
                });
            }
        }
    }

    fn configure(&mut self, effect: Effect) -> Result<(), Failure> {
        let Some(bootstrap) = &mut self.bootstrap else { return Ok(()) };
        match effect {
            Effect::Render(settings) => self.render(settings),
            Effect::Install(text) => server_file::install(text.as_deref(), bootstrap.server.gid()),
            Effect::Load => {
                let secret = bootstrap.secret().clone();
                self.ask(About::Load { secret })
            }
            Effect::RestartServer => {
                let server = bootstrap.server.id;
                self.tell(server, lifecycle::Event::Stop);
                self.tell(server, lifecycle::Event::Start);
                Ok(())
            }
            Effect::Keep(rendered) => {
                if let Err(failure) = server_file::keep(&rendered, &self.image()) {
                    error!("settings: {failure}");
                }
                Ok(())
            }
            Effect::WakeIn(wait) => {
                bootstrap.configured.wake_at = Some(clock::now() + wait);
                Ok(())
            }
        }
    }

    /// By which one tells images apart: a text that one has served by isn't made and checked again.
    fn image(&self) -> String {
        format!("{} {} {}", self.name, self.version, self.built)
    }

    fn render(&mut self, settings: Settings) -> Result<(), Failure> {
        let (image, has_certificate) = (self.image(), server_file::has_certificate());
        let Some(bootstrap) = &mut self.bootstrap else { return Ok(()) };
        let configured = &mut bootstrap.configured;
        // This very image has served by it. Should that be wrong, it isn't tried a second time.
        let is_it = |kept: &mut Kept| {
            let own = (&kept.settings, &kept.image, kept.has_certificate);
            own == (&settings, &image, has_certificate)
        };
        if let Some(kept) = configured.kept.take_if(is_it) {
            self.tell_configuration(Event::Rendered(Ok(kept.text)));
            return Ok(());
        }
        configured.ordered += 1;
        let order = Order { number: configured.ordered, settings, has_certificate };
        let document = serde_json::to_vec(&order).or_cannot("hand over the settings")?;
        let known = configured.renderer;
        let id = self.child(known, Input::Render, render::service)?;
        if let Some(bootstrap) = &mut self.bootstrap {
            bootstrap.configured.renderer = Some(id);
        }
        self.hand(id, document);
        Ok(())
    }
}
