//! Throwaway keys and documents signed with them, for tests, and for nothing else: a key follows
//! from its name, so everybody can make it. Panics where a test should fail.

use std::time::{Duration, SystemTime, UNIX_EPOCH};

use pgp::composed::{
    ArmorOptions, CleartextSignedMessage, KeyType, SignedKeyDetails, SignedPublicKey,
    SignedPublicSubKey,
};
use pgp::packet::{
    KeyFlags, PacketTrait as _, PubKeyInner, PublicKey, PublicSubkey, SecretKey, SecretSubkey,
    Signature, SignatureConfig, SignatureType, Subpacket, SubpacketData, UserId,
};
use pgp::types::{KeyVersion, Password, SigningKey, Timestamp};
use rand::SeedableRng as _;
use rand::rngs::StdRng;

pub use pgp::crypto::hash::HashAlgorithm;

use crate::Fingerprint;

/// A secret key with its certificate.
#[derive(Debug, Clone)]
pub struct Key {
    pub(crate) primary: SecretKey,
    pub(crate) subkey: Option<SecretSubkey>,
    pub(crate) certificate: SignedPublicKey,
}

impl Key {
    /// Its primary key's, as in [`Verified::signers`](crate::Verified::signers).
    pub fn fingerprint(&self) -> Fingerprint {
        Fingerprint::of(&self.primary)
    }
}

/// What kind of key to make.
#[derive(Debug, Clone)]
pub struct KeyOptions {
    /// When the key and its certificate are made: 2023-11-14, unless you say otherwise.
    pub created: SystemTime,
    /// For how long it is valid; `None` is forever.
    pub lifetime: Option<Duration>,
    /// Whether its certificate says that it is revoked.
    pub revoked: bool,
    /// Which key signs texts.
    pub signer: Signer,
}

/// Which key of a certificate signs texts.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Signer {
    /// The one that the certificate is named by.
    Primary,
    /// A subkey, as archives have it.
    Subkey,
}

/// How to sign.
#[derive(Debug, Clone)]
pub struct SignOptions {
    /// When: a day after a key is made, unless you say otherwise.
    pub created: SystemTime,
    /// For how long the signature is valid; `None` is forever.
    pub lifetime: Option<Duration>,
    /// With which hash. (Ed25519 keys don't sign weak ones.)
    pub hash: HashAlgorithm,
}

/// 2023-11-14: before every clock that a test may use.
const KEYS_CREATED: Duration = Duration::from_secs(1_700_000_000);
const DAY: Duration = Duration::from_secs(24 * 60 * 60);

impl Default for KeyOptions {
    fn default() -> KeyOptions {
        let created = UNIX_EPOCH + KEYS_CREATED;
        KeyOptions { created, lifetime: None, revoked: false, signer: Signer::Subkey }
    }
}

impl Default for SignOptions {
    fn default() -> SignOptions {
        let created = UNIX_EPOCH + KEYS_CREATED + DAY;
        SignOptions { created, lifetime: None, hash: HashAlgorithm::Sha512 }
    }
}

/// An Ed25519 key that never expires. The same name gives the same key.
pub fn new_key(name: &str) -> Key {
    new_key_with(name, &KeyOptions::default())
}

/// A key of another kind.
pub fn new_key_with(name: &str, options: &KeyOptions) -> Key {
    new_key_of(KeyType::Ed25519Legacy, name, options)
}

/// The certificate, to be read by [`Keyring::parse`](crate::Keyring::parse).
pub fn armored_certificate(key: &Key) -> String {
    key.certificate.to_armored_string(ArmorOptions::default()).expect("a certificate is armored")
}

/// `text` with a signature. Blanks at the ends of lines, which are not signed, are left out.
pub fn sign_cleartext(text: &str, key: &Key) -> String {
    sign_cleartext_with(text, &[key], &SignOptions::default())
}

/// `text` with a signature by each of `keys`.
pub fn sign_cleartext_with(text: &str, keys: &[&Key], options: &SignOptions) -> String {
    let text = text.strip_suffix('\n').unwrap_or(text);
    let lines: Vec<&str> =
        text.split('\n').map(|line| line.trim_end_matches([' ', '\t'])).collect();
    let signed = CleartextSignedMessage::new_many(&lines.join("\n"), |text| {
        Ok(keys.iter().map(|key| sign(text, key, SignatureType::Text, options)).collect())
    });
    let document = signed.and_then(|signed| signed.to_armored_string(ArmorOptions::default()));
    document.expect("a text is signed")
}

/// One signature over a text whose line endings are CR LF.
pub(crate) fn sign(text: &str, key: &Key, typ: SignatureType, options: &SignOptions) -> Signature {
    fn with(
        maker: &impl SigningKey,
        text: &str,
        typ: SignatureType,
        options: &SignOptions,
    ) -> Signature {
        let expiry = lifetime(options.lifetime).map(SubpacketData::SignatureExpirationTime);
        let config = config(typ, maker, options.created, options.hash, expiry);
        config.sign(maker, &Password::empty(), text.as_bytes()).expect("a text is signed")
    }
    match &key.subkey {
        None => with(&key.primary, text, typ, options),
        Some(subkey) => with(subkey, text, typ, options),
    }
}

