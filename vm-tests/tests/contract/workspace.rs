//! The workspace, as an admin changes it.

use serde_json::{Value, json};
use vm_tests::host::{ADMIN, Pod, each, wait_for};
use vm_tests::server::{Answer, Asked, base64};

/// The least of a picture of each kind: its first bytes tell which one it is.
pub const PNG: &[u8] = b"\x89PNG\r\n\x1a\n\0\0\0\rIHDR";
const JPEG: &[u8] = b"\xff\xd8\xff\xe0\0\x10JFIF\0";
const GIF: &[u8] = b"GIF89a\x01\0\x01\0";
const WEBP: &[u8] = b"RIFF\x0c\0\0\0WEBPVP8 ";

/// Where profiles and pictures are.
pub const VCARD: &str = "urn:xmpp:vcard4";
pub const METADATA: &str = "urn:xmpp:avatar:metadata";
pub const DATA: &str = "urn:xmpp:avatar:data";

/// Asks for what is published there.
pub fn items(node: &str) -> String {
    format!("<pubsub xmlns='http://jabber.org/protocol/pubsub'><items node='{node}'/></pubsub>")
}

fn upload(pod: &Pod, token: &str, kind: &str, body: &str) -> Answer {
    let asked = Asked::new("PUT", "/api/v1/workspace/icon", body);
    pod.ask(&asked.with(&format!("Content-Type: {kind}")).bearer(token))
}

#[test]
fn the_dashboard_customises() {
    each(|pod| {
        let admin = pod.make_admin();
        let named = pod.put("/v1/workspace/name", &admin, json!("Äcme & \"Söhne\""));
        assert_eq!((named.status, named.body), (200, json!("Äcme & \"Söhne\"")));
        for (color, stored) in [
            (json!("#1972F5"), json!("#1972f5")),
            (json!("#abc"), json!("#aabbcc")),
            (json!(null), json!(null)),
            (json!("#00ff00"), json!("#00ff00")),
        ] {
            let painted = pod.put("/v1/workspace/accent-color", &admin, color);
            assert_eq!((painted.status, &painted.body), (200, &stored));
            assert_eq!(pod.get("/v1/workspace/accent-color", "").body, stored);
        }
        let wish = json!({"name": "Acme", "accent_color": null});
        let changed = pod.send("PATCH", "/v1/workspace", &admin, wish);
        let expected = json!({"name": "Acme", "icon": null, "accent_color": null});
        assert_eq!((changed.status, &changed.body), (200, &expected));
        assert_eq!(pod.get("/v1/workspace", "null").body, expected);
        assert_eq!(pod.send("PATCH", "/v1/workspace", &admin, json!({})).body, expected);
    });
}

#[test]
fn c16_an_icon_is_a_png_a_jpeg_or_a_gif() {
    each(|pod| {
        let admin = pod.make_admin();
        let unset = pod.get("/v1/workspace/icon", "");
        assert_eq!((unset.status, unset.body), (204, json!("")));
        for (picture, kind) in [(PNG, "image/png"), (JPEG, "image/jpeg"), (GIF, "image/gif")] {
            for declared in ["text/plain", "text/plain; charset=utf-8"] {
                let answer = upload(&pod, &admin, declared, &base64(picture));
                assert_eq!((answer.status, answer.body), (204, json!("")), "{kind}");
            }
            let shown = pod.get("/v1/workspace", "").body;
            assert_eq!(shown["icon"], json!({"base64": base64(picture), "type": kind}));
            let asked = Asked::get("/api/v1/workspace/icon");
            let as_json = pod.ask(&asked.clone().with("Accept: application/json"));
            assert_eq!(as_json.body, shown["icon"]);
            let raw = pod.ask(&asked.with("Accept: image/*"));
            assert_eq!((raw.status, raw.header("content-type")), (200, Some(kind)));
        }
        for (kind, body, status, error) in [
            ("text/plain", base64(WEBP), 415, "unsupported_media_type"),
            ("text/plain", base64(b"<svg/>"), 415, "unsupported_media_type"),
            ("text/plain", "not base64!".into(), 400, "bad_request"),
            ("text/plain", String::new(), 415, "unsupported_media_type"),
            ("image/png", "no picture".into(), 415, "unsupported_media_type"),
            ("video/mp4", base64(PNG), 415, "unsupported_media_type"),
        ] {
            let answer = upload(&pod, &admin, kind, &body);
            assert_eq!((answer.status, answer.error()), (status, error), "{kind} {body}");
        }
        let shown = pod.get("/v1/workspace", "").body;
        assert_eq!(shown["icon"]["type"], "image/gif", "what was right is still there");
        assert_eq!(upload(&pod, "", "text/plain", &base64(PNG)).status, 401);
    });
}

#[test]
fn chat_clients_see_the_workspace() {
    const WORKSPACE: &str = "prose-workspace@example.org";
    each(|pod| {
        let admin = pod.make_admin();
        let mut alice = pod.session(ADMIN);
        let mut shows = |node: &str, texts: &[&str]| {
            wait_for(&format!("{texts:?} in {node}"), || {
                let xml = alice.iq("get", WORKSPACE, &items(node)).unwrap_or_default();
                texts.iter().all(|text| xml.contains(text)).then_some(())
            });
        };
        shows(VCARD, &["Acme", "application", "https://admin.prose.example.org"]);
        let wish = json!({"name": "]]> & Söhne", "accent_color": "#00ff00"});
        assert_eq!(pod.send("PATCH", "/v1/workspace", &admin, wish).status, 200);
        shows(VCARD, &["]]&gt; &amp; Söhne", "#00ff00"]);
        assert_eq!(upload(&pod, &admin, "text/plain", &base64(PNG)).status, 204);
        shows(METADATA, &["image/png"]);
        shows(DATA, &[&base64(PNG)]);
        // What a Server has lost of it comes back, and it is nobody: not listed, not to be changed.
        pod.restart_server();
        pod.wait_until_healthy();
        let members = pod.get("/v1/members", &admin);
        assert_eq!(members.header("pagination-item-count"), Some("1"));
        let whom = format!("/v1/members/{WORKSPACE}");
        assert_eq!(pod.get(&whom, &admin).status, 404);
        assert_eq!(pod.delete(&whom, &admin).status, 404);
        let mut alice = pod.session(ADMIN);
        let roster = alice.roster();
        assert!(roster.contains(WORKSPACE), "{roster}");
        assert!(alice.iq("get", WORKSPACE, &items(DATA)).unwrap().contains(&base64(PNG)));
    });
}

#[test]
fn what_is_no_workspace_is_refused() {
    each(|pod| {
        let admin = pod.make_admin();
        for (path, value) in [
            ("name", json!("")),
            ("name", json!("x".repeat(49))),
            ("name", json!("a\nb")),
            ("name", json!(null)),
            ("name", json!({"name": "Acme"})),
            ("accent-color", json!("red")),
            ("accent-color", json!("#12345")),
            ("accent-color", json!(7)),
        ] {
            let answer = pod.put(&format!("/v1/workspace/{path}"), &admin, value.clone());
            assert_eq!((answer.status, answer.error()), (422, "unknown"), "{path} {value}");
        }
        let workspace: Value = pod.get("/v1/workspace", "").body;
        assert_eq!(workspace["name"], "Acme");
    });
}
