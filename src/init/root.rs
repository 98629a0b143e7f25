//! From a verified root to running services.

use std::fs;
use std::path::Path;

use appliance::boot::{APPLIANCE_FILE, Appliance, ROOT_MODULES};
use appliance::control::Phase;
use nix::sys::stat::{Mode, umask};
use nix::unistd::sethostname;

use crate::cgroup;
use crate::end::{self, End};
use crate::event_loop::EventLoop;
use crate::log::{self, error, notice};
use crate::network::{self, Network};
use crate::systems::{self, Systems};
use crate::{
    clock, data, exchange, jail, keep, last_failure, modules, mounts, power_button, random, seed,
    sysctl, trial_word, volumes, watchdog,
};
use appliance::failure::{Failure, OrCannot as _};

/// Comes back only with what went wrong before services could start.
pub fn run() -> Failure {
    match serve() {
        Ok(end) => end::finish(end),
        Err(failure) => failure,
    }
}

fn serve() -> Result<End, Failure> {
    let log = log::open()?;
    end::arm(log)?;
    log::show_notices();
    watchdog::take_over();
    last_failure::reached(Phase::Setup);
    trial_word::take_over();
    umask(Mode::from_bits_truncate(0o022));
    let appliance = read()?;
    notice!("root: {} {} starts", appliance.name, appliance.version);
    mounts::rest()?;
    cgroup::set_up()?;
    load_modules(&appliance.modules);
    // As early as there are any: what is pressed meanwhile waits in them.
    let buttons = power_button::find();
    sysctl::apply();
    clock::not_before(appliance.clock, "the build's")?;
    sethostname(&appliance.name).or_cannot(format_args!("set the name {}", appliance.name))?;
    network::resolver::write(&appliance.name)?;
    jail::set_up()?;
    let systems = open_data(&appliance)?;
    watchdog::feed();
    let event_loop = EventLoop::new(appliance, Network::new()?, buttons, systems)?;
    Ok(event_loop.run())
}

fn read() -> Result<Appliance, Failure> {
    let text = fs::read(APPLIANCE_FILE).or_cannot(format_args!("read {APPLIANCE_FILE}"))?;
    serde_json::from_slice(&text).or_cannot(format_args!("understand {APPLIANCE_FILE}"))
}

/// Mounts the data and the volumes on it, and everything that comes from there.
fn open_data(appliance: &Appliance) -> Result<Option<Systems>, Failure> {
    let Some(programs) = &appliance.data else {
        volumes::mount_memory()?;
        volumes::mount_all(&appliance.volumes)?;
        notice!("root: {} volumes in memory", appliance.volumes.len());
        keep::identify(false)?;
        return Ok(None);
    };
    let look = systems::look(appliance)?;
    let data = data::open(programs)?;
    random::try_seed();
    keep::restore_clock(appliance.clock)?;
    keep::identify(true)?;
    last_failure::read();
    // Before a byte is changed that the system before this one may want to find as it was.
    let mut systems = look.map(|look| look.begin(appliance)).transpose()?;
    if systems.is_none() {
        last_failure::forget();
    }
    if exchange::finish(Path::new(data::AT))? {
        notice!("root: what the power cut short is finished: the data has been exchanged");
    }
    if let Some(systems) = &mut systems {
        systems.settle_data(&appliance.volumes)?;
    }
    volumes::mount_all(&appliance.volumes)?;
    notice!("root: {} volumes on the data", appliance.volumes.len());
    watchdog::feed();
    match systems.as_ref().is_some_and(|systems| systems.upgrade.is_unproven()) {
        // What is taken over is removed from the seed: it would be lost with a trial that fails.
        true => notice!("seed: left alone while a new version is on trial"),
        false => seed::import(&data, &appliance.seed),
    }
    Ok(systems)
}

/// A machine without this or that device is still an appliance; what is missing is told.
fn load_modules(names: &[String]) {
    for name in names {
        if let Err(failure) = modules::load(ROOT_MODULES, name) {
            error!("{failure}");
        }
    }
    sysctl::close_modules();
    if let Err(failure) = mounts::firmware_variables() {
        error!("{failure}");
    }
}
