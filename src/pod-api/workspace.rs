//! The workspace: the organisation that the Pod hosts, as it calls itself.

use serde::{Deserialize, Deserializer, Serialize};
use utoipa::ToSchema;

use crate::picture::Picture;
use crate::problem::Problem;

/// The most characters of its name.
const LONGEST_NAME: usize = 48;

/// What is kept of it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Workspace {
    /// 1 to 48 characters.
    pub name: String,
    /// `#rrggbb`, lower-case.
    pub accent_color: Option<String>,
}

/// What is shown of it. Each key is always there.
#[derive(Debug, Serialize, ToSchema)]
#[schema(as = Workspace)]
pub struct Shown {
    name: String,
    icon: Option<Picture>,
    accent_color: Option<String>,
}

/// What it is initialised with.
#[derive(Debug, Deserialize, ToSchema)]
#[schema(as = WorkspaceWish)]
pub struct Wish {
    #[schema(min_length = 1, max_length = 48)]
    name: String,
    accent_color: Option<String>,
}

/// What is to be another: what isn't said stays.
#[derive(Debug, Default, Deserialize, ToSchema)]
#[schema(as = WorkspaceChange)]
pub struct Change {
    /// Its name.
    pub name: Option<String>,
    /// `Some(None)` takes it away.
    #[serde(default, deserialize_with = "said")]
    #[schema(value_type = Option<String>)]
    pub accent_color: Option<Option<String>>,
}

impl Workspace {
    /// Checks a wish.
    pub fn new(wish: Wish) -> Result<Workspace, Problem> {
        let Wish { name, accent_color } = wish;
        Ok(Workspace { name: checked_name(name)?, accent_color: checked_color(accent_color)? })
    }

    /// This one, after a change.
    pub fn after(self, change: Change) -> Result<Workspace, Problem> {
        Ok(Workspace {
            name: change.name.map_or(Ok(self.name), checked_name)?,
            accent_color: change.accent_color.map_or(Ok(self.accent_color), checked_color)?,
        })
    }

    /// Of one that nobody has named: the domain's.
    pub fn default(domain: &str) -> Workspace {
        Workspace { name: domain.to_owned(), accent_color: None }
    }

    /// For the world.
    pub fn shown(self, icon: Option<Picture>) -> Shown {
        Shown { name: self.name, icon, accent_color: self.accent_color }
    }
}

fn checked_name(name: String) -> Result<String, Problem> {
    let is_name = (1..=LONGEST_NAME).contains(&name.chars().count()) && !name.trim().is_empty();
    if !is_name || name.chars().any(char::is_control) {
        return Err(Problem::invalid("The name must have 1 to 48 characters."));
    }
    Ok(name)
}

fn checked_color(color: Option<String>) -> Result<Option<String>, Problem> {
    let bad = || Problem::invalid("The accent color must be like #1972f5.");
    color.map(|color| normal(&color).ok_or_else(bad)).transpose()
}

/// Also `null` says something.
fn said<'de, D: Deserializer<'de>>(from: D) -> Result<Option<Option<String>>, D::Error> {
    Option::deserialize(from).map(Some)
}

/// `#rgb` or `#rrggbb` as `#rrggbb`.
fn normal(color: &str) -> Option<String> {
    let digits =
        color.strip_prefix('#').filter(|it| it.bytes().all(|it| it.is_ascii_hexdigit()))?;
    let digits = digits.to_ascii_lowercase();
    match digits.len() {
        3 => Some(digits.chars().fold("#".to_owned(), |all, digit| format!("{all}{digit}{digit}"))),
        6 => Some(format!("#{digits}")),
        _ => None,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_wish_is_checked() {
        let long = "n".repeat(49);
        for (name, color, expected) in [
            ("Acme", None, Some(None)),
            ("2024", Some("#1972F5"), Some(Some("#1972f5"))),
            ("Ünal & \"Söhne\"]]", Some("#abc"), Some(Some("#aabbcc"))),
            (&long[1..], None, Some(None)),
            (&long, None, None),
            ("", None, None),
            ("  ", None, None),
            ("a\nb", None, None),
            ("Acme", Some("red"), None),
            ("Acme", Some("#12345"), None),
            ("Acme", Some("#é12"), None),
        ] {
            let wish = Wish { name: name.into(), accent_color: color.map(str::to_owned) };
            let workspace = Workspace::new(wish).ok();
            let color = workspace.map(|it| it.accent_color);
            assert_eq!(color, expected.map(|it| it.map(str::to_owned)), "{name} {color:?}");
        }
    }
}
