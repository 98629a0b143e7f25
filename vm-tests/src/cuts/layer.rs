//! Sectors that differ from a disk as it was, by number: kept in parts, each with the sum of its
//! weights, so that a copy of many sectors costs little and a digest of them isn't summed up anew.

use std::collections::BTreeMap;
use std::ops::Range;
use std::rc::Rc;

/// Sectors in a part: half a MiB.
const PART: u64 = 1024;

/// A sector that was written.
#[derive(Debug, Clone, Copy)]
pub(super) struct Piece<'a> {
    pub bytes: &'a [u8],
    /// What it adds to a state's digest: nothing, if the disk held the same before.
    pub weight: u128,
}

/// Sectors; a copy shares its parts until one of them is changed.
#[derive(Debug, Clone, Default)]
pub(super) struct Layer<'a>(BTreeMap<u64, Rc<Part<'a>>>);

#[derive(Debug, Clone, Default)]
struct Part<'a> {
    sum: u128,
    pieces: BTreeMap<u64, Piece<'a>>,
}

impl<'a> Layer<'a> {
    pub fn get(&self, sector: u64) -> Option<&Piece<'a>> {
        self.0.get(&(sector / PART))?.pieces.get(&sector)
    }

    pub fn insert(&mut self, sector: u64, piece: Piece<'a>) {
        let part = Rc::make_mut(self.0.entry(sector / PART).or_default());
        let old = part.pieces.insert(sector, piece).map_or(0, |old| old.weight);
        part.sum = part.sum.wrapping_sub(old).wrapping_add(piece.weight);
    }

    pub fn remove(&mut self, sector: u64) {
        let Some(part) = self.0.get_mut(&(sector / PART)) else { return };
        if part.pieces.contains_key(&sector) {
            let part = Rc::make_mut(part);
            let old = part.pieces.remove(&sector).map_or(0, |old| old.weight);
            part.sum = part.sum.wrapping_sub(old);
        }
    }

    /// Those of a range, in their order.
    pub fn range(&self, sectors: Range<u64>) -> impl Iterator<Item = (u64, &Piece<'a>)> {
        let parts = self.0.range(sectors.start / PART..sectors.end.div_ceil(PART));
        let pieces = parts.flat_map(move |(_, part)| part.pieces.range(sectors.clone()));
        pieces.map(|(sector, piece)| (*sector, piece))
    }

    /// The weights of a range.
    pub fn sum(&self, sectors: Range<u64>) -> u128 {
        let parts = self.0.range(sectors.start / PART..sectors.end.div_ceil(PART));
        parts.fold(0, |sum, (number, part)| {
            let whole = number * PART..(number + 1) * PART;
            let more = match sectors.start <= whole.start && whole.end <= sectors.end {
                true => part.sum,
                false => weights(part.pieces.range(sectors.clone()).map(|(_, piece)| piece)),
            };
            sum.wrapping_add(more)
        })
    }
}

fn weights<'a>(pieces: impl Iterator<Item = &'a Piece<'a>>) -> u128 {
    pieces.fold(0, |sum, piece| sum.wrapping_add(piece.weight))
}

#[cfg(test)]
mod tests {
    use super::*;

    /// A sector weighs its own number, unless told otherwise.
    fn layer(sectors: impl IntoIterator<Item = u64>) -> Layer<'static> {
        let mut layer = Layer::default();
        for sector in sectors {
            layer.insert(sector, Piece { bytes: &[], weight: u128::from(sector) });
        }
        layer
    }

    #[test]
    fn a_sum_is_that_of_the_sectors_in_the_range() {
        let layer = layer((0..5 * PART).step_by(3));
        let edges = [0, 1, 3, PART - 1, PART, PART + 1, 2 * PART, 3 * PART + 7, 5 * PART, u64::MAX];
        for start in edges {
            for end in edges.into_iter().filter(|end| *end >= start) {
                let found: Vec<u64> = layer.range(start..end).map(|(sector, _)| sector).collect();
                let wanted: Vec<u64> =
                    (0..5 * PART).step_by(3).filter(|s| (start..end).contains(s)).collect();
                assert_eq!(found, wanted, "{start}..{end}");
                let sum = wanted.iter().sum::<u64>();
                assert_eq!(layer.sum(start..end), u128::from(sum), "{start}..{end}");
            }
        }
    }

    #[test]
    fn a_copy_stays_as_it_was() {
        let mut layer = layer([7, 8, PART]);
        let copy = layer.clone();
        layer.insert(7, Piece { bytes: &[], weight: 100 });
        layer.remove(PART);
        layer.remove(PART + 1);
        assert_eq!((layer.sum(0..u64::MAX), layer.range(0..u64::MAX).count()), (108, 2));
        assert_eq!(copy.sum(0..u64::MAX), 15 + u128::from(PART));
        assert_eq!(layer.get(7).map(|piece| piece.weight), Some(100));
        assert!(layer.get(PART).is_none() && copy.get(PART).is_some());
    }
}
