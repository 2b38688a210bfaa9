//! Reads decisions from a fuzzer's bytes. When they run out, everything is zero.

/// The bytes that are left.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Input<'a>(&'a [u8]);

impl<'a> Input<'a> {
    pub(crate) fn new(data: &'a [u8]) -> Input<'a> {
        Input(data)
    }

    pub(crate) fn is_empty(&self) -> bool {
        self.0.is_empty()
    }

    pub(crate) fn byte(&mut self) -> u8 {
        let Some((first, rest)) = self.0.split_first() else { return 0 };
        self.0 = rest;
        *first
    }

    /// A number below `most`, which is at least 1 and at most 256.
    pub(crate) fn below(&mut self, most: usize) -> usize {
        usize::from(self.byte()) % most
    }

    pub(crate) fn short(&mut self) -> u16 {
        u16::from_be_bytes([self.byte(), self.byte()])
    }

    /// One of some choices.
    pub(crate) fn pick<T: Copy>(&mut self, choices: &[T]) -> T {
        choices[self.below(choices.len())]
    }

    /// So many bytes, or as many as there are.
    pub(crate) fn take(&mut self, length: usize) -> &'a [u8] {
        let (taken, rest) = self.0.split_at(length.min(self.0.len()));
        self.0 = rest;
        taken
    }

    /// Everything that is left.
    pub(crate) fn rest(self) -> &'a [u8] {
        self.0
    }
}

/// Bytes and the places to cut them at: a count, that many places of two bytes each, and the bytes.
#[derive(Debug)]
pub(crate) struct Cut<'a> {
    pub(crate) bytes: &'a [u8],
    /// In order, with both ends.
    places: Vec<usize>,
}

impl<'a> Cut<'a> {
    pub(crate) fn read(mut input: Input<'a>) -> Cut<'a> {
        let mut places: Vec<usize> = (0..input.below(16)).map(|_| usize::from(input.short())).collect();
        let bytes = input.rest();
        places.iter_mut().for_each(|place| *place %= bytes.len() + 1);
        places.extend([0, bytes.len()]);
        places.sort_unstable();
        Cut { bytes, places }
    }

    /// The pieces. Places that coincide make empty ones, which are pieces as well.
    pub(crate) fn pieces(&self) -> impl Iterator<Item = &'a [u8]> + '_ {
        self.places.windows(2).map(|ends| &self.bytes[ends[0]..ends[1]])
    }
}
