//! The kernel's part of a tree: what becomes the UKI, the loader, and modules in load order.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;

use anyhow::{Context, Result, bail};
use appliance::boot;

use crate::compression::decompress;
use crate::glob::Glob;
use crate::layer::Kernel;
use crate::tree::{Entry, Kind, Tree};

/// What starts the machine, taken out of the tree.
#[derive(Debug)]
pub struct Boot {
    /// The kernel image.
    pub kernel: Arc<[u8]>,
    /// `uname -r` of that kernel.
    pub release: String,
    /// systemd's stub.
    pub stub: Arc<[u8]>,
    /// systemd-boot.
    pub loader: Arc<[u8]>,
    /// Modules that the initrd loads, in load order: file name and bytes.
    pub initrd: Vec<(String, Arc<[u8]>)>,
    /// File names of the modules that the root loads, in load order.
    pub root: Vec<String>,
    /// What was taken out of the tree to be in the UKI, by its path in its package.
    pub in_uki: Vec<(String, Entry)>,
    /// What stands beside it.
    pub in_esp: Vec<(String, Entry)>,
}

/// Takes the kernel, its modules and its loader out of `tree`; the modules that the root loads are
/// put back at their new place.
pub fn take(tree: &mut Tree, wanted: &Kernel) -> Result<Boot> {
    let image = take_one(tree, &wanted.image, "kernel image")?;
    let stub = take_one(tree, &wanted.stub, "UKI stub")?;
    let loader = take_one(tree, &wanted.loader, "boot loader")?;
    let (_, builtin) = take_one(tree, &wanted.builtin, "list of built-in modules")?;
    let modules = Modules::new(tree.take_matching(&wanted.modules), &bytes(&builtin));
    for folder in ["/boot", "/usr/lib/modules", "/usr/lib/systemd"] {
        tree.prune(folder);
    }
    let initrd = modules.closure(&wanted.initrd)?;
    let all: Vec<String> = wanted.initrd.iter().chain(&wanted.root).cloned().collect();
    let root: Vec<Module> = modules
        .closure(&all)?
        .into_iter()
        .filter(|module| !initrd.iter().any(|known| known.file == module.file))
        .collect();
    for module in &root {
        let path = format!("{}/{}", boot::ROOT_MODULES, module.file);
        tree.add(&path, module.entry.clone())?;
    }
    Ok(Boot {
        kernel: bytes(&image.1),
        release: release(&image.0)?,
        stub: bytes(&stub.1),
        loader: bytes(&loader.1),
        initrd: initrd.iter().map(|module| (module.file.clone(), bytes(&module.entry))).collect(),
        root: root.into_iter().map(|module| module.file).collect(),
        in_uki: [image, stub]
            .into_iter()
            .chain(initrd.into_iter().map(|module| (module.path, module.entry)))
            .collect(),
        in_esp: vec![loader],
    })
}

fn take_one(tree: &mut Tree, glob: &Glob, what: &str) -> Result<(String, Entry)> {
    let mut found = tree.take_matching(glob);
    match (found.pop(), found.len()) {
        (Some((path, entry)), 0) if matches!(entry.kind, Kind::File(_)) => Ok((path, entry)),
        (None, _) => bail!("cannot find the {what}: nothing in the tree matches {glob}"),
        (Some(_), more) => {
            bail!("cannot choose the {what}: {} things in the tree match {glob}", more + 1)
        }
    }
}

/// `/boot/vmlinuz-6.12.117+deb13-cloud-amd64` → `6.12.117+deb13-cloud-amd64`.
fn release(image: &str) -> Result<String> {
    let name = image.rsplit('/').next().unwrap_or_default();
    let (_, release) = name
        .split_once('-')
        .with_context(|| format!("cannot tell the release of kernel {image}"))?;
    Ok(release.to_owned())
}

/// What is in a file; of anything else, nothing.
fn bytes(entry: &Entry) -> Arc<[u8]> {
    match &entry.kind {
        Kind::File(bytes) => bytes.clone(),
        _ => [].into(),
    }
}

/// A kernel module.
#[derive(Clone)]
struct Module {
    /// Its file name.
    file: String,
    /// Its path in its package.
    path: String,
    entry: Entry,
}

/// Modules by name, dashes read as underscores as the kernel does.
struct Modules {
    files: BTreeMap<String, Module>,
    /// What the kernel has in itself: nothing needs to be loaded.
    builtin: BTreeSet<String>,
}

