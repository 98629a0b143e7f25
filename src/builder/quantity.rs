//! Values as people write them in recipes and layers: `64 MiB`, `20s`, `0640`, `root:prosody`,
//! absolute paths. Each is parsed once into a type that can't be wrong.

use std::fmt;
use std::str::FromStr;
use std::time::Duration;

pub use appliance::name::Name;
use appliance::service::Memory;
pub use appliance::version::Version;
use serde::{Deserialize, Serialize};

/// A number of bytes, written `64 MiB`.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Deserialize)]
#[serde(try_from = "String")]
pub struct Size(pub u64);

impl TryFrom<String> for Size {
    type Error = String;

    fn try_from(text: String) -> Result<Size, String> {
        let units = [("KiB", 10), ("MiB", 20), ("GiB", 30)];
        let parsed = units.iter().find_map(|(unit, shift)| {
            let number = text.strip_suffix(unit)?.trim_end();
            all_digits(number)?.parse::<u64>().ok()?.checked_mul(1 << shift)
        });
        parsed
            .map(Size)
            .ok_or_else(|| format!("`{text}` is not a size such as `64 MiB` (KiB, MiB, GiB)"))
    }
}

impl FromStr for Size {
    type Err = String;

    fn from_str(text: &str) -> Result<Size, String> {
        Size::try_from(text.to_owned())
    }
}

impl fmt::Display for Size {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let (gib, mib, kib) = (1 << 30, 1 << 20, 1 << 10);
        match self.0 {
            bytes if bytes >= gib => write!(f, "{:.2} GiB", bytes as f64 / gib as f64),
            bytes if bytes >= 10 * mib => write!(f, "{:.1} MiB", bytes as f64 / mib as f64),
            bytes if bytes >= mib => write!(f, "{:.2} MiB", bytes as f64 / mib as f64),
            bytes if bytes >= kib => write!(f, "{:.1} KiB", bytes as f64 / kib as f64),
            bytes => write!(f, "{bytes} B"),
        }
    }
}

/// An amount of memory, written `256 MiB`, or `50%` of what the machine has.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Deserialize)]
#[serde(try_from = "String")]
pub struct MemoryLimit(pub Memory);

impl TryFrom<String> for MemoryLimit {
    type Error = String;

    fn try_from(text: String) -> Result<MemoryLimit, String> {
        let bad = || format!("`{text}` is not an amount of memory such as `256 MiB` or `50%`");
        let memory = match text.strip_suffix('%') {
            Some(share) => all_digits(share)
                .and_then(|share| share.parse().ok())
                .filter(|share| (1..=100).contains(share))
                .map(Memory::Percent),
            None => Size::try_from(text.clone()).ok().map(|size| Memory::Bytes(size.0)),
        };
        memory.map(MemoryLimit).ok_or_else(bad)
    }
}

/// A time span, written `500ms`, `20s` or `5min`.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Deserialize)]
#[serde(try_from = "String")]
pub struct Span(pub Duration);

impl TryFrom<String> for Span {
    type Error = String;

    fn try_from(text: String) -> Result<Span, String> {
        let units = [("ms", 1), ("min", 60_000), ("s", 1000)];
        let parsed = units.iter().find_map(|(unit, millis)| {
            let number = text.strip_suffix(unit)?.trim_end();
            all_digits(number)?.parse::<u64>().ok()?.checked_mul(*millis)
        });
        parsed
            .map(|millis| Span(Duration::from_millis(millis)))
            .ok_or_else(|| format!("`{text}` is not a time such as `500ms`, `20s` or `5min`"))
    }
}

impl FromStr for Span {
    type Err = String;

    fn from_str(text: &str) -> Result<Span, String> {
        Span::try_from(text.to_owned())
    }
}

/// Permission bits, written in octal: `0640`.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Deserialize)]
#[serde(try_from = "String")]
pub struct Mode(pub u16);

impl TryFrom<String> for Mode {
    type Error = String;

    fn try_from(text: String) -> Result<Mode, String> {
        all_digits(&text)
            .filter(|digits| digits.starts_with('0') && digits.len() >= 4)
            .and_then(|digits| u16::from_str_radix(digits, 8).ok())
            .filter(|&bits| bits <= 0o7777)
            .map(Mode)
            .ok_or_else(|| format!("`{text}` is not a mode such as `0640`"))
    }
}

/// An owner and a group by name, written `prosody` (both alike) or `root:prosody`.
#[derive(Debug, Clone, PartialEq, Eq, Deserialize)]
#[serde(try_from = "String")]
pub struct Owner {
    /// Name of the user.
    pub user: String,
    /// Name of the group.
    pub group: String,
}

