//! What the operator decides, whoever sets the Pod up, and an admin who knows Prosody: the domain, the
//! license, the configuration that is read anew, Prosody's own options.

use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::thread;

use serde_json::{Value, json};
use vm_tests::host::{ADMIN, PASSWORD, Pod, each, each_of, each_with, jid, wait_for};
use vm_tests::server::{Answer, Asked};

const CONFIG: &str = "/v1/server/config";
const OPTIONS: &str = "/v1/server/config/prosody-overrides";
const LUA: &str = "/v1/server/config/prosody-overrides-raw";
const FILE: &str = "/v1/server/config/prosody";

#[test]
fn the_domain_is_chosen_until_there_is_a_member() {
    each_of("[debug_use_at_your_own_risk]\nc2s_unencrypted = true\n", |pod| {
        let is_settled = || {
            let asked = Asked::new("HEAD", &format!("/api{CONFIG}"), "");
            pod.ask(&asked.with("If-Match: *")).status
        };
        let choose = |domain: &str| pod.put(CONFIG, "", json!({"domain": domain}));
        assert_eq!(pod.get(CONFIG, "").body, json!({"domain": "prose.local"}));
        assert_eq!(is_settled(), 412);
        for domain in ["not a domain", "admin.prose.local", ""] {
            let refused = choose(domain);
            assert_eq!((refused.status, refused.error()), (422, "unknown"), "{domain}");
        }
        for domain in ["other.example", "example.org", "example.org"] {
            let chosen = choose(domain);
            assert_eq!(chosen.status, 201, "{chosen:?}");
            assert_eq!(chosen.header("location"), Some(CONFIG));
            // It is served already.
            assert_eq!(pod.get(CONFIG, "").body, json!({"domain": domain}));
            let host = json!({"host": domain}).to_string();
            assert_eq!(pod.server().call("accounts", host).status, 200, "{domain}");
        }
        assert_eq!(is_settled(), 204);
        pod.restart_api();
        let admin = pod.make_admin();
        let late = choose("late.example");
        assert_eq!((late.status, late.error()), (409, "server_config_already_initialized"));
        assert_eq!(pod.get("/v1/members", &admin).body[0]["jid"], jid(ADMIN));
        pod.session(ADMIN).ping();
    });
    each(|pod| {
        let late = pod.put(CONFIG, "", json!({"domain": "late.example"}));
        assert_eq!((late.status, late.error()), (409, "server_config_already_initialized"));
    });
}

#[test]
fn what_is_read_anew_holds_and_cuts_no_request() {
    each(|pod| {
        let admin = pod.make_admin();
        let bob = pod.make_member("bob");
        let mut alice = pod.session(ADMIN);
        let reload = |token: &str| pod.bare("POST", "/reload", token);
        for (token, status, error) in [("", 401, "unauthorized"), (&bob, 403, "forbidden")] {
            let refused = reload(token);
            assert_eq!((refused.status, refused.error()), (status, error));
        }
        let (is_over, count) = (AtomicBool::new(false), AtomicUsize::new(0));
        thread::scope(|scope| {
            let asked: Vec<_> = [
                Asked::get("/api/v1/members").bearer(&admin),
                Asked::get("/api/v1/members/bob@example.org").bearer(&bob),
                Asked::json("PUT", "/api/v1/members/bob@example.org/nickname", &json!("Bob"))
                    .bearer(&bob),
                Asked::new("POST", "/api/v1/login", "").by(&jid("bob"), PASSWORD),
                Asked::get("/api/health"),
            ]
            .into_iter()
            .map(|asked| {
                let (pod, is_over, count) = (&pod, &is_over, &count);
                scope.spawn(move || {
                    let mut statuses = vec![];
                    while !is_over.load(Ordering::Relaxed) {
                        statuses.push(pod.ask(&asked).status);
                        count.fetch_add(1, Ordering::Relaxed);
                    }
                    (asked.head, statuses)
                })
            })
            .collect();
            for wish in ["intermediate", "old", "modern", "intermediate"] {
                pod.operator_writes(&format!("[server.defaults]\ntls_profile = \"{wish}\"\n"));
                assert_eq!(reload(&admin).status, 202);
                let setting = format!("{CONFIG}/tls-profile");
                wait_for("its effect", || (pod.get(&setting, &admin).body == wish).then_some(()));
                let before = count.load(Ordering::Relaxed);
                wait_for("more", || (count.load(Ordering::Relaxed) > before + 20).then_some(()));
            }
            is_over.store(true, Ordering::Relaxed);
            for thread in asked {
                let (head, statuses) = thread.join().unwrap();
                let refused: Vec<u16> = statuses.into_iter().filter(|it| *it >= 300).collect();
                assert_eq!(refused, Vec::<u16>::new(), "{head}");
            }
        });
        wait_for("the Server to run by it", || {
            let file = pod.get(FILE, &admin).body;
            file.as_str()?.contains("tls_profile = \"intermediate\"").then_some(())
        });
        // One that is wrong changes nothing.
        pod.operator_writes("[server.defaults]\ntls_profile = \"none\"\n");
        assert_eq!(reload(&admin).status, 202);
        wait_for("a word", || {
            pod.api().log().contains("the last good configuration goes on").then_some(())
        });
        assert_eq!(pod.get(&format!("{CONFIG}/tls-profile"), &admin).body, "intermediate");
        alice.ping();
    });
}

