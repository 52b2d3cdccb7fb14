//! Layers become one folder: applied in order, each beneath the folder whatever its names say.
//!
//! ```text
//! file -> decompress -> guard (bounds what is held in memory) -> tar -> Tree (writes beneath a folder)
//! ```

mod guard;
mod tree;
mod zstd;

use std::fs::File;
use std::io::{self, BufReader, Read};
use std::path::{Path, PathBuf};

use serde::{Deserialize, Serialize};

use crate::error::{Doing, Error, Result};
use guard::Guard;
use tree::Tree;

/// Whom the files belong to.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub enum Ownership {
    /// The ids in the layers: for root, on the machine or of a user namespace.
    Real,
    /// Whoever unpacks, who may then read and remove all of it: for a user with one id.
    Flat,
}

/// What an image may hold at most.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub struct Bounds {
    /// Files, folders and links, of all layers.
    pub entries: u64,
    /// Bytes of files, of all layers.
    pub bytes: u64,
    /// Bytes that stay free on the disk.
    pub reserve: u64,
}

impl Default for Bounds {
    fn default() -> Self {
        Self { entries: 2_000_000, bytes: 64 << 30, reserve: 1 << 30 }
    }
}

/// Applies the layers in order to the folder `into`, which must be empty. After an error something
/// may be left in it.
///
/// # Errors
/// When a layer is no archive, reaches out of the image or beyond the bounds, or the disk refuses.
pub fn flatten(
    layers: &[PathBuf],
    into: &Path,
    ownership: Ownership,
    bounds: Bounds,
) -> Result<()> {
    let mut tree = Tree::open(into, ownership, bounds)?;
    for (number, layer) in layers.iter().enumerate() {
        let file = File::open(layer).doing(|| format!("opening {}", layer.display()))?;
        apply(&mut tree, file).map_err(|error| in_layer(number + 1, error))?;
    }
    tree.finish()
}

fn apply(tree: &mut Tree, file: File) -> Result<()> {
    let mut archive = tar::Archive::new(Guard::new(decompress(file)?));
    archive.set_ignore_zeros(false);
    tree.begin_layer();
    for entry in archive.entries().map_err(damaged)? {
        tree.add(&mut entry.map_err(damaged)?)?;
    }
    tree.end_layer()
}

/// Reads a layer whatever it is compressed with; its first bytes say so.
fn decompress(file: File) -> Result<Box<dyn Read>> {
    let mut file = BufReader::with_capacity(256 * 1024, file);
    let begin = io::BufRead::fill_buf(&mut file).doing(|| "reading a layer".to_owned())?;
    Ok(match begin {
        [0x1f, 0x8b, ..] => Box::new(flate2::bufread::MultiGzDecoder::new(file)),
        [0x28, 0xb5, 0x2f, 0xfd, ..] | [0x50..=0x5f, 0x2a, 0x4d, 0x18, ..] => {
            Box::new(zstd::Frames::new(file))
        }
        _ => Box::new(file),
    })
}

fn damaged(error: io::Error) -> Error {
    match error.downcast::<Error>() {
        Ok(ours) => ours,
        Err(error) => Error::Unsupported(format!("is no whole tar archive: {error}")),
    }
}

fn in_layer(number: usize, error: Error) -> Error {
    match error {
        Error::Unsupported(why) => Error::Unsupported(format!("layer {number} {why}")),
        other => other,
    }
}
