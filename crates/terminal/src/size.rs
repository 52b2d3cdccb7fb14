//! Rows and columns, and whose count.

/// Most rows of a terminal: the screen model keeps every cell.
const MAX_ROWS: u16 = 500;
/// Most columns of a terminal.
const MAX_COLS: u16 = 1000;

/// Rows and columns of a terminal, neither 0, neither without bound.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Size {
    rows: u16,
    cols: u16,
}

impl Size {
    /// Takes a size, cut to what the screen model can keep; `None` if a side is 0.
    #[must_use]
    pub fn new(rows: u16, cols: u16) -> Option<Self> {
        (rows > 0 && cols > 0).then(|| Self { rows: rows.min(MAX_ROWS), cols: cols.min(MAX_COLS) })
    }

    /// Returns the number of lines.
    #[must_use]
    pub fn rows(self) -> u16 {
        self.rows
    }

    /// Returns the number of characters a line.
    #[must_use]
    pub fn cols(self) -> u16 {
        self.cols
    }

    /// Returns the size that fits into both.
    #[must_use]
    pub fn smallest(self, other: Self) -> Self {
        Self { rows: self.rows.min(other.rows), cols: self.cols.min(other.cols) }
    }
}

impl Default for Size {
    fn default() -> Self {
        Self { rows: 24, cols: 80 }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_size_has_sides_and_bounds() {
        assert_eq!(Size::new(0, 80), None);
        assert_eq!(Size::new(24, 0), None);
        assert_eq!(Size::new(u16::MAX, u16::MAX), Some(Size { rows: 500, cols: 1000 }));
    }

    #[test]
    fn the_smallest_is_taken_side_by_side() {
        let (tall, wide) = (Size { rows: 50, cols: 80 }, Size { rows: 24, cols: 200 });
        assert_eq!(tall.smallest(wide), Size { rows: 24, cols: 80 });
    }
}
