//! Addresses that are published for others to use.

use std::str::FromStr;

use serde::{Deserialize, Serialize};

/// A URI of a scheme that a client can do something with. What follows the scheme is the
/// operator's business, as long as it is one printable line.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(try_from = "String", into = "String")]
pub struct Uri(String);

const SCHEMES: [&str; 5] = ["mailto:", "xmpp:", "https://", "http://", "tel:"];
const LONGEST: usize = 2000;

/// Why some text isn't a [`Uri`].
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("`{0}` is not an address that begins with mailto:, xmpp:, https://, http:// or tel:")]
pub struct BadUri(String);

impl FromStr for Uri {
    type Err = BadUri;

    fn from_str(text: &str) -> Result<Uri, BadUri> {
        let rest = SCHEMES.iter().find_map(|scheme| text.strip_prefix(scheme));
        let is_printable = |rest: &str| !rest.chars().any(|c| c.is_control() || c.is_whitespace());
        match rest {
            Some(rest) if !rest.is_empty() && text.len() <= LONGEST && is_printable(rest) => {
                Ok(Uri(text.to_owned()))
            }
            _ => Err(BadUri(text.chars().take(100).collect())),
        }
    }
}

impl AsRef<str> for Uri {
    fn as_ref(&self) -> &str {
        &self.0
    }
}

impl TryFrom<String> for Uri {
    type Error = BadUri;

    fn try_from(text: String) -> Result<Uri, BadUri> {
        text.parse()
    }
}

impl From<Uri> for String {
    fn from(uri: Uri) -> String {
        uri.0
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_uri_is_one_printable_line_of_a_known_scheme() {
        let long = format!("mailto:{}", "a".repeat(LONGEST));
        for (text, is) in [
            ("mailto:abuse@example.org", true),
            ("xmpp:room@groups.example.org?join", true),
            ("https://example.org/contact", true),
            // Odd, and harmless: it is quoted.
            ("mailto:\"]]..os.exit()--\\", true),
            ("tel:+49123", true),
            ("javascript:alert(1)", false),
            ("mailto:", false),
            ("abuse@example.org", false),
            ("mailto:a b", false),
            ("mailto:a\nb", false),
            ("mailto:a\0b", false),
            ("", false),
            (&long, false),
        ] {
            assert_eq!(text.parse::<Uri>().is_ok(), is, "{text:?}");
        }
    }
}
