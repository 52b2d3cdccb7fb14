//! The DEC line-drawing set, which the screen model does not know: its letters become Unicode.

/// Characters from 0x60 to 0x7e in DEC Special Graphics (VT100 user guide, table 3-9).
const GRAPHICS: [char; 31] = [
    '◆', '▒', '␉', '␌', '␍', '␊', '°', '±', '␤', '␋', '┘', '┐', '┌', '└', '┼', '⎺', '⎻', '─', '⎼',
    '⎽', '├', '┤', '┴', '┬', '│', '≤', '≥', 'π', '≠', '£', '·',
];

/// Which character sets are chosen.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub(crate) struct Charset {
    /// Whether G0 and G1 are line drawing.
    graphics: [bool; 2],
    shifted: bool,
}

impl Charset {
    /// Follows `ESC ( X` and `ESC ) X`.
    pub(crate) fn designate(&mut self, which: u8, set: u8) {
        match which {
            b'(' => self.graphics[0] = set == b'0',
            b')' => self.graphics[1] = set == b'0',
            _ => {}
        }
    }

    /// Follows shift out and shift in.
    pub(crate) fn shift(&mut self, byte: u8) {
        self.shifted = byte == 0x0e;
    }

    pub(crate) fn draws_lines(&self) -> bool {
        self.graphics[usize::from(self.shifted)]
    }

    /// Appends a byte of text as it is shown.
    pub(crate) fn put(&self, byte: u8, to: &mut Vec<u8>) {
        let drawn = byte.checked_sub(0x60).and_then(|at| GRAPHICS.get(usize::from(at)));
        match drawn {
            Some(character) if self.draws_lines() => {
                to.extend_from_slice(character.encode_utf8(&mut [0; 4]).as_bytes());
            }
            _ => to.push(byte),
        }
    }

    /// Appends what brings a terminal from its defaults to this choice.
    pub(crate) fn paint(&self, to: &mut Vec<u8>) {
        for (which, graphics) in [b'(', b')'].into_iter().zip(self.graphics) {
            to.extend_from_slice(&[0x1b, which, if graphics { b'0' } else { b'B' }]);
        }
        to.push(if self.shifted { 0x0e } else { 0x0f });
    }
}
