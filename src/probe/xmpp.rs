//! Logs in as a member's client does, and hears itself.
//!
//! ```text
//! stream ─► STARTTLS ─► stream ─► SASL ─► stream ─► bind ─► a message to itself ─► that message
//! ```

use std::io::{Read, Write};
use std::time::Duration;

use appliance::probe::{ACCOUNT, Login};
use base64::prelude::{BASE64_STANDARD, Engine as _};
use quick_xml::escape::escape;
use ring::rand::{self, SystemRandom};

use crate::bounded::Bounded;
use crate::scram::{Hash, Scram};
use crate::stanzas::{Element, Stanzas};
use crate::tls;
use appliance::failure::{Failure, OrCannot as _};

const TLS: &str = "urn:ietf:params:xml:ns:xmpp-tls";
const SASL: &str = "urn:ietf:params:xml:ns:xmpp-sasl";
const BIND: &str = "urn:ietf:params:xml:ns:xmpp-bind";

/// A way to log in.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Mechanism {
    Scram(Hash),
    Plain,
}

/// With the names that they have on the wire, the best first.
const MECHANISMS: [(&str, Mechanism); 3] = [
    ("SCRAM-SHA-256", Mechanism::Scram(Hash::Sha256)),
    ("SCRAM-SHA-1", Mechanism::Scram(Hash::Sha1)),
    ("PLAIN", Mechanism::Plain),
];

/// Does the Server serve its members?
pub fn check(login: &Login, within: Duration) -> Result<(), Failure> {
    let domain = login.domain.as_ref();
    let connection = Bounded::connect(login.port, within)?;
    let connection = tls::begin(start_tls(Stanzas::open(connection, domain)?)?)?;
    let mut stanzas = Stanzas::open(connection, domain)?;
    log_in(&mut stanzas, login.password.reveal())?;
    let mut stanzas = stanzas.open_again(domain)?;
    stanzas.expect("features")?;
    let jid = bind(&mut stanzas)?;
    hear_oneself(&mut stanzas, &jid)
}

/// Back comes the connection, on which TLS may begin.
fn start_tls(mut stanzas: Stanzas<Bounded>) -> Result<Bounded, Failure> {
    let features = stanzas.expect("features")?;
    features.child("starttls").ok_or("it isn't offered").or_cannot("begin TLS")?;
    stanzas.say(&format!("<starttls xmlns='{TLS}'/>"))?;
    stanzas.expect("proceed")?;
    stanzas.into_connection()
}

fn log_in(stanzas: &mut Stanzas<impl Read + Write>, password: &str) -> Result<(), Failure> {
    let what = "log in";
    let features = stanzas.expect("features")?;
    let (name, mechanism) = choose(&features).ok_or("no known way is offered").or_cannot(what)?;
    let auth = |said: &str| {
        format!("<auth xmlns='{SASL}' mechanism='{name}'>{}</auth>", BASE64_STANDARD.encode(said))
    };
    let Mechanism::Scram(hash) = mechanism else {
        stanzas.say(&auth(&format!("\0{ACCOUNT}\0{password}")))?;
        return stanzas.expect("success").map(drop).or_cannot(what);
    };
    let nonce = random()?;
    let scram = Scram::new(hash, ACCOUNT, password, &nonce);
    stanzas.say(&auth(&scram.first()))?;
    let challenge = decoded(&stanzas.expect("challenge").or_cannot(what)?)?;
    let (answer, expected) = scram.answer(&challenge).or_cannot(what)?;
    let answer = BASE64_STANDARD.encode(answer);
    stanzas.say(&format!("<response xmlns='{SASL}'>{answer}</response>"))?;
    let last = decoded(&stanzas.expect("success").or_cannot(what)?)?;
    expected.verify(&last).or_cannot(what)
}

fn choose(features: &Element) -> Option<(&'static str, Mechanism)> {
    let offered = features.child("mechanisms")?;
    let is_offered = |name| offered.children("mechanism").any(|one| one.text.trim() == name);
    MECHANISMS.into_iter().find(|(name, _)| is_offered(*name))
}

fn decoded(element: &Element) -> Result<String, Failure> {
    let what = format_args!("understand `{}`", element.name);
    let bytes = BASE64_STANDARD.decode(element.text.trim()).or_cannot(what)?;
    String::from_utf8(bytes).or_cannot(what)
}

/// The address of this session.
fn bind(stanzas: &mut Stanzas<impl Read + Write>) -> Result<String, Failure> {
    stanzas.say(&format!("<iq type='set' id='bind'><bind xmlns='{BIND}'/></iq>"))?;
    let answer = stanzas.expect("iq")?;
    let jid = answer.child("bind").and_then(|bind| bind.child("jid"));
    let jid = jid.filter(|_| answer.attribute("type") == Some("result"));
    Ok(jid.ok_or("it gives no address").or_cannot("bind a resource")?.text.clone())
}

