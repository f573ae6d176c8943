//! Mutation of inputs, from single bits to thousands of repetitions.

/// The `SplitMix64` generator. The same seed repeats a run.
pub(super) struct Random(pub(super) u64);

impl Random {
    fn next(&mut self) -> u64 {
        self.0 = self.0.wrapping_add(0x9e37_79b9_7f4a_7c15);
        let mixed = (self.0 ^ (self.0 >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        let mixed = (mixed ^ (mixed >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
        mixed ^ (mixed >> 31)
    }

    /// Returns a number below `bound`, or 0 if `bound` is 0.
    pub(super) fn below(&mut self, bound: usize) -> usize {
        usize::try_from(self.next() % (bound.max(1) as u64)).unwrap_or(0)
    }

    fn byte(&mut self) -> u8 {
        self.next().to_le_bytes()[0]
    }
}

pub(super) struct Mutator<'a> {
    pub(super) random: Random,
    pub(super) dictionary: &'a [&'a str],
    /// Maximum length of an input.
    pub(super) max_bytes: usize,
}

/// Boundary values of integer types, where off-by-one errors and overflows occur.
const EDGES: [u64; 10] = [
    0,
    1,
    0x7f,
    0xff,
    0x7fff,
    0xffff,
    0x7fff_ffff,
    0xffff_ffff,
    0x7fff_ffff_ffff_ffff,
    0xffff_ffff_ffff_ffff,
];

impl Mutator<'_> {
    /// Returns an input of the pool with a few changes, or occasionally random bytes.
    pub(super) fn next(&mut self, pool: &[Vec<u8>]) -> Vec<u8> {
        let mut input = if self.random.below(50) == 0 {
            (0..self.random.below(300)).map(|_| self.random.byte()).collect()
        } else {
            pool[self.random.below(pool.len())].clone()
        };
        for _ in 0..=self.random.below(6) {
            self.change(&mut input, pool);
        }
        input.truncate(self.max_bytes);
        input
    }

    fn change(&mut self, input: &mut Vec<u8>, pool: &[Vec<u8>]) {
        let (from, to) = self.range(input.len());
        match self.random.below(11) {
            0 if from < input.len() => input[from] ^= 1 << self.random.below(8),
            1 if from < input.len() => input[from] = self.random.byte(),
            2 => drop(input.drain(from..to)),
            3 => input.truncate(from),
            4 => {
                let again = input[from..to].to_vec();
                self.insert(input, &again);
            }
            5 => self.repeat(input, from, to),
            6 => {
                let other = &pool[self.random.below(pool.len())];
                let (from, to) = self.range(other.len());
                self.insert(input, &other[from..to]);
            }
            7 => self.set_number(input, from),
            8 => {
                let byte = self.random.byte();
                self.insert(input, &[byte]);
            }
            _ if !self.dictionary.is_empty() => {
                let word = self.dictionary[self.random.below(self.dictionary.len())];
                self.insert(input, word.as_bytes());
            }
            _ => {}
        }
    }

    /// Returns a random range below `length`, in most cases a short one.
    fn range(&mut self, length: usize) -> (usize, usize) {
        let from = self.random.below(length + 1);
        let max = if self.random.below(4) == 0 { length } else { 12 };
        (from, (from + self.random.below(max + 1)).min(length))
    }

    fn insert(&mut self, input: &mut Vec<u8>, piece: &[u8]) {
        let at = self.random.below(input.len() + 1);
        input.splice(at..at, piece.iter().copied());
    }

    /// Repeats a range up to thousands of times, because deep and long inputs exercise recursion and size limits.
    fn repeat(&mut self, input: &mut Vec<u8>, from: usize, to: usize) {
        let piece = input[from..to].to_vec();
        let max = if self.random.below(20) == 0 { 5_000 } else { 8 };
        let times = self.random.below(max).min(self.max_bytes / piece.len().max(1));
        input.splice(to..to, piece.repeat(times));
    }

    fn set_number(&mut self, input: &mut [u8], at: usize) {
        let width = [1, 2, 4, 8][self.random.below(4)];
        let edge = EDGES[self.random.below(EDGES.len())].wrapping_add(self.random.below(3) as u64);
        for (byte, new) in input.iter_mut().skip(at).zip(edge.to_le_bytes().into_iter().take(width)) {
            *byte = new;
        }
    }
}