#[test]
fn there_are_as_many_seats_as_the_operator_says() {
    each_with("[licensing]\nuser_limit = 2\n", |pod| {
        let admin = pod.make_admin();
        let license = json!({
            "id": "Y29tbXVuaXR5", "name": "Community", "user_limit": 2, "expiry": null,
            "ttl_ms": null,
        });
        assert_eq!(pod.get("/v1/licensing/license", &admin).body, license);
        let bob = pod.make_member("bob");
        let status = json!({"license": license, "user_count": 2, "remaining_seats": 0});
        wait_for("all seats are taken", || {
            (pod.get("/v1/licensing/status", &admin).body == status).then_some(())
        });
        for path in ["/v1/licensing/license", "/v1/licensing/status"] {
            assert_eq!(pod.get(path, "").status, 401, "{path}");
            assert_eq!(pod.get(path, &bob).status, 403, "{path}");
        }
        let upload = Asked::new("PUT", "/api/v1/licensing/license", "a license");
        let bought = pod.ask(&upload.with("Content-Type: text/plain").bearer(&admin));
        assert_eq!((bought.status, bought.error()), (400, "bad_request"));
    });
}

#[test]
fn what_is_left_to_do_is_told_to_members() {
    each(|pod| {
        let admin = pod.make_admin();
        let bob = pod.make_member("bob");
        for token in [&admin, &bob] {
            let steps = pod.get("/v1/onboarding-steps", token);
            let sent = &steps.body["at_least_one_invitation_sent"];
            assert_eq!((steps.status, sent), (200, &json!(false)), "{steps:?}");
            assert!(steps.body["all_dns_checks_passed_once"].is_boolean(), "{steps:?}");
        }
        let refused = pod.get("/v1/onboarding-steps", "");
        assert_eq!((refused.status, refused.error()), (401, "unauthorized"));
    });
}

#[test]
fn where_the_pod_and_its_dashboard_are_is_told() {
    let more = "[pod.address]\ndomain = \"chat.example.org\"\n\
                [dashboard]\nurl = \"https://admin.example.org\"\n";
    each_with(more, |pod| {
        let admin = pod.make_admin();
        let url = pod.get("/v1/dashboard/config/url", &admin);
        assert_eq!((url.status, &url.body), (200, &json!("https://admin.example.org")));
        let address = pod.get("/v1/pod/config/address", &admin);
        assert_eq!((address.status, &address.body["domain"]), (200, &json!("chat.example.org")));
        for (path, key, part) in
            [("/v1/pod/config", "address", address), ("/v1/dashboard/config", "url", url)]
        {
            let all = pod.get(path, &admin);
            assert_eq!((all.status, &all.body[key]), (200, &part.body), "{path}");
        }
    });
}

