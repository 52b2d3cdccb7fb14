//! The append-only file of records: length, CRC-32, payload.

use std::fs::{self, File, OpenOptions};
use std::io::{self, Read, Seek, SeekFrom, Write};
use std::os::unix::fs::OpenOptionsExt;
use std::path::{Path, PathBuf};

const MAGIC: &[u8; 8] = b"LOOMLOG1";
const HEAD: usize = 8;
/// No record is larger: requests are limited far below.
const MAX_RECORD: usize = 16 << 20;

/// The open log; what was appended survives the death of the process.
#[derive(Debug)]
pub(crate) struct Log {
    path: PathBuf,
    file: File,
    len: u64,
    /// A refused write left bytes behind that could not be cut off yet.
    dirty: bool,
}

impl Log {
    /// Opens or creates the log and returns it with every whole record in it. What a loss of
    /// power left behind the last whole record is cut off and kept beside it as `.torn`.
    ///
    /// Damage that whole records follow is none of that: nothing is touched then, for to leave
    /// those out would be to forget what was acknowledged, and to end pods for it.
    pub(crate) fn open(path: &Path) -> io::Result<(Self, Vec<Vec<u8>>)> {
        let mut file = options().open(path)?;
        let mut bytes = Vec::new();
        file.read_to_end(&mut bytes)?;
        if bytes.len() < MAGIC.len() {
            bytes = MAGIC.to_vec();
            file.set_len(0)?;
            file.seek(SeekFrom::Start(0))?;
            file.write_all(MAGIC)?;
        }
        if &bytes[..MAGIC.len()] != MAGIC {
            return Err(io::Error::new(io::ErrorKind::InvalidData, "not a log of this program"));
        }
        let (records, end) = records(&bytes);
        if end < bytes.len() {
            let follow = (end + 1..bytes.len()).find_map(|at| record_at(&bytes[at..]));
            if follow.is_some() {
                return Err(damaged(end));
            }
            tracing::warn!(lost = bytes.len() - end, "cut an unfinished record off the log");
            fs::write(path.with_extension("torn"), &bytes[end..]).ok();
            file.set_len(end as u64)?;
        }
        file.seek(SeekFrom::Start(end as u64))?;
        Ok((Self { path: path.into(), file, len: end as u64, dirty: false }, records))
    }

    /// Appends one record, whole or not at all.
    pub(crate) fn append(&mut self, payload: &[u8]) -> io::Result<()> {
        if self.dirty {
            self.cut()?;
        }
        let record = frame(payload);
        if let Err(error) = self.file.write_all(&record) {
            self.dirty = true;
            self.cut().ok();
            return Err(error);
        }
        self.len += record.len() as u64;
        Ok(())
    }

    /// Replaces everything by `payloads`, atomically.
    pub(crate) fn rewrite<'a>(
        &mut self,
        payloads: impl Iterator<Item = &'a [u8]>,
    ) -> io::Result<()> {
        let path = self.path.with_extension("new");
        let written = write_new(&path, payloads);
        if written.is_err() {
            fs::remove_file(&path).ok();
        }
        let (file, len) = written?;
        fs::rename(&path, &self.path)?;
        (self.file, self.len, self.dirty) = (file, len, false);
        Ok(())
    }

    /// Returns the bytes on disk.
    pub(crate) fn len(&self) -> u64 {
        self.len
    }

    fn cut(&mut self) -> io::Result<()> {
        self.file.set_len(self.len)?;
        self.file.seek(SeekFrom::Start(self.len))?;
        self.dirty = false;
        Ok(())
    }
}

fn damaged(at: usize) -> io::Error {
    let message = format!(
        "objects.log is damaged at byte {at} and goes on behind it; nothing was changed: put a \
         copy of it in its place, or begin anew with `loom dev reset`"
    );
    io::Error::new(io::ErrorKind::InvalidData, message)
}

fn options() -> OpenOptions {
    let mut options = OpenOptions::new();
    options.read(true).write(true).create(true).truncate(false).mode(0o600);
    options
}

fn write_new<'a>(path: &Path, payloads: impl Iterator<Item = &'a [u8]>) -> io::Result<(File, u64)> {
    let mut file = options().truncate(true).open(path)?;
    let mut out = io::BufWriter::new(&mut file);
    out.write_all(MAGIC)?;
    for payload in payloads {
        out.write_all(&frame(payload))?;
    }
    out.flush()?;
    drop(out);
    // It takes the place of everything there is: a loss of power must not find it empty.
    file.sync_data()?;
    let len = file.stream_position()?;
    Ok((file, len))
}

