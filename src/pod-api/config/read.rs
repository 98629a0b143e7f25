//! Reads what the operator wrote: files, the stronger over the weaker, and the environment over all.
//! What is wrong is told with its place and what was expected, never with a line of the file or with
//! what may be a secret: anybody may be told.

use std::fmt;
use std::fs::File;
use std::io::{ErrorKind, Read as _};
use std::path::{Path, PathBuf};

use serde::de::DeserializeOwned;
use toml::{Table, Value as Toml};

use super::known;
use crate::log;

/// The most bytes that a configuration may have.
const LONGEST: u64 = 1024 * 1024;
/// What names of the environment begin with.
const PREFIX: &str = "PROSE_";
/// Variables whose text is taken as it is, though it may look like a number: names and passwords.
const TEXTS: [&str; 5] =
    ["api_app_name", "company_name", "page_title", "smtp_password", "smtp_username"];
/// How keys end whose value isn't told.
const SECRETS: [&str; 6] =
    ["password", "secret", "passphrase", "_key", "tsk", "databases.main.url"];

/// Why there is no configuration.
#[derive(Debug, thiserror::Error)]
pub enum Error {
    /// It cannot be read.
    #[error("cannot read {0}: {1}")]
    Read(PathBuf, std::io::Error),
    /// It has more than [`LONGEST`] bytes.
    #[error("cannot read {0}: it has more than {LONGEST} bytes")]
    TooLong(PathBuf),
    /// What is wrong in a file.
    #[error("cannot understand {0}: {1}")]
    File(PathBuf, Fault),
    /// What is wrong in the environment, or in it and the files taken together.
    #[error("cannot understand {PREFIX}… in the environment: {0}")]
    Environment(Fault),
    /// What `stele-init` hands over is no object of variables.
    #[error("cannot understand {0}: line {1}: it is not the variables that stele-init hands over")]
    Variables(PathBuf, usize),
}

/// What is wrong, and where.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Fault {
    /// From 1 on, in a file.
    line: Option<usize>,
    /// A key, or a variable.
    key: String,
    what: String,
}

impl Fault {
    /// Something that isn't at one place.
    pub fn of_all(what: String) -> Fault {
        Fault { line: None, key: String::new(), what }
    }

    fn of(error: &toml::de::Error, text: &str) -> Fault {
        let line = error.span().and_then(|span| text.get(..span.start));
        let mut bare = error.clone();
        bare.set_input(None);
        let bare = bare.to_string();
        // The last line of what it says without the text: "in `server.domain`".
        let key = bare.trim_end().lines().last().and_then(|line| line.strip_prefix("in `"));
        let key = key.and_then(|key| key.strip_suffix('`')).unwrap_or_default();
        let is_secret = SECRETS.iter().any(|end| key.ends_with(end));
        let what = error.message().trim_end();
        Fault {
            line: line.map(|before| before.matches('\n').count() + 1),
            key: key.to_owned(),
            what: if is_secret { without_quotes(what) } else { what.to_owned() },
        }
    }
}

impl fmt::Display for Fault {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        if let Some(line) = self.line {
            write!(f, "line {line}: ")?;
        }
        if !self.key.is_empty() {
            write!(f, "{}: ", self.key)?;
        }
        f.write_str(&self.what)
    }
}

/// With nothing of what is quoted in it.
fn without_quotes(text: &str) -> String {
    let mut inside = None;
    let mut is_escaped = false;
    text.chars()
        .filter(|c| {
            let (was_inside, was_escaped) = (inside, is_escaped);
            is_escaped = was_inside.is_some() && !was_escaped && *c == '\\';
            match was_inside {
                Some(quote) if *c == quote && !was_escaped => inside = None,
                None if ['`', '"'].contains(c) => inside = Some(*c),
                _ => (),
            }
            inside.is_none() || was_inside.is_none()
        })
        .collect()
}

/// A file that was read.
struct Text {
    path: PathBuf,
    text: String,
}

