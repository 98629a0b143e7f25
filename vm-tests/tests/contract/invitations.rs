//! Invitations, new passwords, and the letters of both.

use serde_json::{Value, json};
use vm_tests::host::{ADMIN, MailServer, PASSWORD, Pod, each, jid, wait_for};
use vm_tests::server::VERSIONS;

const ALL: &str = "/v1/invitations";
const BOBS: &str = "bob@corp.example";
const OTHER: &str = "another horse battery";

/// Passes a test with the Pod of either version, each with a mail server of its own.
fn each_with_mail(more: &str, test: impl Fn(&Pod, &MailServer)) {
    for version in VERSIONS {
        eprintln!("--- {version:?}");
        let mail = MailServer::start();
        let pod = Pod::start(version, &format!("{}{more}", mail.configuration()));
        test(&pod, &mail);
    }
}

fn wish(name: &str) -> Value {
    json!({
        "username": name, "pre_assigned_role": "MEMBER", "channel": "email",
        "email_address": format!("{name}@corp.example"), "more": 1,
    })
}

/// Invites somebody; returns the tokens to accept and to reject.
fn invite(pod: &Pod, mail: &MailServer, admin: &str, name: &str) -> (String, String) {
    let invited = pod.send("POST", ALL, admin, wish(name));
    assert_eq!(invited.status, 201, "{invited:?}");
    let letter = mail.letter(&format!("{name}@corp.example"), 1);
    (letter.token("accept"), letter.token("reject"))
}

fn accept(pod: &Pod, token: &str, password: &str) -> (u16, String) {
    let body = json!({"nickname": "Bob", "password": password});
    let answer = pod.put(&format!("/v1/invitation-tokens/{token}/accept"), "", body);
    (answer.status, answer.error().to_owned())
}

fn refused(status: u16, error: &str) -> (u16, String) {
    (status, error.to_owned())
}

#[test]
fn the_dashboard_invites_and_a_guest_accepts() {
    each_with_mail("", |pod, mail| {
        let admin = pod.make_admin();
        for (token, status) in [(admin.as_str(), 204), ("null", 403)] {
            assert_eq!(pod.head(ALL, token).status, status, "{token}");
        }
        let invited = pod.send("POST", ALL, &admin, wish("bob"));
        assert_eq!(invited.status, 201, "{invited:?}");
        let id = invited.body["invitation_id"].as_u64().expect("a number");
        assert_eq!(invited.header("location"), Some(&*format!("{ALL}/{id}")));
        assert_eq!(invited.body["jid"], "bob@example.org");
        let listed = pod.get(ALL, &admin);
        assert_eq!((listed.status, &listed.body[0]["invitation_id"]), (200, &json!(id)));
        let letter = mail.letter(BOBS, 1);
        let (token, old) = (letter.token("accept"), letter.token("reject"));
        for token in [&token, &old] {
            assert!(!listed.body.to_string().contains(token.as_str()), "a token is listed");
        }
        assert!(letter.text.contains("https://admin.prose.example.org/invitations/accept/"));
        let details = |token: &str| {
            pod.get(&format!("/v1/invitation-tokens/{token}/details?token_type=accept"), "")
        };
        let expected =
            json!({"jid": "bob@example.org", "pre_assigned_role": "MEMBER", "is_expired": false});
        assert_eq!((details(&token).status, details(&token).body), (200, expected));
        // Sent again: the old links are dead.
        assert_eq!(pod.bare("POST", &format!("{ALL}/{id}/resend"), &admin).status, 204);
        let again = mail.letter(BOBS, 2).token("accept");
        assert_eq!(details(&token).error(), "invitation_not_found");
        let mut alice = pod.session(ADMIN);
        assert_eq!(accept(pod, &again, PASSWORD), refused(200, ""));
        alice.wait_for("iq", "bob@example.org").unwrap();
        let bob = pod.log_in("bob");
        let profile = pod.get("/v1/members/bob@example.org", &bob).body;
        assert_eq!((&profile["nickname"], &profile["role"]), (&json!("Bob"), &json!("MEMBER")));
        assert_eq!(pod.get(ALL, &admin).body, json!([]));
        pod.session("bob").ping();
        let taken = pod.send("POST", ALL, &admin, wish("bob"));
        assert_eq!((taken.status, taken.error()), (409, "member_already_exists"));
        let steps = pod.send("POST", ALL, &bob, wish("carol"));
        assert_eq!((steps.status, steps.error()), (403, "forbidden"));
    });
}

#[test]
fn c09_an_invitation_with_a_bad_role_is_422() {
    each_with_mail("", |pod, _| {
        let admin = pod.make_admin();
        for (key, value) in [
            ("pre_assigned_role", json!("OWNER")),
            ("pre_assigned_role", json!(1)),
            ("username", json!("a b")),
            ("username", json!("")),
            ("email_address", json!("nobody")),
            ("email_address", json!("a@b.example\r\nBcc: c@d.example")),
            ("channel", json!("pigeon")),
        ] {
            let mut wish = wish("bob");
            wish[key] = value;
            let answer = pod.send("POST", ALL, &admin, wish.clone());
            assert_eq!((answer.status, answer.error()), (422, "unknown"), "{wish}");
        }
        assert_eq!(pod.get(ALL, &admin).body, json!([]));
    });
}

