//! What accounts show of themselves, and how that is asked for and changed.

use appliance::secret::Secret;
use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use serde::Deserialize;
use serde_json::json;

use super::{Connection, Error};
use crate::jid::Localpart;

/// The most accounts that [`Connection::profiles`] may be asked about at once.
pub const MOST: usize = 64;
/// Prosody's role of accounts that are nobody's.
const SERVICE: &str = "prosody:registered";

/// What an account shows, as far as we look at it.
#[derive(Debug, Clone, Default, PartialEq, Eq, Deserialize)]
pub struct Profile {
    /// What somebody calls themself.
    pub nickname: Option<String>,
    /// Their picture.
    pub avatar: Option<AvatarId>,
}

/// Which picture it is: another one has another.
#[derive(Debug, Clone, PartialEq, Eq, Hash, Deserialize)]
#[serde(from = "Metadata")]
pub struct AvatarId(String);

#[derive(Deserialize)]
struct Metadata {
    id: String,
}

impl From<Metadata> for AvatarId {
    fn from(Metadata { id }: Metadata) -> AvatarId {
        AvatarId(id)
    }
}

/// The answer to `profiles`.
#[derive(Debug, Deserialize)]
pub struct Profiles {
    /// The number of the last change that is in it.
    pub seq: u64,
    /// Those of accounts that there are.
    pub profiles: Vec<Named>,
}

/// Whose profile it is.
#[derive(Debug, Deserialize)]
pub struct Named {
    /// A name.
    pub localpart: String,
    /// It.
    #[serde(flatten)]
    pub profile: Profile,
}

/// What a service's account shows; what is empty isn't shown.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Card {
    /// What it is called.
    pub name: String,
    /// What it is: one of the words of RFC 6350.
    pub kind: &'static str,
    /// `#rrggbb`
    pub accent_color: String,
    /// Where it is administered.
    pub dashboard_url: String,
    /// Where programs administer it.
    pub api_url: String,
}

impl Connection {
    /// What some accounts show: [`MOST`] of them at most.
    pub async fn profiles(&self, host: &str, locals: &[Localpart]) -> Result<Profiles, Error> {
        let locals: Vec<&str> = locals.iter().map(Localpart::as_str).collect();
        self.ask("profiles", json!({ "host": host, "localparts": locals })).await
    }

    /// Gives an account another nickname.
    pub async fn set_nickname(
        &self,
        host: &str,
        localpart: &Localpart,
        nickname: &str,
    ) -> Result<(), Error> {
        let with = json!({ "host": host, "localpart": localpart.as_str(), "nickname": nickname });
        self.tell("set_profile", with).await
    }

    /// Has an account show this; what it shows besides stays.
    pub async fn set_card(
        &self,
        host: &str,
        localpart: &Localpart,
        card: &Card,
    ) -> Result<(), Error> {
        let Card { name, kind, accent_color, dashboard_url, api_url } = card;
        let with = json!({
            "host": host, "localpart": localpart.as_str(), "name": name, "kind": kind,
            "accent_color": accent_color, "dashboard_url": dashboard_url, "api_url": api_url,
        });
        self.tell("set_profile", with).await
    }

    /// The bytes of an account's picture, if it has one.
    pub async fn avatar(
        &self,
        host: &str,
        localpart: &Localpart,
    ) -> Result<Option<Vec<u8>>, Error> {
        #[derive(Deserialize)]
        struct Avatar {
            picture: String,
        }
        let with = json!({ "host": host, "localpart": localpart.as_str() });
        let Avatar { picture } = match self.ask("avatar", with).await {
            Ok(avatar) => avatar,
            Err(Error::Refused { status: 404, .. }) => return Ok(None),
            Err(error) => return Err(error),
        };
        let bytes = STANDARD.decode(picture);
        bytes.map(Some).map_err(|error| Error::Odd(format!("avatar: {error}")))
    }

    /// Gives an account another picture; returns which one that is.
    pub async fn set_avatar(
        &self,
        host: &str,
        localpart: &Localpart,
        bytes: &[u8],
    ) -> Result<AvatarId, Error> {
        let with = json!({
            "host": host, "localpart": localpart.as_str(), "picture": STANDARD.encode(bytes),
        });
        self.ask("set_avatar", with).await
    }

    /// Makes an account that is nobody's; a refusal with 409 says that there is one of this name.
    pub async fn create_service(
        &self,
        host: &str,
        localpart: &Localpart,
        password: &Secret,
    ) -> Result<(), Error> {
        let with = json!({
            "host": host, "localpart": localpart.as_str(),
            "password": password.reveal(), "role": SERVICE,
        });
        self.tell("create_account", with).await
    }
}
