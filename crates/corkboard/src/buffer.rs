//! Private memory for values, aligned as slots are.

#[derive(Clone, Copy)]
#[repr(C, align(64))]
struct Line([u64; 8]);

/// Where a copy begins: at a multiple of this.
pub(crate) const ALIGN: usize = align_of::<Line>();

/// So many lines there are at least: short values are copied as if they were longer.
const LEAST: usize = 2;

/// Private memory that a value is copied to.
pub(crate) trait Destination {
    /// As many bytes; `None` when there is no memory for them.
    fn resized(&mut self, len: usize) -> Option<&mut [u8]>;
}

impl Destination for Vec<u8> {
    fn resized(&mut self, len: usize) -> Option<&mut [u8]> {
        self.clear();
        self.try_reserve_exact(len).ok()?;
        self.resize(len, 0);
        Some(self)
    }
}

impl Destination for Buffer {
    fn resized(&mut self, len: usize) -> Option<&mut [u8]> {
        self.resize(len).then(|| self.bytes_mut())
    }
}

/// A buffer of whole cache lines.
#[derive(Default)]
pub(crate) struct Buffer {
    lines: Vec<Line>,
    len: usize,
}

impl Buffer {
    /// Sets the length; what was not there before is zero. `false` when there is no memory; then
    /// the length stays another one.
    #[inline]
    pub(crate) fn resize(&mut self, len: usize) -> bool {
        let lines = len.div_ceil(size_of::<Line>());
        if lines > self.lines.len() && !self.grow(lines) {
            return false;
        }
        self.len = len;
        true
    }

    #[cold]
    fn grow(&mut self, lines: usize) -> bool {
        let lines = lines.max(LEAST);
        if self.lines.try_reserve(lines - self.lines.len()).is_err() {
            return false;
        }
        self.lines.resize(lines, Line([0; 8]));
        true
    }

    #[inline]
    pub(crate) fn truncate(&mut self, len: usize) {
        self.len = self.len.min(len);
    }

    /// All words, also those beyond the length that are there already.
    #[inline]
    pub(crate) fn words_mut(&mut self) -> &mut [u64] {
        let len = self.lines.len() * 8;
        // SAFETY: a line is eight words without padding.
        unsafe { std::slice::from_raw_parts_mut(self.lines.as_mut_ptr().cast(), len) }
    }

    #[inline]
    pub(crate) fn bytes(&self) -> &[u8] {
        // SAFETY: `len` is at most the lines' bytes (`resize`, `truncate`), all initialised.
        unsafe { std::slice::from_raw_parts(self.lines.as_ptr().cast(), self.len) }
    }

    #[inline]
    pub(crate) fn bytes_mut(&mut self) -> &mut [u8] {
        // SAFETY: as in `bytes`; any bytes make valid words.
        unsafe { std::slice::from_raw_parts_mut(self.lines.as_mut_ptr().cast(), self.len) }
    }
}