#[test]
fn c25_a_short_password_leaves_the_token_and_twice_is_once() {
    each_with_mail("", |pod, mail| {
        let admin = pod.make_admin();
        let (token, _) = invite(pod, mail, &admin, "bob");
        assert_eq!(accept(pod, &token, "short"), refused(400, "invalid_password"));
        assert_eq!(accept(pod, &token, PASSWORD), refused(200, ""));
        let (status, error) = accept(pod, &token, OTHER);
        assert!([409, 410].contains(&status), "{status} {error}");
        assert_eq!(pod.try_log_in(&jid("bob"), PASSWORD).status, 200);
        assert_eq!(pod.try_log_in(&jid("bob"), OTHER).status, 401);
    });
}

#[test]
fn c26_a_rejection_is_one_however_often_it_is_said() {
    each_with_mail("", |pod, mail| {
        let admin = pod.make_admin();
        let (accepts, rejects) = invite(pod, mail, &admin, "bob");
        let reject = |token: &str| {
            pod.put(&format!("/v1/invitation-tokens/{token}/reject"), "", json!(null)).status
        };
        assert_eq!([reject(&rejects), reject(&rejects), reject("unknown")], [204; 3]);
        assert_eq!(accept(pod, &accepts, PASSWORD), refused(410, "invitation_not_found"));
        assert_eq!(pod.get(ALL, &admin).body, json!([]));
    });
}

#[test]
fn c27_at_the_limit_nobody_joins() {
    each_with_mail("[licensing]\nuser_limit = 2\n", |pod, mail| {
        let admin = pod.make_admin();
        let tokens = ["bob", "carol"].map(|name| invite(pod, mail, &admin, name).0);
        assert_eq!(accept(pod, &tokens[0], PASSWORD), refused(200, ""));
        assert_eq!(accept(pod, &tokens[1], PASSWORD), refused(403, "user_limit_reached"));
        assert_eq!(pod.try_log_in(&jid("carol"), PASSWORD).status, 401);
        assert_eq!(pod.delete("/v1/members/bob@example.org", &admin).status, 204);
        assert_eq!(accept(pod, &tokens[1], PASSWORD), refused(200, ""));
        pod.session("carol").ping();
    });
}

#[test]
fn a_pod_without_mail_invites_by_link() {
    each(|pod| {
        let admin = pod.make_admin();
        assert_eq!(pod.head(ALL, &admin).status, 412);
        let answer = pod.send("POST", ALL, &admin, wish("bob"));
        assert_eq!((answer.status, answer.error()), (500, "missing_config"));
        let by_link = json!({"username": "bob", "channel": "link", "pre_assigned_role": "ADMIN"});
        let invited = pod.send("POST", ALL, &admin, by_link);
        assert_eq!(invited.status, 201, "{invited:?}");
        let url = invited.body["accept_url"].as_str().unwrap();
        let token = url.rsplit('/').next().unwrap();
        assert!(!pod.get(ALL, &admin).body.to_string().contains(token));
        assert_eq!(accept(&pod, token, PASSWORD), refused(200, ""));
        let bob = pod.log_in("bob");
        assert_eq!(pod.get("/v1/pod/config", &bob).status, 200, "he is an admin");
    });
}

#[test]
fn a_new_password_ends_all_that_the_old_one_began() {
    each_with_mail("", |pod, mail| {
        let admin = pod.make_admin();
        let bob = pod.make_member("bob");
        let password = "/v1/members/bob@example.org/password";
        let unknown = pod.delete(password, &admin);
        assert_eq!((unknown.status, unknown.error()), (412, "missing_email_address"));
        for last in ["recovery-email-address", "email-address", "recovery-email"] {
            let path = format!("/v1/members/bob@example.org/{last}");
            assert_eq!(pod.put(&path, &bob, json!(BOBS)).status, 200, "{last}");
            assert_eq!(pod.get(&path, &admin).body, json!(BOBS), "{last}");
            assert_eq!(pod.put(&path, &bob, json!("nobody")).status, 422, "{last}");
            let others = path.replace("bob@", "alice@");
            assert_eq!(pod.get(&others, &bob).error(), "forbidden", "{last}");
        }
        let mut client = pod.client("bob").unwrap();
        let begun = pod.delete(password, &admin);
        assert_eq!(begun.status, 202, "{begun:?}");
        let token = mail.letter(BOBS, 1).token("recover");
        assert_eq!(begun.body["token"], json!(token));
        let path = format!("/v1/password-reset-tokens/{token}/use");
        let short = pod.put(&path, "", json!({"password": "short"}));
        assert_eq!((short.status, short.error()), (400, "invalid_password"));
        assert_eq!(pod.get("/v1/members", &bob).status, 200, "nothing has changed yet");
        assert_eq!(pod.put(&path, "", json!({"password": OTHER})).status, 200);
        client.wait_for("</stream:stream>").unwrap();
        wait_for("the end of his token", || {
            (pod.get("/v1/members", &bob).status == 401).then_some(())
        });
        assert_eq!(pod.try_log_in(&jid("bob"), PASSWORD).status, 401);
        assert_eq!(pod.try_log_in(&jid("bob"), OTHER).status, 200);
        let used = pod.put(&path, "", json!({"password": PASSWORD}));
        assert_eq!((used.status, used.error()), (404, "password_reset_token_expired"));
    });
}
