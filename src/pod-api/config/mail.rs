//! What the operator wrote of e-mail: `[notifiers.email]` (older: `[notify.email]`), `[branding]`.

use appliance::secret::Secret;
use appliance::settings::Domain;
use serde::Deserialize;

use super::network::Address;
use crate::mail::address::EmailAddress;

/// The most bytes of a name.
const LONGEST_NAME: usize = 128;
/// Where mail is submitted (RFC 6409).
const SUBMISSION: u16 = 587;
/// What letters are from.
const NAME: &str = "Prose Pod API";

/// How letters are sent.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Mail {
    /// The SMTP server: a name, or an address.
    pub host: String,
    /// Its port.
    pub port: u16,
    /// What it knows us by.
    pub credentials: Option<(String, Secret)>,
    /// Whether anybody may read along.
    pub encryption: Encryption,
    /// Whom letters are from.
    pub our_address: EmailAddress,
    /// What they are from.
    pub our_name: String,
    /// What the Pod calls itself.
    pub our_host: String,
}

/// Whether letters are sent encrypted.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Encryption {
    /// Or not at all.
    Always,
    /// Where the server offers it.
    IfOffered,
}

/// `[branding]`.
#[derive(Debug, Default, Deserialize)]
#[serde(default)]
pub struct Branding {
    company_name: Option<String>,
    api_app_name: Option<String>,
    /// The older name of `api_app_name`.
    page_title: Option<String>,
}

/// `[notifiers]`.
#[derive(Debug, Default, Deserialize)]
#[serde(default)]
pub struct Notifiers {
    workspace_invitation_channel: Option<Channel>,
    email: Email,
}

/// How people are invited: there is one way.
#[derive(Debug, Clone, Copy, Deserialize)]
#[serde(rename_all = "lowercase")]
enum Channel {
    Email,
}

#[derive(Debug, Default, Deserialize)]
#[serde(default)]
struct Email {
    pod_address: Option<String>,
    smtp_host: Option<String>,
    smtp_port: Option<u16>,
    smtp_username: Option<String>,
    smtp_password: Option<String>,
    smtp_encrypt: Option<bool>,
}

impl Branding {
    /// Whose Pod it is.
    pub fn company_name(&self) -> Result<Option<String>, String> {
        name("branding.company_name", self.company_name.clone())
    }

    fn our_name(&self) -> Result<String, String> {
        let own = name("branding.api_app_name", self.api_app_name.clone())?;
        let older = name("branding.page_title", self.page_title.clone())?;
        Ok(own.or(older).unwrap_or_else(|| NAME.to_owned()))
    }
}

impl Notifiers {
    /// What is missing in it taken from `older`. `None`, where no server is named.
    pub fn mail(
        self,
        older: Notifiers,
        branding: &Branding,
        (pod, domain): (&Address, &Domain),
    ) -> Result<Option<Mail>, String> {
        let (email, older) = (self.email, older.email);
        let Some(host) = text(email.smtp_host, older.smtp_host) else { return Ok(None) };
        if host.len() > 253 || host.contains(|c: char| c.is_control() || " /@[]".contains(c)) {
            return Err("notifiers.email.smtp_host is not like smtp.example.org".into());
        }
        let our_address = text(email.pod_address, older.pod_address);
        let our_address = our_address.unwrap_or_else(|| format!("prose@{domain}"));
        let our_address = our_address.parse();
        let user =
            name("notifiers.email.smtp_username", email.smtp_username.or(older.smtp_username))?;
        let password = text(email.smtp_password, older.smtp_password).map(Secret::try_from);
        // Never the value: what is said here gets into the journal.
        let password = password
            .transpose()
            .map_err(|error| format!("notifiers.email.smtp_password can't be used: {error}"))?;
        let encrypt = email.smtp_encrypt.or(older.smtp_encrypt).unwrap_or(true);
        Ok(Some(Mail {
            host,
            port: email.smtp_port.or(older.smtp_port).unwrap_or(SUBMISSION),
            credentials: user.zip(password),
            encryption: if encrypt { Encryption::Always } else { Encryption::IfOffered },
            our_address: our_address
                .map_err(|error| format!("notifiers.email.pod_address can't be used: {error}"))?,
            our_name: branding.our_name()?,
            our_host: pod.host(domain),
        }))
    }
}

/// The newer of two, or the older. An empty one is none: templates have those.
fn text(newer: Option<String>, older: Option<String>) -> Option<String> {
    let mut both = [newer, older].into_iter().flatten().filter(|text| !text.is_empty());
    both.next()
}

