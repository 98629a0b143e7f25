//! From locked packages and layers to one tree.

use std::collections::BTreeMap;
use std::fs;
use std::sync::Arc;

use anyhow::{Context, Result, bail};
use appliance::boot::{self, Appliance};
use appliance::service::User;
use rayon::prelude::*;

use crate::archive::store::Store;
use crate::deb::{self, DebKind, DebPath};
use crate::elf;
use crate::glob::Glob;
use crate::kernel::{self, Boot};
use crate::layer::{Content, FileEntry, LayerFolder};
use crate::lock::{Lock, LockedPackage};
use crate::plan::{Plan, owner_ids};
use crate::programs::Programs;
use crate::slice::Slice;
use crate::tree::{Entry, Kind, Origin, Tree, merged};

/// Where programs find what a system is called.
const OS_RELEASE: &str = "/usr/lib/os-release";
/// Directories that only exist while the machine runs.
const MADE_AT_BOOT: [&str; 4] = ["/run/", "/proc/", "/sys/", "/dev/"];

/// A tree that is ready to be written, and what starts it.
#[derive(Debug)]
pub struct Assembled {
    /// The root.
    pub tree: Tree,
    /// What goes into the UKI and the ESP.
    pub boot: Boot,
    /// Things that are odd, but no reason to stop.
    pub warnings: Vec<String>,
}

/// Assembles the tree of `plan`, whose packages `lock` names and `store` holds.
pub fn assemble(plan: &Plan, lock: &Lock, store: &Store, programs: &Programs) -> Result<Assembled> {
    let mut tree = Tree::default();
    add_packages(&mut tree, plan, lock, store)?;
    for layer in &plan.layers {
        add_files(&mut tree, plan, layer, programs)?;
    }
    add_accounts(&mut tree, plan)?;
    add_merged_links(&mut tree)?;
    let mut boot = kernel::take(&mut tree, &plan.kernel)?;
    let first = plan.recipe().debian.architecture.efi_fallback();
    boot.in_esp.push((format!("/EFI/BOOT/{first}"), program(&programs.loader)));
    tree.add(boot::INIT_PROGRAM, program(&programs.init))?;
    tree.add(boot::APPLIANCE_FILE, built(appliance(plan, lock, &boot)?))?;
    tree.add(OS_RELEASE, built(os_release(plan)))?;
    tree.add("/etc/os-release", built_link("../usr/lib/os-release"))?;
    add_volumes(&mut tree, plan)?;
    check_programs(&tree, plan)?;
    check_homes(&tree, plan)?;
    check_copyrights(&tree, lock)?;
    check_links(&tree, plan)?;
    let loaded = globs(plan, |layer| &layer.layer.loaded)?;
    let unneeded = elf::check(&tree, &loaded)?;
    let warnings = unneeded.iter().map(|path| format!("nothing is linked to {path}")).collect();
    Ok(Assembled { tree, boot, warnings })
}

fn program(bytes: &Arc<[u8]>) -> Entry {
    let kind = Kind::File(bytes.clone());
    Entry { kind, mode: 0o755, uid: 0, gid: 0, origin: Origin::Builder }
}

/// A file that the builder itself makes.
pub fn built(text: impl Into<String>) -> Entry {
    let kind = Kind::File(text.into().into_bytes().into());
    Entry { kind, mode: 0o644, uid: 0, gid: 0, origin: Origin::Builder }
}

fn built_link(target: &str) -> Entry {
    let kind = Kind::Link(target.to_owned());
    Entry { kind, mode: 0o777, uid: 0, gid: 0, origin: Origin::Builder }
}

fn add_packages(tree: &mut Tree, plan: &Plan, lock: &Lock, store: &Store) -> Result<()> {
    // Unpacking is most of a build's work; the order of what follows is the lock's.
    let unpacked: Vec<Result<Vec<(String, Entry)>>> =
        lock.packages.par_iter().map(|package| package_entries(plan, package, store)).collect();
    for entries in unpacked {
        for (path, entry) in entries? {
            tree.add(&path, entry)?;
        }
    }
    Ok(())
}