pub(crate) fn new_key_of(kind: KeyType, name: &str, options: &KeyOptions) -> Key {
    // FNV-1a: any hash would do, as long as it stays.
    let seed = name.bytes().fold(0xcbf2_9ce4_8422_2325_u64, |hash, byte| {
        (hash ^ u64::from(byte)).wrapping_mul(0x0100_0000_01b3)
    });
    let mut rng = StdRng::seed_from_u64(seed);
    let mut new_pair = || {
        let (public, secret) = kind.generate(&mut rng).expect("a key is made");
        let created = timestamp(options.created);
        let inner = PubKeyInner::new(KeyVersion::V4, kind.to_alg(), created, None, public);
        (inner.expect("a key is made"), secret)
    };
    let (public, secret) = new_pair();
    let public = PublicKey::from_inner(public).expect("a key is made");
    let primary = SecretKey::new(public.clone(), secret).expect("a key is made");
    let subkey = (options.signer == Signer::Subkey).then(|| {
        let (public, secret) = new_pair();
        let public = PublicSubkey::from_inner(public).expect("a key is made");
        SecretSubkey::new(public, secret).expect("a key is made")
    });

    let user = UserId::from_str(Default::default(), name).expect("a name is a user id");
    let user = certify_user(&primary, user, options, HashAlgorithm::Sha512);
    let revocations = options.revoked.then(|| revoke(&primary, options)).into_iter().collect();
    let subkeys = subkey.iter().map(|subkey| {
        SignedPublicSubKey::new(subkey.public_key().clone(), vec![bind(&primary, subkey, options)])
    });
    let details = SignedKeyDetails::new(revocations, vec![], vec![user], vec![]);
    let certificate = SignedPublicKey::new(public, details, subkeys.collect());
    Key { primary, subkey, certificate }
}

/// A user id with the self-signature that says until when the key is valid.
pub(crate) fn certify_user(
    primary: &SecretKey,
    user: UserId,
    options: &KeyOptions,
    hash: HashAlgorithm,
) -> pgp::types::SignedUser {
    let (public, password) = (primary.public_key(), Password::empty());
    let says = says(options, options.signer == Signer::Primary);
    let config = config(SignatureType::CertPositive, primary, options.created, hash, says);
    let signature = config.sign_certification(primary, public, &password, user.tag(), &user);
    user.into_signed(signature.expect("a user id is certified"))
}

/// The binding of a subkey that signs, with its signature back.
pub(crate) fn bind(primary: &SecretKey, subkey: &SecretSubkey, options: &KeyOptions) -> Signature {
    let back = config(SignatureType::KeyBinding, subkey, options.created, HASH, None)
        .sign_primary_key_binding(
            subkey,
            subkey.public_key(),
            &Password::empty(),
            primary.public_key(),
        )
        .expect("a key signs back");
    let back = SubpacketData::EmbeddedSignature(Box::new(back));
    bind_as(SignatureType::SubkeyBinding, primary, subkey, options, Some(back))
}

/// A binding or a revocation of a subkey, with one more subpacket if wanted.
pub(crate) fn bind_as(
    typ: SignatureType,
    primary: &SecretKey,
    subkey: &SecretSubkey,
    options: &KeyOptions,
    more: Option<SubpacketData>,
) -> Signature {
    let says = says(options, true).chain(more);
    config(typ, primary, options.created, HASH, says)
        .sign_subkey_binding(primary, primary.public_key(), &Password::empty(), subkey.public_key())
        .expect("a subkey is bound")
}

fn revoke(primary: &SecretKey, options: &KeyOptions) -> Signature {
    config(SignatureType::KeyRevocation, primary, options.created, HASH, None)
        .sign_key(primary, &Password::empty(), primary.public_key())
        .expect("a key is revoked")
}

const HASH: HashAlgorithm = HashAlgorithm::Sha512;

/// What a certificate says of a key.
fn says(options: &KeyOptions, signs: bool) -> impl Iterator<Item = SubpacketData> {
    let mut flags = KeyFlags::default();
    flags.set_certify(!signs);
    flags.set_sign(signs);
    let expiry = lifetime(options.lifetime).map(SubpacketData::KeyExpirationTime);
    std::iter::once(SubpacketData::KeyFlags(flags)).chain(expiry)
}

/// A signature before it is made.
pub(crate) fn config(
    typ: SignatureType,
    maker: &impl SigningKey,
    created: SystemTime,
    hash: HashAlgorithm,
    more: impl IntoIterator<Item = SubpacketData>,
) -> SignatureConfig {
    let mut config = SignatureConfig::v4(typ, maker.algorithm(), hash);
    let always = [
        SubpacketData::SignatureCreationTime(timestamp(created)),
        SubpacketData::IssuerFingerprint(maker.fingerprint()),
    ];
    let subpackets = always.into_iter().chain(more).map(Subpacket::regular);
    config.hashed_subpackets = subpackets.collect::<Result<_, _>>().expect("a subpacket is short");
    // Not needed here, but GnuPG finds no key without it.
    let id = Subpacket::regular(SubpacketData::IssuerKeyId(maker.legacy_key_id()));
    config.unhashed_subpackets = vec![id.expect("a subpacket is short")];
    config
}

fn timestamp(time: SystemTime) -> Timestamp {
    time.try_into().expect("OpenPGP can say dates from 1970 to 2106")
}

fn lifetime(lifetime: Option<Duration>) -> Option<pgp::types::Duration> {
    lifetime.map(|lifetime| lifetime.try_into().expect("OpenPGP can say 136 years"))
}
