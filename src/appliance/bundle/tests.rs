use super::*;
use crate::hash::{RootHash, Salt};
use crate::verity::tree;

/// A system, small and of no use.
fn parts(uki: usize, blocks: usize) -> [Vec<u8>; 3] {
    let byte = |i: usize| (i / 251 + i) as u8;
    let root: Vec<u8> = (0..blocks * BLOCK).map(byte).collect();
    [(0..uki).map(byte).collect(), tree(&root, &Salt([7; 32])).blocks, root]
}

fn manifest_of(parts: &[Vec<u8>; 3]) -> Manifest {
    let [uki, hashes, root] = parts;
    let root_hash = tree(root, &Salt([7; 32])).root_hash;
    let data_blocks = (root.len() / BLOCK) as u64;
    Manifest {
        format: FORMAT,
        product: name("prose-pod"),
        version: version("1.1.0"),
        architecture: name("amd64"),
        follows: Some(version("1.0.0")),
        floor: None,
        data: 1,
        uki: Part { size: uki.len() as u64, sha256: Digest::of(uki) },
        root: Geometry { root_hash, salt: Salt([7; 32]), data_blocks },
        chunks: digests([uki, hashes, root]),
    }
}

fn name(text: &str) -> Name {
    Name::try_from(text.to_owned()).unwrap()
}

fn version(text: &str) -> Version {
    Version::try_from(text.to_owned()).unwrap()
}

fn small() -> Manifest {
    manifest_of(&parts(70_000, 3))
}

#[test]
fn a_manifest_is_written_in_one_way() {
    let text = String::from_utf8(small().to_bytes().unwrap()).unwrap();
    let start = "{\"format\":1,\"product\":\"prose-pod\",\"version\":\"1.1.0\",\
                 \"architecture\":\"amd64\",\"follows\":\"1.0.0\",\"floor\":null,\"data\":1,\
                 \"uki\":{\"size\":70000,\"sha256\":\"";
    assert!(text.starts_with(start), "{text}");
    assert_eq!(Manifest::parse(text.as_bytes()), Ok(small()));
    let digest = small().uki.sha256.to_string();
    for (from, to) in [
        ("{\"format\"", "{ \"format\""),
        ("\"1.1.0\"", "\"1.1.\\u0030\""),
        (digest.as_str(), &digest.to_uppercase()),
        ("\"floor\":null,", ""),
        ("\"data\":1,", "\"data\":1.0,"),
        ("\"data\":1,", "\"data\":1,\"data\":1,"),
        ("\"data\":1,", "\"data\":1,\"more\":1,"),
        ("\"data\":1,", "\"data\":-1,"),
        ("}", "}\n"),
    ] {
        let other = text.replacen(from, to, 1);
        assert_ne!(other, text, "{from}");
        assert!(Manifest::parse(other.as_bytes()).is_err(), "{from} as {to} was taken");
    }
}

#[test]
fn what_cannot_be_is_refused() {
    type Change = fn(&mut Manifest);
    let change = |change: Change| {
        let mut manifest = small();
        change(&mut manifest);
        // As somebody would write it who doesn't look.
        let bytes = serde_json::to_vec(&manifest).unwrap();
        assert_eq!(manifest.to_bytes().unwrap_err(), Manifest::parse(&bytes).unwrap_err());
        Manifest::parse(&bytes).unwrap_err().to_string()
    };
    let needed = "1 digests of chunks, where";
    let cases: [(Change, &str); 12] = [
        (|m| m.format = 2, "it is of format 2; format 1 is known here"),
        (|m| m.uki.size = 0, "a UKI of 0 bytes"),
        (|m| m.uki.size = u64::MAX, "a UKI of 18446744073709551615 bytes"),
        (|m| m.uki.size = MOST_BYTES, needed),
        (|m| m.uki.size += CHUNK as u64, "1 digests of chunks, where 2 are needed"),
        (|m| m.root.data_blocks = 0, "a root of 0 blocks"),
        (|m| m.root.data_blocks = u64::MAX, "a root of 18446744073709551615 blocks"),
        (|m| m.root.data_blocks = MOST_BYTES / BLOCK as u64, needed),
        (|m| m.chunks.clear(), "0 digests of chunks, where 1 are needed"),
        (|m| m.chunks.extend([Digest([0; 32])]), "2 digests of chunks, where 1 are needed"),
        (|m| m.follows = Some(version("1.1.1")), "version 1.1.0 has a `follows` of 1.1.1"),
        (|m| m.floor = Some(version("2")), "version 1.1.0 has a `floor` of 2, which is newer"),
    ];
    for (wrong, expected) in cases {
        let error = change(wrong);
        assert!(error.starts_with(expected), "{error}");
    }
    assert_eq!(Manifest::parse(b"{\"format\":7,\"what\":[]}"), Err(Error::Format(7)));
    assert_eq!(Manifest::parse(b""), Err(Error::Length(0)));
    let long = vec![b' '; LONGEST_MANIFEST + 1];
    assert_eq!(Manifest::parse(&long), Err(Error::Length(long.len())));
    let deep = "[".repeat(LONGEST_MANIFEST);
    assert!(matches!(Manifest::parse(deep.as_bytes()), Err(Error::Json(_))));
}