impl Modules {
    fn new(files: Vec<(String, Entry)>, builtin: &[u8]) -> Modules {
        let is_file = |(_, entry): &(String, Entry)| matches!(entry.kind, Kind::File(_));
        let files = files.into_iter().filter(is_file).map(|(path, entry)| {
            let file = path.rsplit('/').next().unwrap_or_default().to_owned();
            (module_name(&path), Module { file, path, entry })
        });
        let builtin = String::from_utf8_lossy(builtin);
        let builtin = builtin.lines().map(module_name).collect();
        Modules { files: files.collect(), builtin }
    }

    /// `names` and all that they depend on, each after what it depends on. A name that ends in `?`
    /// may be of another architecture.
    fn closure(&self, names: &[String]) -> Result<Vec<Module>> {
        let mut ordered = Vec::new();
        for name in names {
            let (name, optional) = match name.strip_suffix('?') {
                Some(name) => (canonical(name), true),
                None => (canonical(name), false),
            };
            if !optional || self.files.contains_key(&name) {
                self.add(&name, &mut Vec::new(), &mut ordered)?;
            }
        }
        Ok(ordered)
    }

    fn add(&self, name: &str, path: &mut Vec<String>, ordered: &mut Vec<Module>) -> Result<()> {
        let found = self.files.get(name);
        let known = found.is_some_and(|found| ordered.iter().any(|known| known.file == found.file));
        if known || (found.is_none() && self.builtin.contains(name)) {
            return Ok(());
        }
        if path.iter().any(|known| known == name) {
            bail!("cannot order kernel modules: {} depends on itself", path.join(" → "));
        }
        let module = found.with_context(|| match path.last() {
            Some(by) => format!("cannot find kernel module {name}, which {by} needs"),
            None => format!(
                "cannot find kernel module {name}\nhint: it may belong to another flavour of the \
                 kernel"
            ),
        })?;
        let (hard, soft) = dependencies(&module.file, &bytes(&module.entry))?;
        path.push(name.to_owned());
        // A soft dependency may as well be built in: then there is no such file.
        for need in soft.iter().filter(|need| self.files.contains_key(*need)).chain(&hard) {
            self.add(need, path, ordered)?;
        }
        path.pop();
        ordered.push(module.clone());
        Ok(())
    }
}

/// What a module's `.modinfo` says it depends on: `depends=` and the `pre:` part of `softdep=`.
fn dependencies(file: &str, bytes: &[u8]) -> Result<(Vec<String>, Vec<String>)> {
    let kind = file.rsplit_once(".ko").map_or("", |(_, kind)| kind.trim_start_matches('.'));
    let object = decompress(kind, bytes).with_context(|| format!("cannot read module {file}"))?;
    let info = modinfo(&object).with_context(|| format!("cannot read module {file}"))?;
    let mut hard = Vec::new();
    let mut soft = Vec::new();
    for field in info.split(|&byte| byte == 0) {
        let field = String::from_utf8_lossy(field);
        if let Some(names) = field.strip_prefix("depends=") {
            hard.extend(names.split(',').filter(|name| !name.is_empty()).map(canonical));
        } else if let Some(rule) = field.strip_prefix("softdep=") {
            let before = rule.split("post:").next().unwrap_or_default();
            let before = before.trim_start().strip_prefix("pre:").unwrap_or_default();
            soft.extend(before.split_whitespace().map(canonical));
        }
    }
    Ok((hard, soft))
}

fn modinfo(object: &[u8]) -> Result<&[u8]> {
    use object::read::elf::{FileHeader, SectionHeader};
    let header = object::elf::FileHeader64::<object::Endianness>::parse(object)?;
    let endian = header.endian()?;
    let sections = header.sections(endian, object)?;
    let (_, section) = sections.section_by_name(endian, b".modinfo").context("no .modinfo")?;
    Ok(section.data(endian, object)?)
}

/// `kernel/drivers/virtio/virtio_pci.ko.xz` → `virtio_pci`
fn module_name(path: &str) -> String {
    let file = path.rsplit('/').next().unwrap_or_default();
    canonical(file.split(".ko").next().unwrap_or_default())
}

fn canonical(name: &str) -> String {
    name.replace('-', "_")
}