fn package_entries(
    plan: &Plan,
    package: &LockedPackage,
    store: &Store,
) -> Result<Vec<(String, Entry)>> {
    let name = &package.name;
    let bytes = store.read(&package.sha256)?;
    let tree = deb::read_tree(&bytes).with_context(|| format!("cannot read package {name}"))?;
    let wants = plan.wants.iter().filter(|want| want.package.matches(name));
    let slices: Vec<&Slice> = wants.flat_map(|want| &want.slices).collect();
    let paths: Vec<(String, DebPath)> =
        tree.into_iter().map(|path| (merged(&path.path), path)).collect();
    let names: Vec<&str> = paths.iter().map(|(path, _)| path.as_str()).collect();
    for slice in &slices {
        if let Some(idle) = slice.idle_patterns(&names).first() {
            bail!("cannot take slice {} of {name}: nothing in it matches {idle}", slice.name);
        }
    }
    let doc = format!("/usr/share/doc/{name}");
    let copyright = format!("{doc}/copyright");
    paths
        .into_iter()
        .filter(|(path, found)| {
            let linked_doc = *path == doc && matches!(found.kind, DebKind::Link(_));
            *path == copyright || linked_doc || slices.iter().any(|slice| slice.takes(path))
        })
        .map(|(path, found)| Ok((path, package_entry(found, name, plan)?)))
        .collect()
}

/// Refuses whatever the file system's writer would lose.
fn package_entry(found: DebPath, package: &str, plan: &Plan) -> Result<Entry> {
    let refuse = |cause: String| bail!("cannot take {} of {package}: {cause}", found.path);
    if let Some(name) = found.xattrs.first() {
        return refuse(format!(
            "it has the extended attribute {name}, which the image would lose\nhint: leave it out \
             of the slice; a service gets its capabilities from its layer"
        ));
    }
    if found.mode & 0o6000 != 0 && found.kind != DebKind::Directory {
        return refuse("it is set-user-id or set-group-id, which no service may use".into());
    }
    let known = |id: u64| plan.users.values().any(|user| u64::from(user.uid) == id);
    let (uid, gid) = found.owner;
    if !known(uid) || !known(gid) {
        return refuse(format!("no layer declares its owner {uid}:{gid}"));
    }
    let kind = match found.kind {
        DebKind::Directory => Kind::Directory,
        DebKind::File(bytes) => Kind::File(bytes),
        DebKind::Link(target) => Kind::Link(target),
        DebKind::HardLink(first) => {
            return refuse(format!(
                "it is a hard link to {first}, which the image would copy\nhint: take one of the \
                 two and add the other as a link in [files]"
            ));
        }
    };
    let origin = Origin::Package(package.to_owned());
    Ok(Entry { kind, mode: found.mode, uid: uid as u32, gid: gid as u32, origin })
}

fn add_files(tree: &mut Tree, plan: &Plan, layer: &LayerFolder, programs: &Programs) -> Result<()> {
    for (path, file) in &layer.layer.files {
        let context = || format!("cannot use layer {}", layer.name);
        let entry = file_entry(tree, plan, layer, file, programs).with_context(context)?;
        match file.replaces {
            true => tree.replace(path.as_str(), entry),
            // The layer says what the directory is like, not whoever happened to be there first.
            false if entry.kind == Kind::Directory && is_made_up(tree, path.as_str()) => {
                tree.replace(path.as_str(), entry)
            }
            false => tree.add(path.as_str(), entry),
        }
        .with_context(context)?;
    }
    Ok(())
}

fn is_made_up(tree: &Tree, path: &str) -> bool {
    tree.get(&merged(path))
        .is_some_and(|entry| entry.kind == Kind::Directory && entry.origin == Origin::Builder)
}

