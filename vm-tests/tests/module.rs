//! The verbs of `mod_stele`, asked of real Prosodys of both versions.

use vm_tests::server::{Server, VERSIONS};

#[test]
fn it_answers() {
    for version in VERSIONS {
        let server = Server::start(version);
        println!("{:?}", server.call("version", "{}"));
        println!("{:?}", server.apply(&Server::plain_settings("example.org")));
        println!("{:?}", server.call("modules", "{}"));
        println!("{:?}", server.check_configuration());
        println!("{}", server.log());
    }
}
