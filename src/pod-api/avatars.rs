//! Pictures of members that were fetched from the Server, kept for a while. Each is kept by what
//! it is, so that none is ever out of date; how long is only about room.

use std::collections::HashMap;
use std::time::{Duration, Instant};

use crate::picture::Picture;
use crate::server::profile::AvatarId;

/// The most bytes of all of them.
const ROOM: usize = 4 * 1024 * 1024;
/// The most of them, with those that couldn't be had.
const MOST: usize = 1024;

/// See above.
#[derive(Debug, Default)]
pub struct Avatars {
    kept: HashMap<AvatarId, Kept>,
    bytes: usize,
}

#[derive(Debug)]
struct Kept {
    picture: Option<Picture>,
    since: Instant,
}

impl Kept {
    fn bytes(&self) -> usize {
        self.picture.as_ref().map_or(0, |picture| picture.bytes.len())
    }
}

impl Avatars {
    /// One that was fetched no longer than `ttl` ago; `Some(None)`: it couldn't be had.
    pub fn get(&self, id: &AvatarId, ttl: Duration, now: Instant) -> Option<Option<Picture>> {
        let kept = self.kept.get(id).filter(|kept| now.duration_since(kept.since) < ttl)?;
        Some(kept.picture.clone())
    }

    /// Keeps one; those that were fetched first give way.
    pub fn keep(&mut self, id: AvatarId, picture: Option<Picture>, now: Instant) {
        self.forget(&id);
        let kept = Kept { picture, since: now };
        if kept.bytes() > ROOM {
            return;
        }
        while self.bytes + kept.bytes() > ROOM || self.kept.len() >= MOST {
            let oldest = self.kept.iter().min_by_key(|(_, kept)| kept.since);
            let Some(oldest) = oldest.map(|(id, _)| id.clone()) else { break };
            self.forget(&oldest);
        }
        self.bytes += kept.bytes();
        self.kept.insert(id, kept);
    }

    fn forget(&mut self, id: &AvatarId) {
        self.bytes -= self.kept.remove(id).map_or(0, |kept| kept.bytes());
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn id(number: usize) -> AvatarId {
        serde_json::from_value(serde_json::json!({ "id": format!("{number:040x}") })).unwrap()
    }

    fn picture(bytes: usize) -> Option<Picture> {
        let mut picture = b"GIF89a".to_vec();
        picture.resize(bytes, 0);
        Picture::new(picture)
    }

    #[test]
    fn a_picture_is_kept_for_a_while_and_only_so_many_are() {
        const TTL: Duration = Duration::from_secs(120);
        let start = Instant::now();
        let at = |seconds| start + Duration::from_secs(seconds);
        let mut avatars = Avatars::default();
        avatars.keep(id(0), picture(6), at(0));
        avatars.keep(id(1), None, at(0));
        assert_eq!(avatars.get(&id(0), TTL, at(119)), Some(picture(6)));
        assert_eq!(avatars.get(&id(1), TTL, at(119)), Some(None));
        assert_eq!(avatars.get(&id(2), TTL, at(119)), None);
        assert_eq!(avatars.get(&id(0), TTL, at(120)), None);
        // The same again replaces it.
        avatars.keep(id(0), picture(60), at(121));
        assert_eq!((avatars.get(&id(0), TTL, at(122)), avatars.bytes), (Some(picture(60)), 60));
        for number in 2..7 {
            avatars.keep(id(number), picture(ROOM / 4), at(200 + number as u64));
        }
        let left = |avatars: &Avatars| {
            (0..7).filter(|it| avatars.kept.contains_key(&id(*it))).collect::<Vec<_>>()
        };
        assert_eq!((left(&avatars), avatars.bytes), (vec![3, 4, 5, 6], ROOM));
        avatars.keep(id(7), picture(ROOM + 1), at(300));
        assert_eq!(left(&avatars), [3, 4, 5, 6]);
        for number in 0..2 * MOST {
            avatars.keep(id(number), None, at(400 + number as u64));
        }
        assert_eq!((avatars.kept.len(), avatars.bytes), (MOST, 0));
    }
}