#[test]
fn options_of_prosodys_are_overridden_by_their_names() {
    each(|pod| {
        let admin = pod.make_admin();
        let mut alice = pod.session(ADMIN);
        let file = || {
            let answer = pod.get(FILE, &admin);
            assert_eq!(answer.header("content-type"), Some("text/x-lua"), "{answer:?}");
            answer.body.as_str().unwrap().to_owned()
        };
        assert_eq!(pod.get(OPTIONS, &admin).status, 204);
        for (wish, line) in [
            (json!({"limits": {"c2s": {"rate": "9kb/s"}}}), "rate = \"9kb/s\""),
            (json!({"c2s_require_encryption": false}), "c2s_require_encryption = false"),
        ] {
            let chosen = pod.put(OPTIONS, &admin, wish.clone());
            assert_eq!((chosen.status, &chosen.body), (200, &wish));
            assert_eq!(pod.get(OPTIONS, &admin).body, wish);
            assert!(file().contains(line), "{line}: {}", file());
            alice.ping();
        }
        // This one takes a restart; it is answered when that is over.
        let wish = json!({"c2s_stanza_size_limit": 131072});
        assert_eq!(pod.put(OPTIONS, &admin, wish).status, 200);
        assert_eq!(pod.get("/health", "").status, 200);
        let text = file();
        assert!(text.contains("c2s_stanza_size_limit = 131072"), "{text}");
        for (token, wish, status, error) in [
            (&*admin, json!({"plugin_paths": "/"}), 422, "unknown"),
            (&admin, json!({"c2s_stanza_size_limit": "much"}), 422, "unknown"),
            (&admin, json!([]), 422, "unknown"),
            ("", json!({}), 401, "unauthorized"),
        ] {
            let refused = pod.put(OPTIONS, token, wish.clone());
            assert_eq!((refused.status, refused.error()), (status, error), "{wish}");
        }
        assert_eq!(file(), text);
        assert_eq!(pod.delete(OPTIONS, &admin).status, 204);
        assert_eq!(pod.get(OPTIONS, &admin).status, 204);
        assert!(!file().contains("131072"));
        assert_eq!(pod.get(FILE, "").status, 401);
        pod.session(ADMIN).ping();
    });
}

fn put_lua(pod: &Pod, token: &str, lua: &str) -> Answer {
    let asked = Asked::new("PUT", &format!("/api{LUA}"), lua).bearer(token);
    pod.ask(&asked.with("Content-Type: text/x-lua"))
}

#[test]
fn lua_is_refused_unless_the_operator_allows_it() {
    const TEXT: &str = "-- mine\nc2s_stanza_size_limit = 131072\n";
    each(|pod| {
        let admin = pod.make_admin();
        let refused = put_lua(&pod, &admin, TEXT);
        assert_eq!((refused.status, refused.error()), (403, "forbidden"));
        pod.init.allow_lua();
        let taken = put_lua(&pod, &admin, TEXT);
        assert_eq!((taken.status, &taken.body), (200, &Value::from(TEXT)), "{taken:?}");
        assert_eq!(pod.get(LUA, &admin).body, TEXT);
        assert!(pod.get(FILE, &admin).body.as_str().unwrap().contains(TEXT));
        // Prosody itself says that this is none; the last goes on, and the Server too.
        let refused = put_lua(&pod, &admin, "this is no Lua");
        assert_eq!((refused.status, refused.error()), (422, "unknown"), "{refused:?}");
        assert_eq!(pod.get(LUA, &admin).body, TEXT);
        pod.session(ADMIN).ping();
        assert_eq!(pod.delete(LUA, &admin).status, 204);
        assert_eq!(pod.get(LUA, &admin).status, 204);
        assert!(!pod.get(FILE, &admin).body.as_str().unwrap().contains("mine"));
    });
}
