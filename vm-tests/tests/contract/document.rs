//! The API does what its own description says: judged by schemathesis, which makes requests of all
//! kinds from the description, right ones and wrong ones, and looks at each answer. None may be a 5xx,
//! or one that the description doesn't have.

use std::fs;

use vm_tests::client::python;
use vm_tests::host::{ADMIN, MailServer, PASSWORD, Pod, jid, wait_for};
use vm_tests::is_long;
use vm_tests::scratch::bounded;
use vm_tests::server::VERSIONS;

/// How long requests are made, in seconds; and, for a night.
const LASTS: u32 = 90;
const LASTS_LONG: u32 = 1800;
/// How much longer it may take to end.
const ENDS_WITHIN: u32 = 90;
/// The same requests each time, but in the long lane.
const SEED: u32 = 1;

/// What the operator wrote: nothing is waited for longer than that takes.
const CONFIGURATION: &str = "\
[api.network_checks]
timeout = \"PT2S\"
retry_interval = \"PT1S\"
";

/// What holds for one operation alone.
const APART: [(&str, &str); 3] = [
    // Left out: all others would be answered 503 meanwhile, and about another Pod from then on.
    ("DELETE /", "enabled = false"),
    ("PUT /v1/backups/{id}/restore", "enabled = false"),
    // It never does anything, and says so.
    (
        "PUT /v1/server/config/file-storage-encryption-scheme",
        "checks.not_a_server_error.expected-statuses = [\"4xx\", 501]\n\
         checks.positive_data_acceptance.expected-statuses = [\"4xx\", 501]",
    ),
];

fn configuration(token: &str) -> String {
    let mut text = format!(
        "[auth.openapi.password]\nusername = {:?}\npassword = {PASSWORD:?}\n\
         [auth.openapi.admin]\nbearer = {token:?}\n[auth.openapi.member]\nbearer = {token:?}\n",
        jid(ADMIN)
    );
    // A schema can't say all that a name, an address or a picture must be: then the refusal must be
    // one that the description has. And what is asked of an invitation that isn't there needn't be
    // right.
    text += "[checks.positive_data_acceptance]\nexpected-statuses = [\"2xx\", \"3xx\", \"4xx\"]\n\
             [checks.negative_data_rejection]\nexpected-statuses = [\"4xx\"]\n";
    for (operation, holds) in APART {
        text += &format!("[[operations]]\ninclude-name = {operation:?}\n{holds}\n");
    }
    text
}

#[test]
fn the_description_holds() {
    let mail = MailServer::start();
    let pod = Pod::start(VERSIONS[1], &format!("{CONFIGURATION}{}", mail.configuration()));
    let admin = pod.make_admin();
    pod.make_member("bob");
    let folder = tempfile::tempdir().unwrap();
    let file = folder.path().join("schemathesis.toml");
    fs::write(&file, configuration(&admin)).unwrap();
    let lasts = if is_long() { LASTS_LONG } else { LASTS };
    let mut command = bounded(python(), lasts + ENDS_WITHIN);
    command.args(["-c", "from schemathesis.cli import schemathesis; schemathesis()"]);
    command.arg("--config-file").arg(&file);
    command.args(["run", "--phases", "examples,coverage,fuzzing", "--no-color"]);
    command.args(["--max-time", &lasts.to_string(), "--request-timeout", "30"]);
    command.args(["--checks", "all", "--continue-on-failure"]);
    if !is_long() {
        command.args(["--seed", &SEED.to_string(), "--max-examples", "20"]);
    }
    command.arg(format!("http://{}/api/openapi.json", pod.address()));
    let output = command.current_dir(folder.path()).output().unwrap();
    let said = String::from_utf8_lossy(&output.stdout);
    let log = pod.api().log();
    assert!(!log.contains("panicked"), "{log}");
    let errors = String::from_utf8_lossy(&output.stderr);
    assert!(output.status.success(), "{said}\n{errors}");
    // It is none the worse for it.
    wait_for("health", || (pod.get("/health", "").status == 200).then_some(()));
    assert_eq!(pod.get("/v1/members", &admin).status, 200);
}