#[test]
fn a_head_is_read_as_it_was_written() {
    let mut random = fastrand::Rng::with_seed(1);
    for _ in 0..1000 {
        let mut head = Head {
            manifest_length: random.usize(1..=LONGEST_MANIFEST),
            key: KeyId(random.u64(..).to_le_bytes()),
            signature: [0; 64],
        };
        random.fill(&mut head.signature);
        let mut bytes = head.to_bytes();
        assert_eq!(Head::parse(&bytes), Ok(head.clone()));
        bytes[random.usize(..8)] ^= 1 << random.u32(..8);
        assert_eq!(Head::parse(&bytes), Err(Error::NotABundle));
    }
    let mut bytes = [0; Head::BYTES];
    bytes[..8].copy_from_slice(&MAGIC);
    assert_eq!(Head::parse(&bytes), Err(Error::Length(0)));
    bytes[8..12].copy_from_slice(&(LONGEST_MANIFEST as u32 + 1).to_le_bytes());
    assert_eq!(Head::parse(&bytes), Err(Error::Length(LONGEST_MANIFEST + 1)));
}

#[test]
fn pieces_of_chunks_are_the_parts() {
    for (uki, blocks) in [(1, 1), (CHUNK, 1), (CHUNK - 1, 300), (3 * CHUNK + 17, 700), (5, 256)] {
        let parts = parts(uki, blocks);
        let manifest = manifest_of(&parts);
        let whole = parts.concat();
        assert_eq!(manifest.payload(), whole.len() as u64);
        assert_eq!(manifest.total(1000), 84 + 1000 + whole.len() as u64);
        assert_eq!(Manifest::parse(&manifest.to_bytes().unwrap()), Ok(manifest.clone()));
        let mut again = [Kind::Uki, Kind::Tree, Kind::Root].map(|kind| (kind, Vec::<u8>::new()));
        assert_eq!(manifest.chunks().count(), whole.chunks(CHUNK).count());
        for (bytes, (digest, pieces)) in whole.chunks(CHUNK).zip(manifest.chunks()) {
            assert_eq!(Digest::of(bytes), digest);
            assert_eq!(pieces.iter().map(|piece| piece.bytes.len()).sum::<usize>(), bytes.len());
            for piece in pieces {
                let (_, part) = again.iter_mut().find(|(kind, _)| *kind == piece.kind).unwrap();
                assert_eq!(piece.offset, part.len() as u64);
                part.extend(&bytes[piece.bytes]);
            }
        }
        assert!(again.map(|(_, part)| part) == parts, "{uki} bytes and {blocks} blocks");
    }
}

/// Nothing upsets the parser, and what it takes is what would be written.
#[test]
fn any_bytes_are_a_manifest_or_an_error() {
    let mut random = fastrand::Rng::with_seed(6);
    let good = manifest_of(&parts(2 * CHUNK, 5)).to_bytes().unwrap();
    let words: [&[u8]; 9] =
        [b"null", b"18446744073709551615", b"-1", b"1e308", b"\"", b"}", b"[", b"\xff", b"0"];
    let mut taken = 0;
    for _ in 0..60_000 {
        let mut bytes = good.clone();
        for _ in 0..random.usize(1..4) {
            let at = random.usize(..bytes.len());
            match random.u8(..4) {
                0 => bytes[at] ^= 1 << random.u8(..8),
                1 => bytes.truncate(at.max(1)),
                2 => drop(bytes.drain(at..bytes.len().min(at + random.usize(..20)))),
                _ => {
                    let word = words[random.usize(..words.len())];
                    bytes.splice(at..bytes.len().min(at + random.usize(..4)), word.iter().copied());
                }
            }
            if bytes.is_empty() {
                break;
            }
        }
        if let Ok(manifest) = Manifest::parse(&bytes) {
            taken += 1;
            assert_eq!(manifest.to_bytes().as_deref(), Ok(bytes.as_slice()));
            assert_eq!(manifest.chunks().count() as u64, manifest.payload().div_ceil(1 << 20));
        }
    }
    assert!(taken > 1000, "only {taken} were taken: too little is tried");
    for length in 0..2000 {
        let noise: Vec<u8> = (0..length).map(|_| random.u8(..)).collect();
        assert!(Manifest::parse(&noise).is_err());
    }
}

#[test]
fn possible_manifests_survive_their_own_bytes() {
    let mut random = fastrand::Rng::with_seed(8);
    for _ in 0..300 {
        let mut digest = || {
            let mut bytes = [0; 32];
            random.fill(&mut bytes);
            bytes
        };
        let (sha256, root_hash, salt) = (Digest(digest()), RootHash(digest()), Salt(digest()));
        let size = random.u64(1..200 << 20);
        let root = Geometry { root_hash, salt, data_blocks: random.u64(1..100_000) };
        let count = (size + root.slot_bytes()).div_ceil(CHUNK as u64) as usize;
        let manifest = Manifest {
            uki: Part { size, sha256 },
            root,
            chunks: vec![sha256; count],
            data: random.u32(..),
            floor: random.bool().then(|| version("1.0.9")),
            follows: random.bool().then(|| version("0.1~a^b-c")),
            ..small()
        };
        let bytes = manifest.to_bytes().unwrap();
        assert_eq!(Manifest::parse(&bytes), Ok(manifest));
    }
}

#[test]
fn a_key_is_known_by_its_digest() {
    assert_eq!(KeyId::of(&[0; 32]).to_string(), "66687aadf862bd77");
    let message = message(b"{}");
    assert_eq!(message, b"stele bundle 1\n{}");
}
