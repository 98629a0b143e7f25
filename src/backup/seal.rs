//! Encryption, in the format of `age` (v1), so that Debian's program of that name opens a backup,
//! too: a passphrase by scrypt, an address by X25519; then 64 KiB at a time, each authenticated, the
//! last one known as the last.

use std::io::{BufRead, Read, Write};

use age::secrecy::SecretString;
use age::stream::StreamWriter;
use age::{DecryptError, Decryptor, Encryptor, Identity, Recipient};
use appliance::backup::{Key, Kind, Lock, Trouble};
use appliance::secret::Secret;

use crate::trouble::{OrCannot as _, damaged};

/// scrypt takes 1 KiB times two to the power of this: 64 MiB, which this program's limit of memory
/// has room for, once.
const WORK: u8 = if cfg!(test) { 8 } else { 16 };
/// How each file in the format begins, of any version.
pub const MAGIC: &[u8] = b"age-encryption.org/";

/// What is written there goes to `to`, encrypted; it must be finished.
pub fn seal<W: Write>(lock: &Lock, to: W) -> Result<StreamWriter<W>, Trouble> {
    let recipient: Box<dyn Recipient> = match lock {
        Lock::Passphrase(passphrase) => {
            let mut recipient = age::scrypt::Recipient::new(hidden(passphrase));
            recipient.set_work_factor(WORK);
            Box::new(recipient)
        }
        Lock::Recipient(address) => {
            let recipient = address.parse::<age::x25519::Recipient>();
            Box::new(recipient.map_err(|why| {
                Trouble::new(Kind::Invalid, format_args!("the recipient is no `age1…`: {why}"))
            })?)
        }
    };
    let encryptor = Encryptor::with_recipients(std::iter::once(&*recipient));
    let encryptor = encryptor
        .map_err(|error| Trouble::new(Kind::Failed, format_args!("cannot encrypt: {error}")))?;
    encryptor.wrap_output(to).or_cannot("begin the backup")
}

/// What `from` holds, decrypted. What it yields is authentic; its end is only if it comes.
pub fn open<'a, R: BufRead + 'a>(key: &Key, from: R) -> Result<impl Read + use<'a, R>, Trouble> {
    let identity: Box<dyn Identity> = match key {
        Key::Passphrase(passphrase) => {
            let mut identity = age::scrypt::Identity::new(hidden(passphrase));
            identity.set_max_work_factor(WORK);
            Box::new(identity)
        }
        Key::Identity(identity) => {
            let parsed = identity.reveal().parse::<age::x25519::Identity>();
            Box::new(parsed.map_err(|_| {
                Trouble::new(Kind::WrongKey, "the identity is no `AGE-SECRET-KEY-1…`")
            })?)
        }
    };
    let decryptor = Decryptor::new_buffered(from).map_err(why)?;
    decryptor.decrypt(std::iter::once(&*identity)).map_err(why)
}

fn hidden(secret: &Secret) -> SecretString {
    SecretString::from(secret.reveal().to_owned())
}

fn why(error: DecryptError) -> Trouble {
    match error {
        DecryptError::DecryptionFailed
        | DecryptError::KeyDecryptionFailed
        | DecryptError::NoMatchingKeys => {
            Trouble::new(Kind::WrongKey, "the passphrase or the key doesn't open the backup")
        }
        DecryptError::ExcessiveWork { required, .. } => Trouble::new(
            Kind::Foreign,
            format_args!("its passphrase takes more memory than there is for it: 2^{required} KiB"),
        ),
        DecryptError::UnknownFormat => {
            Trouble::new(Kind::Foreign, "it is encrypted in a way that isn't known here")
        }
        error => damaged(error),
    }
}