fn file_entry(
    tree: &mut Tree,
    plan: &Plan,
    layer: &LayerFolder,
    file: &FileEntry,
    programs: &Programs,
) -> Result<Entry> {
    let kind = match &file.content {
        Content::From(name) => {
            let path = layer.beside(name);
            let bytes =
                fs::read(&path).with_context(|| format!("cannot read {}", path.display()))?;
            Kind::File(bytes.into())
        }
        Content::Program(program) => Kind::File(programs.get(*program)?),
        Content::Text(text) => Kind::File(text.as_bytes().into()),
        Content::Link(target) => Kind::Link(target.clone()),
        Content::Directory => Kind::Directory,
        Content::Joined(glob) => Kind::File(joined(tree, glob)?.into()),
    };
    let (uid, gid) = owner_ids(&file.owner, &plan.users)?;
    let origin = Origin::Layer(layer.name.to_string());
    Ok(Entry { kind, mode: file.mode, uid, gid, origin })
}

fn joined(tree: &mut Tree, glob: &Glob) -> Result<Vec<u8>> {
    let parts = tree.take_matching(glob);
    if parts.is_empty() {
        bail!("cannot join files: nothing in the tree matches {glob}");
    }
    let mut bytes = Vec::new();
    for (path, entry) in &parts {
        let Kind::File(part) = &entry.kind else { bail!("cannot join {path}: it is no file") };
        bytes.extend_from_slice(part);
        if !part.ends_with(b"\n") {
            bytes.push(b'\n');
        }
    }
    let folder = glob.as_str().split(['*', '?', '[']).next().unwrap_or_default();
    tree.prune(folder.rsplit_once('/').map_or("", |(folder, _)| folder));
    Ok(bytes)
}

/// `/etc/passwd` and `/etc/group`, by number. Nobody can log in: there is no password anywhere.
fn add_accounts(tree: &mut Tree, plan: &Plan) -> Result<()> {
    let comments: BTreeMap<&str, &str> = plan
        .layers
        .iter()
        .flat_map(|layer| &layer.layer.users)
        .map(|(name, account)| (name.as_str(), account.comment.as_str()))
        .collect();
    // stele-init's own children, which speak to the network in its place.
    let own = [
        ("stele-dhcp", boot::DHCP_USER),
        ("stele-time", boot::TIME_USER),
        ("stele-ask", boot::ASK_USER),
        ("stele-render", boot::RENDER_USER),
    ];
    let own = own.map(|(name, uid)| {
        let (name, home) = (name.into(), "/nonexistent".into());
        User { name, uid, gid: uid, home }
    });
    let mut users: Vec<&User> = plan.users.values().chain(&own).collect();
    users.sort_by_key(|user| user.uid);
    let mut passwd = String::new();
    let mut group = String::new();
    for user in users {
        let comment = comments.get(user.name.as_str()).copied().unwrap_or_default();
        let (name, uid, gid, home) = (&user.name, user.uid, user.gid, &user.home);
        passwd += &format!("{name}:*:{uid}:{gid}:{comment}:{home}:/usr/sbin/nologin\n");
        group += &format!("{name}:*:{gid}:\n");
    }
    tree.add("/etc/passwd", built(passwd))?;
    tree.add("/etc/group", built(group))
}

fn add_merged_links(tree: &mut Tree) -> Result<()> {
    for name in ["bin", "sbin", "lib", "lib64"] {
        if tree.get(&format!("/usr/{name}")).is_some() {
            // Not `add`, which would put it where the link leads.
            tree.add_unmerged(&format!("/{name}"), built_link(&format!("usr/{name}")))?;
        }
    }
    Ok(())
}

fn add_volumes(tree: &mut Tree, plan: &Plan) -> Result<()> {
    for volume in &plan.volumes {
        if let Some((path, entry)) = tree.children(&volume.path).next() {
            bail!(
                "cannot mount volume {}: {path} of {} would be hidden\nhint: defaults belong in \
                 /usr/share",
                volume.path,
                entry.origin
            );
        }
        let origin = Origin::Builder;
        let entry = Entry { kind: Kind::Directory, mode: 0o755, uid: 0, gid: 0, origin };
        tree.add(&volume.path, entry)?;
    }
    Ok(())
}

fn appliance(plan: &Plan, lock: &Lock, boot: &Boot) -> Result<String> {
    let recipe = plan.recipe();
    let appliance = Appliance {
        name: recipe.name.to_string(),
        version: recipe.version.to_string(),
        clock: lock.clock.seconds(),
        modules: boot.root.clone(),
        data: plan.data.clone(),
        volumes: plan.volumes.clone(),
        data_format: recipe.data_format,
        seed: plan.seed.clone(),
        services: plan.services.clone(),
        trust: plan.trust.clone(),
    };
    Ok(serde_json::to_string_pretty(&appliance)? + "\n")
}

