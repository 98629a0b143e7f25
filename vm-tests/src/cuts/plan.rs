//! Which of all that a cut may leave is tried.
//!
//! | between two flushes | tried of few ([`Effort::all_of`]) | of many |
//! |---|---|---|
//! | the writes up to one of them | all | all |
//! | other combinations | all | all but one, one alone, half of them: a sample of each |
//! | one is torn, after all before it | each write | a sample of the writes |
//! | which of its sectors are there | every combination | the first ones, one alone: a sample of each |
//!
//! Of a torn write those sectors count that hold something else than before: firmware writes 64 KiB of
//! which three sectors are new.

use std::collections::BTreeSet;
use std::ops::Range;

/// How much is tried.
#[derive(Debug, Clone, Copy)]
pub struct Effort {
    /// Up to so many writes between two flushes, every combination of them; likewise of the sectors
    /// of a torn write.
    pub all_of: usize,
    /// Of each way to cut more, so many.
    pub picks: usize,
    /// Of each way to tear a write, so many.
    pub tears: usize,
}

/// What may be done to the writes since a flush: which sectors of which write are there, in order.
pub(super) type Cut = Vec<(usize, Range<usize>)>;

/// What of a write matters to how it may be cut.
#[derive(Debug)]
pub(super) struct Shape {
    /// Its sectors.
    pub length: usize,
    /// Those of them that change something.
    pub news: Vec<usize>,
}

/// Which cuts of such writes are tried.
pub(super) fn plan(shapes: &[Shape], effort: Effort, random: &mut Random) -> Vec<Cut> {
    let count = shapes.len();
    let whole = |index: usize| (index, 0..shapes[index].length);
    let mut cuts: Vec<Cut> = vec![];
    if count <= effort.all_of {
        let there = |set: usize| (0..count).filter(move |index| set >> index & 1 == 1);
        cuts.extend((0..(1 << count) - 1).map(|set| there(set).map(whole).collect()));
    } else {
        cuts.extend((0..count).map(|end| (0..end).map(whole).collect()));
        let pick = |random: &mut Random| random.pick(0..count, effort.picks);
        let but = |left_out| (0..count).filter(move |index| *index != left_out);
        cuts.extend(pick(random).into_iter().map(|index| but(index).map(whole).collect()));
        cuts.extend(pick(random).into_iter().map(|index| vec![whole(index)]));
        for _ in 0..effort.picks {
            cuts.push((0..count).filter(|_| random.draw() & 1 == 1).map(whole).collect());
        }
    }
    let many = count > effort.all_of;
    for index in random.pick(0..count, if many { effort.picks } else { count }) {
        for there in tears(&shapes[index].news, effort, random) {
            let torn = there.into_iter().map(|sectors| (index, sectors));
            cuts.push((0..index).map(whole).chain(torn).collect());
        }
    }
    // Last: what comes after this has it, if a flush follows.
    cuts.push((0..count).map(whole).collect());
    cuts
}

/// Which sectors may be there of a torn write, of which these change something.
fn tears(news: &[usize], effort: Effort, random: &mut Random) -> Vec<Vec<Range<usize>>> {
    let alone = |sector: usize| sector..sector + 1;
    let count = news.len();
    if count <= effort.all_of {
        let there = |set: usize| (0..count).filter(move |bit| set >> bit & 1 == 1);
        let sets = 1..(1usize << count).saturating_sub(1);
        return sets.map(|set| there(set).map(|bit| alone(news[bit])).collect()).collect();
    }
    let ends = random.pick(1..count, effort.tears).into_iter().map(|end| 0..news[end]);
    let ones = random.pick(0..count, effort.tears).into_iter().map(|one| alone(news[one]));
    ends.chain(ones).map(|sectors| vec![sectors]).collect()
}

/// Numbers that look random, the same each time (splitmix64).
#[derive(Debug)]
pub struct Random(pub u64);

impl Random {
    /// The next one.
    pub fn draw(&mut self) -> u64 {
        self.0 = self.0.wrapping_add(0x9e37_79b9_7f4a_7c15);
        let mixed = (self.0 ^ (self.0 >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        let mixed = (mixed ^ (mixed >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
        mixed ^ (mixed >> 31)
    }

    /// All of `range` if there are no more than `count`; else its ends and some others, in order.
    fn pick(&mut self, range: Range<usize>, count: usize) -> Vec<usize> {
        if range.len() <= count {
            return range.collect();
        }
        let mut picked = BTreeSet::from([range.start, range.end - 1]);
        while picked.len() < count {
            picked.insert(range.start + (self.draw() % range.len() as u64) as usize);
        }
        picked.into_iter().take(count).collect()
    }
}
