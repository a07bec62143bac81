//! Chance that a seed decides. Two parts of a world that throw dice at the same time have dice of their own, so that one
//! part's throws do not move the other's.

/// SplitMix64: enough for faults, and the same on every machine.
#[derive(Clone, Debug)]
pub(super) struct Dice(u64);

impl Dice {
    /// The dice of one part of the world of `seed`.
    pub(super) fn of(seed: u64, part: &str) -> Self {
        let mut dice = Self(seed.wrapping_mul(0x9E37_79B9_7F4A_7C15));
        for byte in part.bytes() {
            dice.0 = dice.next() ^ u64::from(byte);
        }
        dice
    }

    fn next(&mut self) -> u64 {
        self.0 = self.0.wrapping_add(0x9E37_79B9_7F4A_7C15);
        let mut z = self.0;
        z = (z ^ (z >> 30)).wrapping_mul(0xBF58_476D_1CE4_E5B9);
        z = (z ^ (z >> 27)).wrapping_mul(0x94D0_49BB_1331_11EB);
        z ^ (z >> 31)
    }

    /// A number below `end`.
    pub(super) fn below(&mut self, end: u64) -> u64 {
        self.next() % end.max(1)
    }

    /// Whether one throw of `in_hundred` per cent hits.
    pub(super) fn hits(&mut self, in_hundred: u64) -> bool {
        self.below(100) < in_hundred
    }
}