fn os_release(plan: &Plan) -> String {
    let recipe = plan.recipe();
    let title = recipe.title.replace(['"', '\\', '$', '`', '\n'], "");
    format!(
        "NAME=\"{title}\"\nPRETTY_NAME=\"{title} {version}\"\nID={name}\nID_LIKE=debian\n\
         VERSION_ID={version}\nIMAGE_ID={name}\nIMAGE_VERSION={version}\nVERSION_CODENAME={suite}\n",
        name = recipe.name,
        version = recipe.version,
        suite = recipe.debian.suite,
    )
}

fn check_programs(tree: &Tree, plan: &Plan) -> Result<()> {
    let services = plan.services.iter().map(|service| {
        let program = service.run.first().map(String::as_str).unwrap_or_default();
        (format!("run service {}", service.name), program)
    });
    let data = plan.data.iter().flat_map(|data| [&data.make, &data.check]);
    let data = data.map(|program| ("keep data".to_owned(), program.as_str()));
    for (what, program) in services.chain(data) {
        let found = tree.resolve(program).ok().and_then(|path| tree.get(path));
        match found {
            Some(Entry { kind: Kind::File(_), mode, .. }) if mode & 0o111 != 0 => {}
            Some(_) => bail!("cannot {what}: {program} is no program"),
            None => bail!("cannot {what}: there is no {program}"),
        }
    }
    Ok(())
}

/// A service starts in its user's home.
fn check_homes(tree: &Tree, plan: &Plan) -> Result<()> {
    for service in &plan.services {
        let User { name, home, .. } = &service.user;
        let found = tree.resolve(home).ok();
        if found.and_then(|path| tree.get(path)).is_none() {
            bail!(
                "cannot run service {}: there is no {home}, the home of user `{name}`\nhint: a \
                 service starts in its user's home: name a volume or another directory",
                service.name
            );
        }
    }
    Ok(())
}

/// Every package's terms come along.
fn check_copyrights(tree: &Tree, lock: &Lock) -> Result<()> {
    for package in &lock.packages {
        let path = format!("/usr/share/doc/{}/copyright", package.name);
        if let Err(missing) = tree.resolve(&path) {
            bail!(
                "cannot ship package {}: its copyright file is missing ({missing})\nhint: it may \
                 belong to another package, from which a layer takes `[]`",
                package.name
            );
        }
    }
    Ok(())
}

fn check_links(tree: &Tree, plan: &Plan) -> Result<()> {
    let accepted = globs(plan, |layer| &layer.layer.dangling)?;
    let volumes: Vec<String> = plan.volumes.iter().map(|v| format!("{}/", v.path)).collect();
    for (path, entry) in tree.iter() {
        if !matches!(entry.kind, Kind::Link(_)) || accepted.iter().any(|glob| glob.matches(path)) {
            continue;
        }
        let Err(missing) = tree.resolve(path) else { continue };
        let later = MADE_AT_BOOT.iter().any(|folder| missing.starts_with(folder))
            || volumes.iter().any(|folder| missing.starts_with(folder));
        if !later {
            bail!(
                "cannot ship link {path} of {}: it leads to {missing}, which is not in the tree\n\
                 hint: take the target, leave the link out, or name it under [dangling] with a \
                 reason",
                entry.origin
            );
        }
    }
    Ok(())
}

/// The patterns of a table of patterns and reasons, of all layers.
fn globs(
    plan: &Plan,
    table: impl Fn(&LayerFolder) -> &BTreeMap<String, String>,
) -> Result<Vec<Glob>> {
    plan.layers
        .iter()
        .flat_map(|layer| table(layer).keys().map(move |pattern| (layer, pattern)))
        .map(|(layer, pattern)| {
            Glob::try_from(pattern.clone())
                .map_err(|cause| anyhow::anyhow!("cannot use layer {}: {cause}", layer.name))
        })
        .collect()
}
