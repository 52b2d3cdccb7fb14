//! What programs write to their terminals, as a fuzzer writes it.

use crate::{Screen, Size};

/// A name, and what takes a fuzzer's bytes.
pub type Target = (&'static str, fn(&[u8]));

/// All of this crate.
pub const TARGETS: &[Target] = &[("screen", screen)];

/// The picture of any output is bounded by the terminal's size, and looking does not change it.
fn screen(bytes: &[u8]) {
    let Some(([rows, cols], output)) = bytes.split_first_chunk() else { return };
    let side = |byte: &u8| u16::from(*byte % 64) + 1;
    let sizes = [(rows, cols), (cols, rows)].map(|(a, b)| Size::new(side(a), side(b)));
    let [Some(size), Some(turned)] = sizes else { return };
    let (first, second) = output.split_at(output.len() / 2);
    let mut screen = Screen::new(size);
    screen.push(first);
    assert_eq!(screen.paint(), screen.paint());
    screen.resize(turned);
    screen.push(second);
    let painted = screen.paint();
    let cells = usize::from(turned.rows()) * usize::from(turned.cols());
    assert!(painted.len() < 16 * 1024 + 128 * cells, "{} bytes", painted.len());
}

#[cfg(test)]
#[path = "../../../fuzz/replay.rs"]
mod replay;