impl Owner {
    /// `root:root`.
    pub fn root() -> Owner {
        Owner { user: "root".into(), group: "root".into() }
    }
}

impl TryFrom<String> for Owner {
    type Error = String;

    fn try_from(text: String) -> Result<Owner, String> {
        let (user, group) = text.split_once(':').unwrap_or((&text, &text));
        if !is_account_name(user) || !is_account_name(group) {
            return Err(format!("`{text}` is not an owner such as `prosody` or `root:prosody`"));
        }
        Ok(Owner { user: user.to_owned(), group: group.to_owned() })
    }
}

/// An absolute path without `.`, `..`, doubled or final slashes; `/` alone is not one.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Hash, Deserialize, Serialize)]
#[serde(try_from = "String", into = "String")]
pub struct AbsolutePath(String);

impl AbsolutePath {
    /// The path, with its leading slash.
    pub fn as_str(&self) -> &str {
        &self.0
    }
}

impl TryFrom<String> for AbsolutePath {
    type Error = String;

    fn try_from(text: String) -> Result<AbsolutePath, String> {
        let clean = text.strip_prefix('/').is_some_and(|rest| {
            rest.split('/').all(|part| !part.is_empty() && part != "." && part != "..")
        });
        match clean && !text.contains('\0') {
            true => Ok(AbsolutePath(text)),
            false => Err(format!("`{text}` is not an absolute path such as `/etc/hosts`")),
        }
    }
}

impl From<AbsolutePath> for String {
    fn from(path: AbsolutePath) -> String {
        path.0
    }
}

impl fmt::Display for AbsolutePath {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

/// A path that a service sees; with a `?` behind it, only in an appliance that has it.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Deserialize)]
#[serde(try_from = "String")]
pub struct Granted {
    /// The path.
    pub path: AbsolutePath,
    /// May an appliance do without it?
    pub may_lack: bool,
}

impl TryFrom<String> for Granted {
    type Error = String;

    fn try_from(text: String) -> Result<Granted, String> {
        let (path, may_lack) = match text.strip_suffix('?') {
            Some(path) => (path.to_owned(), true),
            None => (text, false),
        };
        Ok(Granted { path: AbsolutePath::try_from(path)?, may_lack })
    }
}

fn all_digits(text: &str) -> Option<&str> {
    (!text.is_empty() && text.bytes().all(|byte| byte.is_ascii_digit())).then_some(text)
}

/// What `useradd` would take without a complaint.
fn is_account_name(text: &str) -> bool {
    let good = |c: char| c.is_ascii_lowercase() || c.is_ascii_digit() || matches!(c, '-' | '_');
    text.starts_with(|c: char| c.is_ascii_lowercase() || c == '_')
        && text.len() <= 32
        && text.chars().all(good)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn reads<T: TryFrom<String>>(text: &str) -> Option<T> {
        T::try_from(text.to_owned()).ok()
    }

    #[test]
    fn quantities_are_read_or_refused() {
        assert_eq!(reads("64 MiB"), Some(Size(64 << 20)));
        assert_eq!(reads("2GiB"), Some(Size(2 << 30)));
        for bad in ["64", "64 MB", "-1 MiB", "+1 MiB", "1.5 MiB", "MiB", "99999999999 GiB"] {
            assert_eq!(reads::<Size>(bad), None, "{bad}");
        }
        assert_eq!(reads("50%"), Some(MemoryLimit(Memory::Percent(50))));
        assert_eq!(reads("64 MiB"), Some(MemoryLimit(Memory::Bytes(64 << 20))));
        for bad in ["0%", "101%", "50 %", "+5%", "50"] {
            assert_eq!(reads::<MemoryLimit>(bad), None, "{bad}");
        }
        assert_eq!(reads("500ms"), Some(Span(Duration::from_millis(500))));
        assert_eq!(reads("5min"), Some(Span(Duration::from_secs(300))));
        assert_eq!(reads("20 s"), Some(Span(Duration::from_secs(20))));
        assert_eq!(reads::<Span>("20"), None);
        assert_eq!(reads("0640"), Some(Mode(0o640)));
        for bad in ["640", "0o640", "0888", "077777", ""] {
            assert_eq!(reads::<Mode>(bad), None, "{bad}");
        }
        assert_eq!(reads("root"), Some(Owner::root()));
        assert_eq!(reads::<Owner>("root:"), None);
        for bad in ["etc", "/", "/etc/", "/etc//x", "/etc/../x", "/./x", ""] {
            assert_eq!(reads::<AbsolutePath>(bad), None, "{bad}");
        }
        assert!(reads::<AbsolutePath>("/etc/hosts").is_some());
    }
}
