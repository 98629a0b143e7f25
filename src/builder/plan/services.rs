//! Services, as layers describe them, become services as an image ships them.

use std::collections::{BTreeMap, BTreeSet};

use anyhow::{Context, Result, bail};
use appliance::boot::Volume;
use appliance::service::{self, Access, Alive, Kind, Limits, Millis, Ready, Service, Side, User};

use crate::layer::{AliveEntry, LayerFolder, LimitsEntry, ReadyEntry, ServiceEntry};
use crate::quantity::{AbsolutePath, Granted, Name, Span};

/// The name that a service may wait for although no layer declares it.
const NETWORK: &str = "network";
/// What stele-init calls itself, its own children and the logs of neither.
const RESERVED: [&str; 5] = ["init", "kernel", NETWORK, "stele-init", "time"];
/// A program that is ready as soon as it runs must run by then.
const EXEC_WITHIN: Millis = Millis(10_000);
/// The longest that a daemon may be sent to see whether it is alive.
const LONGEST_QUESTION: usize = 1024;
/// What stele-init keeps in `/run`, or shows to every service there.
const OWN_FOLDERS: [&str; 3] = ["/run/net", "/run/notify", "/run/stele"];

/// The services of all layers, in start order.
pub fn resolve(
    layers: &[LayerFolder],
    users: &BTreeMap<String, User>,
    volumes: &[Volume],
) -> Result<Vec<Service>> {
    let entries = layers.iter().flat_map(|folder| folder.layer.services.values());
    let runtime = entries.flat_map(|entry| &entry.runtime).map(AbsolutePath::as_str);
    let known = runtime.chain(volumes.iter().map(|volume| volume.path.as_str())).collect();
    let mut services = BTreeMap::new();
    for folder in layers {
        for (name, entry) in &folder.layer.services {
            let context = || format!("cannot use layer {}: service {name}", folder.name);
            let service = resolve_one(name, entry, users, &known).with_context(context)?;
            if services.insert(name.as_str(), service).is_some() {
                bail!("{}: an earlier layer declares it too", context());
            }
        }
    }
    check_gate(&services)?;
    for service in services.values() {
        let unknown =
            service.after.iter().find(|n| *n != NETWORK && !services.contains_key(n.as_str()));
        if let Some(unknown) = unknown {
            bail!("cannot order services: {} waits for `{unknown}`, which is none", service.name);
        }
    }
    service::start_order(services.into_values().collect()).map_err(|circle| {
        anyhow::anyhow!("cannot order services: {} wait for each other", circle.join(", "))
    })
}

/// Granted is what some layer declares (`known`): what it doesn't name can't be there at boot either,
/// and a folder inside a volume could be led elsewhere by whoever writes there.
fn granted(
    name: &Name,
    entry: &ServiceEntry,
    known: &BTreeSet<&str>,
) -> Result<BTreeMap<String, Access>> {
    let mut grants = BTreeMap::new();
    for (Granted { path, may_lack }, access) in &entry.grants {
        let is_known = known.contains(path.as_str());
        if !is_known && !may_lack {
            bail!(
                "cannot grant {path} to service {name}: it is neither a volume nor the runtime \
                 directory of a service"
            );
        }
        if is_known && grants.insert(path.to_string(), *access).is_some() {
            bail!("`grants` names {path} with `?` and without");
        }
    }
    Ok(grants)
}

/// A secret is shared by two: with one alone the gate would never open.
fn check_gate(services: &BTreeMap<&str, Service>) -> Result<()> {
    let names = |side| -> Vec<&str> {
        let of_side = services.values().filter(|service| service.gate == Some(side));
        of_side.map(|service| service.name.as_str()).collect()
    };
    match (names(Side::Server).as_slice(), names(Side::Api).as_slice()) {
        ([], []) | ([_], [_]) => Ok(()),
        (servers, apis) => bail!(
            "cannot make a gate: it takes one service with `gate = \"server\"` ({}) and one with \
             `gate = \"api\"` ({})",
            listed(servers),
            listed(apis)
        ),
    }
}

