//! The Pod API's main flows, as the Dashboard goes through them, and what people who are connected
//! see of them.

use serde_json::{Value, json};
use vm_tests::BOOT;
use vm_tests::client::shown_certificate;
use vm_tests::http::{Answer, Asked};
use vm_tests::images::Image;
use vm_tests::machine::Machine;
use vm_tests::pod::{ADMIN, PASSWORD};
use vm_tests::session::Session;
use vm_tests::vm::Vm;

const BOB: &str = "bob@prose.local";
/// Asks for what is archived.
const QUERY: &str = "<query xmlns='urn:xmpp:mam:2'/>";

/// Somebody who is logged in at the API.
struct Caller<'a> {
    vm: &'a Vm,
    bearer: String,
}

impl Caller<'_> {
    fn new<'a>(vm: &'a Vm, jid: &str) -> Caller<'a> {
        let answer = vm.log_in(jid, PASSWORD);
        let token = answer.body["token"].as_str().unwrap_or_else(|| panic!("{answer:?}"));
        Caller { vm, bearer: format!("Authorization: Bearer {token}") }
    }

    fn asks(&self, asked: Asked) -> Answer {
        self.vm.asks(&asked.with(&self.bearer))
    }

    fn get(&self, path: &str) -> Answer {
        self.asks(Asked::get(path))
    }

    fn sends(&self, method: &str, path: &str, body: &Value) -> Answer {
        self.asks(Asked::json(method, path, body))
    }
}

/// Bob is invited by a link that the admin hands on, and accepts.
fn invite(vm: &Vm, alice: &Caller) {
    // There is no mail here, and the Dashboard is told so.
    let mail = alice.asks(Asked::new("HEAD", "/api/v1/invitations", ""));
    assert_eq!(mail.status, 412, "{mail:?}");
    let wish = json!({"username": "bob", "pre_assigned_role": "MEMBER", "channel": "link"});
    let made = alice.sends("POST", "/api/v1/invitations", &wish);
    assert_eq!((made.status, &made.body["jid"]), (201, &json!(BOB)), "{made:?}");
    let again = alice.sends("POST", "/api/v1/invitations", &wish);
    assert_eq!((again.status, again.error()), (409, "invitation_already_exists"), "{again:?}");
    let link = made.body["accept_url"].as_str().unwrap_or_else(|| panic!("{made:?}"));
    let (_, token) = link.rsplit_once('/').unwrap();
    let path = format!("/api/v1/invitation-tokens/{token}");
    let details = vm.get(&format!("{path}/details?token_type=accept"));
    assert_eq!((details.status, &details.body["jid"]), (200, &json!(BOB)), "{details:?}");
    let accept = |password: &str| {
        let body = json!({"nickname": "Bob", "password": password});
        vm.asks(&Asked::json("PUT", &format!("{path}/accept"), &body))
    };
    let short = accept("too short");
    assert_eq!((short.status, short.error()), (400, "invalid_password"), "{short:?}");
    assert_eq!(accept(PASSWORD).status, 200);
    let used = accept(PASSWORD);
    assert_eq!((used.status, used.error()), (410, "invitation_not_found"), "{used:?}");
    assert_eq!(alice.get("/api/v1/invitations").body, json!([]));
}

/// What somebody shows of themself, to whoever asks.
fn card(who: &mut Session, of: &str) -> String {
    let items = "<pubsub xmlns='http://jabber.org/protocol/pubsub'><items node='urn:xmpp:vcard4'/></pubsub>";
    who.iq("get", of, items).unwrap_or_else(|error| panic!("{error:#}"))
}

#[test]
fn what_an_admin_does_reaches_people_who_stay_connected() {
    let vm = Machine::direct(&Image::pod("people", &["test-certificate"], &[])).start();
    let certificate = shown_certificate(&vm, BOOT);
    vm.pod_serves();
    vm.make_admin();
    let alice = Caller::new(&vm, ADMIN);
    let log_in = |jid| Session::open(vm.xmpp(), jid, PASSWORD, &certificate).unwrap();
    let mut hers = log_in(ADMIN);

    // A new colleague is in her roster without anybody's request, and seen when they come.
    invite(&vm, &alice);
    hers.wait_for("iq", BOB).unwrap();
    let mut his = log_in(BOB);
    hers.wait_for("presence", BOB).unwrap();
    assert!(his.roster().contains(ADMIN), "{}", his.roster());
    his.message(ADMIN, "hello, Alice");
    hers.wait_for("message", "hello, Alice").unwrap();

    // Names are what chat clients see, of people and of the workspace.
    let bob = Caller::new(&vm, BOB);
    let named = bob.sends("PUT", &format!("/api/v1/members/{BOB}/nickname"), &json!("Robert"));
    assert_eq!(named.status, 204, "{named:?}");
    assert!(card(&mut hers, BOB).contains("Robert"));
    assert!(card(&mut hers, "prose-workspace@prose.local").contains("Acme"));
    let enrich = Asked::get(&format!("/api/v1/enrich-members?jids={ADMIN}&jids={BOB}"));
    let events = alice.asks(enrich.with("Accept: text/event-stream"));
    let text = events.body.as_str().unwrap_or_default().to_owned();
    assert!(text.contains("\"nickname\":\"Robert\"") && text.contains("\"online\":true"), "{text}");
    assert!(text.ends_with("event: end\nid: end\ndata: {}\n\n"), "{text}");

    // A setting holds when it is answered, and streams stay.
    assert!(hers.archive().unwrap().contains(&"hello, Alice".to_owned()));
    assert!(hers.iq("set", "", QUERY).unwrap().contains("<fin"));
    let off = alice.sends("PUT", "/api/v1/server/config/message-archive-enabled", &json!(false));
    assert_eq!((off.status, &off.body), (200, &json!(false)), "{off:?}");
    let none = hers.iq("set", "", QUERY).unwrap_err();
    assert!(format!("{none:#}").contains("service-unavailable"), "{none:#}");
    hers.ping();
    his.ping();

    // What somebody may do is looked up at each request.
    let role = format!("/api/v1/members/{BOB}/role");
    assert_eq!(bob.get("/api/v1/server/config/tls-profile").status, 403);
    assert_eq!(alice.sends("PUT", &role, &json!("ADMIN")).status, 200);
    let bob = Caller::new(&vm, BOB);
    assert_eq!(bob.get("/api/v1/server/config/tls-profile").body, json!("modern"));
    assert_eq!(alice.sends("PUT", &role, &json!("MEMBER")).status, 200);
    assert_eq!(bob.get("/api/v1/server/config/tls-profile").status, 403);

    // A port opens: the Server is started anew for it, and it is answered when it serves again.
    let on = alice.sends("PUT", "/api/v1/server/config/federation-enabled", &json!(true));
    assert_eq!((on.status, &on.body), (200, &json!(true)), "{on:?}");
    let mut hers = log_in(ADMIN);
    let steps = alice.get("/api/v1/network/dns/records").body["steps"].clone();
    assert!(steps.to_string().contains("_xmpp-server._tcp.groups.prose.local."), "{steps}");

    // Who has gone is gone everywhere.
    let gone = alice.asks(Asked::new("DELETE", &format!("/api/v1/members/{BOB}"), ""));
    assert_eq!(gone.status, 204, "{gone:?}");
    assert!(!hers.roster().contains(BOB), "{}", hers.roster());
    assert_eq!(vm.log_in(BOB, PASSWORD).status, 401);
    assert_eq!(vm.get("/api/openapi.json").body["openapi"], "3.1.0");
}
