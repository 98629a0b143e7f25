//! Members: accounts that have a role in the Pod, as the API shows them.

use appliance::secret::Secret;
use serde::{Deserialize, Serialize};
use unicode_normalization::UnicodeNormalization as _;
use unicode_normalization::char::is_combining_mark;
use utoipa::ToSchema;

use crate::mail::address::EmailAddress;
use crate::picture::Picture;
use crate::problem::Problem;

/// What a member may do.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize, ToSchema)]
#[serde(rename_all = "SCREAMING_SNAKE_CASE")]
pub enum Role {
    /// Their own things.
    Member,
    /// Everything.
    Admin,
}

impl Role {
    /// Prosody's word for it.
    pub fn to_server(self) -> &'static str {
        match self {
            Role::Member => "prosody:member",
            Role::Admin => "prosody:admin",
        }
    }
}

/// What Prosody's role makes an account in the Pod: `None` is a service, not a member.
///
/// Prosody 0.12 has roles for admins only: whoever has none is a member there.
pub fn role_of(server: Option<&str>) -> Option<Role> {
    match server {
        Some("prosody:admin" | "prosody:operator") => Some(Role::Admin),
        Some("prosody:member") | None => Some(Role::Member),
        Some(_) => None,
    }
}

/// The most bytes of a nickname.
const LONGEST_NICKNAME: usize = 48;

/// A nickname that somebody may have.
pub fn nickname(text: String) -> Result<String, Problem> {
    let is_long = text.len() > LONGEST_NICKNAME;
    if text.trim().is_empty() || is_long || text.chars().any(char::is_control) {
        return Err(Problem::invalid("The nickname must have 1 to 48 bytes."));
    }
    Ok(text)
}

/// A new password of at least so many characters.
pub fn password(text: String, least: usize) -> Result<Secret, Problem> {
    if text.chars().count() < least {
        return Err(Problem::password_too_short(least));
    }
    Secret::try_from(text).map_err(|_| Problem::password_unusable())
}

/// `GET /v1/members` without a search.
#[derive(Debug, Serialize, ToSchema)]
pub struct Member {
    /// `alice@example.org`
    pub jid: String,
    /// Shown to admins, and to whom it is about.
    pub role: Option<Role>,
}

/// One of them with all that is known. Each key is always there.
#[derive(Debug, Serialize, ToSchema)]
pub struct EnrichedMember {
    /// Who, and what they may do.
    #[serde(flatten)]
    pub member: Member,
    /// Has a client that is connected.
    pub online: bool,
    /// What they call themselves.
    pub nickname: Option<String>,
    /// How to reach them if they forget their password.
    pub email: Option<EmailAddress>,
    /// Their picture.
    pub avatar: Option<Picture>,
}

/// What somebody looks for: some words, of which one is enough. None finds everybody.
#[derive(Debug)]
pub struct Search(Vec<String>);

impl Search {
    /// Words of a query.
    pub fn new(query: &str) -> Search {
        Search(fold(query).split_whitespace().map(str::to_owned).collect())
    }

    /// Is one of the words in one of the texts? Case and accents don't matter.
    pub fn finds(&self, texts: &[&str]) -> bool {
        let texts: Vec<String> = texts.iter().map(|text| fold(text)).collect();
        let is_in = |word: &String| texts.iter().any(|text| text.contains(word));
        self.0.is_empty() || self.0.iter().any(is_in)
    }
}

fn fold(text: &str) -> String {
    text.nfkd().filter(|c| !is_combining_mark(*c)).flat_map(char::to_lowercase).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn roles_of_both_prosodies_are_known() {
        for (server, role) in [
            (Some("prosody:admin"), Some(Role::Admin)),
            (Some("prosody:operator"), Some(Role::Admin)),
            (Some("prosody:member"), Some(Role::Member)),
            (Some("prosody:registered"), None),
            (Some("prosody:guest"), None),
            (None, Some(Role::Member)),
        ] {
            assert_eq!(role_of(server), role, "{server:?}");
        }
    }

    #[test]
    fn a_search_ignores_case_and_accents() {
        for (query, texts, found) in [
            ("li", ["alice", "Alice Ünal"], true),
            ("UNAL", ["alice", "Alice Ünal"], true),
            ("ünal", ["alice", "Alice Unal"], true),
            ("bob alice", ["alice", ""], true),
            ("bob", ["alice", "Alice"], false),
            ("", ["alice", ""], true),
            (" \t", ["alice", ""], true),
        ] {
            assert_eq!(Search::new(query).finds(&texts), found, "{query:?} in {texts:?}");
        }
    }
}
