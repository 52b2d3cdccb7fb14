//! One line of a log as a terminal would have it in the end: typed over, rubbed out, coloured.

use std::sync::Arc;

/// Most cells that are kept; what is longer is shown in parts.
const MAX_CELLS: usize = 16 * 1024;
/// Most bytes of all that makes a colour.
const MAX_STYLE: usize = 128;
const RESET: &str = "\x1b[0m";

/// The line that is being written.
#[derive(Debug, Default)]
pub(super) struct Line {
    cells: Vec<Cell>,
    /// Where the next character goes.
    cursor: usize,
    /// Cells that were shown as they are now.
    seen: usize,
    style: Style,
    /// What is to be shown next.
    out: String,
}

/// The sequences that make a colour; none for the terminal's own.
type Style = Option<Arc<str>>;

#[derive(Debug, Clone, PartialEq, Eq)]
struct Cell {
    text: String,
    style: Style,
}

impl Cell {
    fn blank() -> Self {
        Self { text: " ".to_owned(), style: None }
    }
}

impl Line {
    /// Writes one character, which may have been made visible as several.
    pub(super) fn put(&mut self, text: &str) {
        let cell = Cell { text: text.to_owned(), style: self.style.clone() };
        self.fill();
        self.change(self.cursor);
        match self.cells.get_mut(self.cursor) {
            Some(old) => *old = cell,
            None => self.cells.push(cell),
        }
        self.cursor += 1;
        if self.cursor >= MAX_CELLS {
            self.write();
            self.begin();
        }
    }

    /// Ends the line.
    pub(super) fn end(&mut self) {
        self.write();
        self.out.push('\n');
        self.begin();
    }

    pub(super) fn go_to(&mut self, column: usize) {
        self.cursor = column.min(MAX_CELLS - 1);
    }

    pub(super) fn left(&mut self, columns: usize) {
        self.cursor = self.cursor.saturating_sub(columns);
    }

    /// Does what a control sequence does, as far as it concerns this line.
    pub(super) fn follow(&mut self, params: &str, last: u8) {
        let first = params.split(';').next().and_then(|number| number.parse().ok());
        let count = first.unwrap_or(1).clamp(1, MAX_CELLS);
        match last {
            b'm' => self.colour(params),
            b'C' => self.go_to(self.cursor + count),
            b'D' => self.left(count),
            b'G' | b'`' => self.go_to(count - 1),
            b'K' => self.erase(first.unwrap_or(0)),
            b'P' => self.remove(count),
            b'@' => self.insert(count),
            // Another line, wherever that is.
            b'A' | b'B' | b'E' | b'F' | b'H' | b'J' | b'd' | b'f' if !self.cells.is_empty() => {
                self.end()
            }
            _ => {}
        }
    }

    /// Returns what has become known since the last time.
    pub(super) fn show(&mut self) -> String {
        self.write();
        std::mem::take(&mut self.out)
    }

    fn colour(&mut self, params: &str) {
        let is_reset = |number: &str| number.bytes().all(|digit| digit == b'0');
        if params.split(';').all(is_reset) {
            self.style = None;
            return;
        }
        let before = match params.split(';').next().is_some_and(is_reset) {
            true => "",
            false => self.style.as_deref().unwrap_or_default(),
        };
        let style = format!("{before}\x1b[{params}m");
        let whole = if style.len() <= MAX_STYLE { style } else { format!("\x1b[{params}m") };
        self.style = Some(whole.into());
    }

    /// Erases a part of the line: 0 from the cursor on, 1 up to it, 2 all.
    fn erase(&mut self, part: usize) {
        match part {
            0 if self.cursor < self.cells.len() => {
                self.change(self.cursor);
                self.cells.truncate(self.cursor);
            }
            1 => {
                self.change(0);
                let end = self.cells.len().min(self.cursor + 1);
                self.cells[..end].fill(Cell::blank());
            }
            2 => {
                self.change(0);
                self.cells.clear();
            }
            _ => {}
        }
    }

    fn remove(&mut self, count: usize) {
        let end = self.cells.len().min(self.cursor + count);
        if self.cursor < end {
            self.change(self.cursor);
            self.cells.drain(self.cursor..end);
        }
    }

    fn insert(&mut self, count: usize) {
        if self.cursor < self.cells.len() {
            self.change(self.cursor);
            let count = count.min(MAX_CELLS.saturating_sub(self.cells.len()));
            self.cells.splice(self.cursor..self.cursor, vec![Cell::blank(); count]);
        }
    }

    /// Puts blanks where the cursor has passed nothing.
    fn fill(&mut self) {
        while self.cells.len() < self.cursor {
            self.cells.push(Cell::blank());
        }
    }

    /// Takes note that a cell is about to change: what was shown of it stands, and the line begins
    /// below once more.
    fn change(&mut self, cell: usize) {
        if cell < self.seen {
            self.out.push('\n');
            self.seen = 0;
        }
    }

    /// Appends what was not shown, with its colours, and ends those.
    fn write(&mut self) {
        let mut style = &None;
        for cell in &self.cells[self.seen..] {
            if cell.style != *style {
                self.out.push_str(style.as_ref().map_or("", |_| RESET));
                self.out.push_str(cell.style.as_deref().unwrap_or_default());
                style = &cell.style;
            }
            self.out.push_str(&cell.text);
        }
        self.out.push_str(style.as_ref().map_or("", |_| RESET));
        self.seen = self.cells.len();
    }

    /// Begins another line; the colour goes on.
    fn begin(&mut self) {
        self.cells.clear();
        (self.cursor, self.seen) = (0, 0);
    }
}
