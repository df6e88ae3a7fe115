//! Numbers from a seed: the same on every machine and every day.

/// A xorshift generator.
pub struct Dice(u64);

impl Dice {
    pub fn of(seed: u64) -> Self {
        let mut dice = Self(seed.wrapping_mul(0x9E37_79B9_7F4A_7C15) | 1);
        for _ in 0..5 {
            dice.next();
        }
        dice
    }

    /// A number from 0 to `end`, without `end`.
    pub fn below(&mut self, end: usize) -> usize {
        let end = u64::try_from(end).expect("an index fits into 64 bits");
        usize::try_from((self.next() >> 11) % end).expect("it is below an index")
    }

    /// A number from 0 to `end`, without `end`.
    pub fn count(&mut self, end: u32) -> u32 {
        u32::try_from(self.below(end as usize)).expect("it is below a count")
    }

    /// True in `percent` of 100 cases.
    pub fn chance(&mut self, percent: u32) -> bool {
        self.count(100) < percent
    }

    /// One of `choices`, which are not empty.
    pub fn pick<T: Copy>(&mut self, choices: &[T]) -> T {
        choices[self.below(choices.len())]
    }

    fn next(&mut self) -> u64 {
        self.0 ^= self.0 << 13;
        self.0 ^= self.0 >> 7;
        self.0 ^= self.0 << 17;
        self.0
    }
}
