//! Whether a bundle may be installed: decided before a byte of it is written.

use std::fmt::Display;

use appliance::bundle::{Error, Head, Manifest};
use appliance::upgrade::{Code, Order, Refused};
use appliance::version::Version;
use signing::{PublicKey, Untrusted};

/// The most characters of a message: with all else, a line stays below 4096 bytes.
const LONGEST: usize = 600;

/// What there is room for, in bytes.
#[derive(Debug, Clone, Copy)]
pub struct Room {
    /// In the ESP, for a UKI.
    pub run: u64,
    /// In the slot, for root and hash tree.
    pub slot: u64,
}

/// Not installed, for this reason.
pub fn refused(code: Code, why: impl Display) -> Refused {
    Refused { code, message: why.to_string().chars().take(LONGEST).collect() }
}

/// Reads a bundle's beginning.
pub fn head(bytes: &[u8; Head::BYTES]) -> Result<Head, Refused> {
    Head::parse(bytes).map_err(|error| understood(&error))
}

/// Reads a manifest that one of this system's keys has signed, and no other.
pub fn believe(order: &Order, head: &Head, manifest: &[u8]) -> Result<Manifest, Refused> {
    let keys: Vec<PublicKey> = order.trust.keys.iter().filter_map(|key| key.parse().ok()).collect();
    if keys.is_empty() {
        return Err(refused(Code::NoKeys, "this image was built without keys: it takes no bundle"));
    }
    signing::verify(&keys, head, manifest).map_err(|untrusted| {
        let code = match untrusted {
            Untrusted::UnknownKey(_) => Code::UnknownKey,
            Untrusted::Signature(_) => Code::Signature,
        };
        refused(code, format_args!("cannot believe the bundle: {untrusted}"))
    })?;
    Manifest::parse(manifest).map_err(|error| understood(&error))
}

fn understood(error: &Error) -> Refused {
    let code = match error {
        Error::NotABundle => Code::NotABundle,
        Error::Format(_) => Code::Format,
        _ => Code::Manifest,
    };
    refused(code, format_args!("cannot understand the bundle: {error}"))
}

/// May what the manifest tells of be installed here?
pub fn judge(order: &Order, manifest: &Manifest, room: Room) -> Result<(), Refused> {
    let Manifest { version, root, .. } = manifest;
    let cannot = |code, why: &dyn Display| {
        Err(refused(code, format_args!("cannot install version {version}: {why}")))
    };
    if manifest.product.as_str() != order.trust.product {
        let why = format_args!("it is of {}, this is {}", manifest.product, order.trust.product);
        return cannot(Code::Product, &why);
    }
    if manifest.architecture.as_str() != order.trust.architecture {
        let (its, ours) = (&manifest.architecture, &order.trust.architecture);
        return cannot(Code::Architecture, &format_args!("it is for {its}, this is {ours}"));
    }
    if root.root_hash == order.running.root_hash {
        return cannot(Code::Running, &format_args!("root {} runs already", root.root_hash));
    }
    if order.bad.contains(&root.root_hash) {
        let why = format_args!("root {} was tried before, and found bad", root.root_hash);
        return cannot(Code::KnownBad, &why);
    }
    follows(order, manifest).or_else(|why| cannot(Code::Downgrade, &why))?;
    if manifest.data < order.data_format {
        let (its, ours) = (manifest.data, order.data_format);
        let why = format_args!("it knows data of format {its} at most, and this data has {ours}");
        return cannot(Code::Downgrade, &why);
    }
    let sizes = [
        ("UKI", manifest.uki.size, "the ESP's run", room.run),
        ("root with its hash tree", root.slot_bytes(), "the slot", room.slot),
    ];
    for (what, needed, place, has) in sizes {
        if needed > has {
            let why = format_args!("its {what} has {needed} bytes, and {place} {has}");
            return cannot(Code::Size, &why);
        }
    }
    let (free, needed) = (order.space.free, order.space.needed);
    if free < needed {
        let why = format_args!("keeping the data takes {needed} bytes, and {free} are free");
        return cannot(Code::Space, &why);
    }
    Ok(())
}

/// Is it no older than the floor, and may it come after what runs?
fn follows(order: &Order, manifest: &Manifest) -> Result<(), String> {
    let version = |text: &String| {
        Version::try_from(text.clone()).map_err(|error| format!("of this system: {error}"))
    };
    let floors = [order.floor.as_ref().map(version).transpose()?, order.trust.floor.clone()];
    if let Some(floor) = floors.into_iter().flatten().max()
        && manifest.version < floor
    {
        return Err(format!("no version before {floor} is taken any more"));
    }
    match &manifest.follows {
        Some(oldest) if version(&order.version)? < *oldest => {
            Err(format!("it may follow {oldest} or later, and {} runs", order.version))
        }
        _ => Ok(()),
    }
}
