//! The letters that a Pod writes, each as text and as HTML. Where their links lead is the Dashboard's
//! choice: only the words are ours.

use appliance::secret::Secret;

use super::Letter;
use super::address::EmailAddress;
use crate::moment;

/// Whose Pod it is, and where its Dashboard is.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Sender {
    /// The company's name, or the workspace's.
    pub organisation: String,
    /// `https://admin.prose.example.org`
    pub dashboard: String,
}

impl Sender {
    /// Where an invitation is accepted.
    pub fn accept_url(&self, token: &Secret) -> String {
        format!("{}/invitations/accept/{}", self.dashboard, token.reveal())
    }

    /// Where it is rejected.
    pub fn reject_url(&self, token: &Secret) -> String {
        format!("{}/invitations/reject/{}", self.dashboard, token.reveal())
    }

    /// Where a new password is chosen.
    pub fn reset_url(&self, token: &Secret) -> String {
        format!("{}/start/recover/{}", self.dashboard, token.reveal())
    }

    /// Invites somebody to become `jid`.
    pub fn invitation(
        &self,
        to: EmailAddress,
        jid: &str,
        (accept, reject): (&Secret, &Secret),
        expires: u64,
    ) -> Letter {
        let organisation = &self.organisation;
        let subject = format!("You have been invited to {organisation}'s Prose server!");
        let paragraphs = [
            Paragraph::Text("Hello,".into()),
            Paragraph::Text(format!(
                "you have been invited to {organisation}'s Prose server. Your address there will \
                 be {jid}."
            )),
            Paragraph::Link("Accept the invitation", self.accept_url(accept)),
            Paragraph::Link("Reject it", self.reject_url(reject)),
            Paragraph::Text(format!(
                "These links work until {}. If you don't know {organisation}, you can ignore this \
                 e-mail.",
                moment::rfc2822(expires)
            )),
        ];
        letter(to, subject, &paragraphs)
    }

    /// Lets `jid` choose a new password.
    pub fn password_reset(
        &self,
        to: EmailAddress,
        jid: &str,
        token: &Secret,
        expires: u64,
    ) -> Letter {
        let organisation = &self.organisation;
        let subject = format!("Reset your password for {organisation}'s Prose server");
        let paragraphs = [
            Paragraph::Text("Hello,".into()),
            Paragraph::Text(format!(
                "somebody asked for a new password for {jid} on {organisation}'s Prose server."
            )),
            Paragraph::Link("Choose a new password", self.reset_url(token)),
            Paragraph::Text(format!(
                "This link works once, until {}. If you don't want a new password, you can ignore \
                 this e-mail: the one that you have stays as it is.",
                moment::rfc2822(expires)
            )),
        ];
        letter(to, subject, &paragraphs)
    }
}

enum Paragraph {
    Text(String),
    /// What it does, and its URL.
    Link(&'static str, String),
}

fn letter(to: EmailAddress, subject: String, paragraphs: &[Paragraph]) -> Letter {
    let text: Vec<String> = paragraphs.iter().map(Paragraph::text).collect();
    let html: String = paragraphs.iter().map(Paragraph::html).collect();
    let title = escape(&subject);
    let html = format!(
        "<!DOCTYPE html>\n<html lang=\"en\">\n<head><meta charset=\"utf-8\"><title>{title}</title>\
         </head>\n<body>\n{html}</body>\n</html>\n"
    );
    Letter { to, subject: line(&subject), text: text.join("\n"), html }
}

impl Paragraph {
    fn text(&self) -> String {
        match self {
            Paragraph::Text(text) => format!("{}\n", line(text)),
            Paragraph::Link(what, url) => format!("{what}:\n{}\n", line(url)),
        }
    }

    fn html(&self) -> String {
        match self {
            Paragraph::Text(text) => format!("<p>{}</p>\n", escape(text)),
            Paragraph::Link(what, url) => {
                format!("<p><a href=\"{}\">{}</a></p>\n", escape(url), escape(what))
            }
        }
    }
}

/// Without anything that could end a line, whoever chose the names in it.
pub fn line(text: &str) -> String {
    let ends_one = |c: char| c.is_control() || ['\u{2028}', '\u{2029}'].contains(&c);
    text.chars().map(|c| if ends_one(c) { ' ' } else { c }).collect()
}

/// As HTML shows it, in a text or in quotes.
fn escape(text: &str) -> String {
    let mut escaped = String::with_capacity(text.len());
    for c in line(text).chars() {
        match c {
            '&' => escaped.push_str("&amp;"),
            '<' => escaped.push_str("&lt;"),
            '>' => escaped.push_str("&gt;"),
            '"' => escaped.push_str("&quot;"),
            '\'' => escaped.push_str("&#39;"),
            c => escaped.push(c),
        }
    }
    escaped
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::secret;

    const EXPIRES: u64 = 1_768_298_400;

    fn sender(organisation: &str) -> Sender {
        let dashboard = "https://admin.prose.acme.example".into();
        Sender { organisation: organisation.into(), dashboard }
    }

    fn bob() -> EmailAddress {
        "bob@corp.example".parse().unwrap()
    }

    #[test]
    fn an_invitation_has_the_dashboards_links_in_both_forms() {
        let (accept, reject) = (secret::of("yes"), secret::of("no"));
        let letter =
            sender("Acme").invitation(bob(), "bob@acme.example", (&accept, &reject), EXPIRES);
        assert_eq!(letter.subject, "You have been invited to Acme's Prose server!");
        for part in [
            "https://admin.prose.acme.example/invitations/accept/yes",
            "https://admin.prose.acme.example/invitations/reject/no",
            "bob@acme.example",
            "Tue, 13 Jan 2026 10:00:00 +0000",
        ] {
            assert!(letter.text.contains(part), "{part}: {}", letter.text);
            assert!(letter.html.contains(part), "{part}: {}", letter.html);
        }
    }

    #[test]
    fn a_reset_has_one_link_in_both_forms() {
        let token = secret::of("once");
        let letter = sender("Acme").password_reset(bob(), "bob@acme.example", &token, EXPIRES);
        let link = "https://admin.prose.acme.example/start/recover/once";
        assert!(letter.text.contains(&format!("\n{link}\n")), "{}", letter.text);
        assert!(letter.html.contains(&format!("<a href=\"{link}\">")), "{}", letter.html);
        assert!(letter.text.contains("until Tue, 13 Jan 2026 10:00:00 +0000."));
    }

    #[test]
    fn whoever_chooses_a_name_writes_no_html_and_no_header() {
        let odd = "<script>alert(\"x\")</script> & 'Co'\r\nBcc: eve@evil.example\u{2028}";
        let token = secret::of("once");
        let letter = sender(odd).password_reset(bob(), "a<b&c@acme.example", &token, EXPIRES);
        assert!(!letter.html.contains("<script>") && !letter.html.contains("a<b"));
        assert!(
            letter.html.contains("&lt;script&gt;alert(&quot;x&quot;)&lt;/script&gt; &amp; &#39;")
        );
        assert!(letter.html.contains("a&lt;b&amp;c@acme.example"));
        assert!(!letter.subject.contains(char::is_control) && letter.subject.contains("  Bcc: "));
        assert!(letter.text.lines().all(|line| !line.starts_with("Bcc")));
    }
}
