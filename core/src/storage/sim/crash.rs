//! What a power cut, or a failed sync, leaves: dice, and the rules they are thrown by.

use std::collections::BTreeMap;

use super::inode::{Inode, SECTOR};
use super::state::{Directory, State};

/// A sequence of numbers that its seed determines: SplitMix64.
#[derive(Clone, Debug)]
pub(super) struct Random(u64);

impl Random {
    pub(super) fn new(seed: u64) -> Random {
        Random(seed)
    }

    pub(super) fn next(&mut self) -> u64 {
        self.0 = self.0.wrapping_add(0x9E37_79B9_7F4A_7C15);
        let mut mixed = self.0;
        mixed = (mixed ^ (mixed >> 30)).wrapping_mul(0xBF58_476D_1CE4_E5B9);
        mixed = (mixed ^ (mixed >> 27)).wrapping_mul(0x94D0_49BB_1331_11EB);
        mixed ^ (mixed >> 31)
    }

    /// A number below `bound`, which is not zero. The slight preference of the remainder for small numbers is harmless.
    pub(super) fn below(&mut self, bound: usize) -> usize {
        (self.next() % bound as u64) as usize
    }

    /// True in `in_256` cases of 256.
    pub(super) fn chance(&mut self, in_256: usize) -> bool {
        self.below(256) < in_256
    }

    /// How much of a write of `total` bytes at `offset` was done when it failed: half of the time up to the edge of a
    /// sector, otherwise up to any byte.
    pub(super) fn prefix(&mut self, offset: u64, total: usize) -> usize {
        let any = self.below(total + 1);
        if self.chance(128) { any.saturating_sub((offset as usize).wrapping_add(any) % SECTOR) } else { any }
    }
}

/// How lucky one power cut is. Dice that are fair at each sector would leave an even mixture every time; the bugs are
/// found where nearly everything survives, or nearly nothing, so the odds are drawn first.
#[derive(Clone, Copy)]
struct Odds {
    /// In how many cases of 256 the newest version survives.
    newest: usize,
    /// In how many of the other cases the durable version does; in the rest, any.
    durable: usize,
}

impl Odds {
    fn draw(random: &mut Random) -> Odds {
        const NEWEST: [usize; 7] = [0, 4, 64, 128, 192, 252, 256];
        const DURABLE: [usize; 3] = [16, 128, 240];
        Odds { newest: NEWEST[random.below(NEWEST.len())], durable: DURABLE[random.below(DURABLE.len())] }
    }

    /// Which of `count` unsynced versions survives, from the oldest to the newest; `None` for the durable one.
    fn pick(self, random: &mut Random, count: usize) -> Option<usize> {
        let newest = count.checked_sub(1)?;
        if random.chance(self.newest) {
            Some(newest)
        } else if random.chance(self.durable) {
            None
        } else {
            random.below(count + 1).checked_sub(1)
        }
    }
}

impl State {
    /// What a power cut at this instant could leave.
    pub(super) fn crashed(&self, seed: u64) -> State {
        let mut random = Random::new(seed);
        let all = Odds::draw(&mut random);
        // Half of the cuts treat the directory and each file alike; the others may lose one file and keep the next.
        let alike = random.chance(128);
        let odds = |random: &mut Random| if alike { all } else { Odds::draw(random) };

        let mut state = self.restarted();
        let directory_odds = odds(&mut random);
        state.directory.settle(&mut random, directory_odds);
        for inode in state.inodes.values_mut() {
            let inode_odds = odds(&mut random);
            inode.settle_with(&mut random, inode_odds);
            inode.cache.clone_from(&inode.disk);
        }
        state.random = random;
        state.relink();
        state
    }
}

impl Inode {
    /// What a failed sync does, as Linux does it: each unsynced sector reached the disk, or did not, and either way it
    /// counts as clean from now on. Reads still see the written bytes; no later sync writes them.
    pub(super) fn settle(&mut self, random: &mut Random) {
        let odds = Odds::draw(random);
        self.settle_with(random, odds);
    }

    /// Decides, for the length and for each unsynced sector, which of the versions since the last sync the disk holds.
    fn settle_with(&mut self, random: &mut Random, odds: Odds) {
        if let Some(version) = odds.pick(random, self.lengths.len()) {
            self.disk.resize(self.lengths[version], 0);
        }
        let mut versions: BTreeMap<usize, Vec<usize>> = BTreeMap::new();
        for (index, write) in self.unsynced.iter().enumerate() {
            for sector in write.sectors() {
                versions.entry(sector).or_default().push(index);
            }
        }
        for (sector, writes) in versions {
            if let Some(version) = odds.pick(random, writes.len()) {
                self.unsynced[writes[version]].copy_sector(sector, &mut self.disk);
            }
        }
        self.unsynced.clear();
        self.lengths.clear();
    }
}

impl Directory {
    /// Decides which of the pending changes survive. One that builds on a change that was lost is lost as well.
    fn settle(&mut self, random: &mut Random, odds: Odds) {
        if self.exists && !self.exists_durably && odds.pick(random, 1).is_none() {
            *self = Directory::default();
            return;
        }
        self.exists_durably = self.exists;
        for change in std::mem::take(&mut self.pending) {
            if odds.pick(random, 1).is_some() {
                change.apply(&mut self.durable);
            }
        }
        self.cached.clone_from(&self.durable);
    }
}