/// One line.
fn name(key: &str, it: Option<String>) -> Result<Option<String>, String> {
    let it = text(it, None);
    match it {
        Some(it) if it.len() > LONGEST_NAME || it.contains(char::is_control) => {
            Err(format!("{key} has control characters, or more than {LONGEST_NAME} bytes"))
        }
        it => Ok(it),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::config::Config;

    fn load(file: &str, variables: &[(&str, &str)]) -> Result<Config, String> {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("Prose.toml");
        std::fs::write(&path, file).unwrap();
        let variables =
            variables.iter().map(|(name, it)| (format!("PROSE_{name}"), it.to_string()));
        Config::load(&[&path], variables, None).map_err(|error| error.to_string())
    }

    #[test]
    fn without_a_server_there_is_no_mail() {
        for file in ["", "[notify.email]\npod_address = \"a@b.example\"\nsmtp_host = \"\"\n"] {
            assert_eq!(load(file, &[]).unwrap().mail, None, "{file}");
        }
        let none = Config::load(&[], std::iter::empty(), None).unwrap();
        assert_eq!((none.mail, none.company_name), (None, None));
    }

    #[test]
    fn both_eras_say_the_same() {
        let newest = "[server]\ndomain = \"acme.example\"\n\
            [branding]\ncompany_name = \"Acme\"\napi_app_name = \"Pod\"\n\
            [notifiers]\nworkspace_invitation_channel = \"email\"\n\
            [notifiers.email]\npod_address = \"pod@acme.example\"\nsmtp_host = \"smtp.acme.example\"\n\
            smtp_port = 25\nsmtp_username = \"prose\"\nsmtp_password = \"s3cret\"\n\
            smtp_encrypt = false\n";
        let oldest = newest.replace("notifiers", "notify").replace("api_app_name", "page_title");
        let expected = Mail {
            host: "smtp.acme.example".into(),
            port: 25,
            credentials: Some(("prose".into(), crate::secret::of("s3cret"))),
            encryption: Encryption::IfOffered,
            our_address: "pod@acme.example".parse().unwrap(),
            our_name: "Pod".into(),
            our_host: "prose.acme.example".into(),
        };
        for file in [newest, &oldest] {
            let config = load(file, &[]).unwrap();
            assert_eq!(config.mail.as_ref(), Some(&expected), "{file}");
            assert_eq!(config.company_name.as_deref(), Some("Acme"));
            assert!(!format!("{config:?}").contains("s3cret"));
        }
    }

    #[test]
    fn what_is_not_said_has_a_default() {
        let variables = [
            ("SERVER__DOMAIN", "acme.example"),
            ("NOTIFIERS__EMAIL__SMTP_HOST", "smtp.acme.example"),
            ("NOTIFIERS__EMAIL__SMTP_USERNAME", "prose"),
        ];
        let mail = load("", &variables).unwrap().mail.unwrap();
        let expected = Mail {
            host: "smtp.acme.example".into(),
            port: 587,
            credentials: None,
            encryption: Encryption::Always,
            our_address: "prose@acme.example".parse().unwrap(),
            our_name: "Prose Pod API".into(),
            our_host: "prose.acme.example".into(),
        };
        assert_eq!(mail, expected);
    }

    #[test]
    fn a_password_is_taken_as_it_is() {
        let host = ("NOTIFIERS__EMAIL__SMTP_HOST", "smtp.acme.example");
        let user = ("NOTIFIERS__EMAIL__SMTP_USERNAME", "1_000");
        for (written, expected) in
            [("007", "007"), ("1_000", "1_000"), ("true", "true"), ("[1]", "[1]"), ("\"a\"", "a")]
        {
            let password = ("NOTIFIERS__EMAIL__SMTP_PASSWORD", written);
            let mail = load("", &[host, user, password]).unwrap().mail.unwrap();
            let expected = ("1_000".to_owned(), crate::secret::of(expected));
            assert_eq!(mail.credentials, Some(expected), "{written}");
        }
    }

    #[test]
    fn what_is_wrong_is_refused_and_a_password_never_told() {
        for (file, said) in [
            ("smtp_host = \"a b\"", "smtp_host is not like"),
            ("smtp_host = \"a\"\nsmtp_port = 70000", "line 3"),
            ("smtp_host = \"a\"\npod_address = \"pod\"", "pod_address can't be used"),
            ("smtp_host = \"a\"\nsmtp_username = \"a\\nb\"", "smtp_username has control"),
            ("smtp_host = \"a\"\nsmtp_password = \"hunter2\\n\"", "smtp_password can't be used"),
            ("smtp_host = \"a\"\nsmtp_password = [\"hunter2\"]", "line 3"),
            ("smtp_host = \"a\"\nsmtp_password = \"hunter2", "line 3"),
            ("smtp_password = \"x\" hunter2", "line 2"),
        ] {
            let error = load(&format!("[notify.email]\n{file}\n"), &[]).unwrap_err();
            assert!(error.contains(said), "{file}: {error}");
            assert!(!error.contains("hunter2"), "{error}");
        }
        let error = load("[notifiers]\nworkspace_invitation_channel = \"sms\"\n", &[]).unwrap_err();
        assert!(error.contains("line 2"), "{error}");
    }
}