fn listed(names: &[&str]) -> String {
    if names.is_empty() { "there is none".to_owned() } else { names.join(", ") }
}

fn resolve_one(
    name: &Name,
    entry: &ServiceEntry,
    users: &BTreeMap<String, User>,
    known: &BTreeSet<&str>,
) -> Result<Service> {
    if RESERVED.contains(&name.as_str()) || name.as_str().starts_with("dhcp-") {
        bail!("the name is stele-init's own");
    }
    if let Some(own) = entry.runtime.iter().find(|path| OWN_FOLDERS.contains(&path.as_str())) {
        bail!("`runtime` names {own}, which is stele-init's own");
    }
    if let Some(deep) = entry.runtime.iter().find(|path| !is_directly_in_run(path)) {
        bail!("`runtime` names {deep}, which doesn't lie directly in /run");
    }
    let program = entry.run.first().context("`run` is empty")?;
    if !program.starts_with('/') {
        bail!("`run` starts with `{program}`, which is not an absolute path");
    }
    let user = users
        .get(&entry.user)
        .with_context(|| format!("it runs as `{}`, which no layer declares", entry.user))?;
    let kind = match (&entry.once, &entry.ready) {
        (Some(_), Some(_)) => bail!("it is `once` and has `ready`: choose one"),
        (Some(once), None) => Kind::Task {
            creates: once.creates.as_ref().map(ToString::to_string),
            done_within: millis(once.within),
        },
        (None, Some(ready)) => {
            Kind::Daemon { ready: readiness(ready)?, ready_within: millis(ready.within) }
        }
        (None, None) => Kind::Daemon { ready: Ready::Started, ready_within: EXEC_WITHIN },
    };
    Ok(Service {
        name: name.to_string(),
        run: entry.run.clone(),
        user: user.clone(),
        env: entry.env.clone(),
        after: entry.after.clone(),
        kind,
        alive: alive(entry)?,
        runtime: entry.runtime.iter().map(ToString::to_string).collect(),
        grants: granted(name, entry, known)?,
        control: entry.control.clone(),
        gate: entry.gate,
        limits: limits(&entry.limits)?,
        open_files: entry.open_files,
        stop_within: millis(entry.stop.within),
    })
}

/// A deeper path could be led elsewhere by whoever owns its parent.
fn is_directly_in_run(path: &AbsolutePath) -> bool {
    path.as_str().strip_prefix("/run/").is_some_and(|name| !name.contains('/'))
}

fn alive(entry: &ServiceEntry) -> Result<Option<Alive>> {
    let Some(AliveEntry { tcp, send, every, within }) = &entry.alive else { return Ok(None) };
    if entry.once.is_some() {
        bail!("it is `once` and has `alive`: choose one");
    }
    // It is written in one go, before anybody reads.
    if send.is_empty() || send.len() > LONGEST_QUESTION {
        bail!("`send` of `alive` has {} bytes, not 1 to {LONGEST_QUESTION}", send.len());
    }
    let (every, within) = (millis(*every), millis(*within));
    Ok(Some(Alive { tcp: *tcp, send: send.clone(), every, within }))
}

fn limits(entry: &LimitsEntry) -> Result<Limits> {
    let usual = Limits::default();
    let limits = Limits {
        memory: entry.memory.map_or(usual.memory, |limit| limit.0),
        pids: entry.pids.unwrap_or(usual.pids),
        cpu_weight: entry.cpu_weight.unwrap_or(usual.cpu_weight),
    };
    if limits.pids == 0 {
        bail!("`pids` is 0, which lets nothing start");
    }
    if !(1..=10_000).contains(&limits.cpu_weight) {
        bail!("`cpu-weight` is {}, not from 1 to 10000", limits.cpu_weight);
    }
    Ok(limits)
}

fn readiness(entry: &ReadyEntry) -> Result<Ready> {
    match (entry.tcp, &entry.file, entry.notify) {
        (Some(port), None, false) => Ok(Ready::Tcp(port)),
        (None, Some(path), false) => Ok(Ready::File(path.to_string())),
        (None, None, true) => Ok(Ready::Notify),
        _ => bail!("give one of `tcp`, `file` and `notify` in `ready`"),
    }
}