/// What else comes meanwhile is none of its business.
fn hear_oneself(stanzas: &mut Stanzas<impl Read + Write>, jid: &str) -> Result<(), Failure> {
    let what = "get the own message back";
    let text = random()?;
    let to = escape(jid);
    stanzas
        .say(&format!("<message type='chat' id='own' to='{to}'><body>{text}</body></message>"))?;
    let own = loop {
        let element = stanzas.next().or_cannot(what)?;
        if element.name == "message" && element.attribute("id") == Some("own") {
            break element;
        }
    };
    let body = own.child("body").map(|body| &body.text);
    match (own.attribute("type"), own.attribute("from") == Some(jid), body) {
        (Some("chat"), true, Some(body)) if *body == text => Ok(()),
        (Some("error"), ..) => Err(Failure::new(what, "it comes back as an error")),
        _ => Err(Failure::new(what, "it comes back as another")),
    }
}

/// Nobody else's: 32 hexadecimal digits.
fn random() -> Result<String, Failure> {
    let bytes = rand::generate::<[u8; 16]>(&SystemRandom::new()).or_cannot("find randomness")?;
    Ok(bytes.expose().iter().map(|byte| format!("{byte:02x}")).collect())
}

#[cfg(test)]
mod tests {
    use super::*;

    use crate::stand_in::{self, Act};

    const LONG: Duration = Duration::from_secs(20);
    const SHORT: Duration = Duration::from_millis(700);

    fn said(port: u16, within: Duration) -> String {
        check(&stand_in::login(port), within).unwrap_err().to_string()
    }

    #[test]
    fn a_server_that_serves_passes() {
        check(&stand_in::login(stand_in::xmpp(0, Act::Well)), LONG).unwrap();
    }

    #[test]
    fn each_way_not_to_serve_is_told() {
        use Act::{Close, Flood, Say};
        for (step, act, why) in [
            (0, Say("<features/>"), "cannot begin TLS: it isn't offered"),
            (
                0,
                Say("<error><host-unknown/></error>"),
                "cannot get `features`: `error`: host-unknown",
            ),
            (0, Close, "cannot read the stream: the connection is closed"),
            (0, Flood("<features>"), "cannot read the stream: what came isn't XMPP"),
            (0, Flood("flood"), "it says more than"),
            (0, Say("<features><!-- x --></features>"), "what came isn't XMPP"),
            (1, Say("<failure/>"), "cannot get `proceed`: `failure`: no reason"),
            (1, Say("<proceed/><success/>"), "cannot go on: it says more than it may before TLS"),
            (1, Flood("<proceed/>x"), "it says more than it may before TLS"),
            (2, Say("<features/>"), "cannot log in: no known way is offered"),
            (2, Close, "cannot read the stream: "),
            (
                3,
                Say("<failure><not-authorized/></failure>"),
                "cannot log in: cannot get `success`: `failure`: not-authorized",
            ),
            (3, Flood("<success>a"), "cannot log in: "),
            (
                5,
                Say("<iq type='error'><error><conflict/></error></iq>"),
                "cannot bind a resource: it gives no address",
            ),
            (
                6,
                Say("<message type='error' id='own'><error/></message>"),
                "cannot get the own message back: it comes back as an error",
            ),
            (
                6,
                Say(
                    "<message type='chat' id='own' from='stele-probe@example.org/a&amp;b'><body>x</body></message>",
                ),
                "cannot get the own message back: it comes back as another",
            ),
            (
                6,
                Say("<message type='chat' id='own' from='alice@example.org'/>"),
                "it comes back as another",
            ),
            (6, Close, "cannot get the own message back: "),
            (6, Flood("<message id='x'/>"), "it says more than"),
        ] {
            let told = said(stand_in::xmpp(step, act.clone()), LONG);
            assert!(told.contains(why), "{step}, {act:?}: {told}");
        }
    }

    #[test]
    fn a_server_that_hangs_is_left_at_each_step() {
        for step in 0..=6 {
            let told = said(stand_in::xmpp(step, Act::Hang), SHORT);
            assert!(told.contains("it takes longer than 0.7 s"), "{step}: {told}");
        }
    }

    #[test]
    fn a_server_without_a_certificate_fails() {
        let told = said(stand_in::xmpp_without_certificate(), LONG);
        assert!(told.contains("cannot begin TLS: invalid peer certificate"), "{told}");
    }

    #[test]
    fn a_server_that_does_not_know_the_password_is_no_server() {
        let features =
            "<features><mechanisms><mechanism>SCRAM-SHA-1</mechanism></mechanisms></features>";
        let told = said(stand_in::xmpp(2, Act::Say(features)), LONG);
        // Its step after that knows PLAIN alone.
        assert!(told.contains("cannot get `challenge`: `success`"), "{told}");
    }

    fn offering(names: &[&str]) -> Element {
        let mechanisms: String =
            names.iter().map(|name| format!("<mechanism>{name}</mechanism>")).collect();
        crate::stand_in::element(&format!(
            "<features><mechanisms>{mechanisms}</mechanisms></features>"
        ))
    }

    #[test]
    fn the_best_way_to_log_in_is_taken() {
        for (offered, name) in [
            (&["PLAIN", "SCRAM-SHA-1", "SCRAM-SHA-256"][..], Some("SCRAM-SHA-256")),
            (&["PLAIN", "SCRAM-SHA-1", "SCRAM-SHA-1-PLUS"], Some("SCRAM-SHA-1")),
            (&["X", "PLAIN"], Some("PLAIN")),
            (&["DIGEST-MD5"], None),
            (&[], None),
        ] {
            assert_eq!(choose(&offering(offered)).map(|(name, _)| name), name, "{offered:?}");
        }
    }
}
