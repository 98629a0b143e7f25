//! The contract, proved over a real socket against the real router: a Pod whose Server and init are
//! fakes that keep their own promises strictly.

mod checklist;
mod client;
pub mod gate;
mod invitations;
mod invited;
mod members;
mod network;
mod outside;
mod overrides;
mod pages;
mod passwords;
mod profiles;
mod recovery;
mod reload;
pub mod server;
mod settings;
mod setup;
mod sign_in;
mod wire;
mod workspace;

use std::sync::Arc;
use std::time::Duration;

use tempfile::TempDir;
use tokio::task::JoinHandle;
use tokio::time::{sleep, timeout};

use crate::config::Config;
use crate::follow::follow;
use crate::init::Init;
use crate::pod::Pod;
use crate::routes::router;
use crate::serve::{Listener, serve};
use crate::server::Server;
use crate::store::Store;
use client::{Answer, Client};
use gate::FakeInit;
use outside::FakeOutside;
use server::FakeServer;

/// A password that is long enough.
const PASSWORD: &str = "correct horse battery";

/// A Pod that is up, and all that is around it.
struct World {
    server: Arc<FakeServer>,
    init: Arc<FakeInit>,
    outside: Arc<FakeOutside>,
    client: Client,
    pod: Arc<Pod>,
    folder: TempDir,
    tasks: Vec<JoinHandle<()>>,
}

impl World {
    /// Nobody has an account yet. `listen` gives the kind of socket: unix.
    async fn start() -> World {
        let server = Arc::new(FakeServer::new("bootstrap-secret"));
        let init = FakeInit::new("bootstrap-secret", server.clone());
        let world = World::around(server, init, tempfile::tempdir().unwrap()).await;
        world.in_step().await;
        world
    }

    /// With these accounts: a name, and Prosody's word for its role.
    async fn with(accounts: &[(&str, &str)]) -> World {
        let world = World::start().await;
        for (name, role) in accounts {
            world.server.create(name, PASSWORD, role);
        }
        world.caught_up().await;
        world
    }

    async fn around(server: Arc<FakeServer>, init: Arc<FakeInit>, folder: TempDir) -> World {
        World::configured(server, init, folder, &[]).await
    }

    async fn configured(
        server: Arc<FakeServer>,
        init: Arc<FakeInit>,
        folder: TempDir,
        environment: &[(&str, &str)],
    ) -> World {
        let environment = [("PROSE_SERVER__DOMAIN", "example.org")].iter().chain(environment);
        let environment = environment.map(|(name, it)| (name.to_string(), it.to_string()));
        let config = Config::load(&[&folder.path().join("Prose.toml")], environment, None).unwrap();
        let (store, kept) = Store::open(folder.path()).unwrap();
        let (as_server, as_init): (Arc<dyn Server>, Arc<dyn Init>) = (server.clone(), init.clone());
        let outside = Arc::new(FakeOutside::default());
        let seen = FakeOutside::seen(&outside);
        let pod = Arc::new(Pod::new(config, store, kept, as_init, seen));
        let socket = folder.path().join("http.sock");
        let listener = Listener::bind(socket.to_str().unwrap()).await.unwrap();
        let of_follow = pod.clone();
        let tasks = vec![
            tokio::spawn(serve(listener, router(pod.clone()), std::future::pending())),
            tokio::spawn(async move { match follow(&of_follow, as_server).await {} }),
        ];
        World { server, init, outside, client: Client::at(&socket), pod, folder, tasks }
    }

    /// As [`World::with`], with more variables in its environment.
    async fn with_environment(accounts: &[(&str, &str)], environment: &[(&str, &str)]) -> World {
        let server = Arc::new(FakeServer::new("bootstrap-secret"));
        let init = FakeInit::new("bootstrap-secret", server.clone());
        for (name, role) in accounts {
            server.create(name, PASSWORD, role);
        }
        let folder = tempfile::tempdir().unwrap();
        let world = World::configured(server, init, folder, environment).await;
        world.in_step().await;
        world
    }

    /// pod-api dies and is started again; everything else goes on.
    async fn restart(self) -> World {
        self.restart_with(&[]).await
    }

    /// With more variables in its environment.
    async fn restart_with(self, environment: &[(&str, &str)]) -> World {
        for task in &self.tasks {
            task.abort();
        }
        for task in self.tasks {
            let _ = task.await;
        }
        drop(self.pod);
        World::configured(self.server, self.init, self.folder, environment).await
    }

    async fn in_step(&self) {
        until("it is in step", || self.pod.is_linked()).await;
    }

    /// All that has happened at the Server is known.
    async fn caught_up(&self) {
        let seq = || self.pod.look(|accounts| accounts.seq()).unwrap_or(0);
        until("it has caught up", || seq() == self.server.seq()).await;
    }

    async fn ask(&self, method: &str, path: &str) -> Answer {
        self.client.ask(method, path, &[], None).await
    }

    async fn ask_as(&self, token: &str, method: &str, path: &str) -> Answer {
        let bearer = format!("Bearer {token}");
        self.client.ask(method, path, &[("authorization", &bearer)], None).await
    }

    async fn put(&self, path: &str, body: &str) -> Answer {
        let json = [("content-type", "application/json")];
        self.client.ask("PUT", path, &json, Some(body)).await
    }

    async fn put_as(&self, token: &str, path: &str, body: &str) -> Answer {
        let bearer = format!("Bearer {token}");
        let headers = [("content-type", "application/json"), ("authorization", &bearer)];
        self.client.ask("PUT", path, &headers, Some(body)).await
    }

    async fn post_as(&self, token: &str, path: &str, body: &str) -> Answer {
        let bearer = format!("Bearer {token}");
        let headers = [("content-type", "application/json"), ("authorization", &bearer)];
        self.client.ask("POST", path, &headers, Some(body)).await
    }

    /// The answer to a login.
    async fn login(&self, name: &str, password: &str) -> Answer {
        let basic = client::basic(name, password);
        self.client.ask("POST", "/v1/login", &[("authorization", &basic)], None).await
    }

    /// The token of somebody with [`PASSWORD`].
    async fn token(&self, name: &str) -> String {
        let answer = self.login(&format!("{name}@example.org"), PASSWORD).await;
        answer.json()["token"].as_str().unwrap().to_owned()
    }
}

/// Waits until something is so.
async fn until(what: &str, mut is_so: impl FnMut() -> bool) {
    let wait = async {
        while !is_so() {
            sleep(Duration::from_millis(2)).await;
        }
    };
    timeout(Duration::from_secs(20), wait).await.unwrap_or_else(|_| panic!("never: {what}"));
}
