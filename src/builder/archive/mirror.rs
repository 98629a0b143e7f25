//! Where Debian's archive is reached: what the user says, else the recipe, else what the host's
//! own apt uses.

use std::fs;
use std::path::Path;

use anyhow::{Result, bail};
use tracing::debug;

use crate::recipe::Debian;

/// Base addresses, without a slash at the end.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct Mirrors {
    /// Of the archive with `pool` and `dists`.
    pub debian: Option<String>,
    /// Of the security archive.
    pub security: Option<String>,
}

impl Mirrors {
    /// `--mirror`, else the recipe, else `/etc/apt`.
    pub fn find(flag: Option<&str>, recipe: &Debian) -> Result<Mirrors> {
        let said = Mirrors::from_user(flag)
            .or(Mirrors::from_user(recipe.mirror.as_deref()).map(|mirrors| Mirrors {
                security: recipe.security_mirror.clone().or(mirrors.security),
                ..mirrors
            }))
            .unwrap_or_else(|| Mirrors::of_host(Path::new("/etc/apt")));
        if said.debian.is_none() {
            bail!(
                "cannot find a Debian mirror: this host's apt sources name none\nhint: say --mirror \
                 URL, or `mirror` under [debian] in the recipe"
            );
        }
        debug!(?said, "mirrors");
        Ok(said)
    }

    /// One address stands for both archives where it ends as they usually do.
    fn from_user(url: Option<&str>) -> Option<Mirrors> {
        let url = url?.trim_end_matches('/');
        let security = url.strip_suffix("/debian").map(|base| format!("{base}/debian-security"));
        Some(Mirrors { debian: Some(url.to_owned()), security: security.or(Some(url.to_owned())) })
    }

    /// What the files of an apt configuration folder name.
    pub fn of_host(folder: &Path) -> Mirrors {
        let mut files = vec![folder.join("sources.list")];
        if let Ok(entries) = fs::read_dir(folder.join("sources.list.d")) {
            files.extend(entries.flatten().map(|entry| entry.path()));
        }
        files.sort();
        let mut mirrors = Mirrors::default();
        for path in files {
            let Ok(text) = fs::read_to_string(&path) else { continue };
            let entries = match path.extension().and_then(|extension| extension.to_str()) {
                Some("list") => one_line(&text),
                Some("sources") => deb822(&text),
                _ => continue,
            };
            entries.iter().for_each(|entry| mirrors.learn(entry));
        }
        mirrors
    }

    fn learn(&mut self, entry: &Entry) {
        for suite in &entry.suites {
            let place = match suite_kind(suite) {
                Some(Kind::Main) => &mut self.debian,
                Some(Kind::Security) => &mut self.security,
                None => continue,
            };
            if place.is_none() {
                *place = entry.uris.iter().find(|uri| uri.starts_with("http")).cloned();
            }
        }
    }
}

/// An address and what apt gets from it.
struct Entry {
    uris: Vec<String>,
    suites: Vec<String>,
}

enum Kind {
    Main,
    Security,
}

/// Is this a suite of Debian's own, and of which archive? Other repositories use other names.
fn suite_kind(suite: &str) -> Option<Kind> {
    const NAMES: [&str; 13] = [
        "buster",
        "bullseye",
        "bookworm",
        "trixie",
        "forky",
        "duke",
        "sid",
        "oldoldstable",
        "oldstable",
        "stable",
        "testing",
        "unstable",
        "experimental",
    ];
    let suite = suite.trim_end_matches('/');
    let (name, rest) = suite.split_at(suite.find(['-', '/']).unwrap_or(suite.len()));
    let kind = match rest {
        "" | "-updates" | "-backports" | "-proposed-updates" => Kind::Main,
        "-security" | "/updates" => Kind::Security,
        _ => return None,
    };
    NAMES.contains(&name).then_some(kind)
}

/// `deb [options] URI SUITE COMPONENT…`, a line each.
fn one_line(text: &str) -> Vec<Entry> {
    text.lines().filter_map(one_line_entry).collect()
}

fn one_line_entry(line: &str) -> Option<Entry> {
    let rest = line.split('#').next()?.trim().strip_prefix("deb")?;
    let rest = rest.strip_prefix(char::is_whitespace)?.trim_start();
    let rest = match rest.strip_prefix('[') {
        Some(options) => options.split_once(']')?.1,
        None => rest,
    };
    let mut words = rest.split_whitespace();
    Some(Entry { uris: vec![clean(words.next()?)], suites: vec![words.next()?.to_owned()] })
}

/// Stanzas with `Types`, `URIs` and `Suites`; lines that start with `#` are comments even inside a
/// stanza.
fn deb822(text: &str) -> Vec<Entry> {
    let text: Vec<&str> = text.lines().filter(|line| !line.starts_with('#')).collect();
    let text = text.join("\n");
    super::control::stanzas(&text)
        .filter(|stanza| {
            let is = |field, word: &str| {
                stanza.field(field).is_some_and(|value| value.split_whitespace().any(|w| w == word))
            };
            is("Types", "deb") && !is("Enabled", "no")
        })
        .map(|stanza| {
            let words = |field| stanza.field(field).unwrap_or_default().split_whitespace();
            Entry {
                uris: words("URIs").map(clean).collect(),
                suites: words("Suites").map(str::to_owned).collect(),
            }
        })
        .collect()
}

fn clean(uri: &str) -> String {
    uri.trim_end_matches('/').to_owned()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn learnt(entries: Vec<Entry>) -> Mirrors {
        let mut mirrors = Mirrors::default();
        entries.iter().for_each(|entry| mirrors.learn(entry));
        mirrors
    }

    fn both() -> Mirrors {
        Mirrors {
            debian: Some("http://mirror.test/debian".into()),
            security: Some("http://mirror.test/security".into()),
        }
    }

    #[test]
    fn one_line_sources_are_read() {
        let text = "# deb http://old.test/debian trixie main\n\
            deb https://other.test/apt sdk-bookworm main\n\
            deb [arch=amd64 signed-by=/k] http://mirror.test/debian/ bookworm main contrib # x\n\
            deb-src http://source.test/debian bookworm main\n\
            deb http://mirror.test/security bookworm-security main\n";
        assert_eq!(learnt(one_line(text)), both());
    }

    #[test]
    fn deb822_sources_are_read() {
        let text = "Types: deb\n# http://snapshot.test/\nURIs: http://mirror.test/debian/\n\
            Suites: bookworm bookworm-updates\nComponents: main\n\n\
            Types: deb\nURIs: http://disabled.test/\nSuites: bookworm\nEnabled: no\n\n\
            Types: deb deb-src\nURIs: http://mirror.test/security\nSuites: bookworm-security\n\n\
            Types: deb\nURIs: https://other.test/node\nSuites: nodistro\n";
        assert_eq!(learnt(deb822(text)), both());
    }

    #[test]
    fn one_address_may_stand_for_both_archives() {
        let mirrors = Mirrors::from_user(Some("http://m.test/debian/")).unwrap();
        assert_eq!(mirrors.security.as_deref(), Some("http://m.test/debian-security"));
        let mirrors = Mirrors::from_user(Some("http://m.test/all")).unwrap();
        assert_eq!(mirrors.security.as_deref(), Some("http://m.test/all"));
    }
}
