//! The replay ring: the last bytes of the output, by offset, allocated as it fills.

use std::collections::VecDeque;

/// What a segment costs beside its bytes, so that many tiny ones are bounded too.
const OVERHEAD: usize = 64;
/// Most bytes of a segment.
const SEGMENT: usize = 64 * 1024;

/// Where the program wrote.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Stream {
    /// Its terminal or stdout.
    Out,
    /// Its stderr, where it has no terminal.
    Err,
}

/// A piece of the output.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Chunk<'a> {
    /// Bytes before it.
    pub offset: u64,
    /// Where it was written.
    pub stream: Stream,
    /// The bytes, at least one.
    pub data: &'a [u8],
}

/// The last bytes of the output.
#[derive(Debug)]
pub struct Ring {
    segments: VecDeque<Segment>,
    end: u64,
    held: usize,
    capacity: usize,
}

#[derive(Debug)]
struct Segment {
    start: u64,
    stream: Stream,
    data: Vec<u8>,
}

impl Ring {
    /// Makes an empty ring that keeps about `capacity` bytes.
    #[must_use]
    pub fn new(capacity: usize) -> Self {
        Self { segments: VecDeque::new(), end: 0, held: 0, capacity }
    }

    /// Returns the offset of the oldest byte that is kept.
    #[must_use]
    pub fn start(&self) -> u64 {
        self.segments.front().map_or(self.end, |segment| segment.start)
    }

    /// Returns the count of bytes ever written.
    #[must_use]
    pub fn end(&self) -> u64 {
        self.end
    }

    /// Appends bytes and forgets the oldest.
    pub fn push(&mut self, stream: Stream, mut data: &[u8]) {
        while !data.is_empty() {
            let (segment, limit) = self.open_segment(stream);
            let (now, later) = data.split_at(data.len().min(limit - segment.data.len()));
            segment.data.extend_from_slice(now);
            self.end += count(now);
            self.held += now.len();
            data = later;
        }
        self.forget();
    }

    /// Returns the bytes at `from`, at most `most` and all of one stream; `None` when there are
    /// none, or not any more.
    #[must_use]
    pub fn read(&self, from: u64, most: usize) -> Option<Chunk<'_>> {
        let after = self.segments.partition_point(|segment| segment.start <= from);
        let segment = self.segments.get(after.checked_sub(1)?)?;
        let at = usize::try_from(from - segment.start).ok()?;
        let rest = segment.data.get(at..)?;
        let data = &rest[..rest.len().min(most)];
        (!data.is_empty()).then_some(Chunk { offset: from, stream: segment.stream, data })
    }

    /// Forgets all bytes; offsets go on.
    pub fn clear(&mut self) {
        self.segments = VecDeque::new();
        self.held = 0;
    }

    /// Returns a segment with room for this stream, and how long it may become.
    fn open_segment(&mut self, stream: Stream) -> (&mut Segment, usize) {
        let limit = (self.capacity / 64).clamp(1, SEGMENT);
        let fits = |last: &Segment| last.stream == stream && last.data.len() < limit;
        if !self.segments.back().is_some_and(fits) {
            if let Some(full) = self.segments.back_mut() {
                full.data.shrink_to_fit();
            }
            self.segments.push_back(Segment { start: self.end, stream, data: Vec::new() });
            self.held += OVERHEAD;
        }
        let last = self.segments.len() - 1;
        (&mut self.segments[last], limit)
    }

    fn forget(&mut self) {
        while self.held > self.capacity && self.segments.len() > 1 {
            if let Some(oldest) = self.segments.pop_front() {
                self.held -= oldest.data.len() + OVERHEAD;
            }
        }
    }
}

/// Returns a length as an offset counts it.
pub(crate) fn count(data: &[u8]) -> u64 {
    data.len() as u64
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    fn all(ring: &Ring) -> Vec<u8> {
        let (mut at, mut bytes) = (ring.start(), Vec::new());
        while let Some(chunk) = ring.read(at, 7) {
            bytes.extend_from_slice(chunk.data);
            at += count(chunk.data);
        }
        bytes
    }

    #[test]
    fn streams_are_kept_apart_and_in_order() {
        let mut ring = Ring::new(1 << 20);
        ring.push(Stream::Out, b"one");
        ring.push(Stream::Err, b"two");
        let out = Chunk { offset: 1, stream: Stream::Out, data: b"ne" };
        assert_eq!(ring.read(1, 100), Some(out));
        assert_eq!(
            ring.read(3, 2).map(|chunk| (chunk.stream, chunk.data)),
            Some((Stream::Err, &b"tw"[..]))
        );
        assert_eq!(ring.read(6, 100), None);
    }

    #[test]
    fn it_allocates_as_it_fills_and_forgets_the_oldest() {
        let mut ring = Ring::new(4 << 20);
        assert_eq!(ring.segments.capacity(), 0);
        for _ in 0..200 {
            ring.push(Stream::Out, &[7; 50_000]);
        }
        let held: usize = ring.segments.iter().map(|segment| segment.data.capacity()).sum();
        assert!(held <= (4 << 20) + SEGMENT, "{held}");
        assert!(ring.end() - ring.start() > (4 << 20) - 2 * SEGMENT as u64);
        assert_eq!(ring.read(0, 1), None);
    }

    #[test]
    fn tiny_pieces_of_two_streams_are_bounded() {
        let mut ring = Ring::new(64 * 1024);
        for _ in 0..100_000 {
            ring.push(Stream::Out, b"o");
            ring.push(Stream::Err, b"e");
        }
        assert!(ring.segments.len() <= 1024, "{}", ring.segments.len());
    }

    proptest! {
        #[test]
        fn it_holds_a_suffix(pieces in proptest::collection::vec((any::<bool>(), proptest::collection::vec(any::<u8>(), 0..60)), 0..60), capacity in 1_usize..2000) {
            let (mut ring, mut written) = (Ring::new(capacity), Vec::new());
            for (err, piece) in pieces {
                ring.push(if err { Stream::Err } else { Stream::Out }, &piece);
                written.extend_from_slice(&piece);
            }
            prop_assert_eq!(ring.end(), count(&written));
            let start = usize::try_from(ring.start()).unwrap();
            prop_assert_eq!(all(&ring), &written[start..]);
        }
    }
}
