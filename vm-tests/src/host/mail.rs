//! The least of a mail server, on loopback: takes every letter, and keeps it.

use std::io::{BufRead, BufReader, Write};
use std::net::{Ipv4Addr, Shutdown, TcpListener, TcpStream};
use std::sync::{Arc, Mutex};
use std::thread;
use std::time::Duration;

use anyhow::{Context, Result};

use super::init::lock;
use super::wait_for;

/// How long a client may think.
const SILENT_FOR: Duration = Duration::from_secs(20);

/// A letter, as it came.
#[derive(Debug, Clone, Default)]
pub struct Letter {
    /// Whom it is for.
    pub to: Vec<String>,
    /// Its head and body; what is quoted-printable of it is read.
    pub text: String,
}

/// It takes letters until the process ends.
#[derive(Debug)]
pub struct MailServer {
    port: u16,
    letters: Arc<Mutex<Vec<Letter>>>,
}

impl MailServer {
    /// Begins without any.
    #[track_caller]
    pub fn start() -> MailServer {
        let listener = TcpListener::bind((Ipv4Addr::LOCALHOST, 0)).expect("there is a port");
        let port = listener.local_addr().expect("it has an address").port();
        let letters = Arc::new(Mutex::new(vec![]));
        let kept = letters.clone();
        thread::spawn(move || {
            for client in listener.incoming().flatten() {
                let kept = kept.clone();
                thread::spawn(move || drop(serve(&client, &kept)));
            }
        });
        MailServer { port, letters }
    }

    /// What the operator writes to have letters sent through it.
    pub fn configuration(&self) -> String {
        format!(
            "[notifiers.email]\nsmtp_host = \"127.0.0.1\"\nsmtp_port = {}\nsmtp_encrypt = false\n",
            self.port
        )
    }

    /// Waits for so many letters to somebody; returns the last one.
    #[track_caller]
    pub fn letter(&self, to: &str, count: usize) -> Letter {
        wait_for(&format!("letter {count} to {to}"), || {
            let letters = lock(&self.letters);
            let its = letters.iter().filter(|letter| letter.to.iter().any(|it| it == to));
            let its: Vec<&Letter> = its.collect();
            (its.len() == count).then(|| its.last().map(|it| (*it).clone())).flatten()
        })
    }
}

impl Letter {
    /// The token in its link of this kind: `accept`, `reject`, `recover`.
    #[track_caller]
    pub fn token(&self, kind: &str) -> String {
        let found = self.text.split_once(&format!("/{kind}/"));
        let (_, rest) = found.unwrap_or_else(|| panic!("no link to {kind}: {}", self.text));
        rest.chars().take_while(char::is_ascii_alphanumeric).collect()
    }
}

fn serve(client: &TcpStream, letters: &Mutex<Vec<Letter>>) -> Result<()> {
    client.set_read_timeout(Some(SILENT_FOR))?;
    let mut lines = BufReader::new(client.try_clone()?).lines();
    let mut next = move || lines.next().context("it hangs up")?.context("it breaks off");
    let say =
        |line: &str| -> Result<()> { Ok((&*client).write_all(format!("{line}\r\n").as_bytes())?) };
    let mut letter = Letter::default();
    say("220 mail.example.org")?;
    loop {
        let line = next()?;
        let word = line.split([' ', ':']).next().unwrap_or_default().to_ascii_uppercase();
        match word.as_str() {
            "EHLO" => say("250-mail.example.org\r\n250 8BITMIME")?,
            "RCPT" => {
                let address = line.split(['<', '>']).nth(1).unwrap_or_default();
                letter.to.push(address.to_owned());
                say("250 yes")?;
            }
            "DATA" => {
                say("354 go on")?;
                let mut text = String::new();
                loop {
                    match next()?.as_str() {
                        "." => break,
                        line => text += &format!("{}\n", line.strip_prefix('.').unwrap_or(line)),
                    }
                }
                letter.text = text.replace("=\n", "").replace("=3D", "=");
                lock(letters).push(std::mem::take(&mut letter));
                say("250 kept")?;
            }
            "QUIT" => {
                say("221 bye")?;
                return Ok(client.shutdown(Shutdown::Both)?);
            }
            _ => say("250 yes")?,
        }
    }
}