fn frame(payload: &[u8]) -> Vec<u8> {
    let mut record = Vec::with_capacity(HEAD + payload.len());
    let len = u32::try_from(payload.len()).unwrap_or(u32::MAX);
    record.extend_from_slice(&len.to_le_bytes());
    record.extend_from_slice(&crc32fast::hash(payload).to_le_bytes());
    record.extend_from_slice(payload);
    record
}

/// Returns the whole records and where the last one ends.
fn records(bytes: &[u8]) -> (Vec<Vec<u8>>, usize) {
    let mut at = MAGIC.len();
    let mut found = Vec::new();
    while let Some(payload) = record_at(&bytes[at..]) {
        at += HEAD + payload.len();
        found.push(payload.to_vec());
    }
    (found, at)
}

fn record_at(bytes: &[u8]) -> Option<&[u8]> {
    let len = u32::from_le_bytes(bytes.get(..4)?.try_into().ok()?) as usize;
    let crc = u32::from_le_bytes(bytes.get(4..HEAD)?.try_into().ok()?);
    // None is empty: zeros are what a loss of power leaves where data should be.
    if len == 0 || len > MAX_RECORD {
        return None;
    }
    let payload = bytes.get(HEAD..HEAD + len)?;
    (crc32fast::hash(payload) == crc).then_some(payload)
}

/// A file as a fuzzer writes it: what is taken of it was written so.
#[cfg(any(test, feature = "fuzz"))]
pub(crate) fn fuzz(bytes: &[u8]) {
    let bytes = [MAGIC, bytes].concat();
    let (records, end) = records(&bytes);
    let written: Vec<u8> = records.iter().flat_map(|record| frame(record)).collect();
    assert_eq!(bytes[MAGIC.len()..end], written);
}

#[cfg(test)]
mod tests {
    use super::*;

    fn scratch() -> PathBuf {
        let dir = std::env::temp_dir().join(format!("loom-log-{}", uuid::Uuid::new_v4()));
        fs::create_dir(&dir).unwrap();
        dir.join("objects.log")
    }

    #[test]
    fn a_log_cut_anywhere_keeps_every_whole_record() {
        let path = scratch();
        let (mut log, _) = Log::open(&path).unwrap();
        for record in [b"one".as_slice(), b"two", b"three"] {
            log.append(record).unwrap();
        }
        let whole = fs::read(&path).unwrap();
        for end in 0..whole.len() {
            fs::write(&path, &whole[..end]).unwrap();
            let (mut log, found) = Log::open(&path).unwrap();
            let expected = [8 + 11, 8 + 22, 8 + 35].iter().filter(|at| **at <= end).count();
            assert_eq!(found.len(), expected, "cut at {end}");
            log.append(b"after").unwrap();
            assert_eq!(Log::open(&path).unwrap().1.last().unwrap(), b"after");
        }
    }

    #[test]
    fn zeros_behind_the_last_record_are_no_records() {
        let path = scratch();
        Log::open(&path).unwrap().0.append(b"one").unwrap();
        let whole = fs::read(&path).unwrap();
        for zeros in [1, 8, 9, 4096] {
            fs::write(&path, [whole.as_slice(), &vec![0; zeros]].concat()).unwrap();
            assert_eq!(Log::open(&path).unwrap().1, vec![b"one".to_vec()], "{zeros}");
        }
    }

    #[test]
    fn damage_in_the_middle_is_told_and_nothing_is_touched() {
        let path = scratch();
        let (mut log, _) = Log::open(&path).unwrap();
        for record in [b"one".as_slice(), b"two", b"three"] {
            log.append(record).unwrap();
        }
        let whole = fs::read(&path).unwrap();
        for at in 8 + 11..8 + 22 {
            let mut bytes = whole.clone();
            bytes[at] ^= 0x10;
            fs::write(&path, &bytes).unwrap();
            let error = Log::open(&path).expect_err("the third would be lost").to_string();
            assert!(error.contains("damaged at byte 19 "), "{error}");
            assert!(error.contains("loom dev reset"), "{error}");
            assert_eq!(fs::read(&path).unwrap(), bytes, "byte {at}");
        }
    }

    #[test]
    fn one_flipped_bit_ends_the_log_there() {
        let path = scratch();
        let (mut log, _) = Log::open(&path).unwrap();
        log.append(b"one").unwrap();
        log.append(b"two").unwrap();
        let mut bytes = fs::read(&path).unwrap();
        let last = bytes.len() - 1;
        bytes[last] ^= 1;
        fs::write(&path, bytes).unwrap();
        assert_eq!(Log::open(&path).unwrap().1, vec![b"one".to_vec()]);
        assert!(path.with_extension("torn").exists());
    }
}
