//! A real client, made by others, talks with the Server.

use std::path::PathBuf;

use vm_tests::BOOT;
use vm_tests::client::{JID, Login, PASSWORD, shown_certificate};
use vm_tests::images::Image;
use vm_tests::machine::Machine;

#[test]
fn a_real_client_logs_in_over_starttls_and_gets_its_own_message_back() {
    let vm = Machine::direct(&Image::with_layers(&["test-account", "test-certificate"])).start();
    let certificate = shown_certificate(&vm, BOOT);
    vm.wait_for("stele-init: service account: done", BOOT);
    vm.stream_reply("prose.local", BOOT);
    let login = Login { jid: JID, password: PASSWORD, certificate, body: None, peer: None };

    let session = login.run(vm.xmpp());
    assert!(session.message_returned, "{session:?}");
    assert_eq!(session.tls_version.as_deref(), Some("TLSv1.3"), "{session:?}");
    let mechanism = session.sasl_mechanism.clone().unwrap_or_default();
    assert!(mechanism.starts_with("SCRAM-"), "{session:?}");

    // The controls: the password counts, and so does the certificate.
    let session = Login { password: "a guess", ..login.clone() }.run(vm.xmpp());
    assert_eq!(session.failed.as_deref(), Some("login: not-authorized"), "{session:?}");
    let certificate = PathBuf::from("/etc/ssl/certs/ca-certificates.crt");
    let session = Login { certificate, ..login }.run(vm.xmpp());
    let failed = session.failed.clone().unwrap_or_default();
    assert!(failed.contains("CERTIFICATE_VERIFY_FAILED"), "{session:?}");
}
