//! Who asks a Pod: a token, or an address and a password. Neither is ever an argument, which anybody
//! on this host could read.

use std::fs::{File, OpenOptions};
use std::io::{BufRead as _, BufReader, Read, Write as _};
use std::os::fd::AsFd;
use std::path::{Path, PathBuf};

use anyhow::{Context, Result, bail};
use appliance::secret::Secret;
use clap::Args;
use nix::sys::termios::{LocalFlags, SetArg, Termios, tcgetattr, tcsetattr};

/// Where a token may be found.
const TOKEN: &str = "STELE_TOKEN";
const TERMINAL: &str = "/dev/tty";

/// How somebody shows that they are an admin.
#[derive(Args)]
pub struct Options {
    /// A file with an admin's token; else the one in STELE_TOKEN is shown.
    #[arg(long, value_name = "FILE", conflicts_with = "user")]
    token_file: Option<PathBuf>,
    /// Log in as this admin, for example alice@example.org, with the password from the terminal.
    #[arg(long, value_name = "JID")]
    user: Option<String>,
    /// A file with the password.
    #[arg(long, value_name = "FILE", requires = "user")]
    password_file: Option<PathBuf>,
}

/// What is shown.
#[derive(Debug)]
pub enum Credential {
    /// Of somebody who has logged in.
    Token(Secret),
    /// To log in with.
    Password {
        /// Who.
        user: String,
        /// Theirs.
        password: Secret,
    },
}

impl Credential {
    /// What the options name; asks at the terminal if they name no file.
    pub fn find(options: &Options) -> Result<Credential> {
        if let Some(user) = &options.user {
            let user = user.clone();
            let password = match &options.password_file {
                Some(path) => first_line(path)?,
                None => ask(&format!("Password of {user}: "))
                    .with_context(|| format!("cannot ask for a password at {TERMINAL}"))?,
            };
            return Ok(Credential::Password { user, password });
        }
        match (&options.token_file, std::env::var(TOKEN)) {
            (Some(path), _) => Ok(Credential::Token(first_line(path)?)),
            (None, Ok(token)) => {
                let token = Secret::try_from(token);
                Ok(Credential::Token(token.with_context(|| format!("cannot use {TOKEN}"))?))
            }
            (None, Err(_)) => bail!(
                "cannot show the Pod who asks: there is no token\n\
                 hint: name an admin with --user, or put a token into {TOKEN} or --token-file"
            ),
        }
    }
}

/// The only line of a file that has a secret.
fn first_line(path: &Path) -> Result<Secret> {
    let file = File::open(path).with_context(|| format!("cannot read {}", path.display()))?;
    line(file).with_context(|| format!("cannot use the secret in {}", path.display()))
}

/// Asks a person, and doesn't show what they type.
fn ask(question: &str) -> Result<Secret> {
    let mut terminal = OpenOptions::new().read(true).write(true).open(TERMINAL)?;
    terminal.write_all(question.as_bytes())?;
    let silence = Silence::begin(terminal.try_clone()?)?;
    let answer = line(&terminal);
    drop(silence);
    terminal.write_all(b"\n")?;
    answer
}

/// What comes up to the end of a line.
fn line(source: impl Read) -> Result<Secret> {
    let mut text = String::new();
    BufReader::new(source.take(4096)).read_line(&mut text)?;
    Ok(Secret::try_from(text.trim_end_matches(['\r', '\n']).to_owned())?)
}

/// A terminal that shows nothing of what is typed, until this is dropped.
struct Silence<T: AsFd> {
    terminal: T,
    before: Termios,
}

impl<T: AsFd> Silence<T> {
    fn begin(terminal: T) -> Result<Silence<T>> {
        let before = tcgetattr(&terminal)?;
        let mut silent = before.clone();
        // Ctrl-C would end us before it shows again; so it is but a character that no secret has.
        silent.local_flags.remove(LocalFlags::ECHO | LocalFlags::ISIG);
        tcsetattr(&terminal, SetArg::TCSAFLUSH, &silent)?;
        Ok(Silence { terminal, before })
    }
}

impl<T: AsFd> Drop for Silence<T> {
    fn drop(&mut self) {
        let _ = tcsetattr(&self.terminal, SetArg::TCSAFLUSH, &self.before);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_secret_is_the_first_line() {
        for (text, secret) in [
            ("word", Some("word")),
            ("two words \r\nmore", Some("two words ")),
            ("", None),
            ("\nword", None),
            ("nul\0", None),
        ] {
            let found = line(text.as_bytes()).ok();
            assert_eq!(found.as_ref().map(Secret::reveal), secret, "{text:?}");
        }
        assert!(line(&*"x".repeat(5000).into_bytes()).is_err());
    }
}
