//! Sets of steps, a bit for each.

/// Steps by their place in the definition.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct StepSet {
    words: Box<[u64]>,
}

impl StepSet {
    /// The empty set of a definition with `steps` steps.
    pub(super) fn empty(steps: usize) -> Self {
        Self { words: vec![0; steps.div_ceil(64)].into_boxed_slice() }
    }

    pub(super) fn insert(&mut self, step: usize) {
        self.words[step / 64] |= 1 << (step % 64);
    }

    pub(super) fn contains(&self, step: usize) -> bool {
        self.words[step / 64] & (1 << (step % 64)) != 0
    }

    pub(super) fn add_all(&mut self, other: &Self) {
        for (word, more) in self.words.iter_mut().zip(&other.words) {
            *word |= more;
        }
    }

    /// What is in this set and not in `other`.
    pub(super) fn without(&self, other: &Self) -> Self {
        Self { words: self.words.iter().zip(&other.words).map(|(word, out)| word & !out).collect() }
    }

    pub(super) fn len(&self) -> usize {
        self.words.iter().map(|word| word.count_ones() as usize).sum()
    }

    /// The steps in definition order.
    pub(super) fn iter(&self) -> impl Iterator<Item = usize> + '_ {
        let bits = |word: u64| (0..64_usize).filter(move |bit| word & (1 << bit) != 0);
        self.words.iter().enumerate().flat_map(move |(i, word)| bits(*word).map(move |bit| i * 64 + bit))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_set_has_what_was_put_into_it() {
        let mut set = StepSet::empty(130);
        for step in [129, 0, 63, 64] {
            set.insert(step);
        }
        assert_eq!(set.iter().collect::<Vec<_>>(), [0, 63, 64, 129]);
        assert!(set.contains(64) && !set.contains(65) && set.len() == 4);
        let mut other = StepSet::empty(130);
        other.insert(63);
        assert_eq!(set.without(&other).iter().collect::<Vec<_>>(), [0, 64, 129]);
        other.add_all(&set);
        assert_eq!(other, set);
    }
}