/// What is there of these files, the weakest first.
fn texts(paths: &[&Path]) -> Result<Vec<Text>, Error> {
    let mut texts = vec![];
    for path in paths {
        let mut text = String::new();
        match File::open(path) {
            Ok(file) => {
                let read = file.take(LONGEST + 1).read_to_string(&mut text);
                read.map_err(|error| Error::Read(path.into(), error))?;
            }
            Err(error) if error.kind() == ErrorKind::NotFound => continue,
            Err(error) => return Err(Error::Read(path.into(), error)),
        }
        if text.len() as u64 > LONGEST {
            return Err(Error::TooLong(path.into()));
        }
        texts.push(Text { path: path.into(), text });
    }
    Ok(texts)
}

/// Reads files, the weakest first, and variables; `complete` makes of a document what is wanted, and
/// is given each alone too, so that what is wrong is told with its place.
pub fn read<D: DeserializeOwned, T>(
    paths: &[&Path],
    environment: impl Iterator<Item = (String, String)>,
    complete: impl Fn(D) -> Result<T, String>,
    chosen: impl FnOnce(&mut Table),
) -> Result<T, Error> {
    let mut table = Table::new();
    for Text { path, text } in texts(paths)? {
        let alone = toml::from_str(&text).map_err(|error| Fault::of(&error, &text));
        let alone = alone.and_then(|document| complete(document).map_err(Fault::of_all));
        let parsed: Table = text.parse().unwrap_or_default();
        for key in known::unknown(&parsed) {
            log::warn(format_args!("nobody knows {key}, which is in {}", path.display()));
        }
        alone.map_err(|fault| Error::File(path, fault))?;
        merge(&mut table, parsed);
    }
    let understand = |table: Table| -> Result<T, Fault> {
        let document = table.try_into().map_err(|error| Fault::of(&error, ""))?;
        complete(document).map_err(Fault::of_all)
    };
    let variables: Vec<(String, String)> =
        environment.filter(|(name, _)| name.starts_with(PREFIX)).collect();
    let with = |left_out: Option<usize>| {
        let used = variables.iter().enumerate().filter(|(at, _)| Some(*at) != left_out);
        let mut table = table.clone();
        used.for_each(|(_, (name, value))| set_variable(&mut table, name, value));
        table
    };
    let mut all = with(None);
    chosen(&mut all);
    understand(all).map_err(|fault| {
        // The one without which nothing would be wrong.
        let culprit = (0..variables.len()).find(|at| understand(with(Some(*at))).is_ok());
        let culprit = culprit.and_then(|at| variables.get(at)).map(|(name, _)| name.clone());
        Error::Environment(Fault {
            key: culprit.unwrap_or(fault.key),
            line: None,
            what: fault.what,
        })
    })
}

fn set_variable(table: &mut Table, name: &str, value: &str) {
    let name = name.strip_prefix(PREFIX).unwrap_or(name).to_lowercase();
    let keys: Vec<&str> = name.split("__").collect();
    let is_text = keys.last().is_some_and(|key| TEXTS.contains(key));
    let value = value.to_owned();
    set(table, &keys, if is_text { Toml::String(unquoted(value)) } else { scalar(value) });
}

/// Puts a stronger table over a weaker one.
fn merge(weak: &mut Table, strong: Table) {
    for (key, value) in strong {
        match (weak.get_mut(&key), value) {
            (Some(Toml::Table(weak)), Toml::Table(strong)) => merge(weak, strong),
            (_, value) => drop(weak.insert(key, value)),
        }
    }
}

/// Puts a value below nested tables. What is in its way gives way: the environment wins.
pub fn set(table: &mut Table, keys: &[&str], value: Toml) {
    match keys {
        [] => (),
        [key] => drop(table.insert((*key).to_owned(), value)),
        [key, rest @ ..] => {
            let inner = table.entry(*key).or_insert_with(|| Toml::Table(Table::new()));
            if !inner.is_table() {
                *inner = Toml::Table(Table::new());
            }
            if let Toml::Table(inner) = inner {
                set(inner, rest, value);
            }
        }
    }
}

/// What TOML would read, or else the text as it is.
fn scalar(text: String) -> Toml {
    match parsed(&text) {
        Some(value @ (Toml::Boolean(_) | Toml::Integer(_) | Toml::Array(_))) => value,
        _ => Toml::String(unquoted(text)),
    }
}

