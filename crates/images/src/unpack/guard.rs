//! Watches an archive go by: what describes a file is read into memory, so it has to be short.

use std::io::{self, Read};

use crate::error::Error;

const BLOCK: usize = 512;
/// The most bytes that long names and extended attributes of one file may have.
const MOST: u64 = 1 << 20;

/// Passes bytes on and follows the headers among them.
pub(super) struct Guard<R> {
    inner: R,
    block: [u8; BLOCK],
    filled: usize,
    /// Bytes until the next header, padding included.
    skip: u64,
    /// Blocks of a sparse file's map come before its data.
    map: bool,
    /// What is gathered of a PAX header, and how much of `skip` is its padding.
    pax: Option<Vec<u8>>,
    /// The size that a PAX header gave for the next file.
    size: Option<u64>,
}

impl<R: Read> Guard<R> {
    pub(super) fn new(inner: R) -> Self {
        Self { inner, block: [0; BLOCK], filled: 0, skip: 0, map: false, pax: None, size: None }
    }

    fn see(&mut self, mut bytes: &[u8]) -> Result<(), Error> {
        while !bytes.is_empty() {
            if self.skip > 0 {
                let count = bytes.len().min(usize::try_from(self.skip).unwrap_or(usize::MAX));
                let (passed, rest) = bytes.split_at(count);
                if let Some(pax) = &mut self.pax {
                    pax.extend_from_slice(passed);
                }
                self.skip -= count as u64;
                bytes = rest;
                if self.skip == 0 {
                    self.size = self.pax.take().and_then(|pax| size_of(&pax)).or(self.size);
                }
                continue;
            }
            let count = bytes.len().min(BLOCK - self.filled);
            let (passed, rest) = bytes.split_at(count);
            self.block[self.filled..self.filled + count].copy_from_slice(passed);
            self.filled += count;
            bytes = rest;
            if self.filled == BLOCK {
                self.filled = 0;
                self.header()?;
            }
        }
        Ok(())
    }

    fn header(&mut self) -> Result<(), Error> {
        if self.map {
            self.map = self.block[504] != 0;
            return Ok(());
        }
        if self.block.iter().all(|byte| *byte == 0) {
            return Ok(());
        }
        let header = tar::Header::from_byte_slice(&self.block);
        let kind = header.entry_type();
        let describes = kind.is_gnu_longname()
            || kind.is_gnu_longlink()
            || kind.is_pax_local_extensions()
            || kind.is_pax_global_extensions();
        let told = header.entry_size().unwrap_or(0);
        if describes && told > MOST {
            let why = format!("describes a file with {told} bytes, {MOST} at most are read");
            return Err(Error::Unsupported(why));
        }
        let size = if describes { told } else { self.size.take().unwrap_or(told) };
        self.map = kind.is_gnu_sparse() && self.block[482] != 0;
        self.pax = kind.is_pax_local_extensions().then(Vec::new);
        self.skip = size.div_ceil(BLOCK as u64).saturating_mul(BLOCK as u64);
        Ok(())
    }
}

/// Reads the record `size` of a PAX header: `LENGTH size=VALUE\n`.
fn size_of(pax: &[u8]) -> Option<u64> {
    let records = tar::PaxExtensions::new(pax);
    let sizes = records.flatten().filter(|record| record.key() == Ok("size"));
    sizes.last()?.value().ok()?.parse().ok()
}

impl<R: Read> Read for Guard<R> {
    fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        let count = self.inner.read(buffer)?;
        self.see(&buffer[..count]).map_err(io::Error::other)?;
        Ok(count)
    }
}