fn millis(span: Span) -> Millis {
    Millis(span.0.as_millis() as u64)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::document;
    use crate::quantity::Name;
    use appliance::service::Memory;

    /// A layer with a volume, a user and service `b`, and what is added to service `a`.
    fn resolved(more: &str) -> Result<Vec<Service>> {
        let text = format!(
            "[services.b]\nrun = ['/bin/b']\nuser = 'u'\nruntime = ['/run/b']\n\
             [services.a]\nrun = ['/bin/a']\nuser = 'u'\n{more}\n"
        );
        let layer = document::parse("layer.toml", &text)?;
        let name = Name::try_from("x".to_owned()).unwrap();
        let user = User { name: "u".into(), uid: 950, gid: 950, home: "/".into() };
        let volume = Volume {
            path: "/var/lib/a".into(),
            mode: 0o750,
            uid: 950,
            gid: 950,
            immutable: vec![],
        };
        let folder = LayerFolder { name, folder: "/".into(), layer };
        resolve(&[folder], &[("u".to_owned(), user)].into(), &[volume])
    }

    #[test]
    fn what_is_granted_must_be_declared() {
        let grants = "grants = { '/var/lib/a' = 'rw', '/run/b' = 'ro' }";
        let services = resolved(grants).unwrap();
        let expected = [("/run/b", Access::Read), ("/var/lib/a", Access::Write)];
        let expected = expected.map(|(path, access)| (path.to_owned(), access));
        assert_eq!(services[0].grants, expected.into());
        for path in ["/var/lib", "/var/lib/a/inside", "/run/c", "/run/stele", "/etc"] {
            let error = resolved(&format!("grants = {{ '{path}' = 'rw' }}")).unwrap_err();
            assert!(format!("{error:#}").contains(&format!("cannot grant {path} to service a")));
        }
        assert!(resolved("grants = { '/var/lib/a' = 'rx' }").is_err());
    }

    #[test]
    fn what_may_lack_is_granted_where_it_is() {
        let grants = |text: &str| {
            let services = resolved(&format!("grants = {{ {text} }}"));
            services.map(|services| services[0].grants.keys().cloned().collect::<Vec<_>>())
        };
        assert_eq!(grants("'/run/b?' = 'ro', '/run/c?' = 'ro'").unwrap(), ["/run/b"]);
        assert_eq!(grants("'/var/lib/a?' = 'rw'").unwrap(), ["/var/lib/a"]);
        for bad in ["'/run/b?' = 'ro', '/run/b' = 'rw'", "'?' = 'ro'", "'run/b?' = 'ro'"] {
            assert!(grants(bad).is_err(), "{bad}");
        }
    }

    #[test]
    fn what_is_not_said_is_usual() {
        let service = resolved("").unwrap().remove(0);
        assert_eq!((service.limits, service.alive), (Limits::default(), None));
        let limits = resolved("limits = { memory = '10%', pids = 7 }").unwrap()[0].limits;
        assert_eq!(limits, Limits { memory: Memory::Percent(10), pids: 7, cpu_weight: 100 });
    }

    #[test]
    fn a_service_that_cannot_be_is_refused() {
        for bad in [
            "limits = { pids = 0 }",
            "limits = { cpu-weight = 0 }",
            "limits = { memory = '0%' }",
            "runtime = ['/run/net']",
            "runtime = ['/run/a/b']",
            "ready = { tcp = 1, notify = true, within = '1s' }",
            "ready = { within = '1s' }",
            "alive = { tcp = 1, send = '', every = '1s', within = '1s' }",
            "once = { within = '1s' }\nalive = { tcp = 1, send = 'x', every = '1s', within = '1s' }",
        ] {
            assert!(resolved(bad).is_err(), "{bad}");
        }
        let ready = resolved("ready = { notify = true, within = '1s' }").unwrap().remove(0).kind;
        assert_eq!(ready, Kind::Daemon { ready: Ready::Notify, ready_within: Millis(1000) });
    }
}