/// The text, without quotes if TOML would take them for such.
fn unquoted(text: String) -> String {
    match parsed(&text) {
        Some(Toml::String(inner)) => inner,
        _ => text,
    }
}

fn parsed(text: &str) -> Option<Toml> {
    let table = format!("it = {text}").parse::<Table>().ok();
    table.filter(|table| table.len() == 1).and_then(|mut table| table.remove("it"))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[derive(Debug, Default, PartialEq, Eq, serde::Deserialize)]
    #[serde(default)]
    struct Document {
        mail: Mail,
        port: u16,
    }

    #[derive(Debug, Default, PartialEq, Eq, serde::Deserialize)]
    #[serde(default)]
    struct Mail {
        host: String,
        smtp_password: String,
        private_key: String,
    }

    fn load(files: &[&str], variables: &[(&str, &str)]) -> Result<Document, String> {
        let folder = tempfile::tempdir().unwrap();
        let paths: Vec<PathBuf> =
            (0..files.len()).map(|it| folder.path().join(format!("{it}.toml"))).collect();
        for (path, text) in paths.iter().zip(files) {
            std::fs::write(path, text).unwrap();
        }
        let paths: Vec<&Path> = paths.iter().map(PathBuf::as_path).collect();
        let variables = variables.iter().map(|(name, it)| (name.to_string(), it.to_string()));
        let complete = |it: Document| if it.port == 1 { Err("port is 1".into()) } else { Ok(it) };
        let read = read(&paths, variables, complete, |_| ());
        let strip =
            |error: Error| error.to_string().replace(&format!("{}/", folder.path().display()), "");
        read.map_err(strip)
    }

    #[test]
    fn the_stronger_wins_key_by_key() {
        let weak = "port = 2\n[mail]\nhost = \"weak\"\nsmtp_password = \"weak\"\n";
        let read = load(&[weak, "[mail]\nhost = \"strong\"\n"], &[("PROSE_PORT", "3"), ("X", "4")]);
        let mail = Mail { host: "strong".into(), smtp_password: "weak".into(), ..Mail::default() };
        assert_eq!(read, Ok(Document { mail, port: 3 }));
        assert_eq!(load(&[], &[]), Ok(Document::default()));
    }

    #[test]
    fn what_is_wrong_is_told_with_its_place_and_no_secret() {
        for (files, variables, said) in [
            (
                vec!["port = \"x\""],
                vec![],
                "0.toml: line 1: port: invalid type: string \"x\", expected u16",
            ),
            (vec!["", "\n\nport = 1"], vec![], "1.toml: port is 1"),
            (
                vec!["[mail]\nsmtp_password = 815\n"],
                vec![],
                "line 2: mail.smtp_password: invalid type: integer ``, expected a string",
            ),
            (vec!["a = 1\nsmtp_password = hunter2\n"], vec![], "0.toml: line 2: "),
            (vec!["[mail]\nsmtp_password = \"hunter2\nport = 3\n"], vec![], "0.toml: line 2: "),
            (
                vec!["[mail]\nhost = \"hunter2\"\n"],
                vec![("PROSE_PORT", "many"), ("PROSE_MAIL__HOST", "fine")],
                "environment: PROSE_PORT: invalid type: string \"many\", expected u16",
            ),
            (
                vec![],
                vec![("PROSE_MAIL__PRIVATE_KEY", "[815]")],
                "environment: PROSE_MAIL__PRIVATE_KEY: invalid type: sequence, expected a string",
            ),
            (vec!["port = 2"], vec![("PROSE_PORT", "1")], "environment: PROSE_PORT: port is 1"),
        ] {
            let error = load(&files, &variables).unwrap_err();
            assert!(error.contains(said), "{error}\nlacks {said}");
            assert!(!error.contains("hunter2") && !error.contains("815"), "{error}");
        }
    }

    #[test]
    fn quotes_are_emptied() {
        for (text, expected) in [
            ("plain", "plain"),
            ("integer `7`, expected a `string`", "integer ``, expected a ``"),
            (r#"string "a\"b`c", expected u16"#, r#"string "", expected u16"#),
            ("open `end", "open `"),
        ] {
            assert_eq!(without_quotes(text), expected);
        }
    }
}
