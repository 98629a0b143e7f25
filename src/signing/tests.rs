use std::fs::{self, Permissions};
use std::os::unix::fs::PermissionsExt as _;

use super::*;

/// RFC 8032, 7.1, test 1.
const SEED: &str = "9d61b19deffd5a60ba844af492ec2cc44449c5697b326919703bac031cae7f60";
const PUBLIC: &str = "d75a980182b10ab7d54bfed3c964073a0ee172f3daa62325af021a68f707511a";

fn key(seed: u8) -> SecretKey {
    SecretKey::of_seed(&Zeroizing::new([seed; 32]))
}

#[test]
fn keys_are_those_of_the_standard() {
    let key = SecretKey::of_seed(&file::from_hex(SEED).unwrap());
    assert_eq!(key.public().to_string(), PUBLIC);
    let signature = key.0.sign(b"").to_bytes();
    assert_eq!(signature[..4], [0xe5, 0x56, 0x43, 0x00]);
    assert!(key.public().verifies(b"", &signature));
    assert!(!format!("{key:?}").contains(&SEED[..8]));
}

#[test]
fn only_what_was_signed_by_a_known_key_is_believed() {
    let (ours, theirs) = (key(1), key(2));
    let keys = [key(3).public(), ours.public()];
    let manifest = b"{\"format\":1}";
    let head = ours.sign(manifest);
    assert_eq!(head, ours.sign(manifest));
    assert_eq!(verify(&keys, &head, manifest), Ok(()));
    let id = ours.public().id();
    assert_eq!(verify(&keys, &head, b"{\"format\":2}"), Err(Untrusted::Signature(id)));
    let other = theirs.sign(manifest);
    let id_of_other = theirs.public().id();
    assert_eq!(verify(&keys, &other, manifest), Err(Untrusted::UnknownKey(id_of_other)));
    assert_eq!(verify(&[], &head, manifest), Err(Untrusted::UnknownKey(id)));
    // Somebody else's signature under our name.
    let false_name = Head { key: id, ..other };
    assert_eq!(verify(&keys, &false_name, manifest), Err(Untrusted::Signature(id)));
    for bit in 0..512 {
        let mut head = head.clone();
        head.signature[bit / 8] ^= 1 << (bit % 8);
        assert_eq!(verify(&keys, &head, manifest), Err(Untrusted::Signature(id)), "bit {bit}");
    }
}

#[test]
fn a_key_that_proves_nothing_is_none() {
    let identity = format!("01{}", "0".repeat(62));
    assert!(matches!(identity.parse::<PublicKey>(), Err(Error::Weak)));
    for text in ["", "0", PUBLIC.get(1..).unwrap(), &format!("+{}", &PUBLIC[1..]), &"é".repeat(32)]
    {
        assert!(matches!(text.parse::<PublicKey>(), Err(Error::NoPublicKey)), "{text}");
    }
}

#[test]
fn keys_survive_their_files() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("a");
    let write = |text: &str, mode| {
        fs::write(&path, text).unwrap();
        fs::set_permissions(&path, Permissions::from_mode(mode)).unwrap();
    };
    let (secret, public) = (key(1).to_file(), key(1).public().to_file());
    write(&public, 0o644);
    assert_eq!(read_public(&path).unwrap(), key(1).public());
    assert!(matches!(read_secret(&path), Err(Error::Public)));
    for mode in [0o600, 0o400] {
        write(&secret, mode);
        assert_eq!(read_secret(&path).unwrap().public(), key(1).public());
        assert!(matches!(read_public(&path), Err(Error::Secret)));
    }
    for mode in [0o640, 0o604, 0o644, 0o660, 0o601] {
        write(&secret, mode);
        assert!(matches!(read_secret(&path), Err(Error::Exposed(found)) if found == mode));
    }
    assert!(matches!(read_public(folder.path()), Err(Error::Io(_))));
    assert!(matches!(read_secret(&folder.path().join("none")), Err(Error::Io(_))));
}

#[test]
fn what_is_no_key_is_refused() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("a");
    let public = key(1).public().to_file();
    let mut random = fastrand::Rng::with_seed(6);
    let noise: Vec<u8> = (0..5000).map(|_| random.u8(..)).collect();
    for text in [
        b"".to_vec(),
        b"# Only words\n".to_vec(),
        b"stele-public-ed25519".to_vec(),
        b"stele-public-ed25519 00\n".to_vec(),
        format!("{public}{public}").into_bytes(),
        public.replace("ed25519 ", "ed448 ").into_bytes(),
        format!("{public}{}", "#".repeat(4096)).into_bytes(),
        noise[..300].to_vec(),
        noise,
    ] {
        fs::write(&path, &text).unwrap();
        fs::set_permissions(&path, Permissions::from_mode(0o600)).unwrap();
        assert!(matches!(read_public(&path), Err(Error::NoPublicKey)), "{text:?}");
        let secret = String::from_utf8_lossy(&text).replace("public", "secret");
        fs::write(&path, secret).unwrap();
        assert!(matches!(read_secret(&path), Err(Error::NoSecretKey)), "{text:?}");
    }
}
