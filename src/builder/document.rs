//! TOML documents that people write: parsed into types, or refused with line, column and caret.

use std::fs;
use std::path::Path;

use annotate_snippets::{AnnotationKind, Level, Renderer, Snippet};
use anyhow::{Context, Result, anyhow};
use serde::de::DeserializeOwned;

/// Reads and parses the document at `path`.
pub fn load<T: DeserializeOwned>(path: &Path) -> Result<T> {
    let text =
        fs::read_to_string(path).with_context(|| format!("cannot read {}", path.display()))?;
    parse(&path.display().to_string(), &text)
}

/// Parses `text`, which messages call `name`.
pub fn parse<T: DeserializeOwned>(name: &str, text: &str) -> Result<T> {
    toml::from_str(text).map_err(|error| anyhow!(explain(name, text, &error)))
}

/// A message as rustc would show it; without colour, since it may end in a log.
fn explain(name: &str, text: &str, error: &toml::de::Error) -> String {
    let span = error.span().unwrap_or(0..0);
    let message = error.message();
    let title = format!("cannot understand {name}: {}", first_line(message));
    let snippet = Snippet::source(text)
        .path(name)
        .annotation(AnnotationKind::Primary.span(span).label(last_line(message)));
    let mut group = Level::ERROR.primary_title(&title).element(snippet);
    let near = nearest(message).map(|key| format!("did you mean `{key}`?"));
    if let Some(near) = &near {
        group = group.element(Level::HELP.message(near));
    }
    let shown = Renderer::plain().render(&[group]);
    shown.strip_prefix("error: ").map(str::to_owned).unwrap_or(shown)
}

fn first_line(message: &str) -> &str {
    message.lines().next().unwrap_or_default()
}

fn last_line(message: &str) -> &str {
    message.lines().last().unwrap_or_default()
}

/// Of the names that serde says it expected, the one that is nearest to what was written.
fn nearest(message: &str) -> Option<&str> {
    let names: Vec<&str> = message.split('`').skip(1).step_by(2).collect();
    let (written, known) = names.split_first()?;
    if !message.starts_with("unknown ") {
        return None;
    }
    known
        .iter()
        .map(|&name| (strsim::damerau_levenshtein(written, name), name))
        .filter(|&(distance, name)| distance <= 1 + name.len() / 3)
        .min()
        .map(|(_, name)| name)
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeMap;

    use serde::Deserialize;

    use super::*;
    use crate::quantity::Size;

    #[derive(Debug, Deserialize)]
    #[serde(deny_unknown_fields)]
    #[allow(dead_code)]
    struct Example {
        name: String,
        #[serde(default)]
        sizes: BTreeMap<String, Size>,
    }

    #[test]
    fn a_mistake_is_shown_where_it_stands() {
        let cases = [
            (
                "nam = \"x\"\n",
                "cannot understand r.toml: unknown field `nam`, expected `name` or `sizes`
 --> r.toml:1:1
  |
1 | nam = \"x\"
  | ^^^ unknown field `nam`, expected `name` or `sizes`
  |
  = help: did you mean `name`?",
            ),
            (
                "name = \"x\"\n[sizes]\nesp = \"12 MB\"\n",
                "cannot understand r.toml: `12 MB` is not a size such as `64 MiB` (KiB, MiB, GiB)
 --> r.toml:3:7
  |
3 | esp = \"12 MB\"
  |       ^^^^^^^ `12 MB` is not a size such as `64 MiB` (KiB, MiB, GiB)",
            ),
        ];
        for (text, expected) in cases {
            let error = parse::<Example>("r.toml", text).unwrap_err().to_string();
            assert_eq!(error, expected, "\n{error}");
        }
    }

    #[test]
    fn a_far_off_name_is_not_guessed_at() {
        let error = parse::<Example>("r.toml", "colour = 1\n").unwrap_err().to_string();
        assert!(!error.contains("did you mean"), "{error}");
    }
}
