//! Symbolic links, followed in whatever holds paths.

/// As many links are followed as Linux follows.
const MOST: usize = 40;

/// What stands at a path.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Place<'a> {
    /// A link, and where it leads as it says itself.
    Link(&'a str),
    /// A directory, a file.
    Other,
    /// Nothing.
    Nothing,
}

/// The way that a path leads.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Walk {
    /// Links on the way, and what was looked for behind each.
    pub links: Vec<(String, String)>,
    /// The path that is really there, or the last that was looked for.
    pub end: Result<String, String>,
}

/// Follows `path`, where `look` tells what stands at an absolute path.
pub fn follow<'a>(path: &str, look: impl Fn(&str) -> Place<'a>) -> Walk {
    let mut links = Vec::new();
    let mut wanted = path.to_owned();
    while links.len() < MOST {
        match step(&wanted, &look) {
            Step::Found(path) => return Walk { links, end: Ok(path) },
            Step::Nothing(path) => return Walk { links, end: Err(path) },
            Step::Link { at, to } => {
                wanted.clone_from(&to);
                links.push((at, to));
            }
        }
    }
    Walk { links, end: Err(wanted) }
}

enum Step {
    Found(String),
    Nothing(String),
    Link { at: String, to: String },
}

/// Walks down `path` to its end or to the first link.
fn step<'a>(path: &str, look: impl Fn(&str) -> Place<'a>) -> Step {
    let mut here = String::new();
    let mut parts = path.split('/').filter(|part| !part.is_empty());
    while let Some(part) = parts.next() {
        let parent = here.clone();
        here = format!("{here}/{part}");
        let rest = || parts.clone().collect::<Vec<_>>().join("/");
        match look(&here) {
            Place::Nothing => return Step::Nothing(join(&here, &rest())),
            Place::Link(target) => {
                let to = join(&join(&parent, target), &rest());
                return Step::Link { at: here, to };
            }
            Place::Other => {}
        }
    }
    Step::Found(if here.is_empty() { "/".to_owned() } else { here })
}

/// `target` as seen from directory `base`, without `.` and `..`.
pub fn join(base: &str, target: &str) -> String {
    let start = if target.starts_with('/') { "" } else { base };
    let mut parts: Vec<&str> = Vec::new();
    for part in start.split('/').chain(target.split('/')) {
        match part {
            "" | "." => {}
            ".." => _ = parts.pop(),
            part => parts.push(part),
        }
    }
    format!("/{}", parts.join("/"))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn look(path: &str) -> Place<'static> {
        match path {
            "/usr" | "/usr/lib" | "/usr/lib/a.so.1.0" => Place::Other,
            "/lib" => Place::Link("usr/lib"),
            "/usr/lib/a.so.1" => Place::Link("a.so.1.0"),
            "/usr/lib/gone" => Place::Link("/run/../run/x"),
            "/loop" => Place::Link("loop"),
            _ => Place::Nothing,
        }
    }

    #[test]
    fn a_path_leads_where_its_links_lead() {
        type Row<'a> = (&'a str, &'a [(&'a str, &'a str)], Result<&'a str, &'a str>);
        let rows: [Row; 6] = [
            ("/", &[], Ok("/")),
            ("/usr//lib/", &[], Ok("/usr/lib")),
            (
                "/lib/a.so.1",
                &[("/lib", "/usr/lib/a.so.1"), ("/usr/lib/a.so.1", "/usr/lib/a.so.1.0")],
                Ok("/usr/lib/a.so.1.0"),
            ),
            ("/lib/none/x", &[("/lib", "/usr/lib/none/x")], Err("/usr/lib/none/x")),
            ("/usr/lib/gone", &[("/usr/lib/gone", "/run/x")], Err("/run/x")),
            ("/loop", &[("/loop", "/loop"); MOST], Err("/loop")),
        ];
        for (path, links, end) in rows {
            let walk = follow(path, look);
            let seen: Vec<(&str, &str)> =
                walk.links.iter().map(|(at, to)| (at.as_str(), to.as_str())).collect();
            assert_eq!(seen, links, "{path}");
            assert_eq!(walk.end.as_deref().map_err(String::as_str), end, "{path}");
        }
    }
}
