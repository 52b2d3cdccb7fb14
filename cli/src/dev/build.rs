//! Which build of `loom` a process runs.

use std::fs::File;
use std::os::unix::fs::{FileExt, MetadataExt};

use crate::failure::{Doing, Failure};

/// A segment that holds notes (elf(5), `PT_NOTE`).
const NOTES: u32 = 4;
/// The note with the build id (`NT_GNU_BUILD_ID`), by this owner.
const BUILD_ID: u32 = 3;
const OWNER: &[u8] = b"GNU\0";
/// The notes of a program are a few hundred bytes; what claims more is no build of ours.
const MAX_NOTES: u64 = 64 * 1024;

/// Returns what tells this build from others, the same for every copy of it.
///
/// It is what the linker has written into the program about its content: three small reads, while
/// hashing the program would cost more than starting a weaver.
pub(crate) fn id() -> Result<String, Failure> {
    let program = File::open("/proc/self/exe").doing("cannot look at the running program")?;
    of(&program)
}

fn of(program: &File) -> Result<String, Failure> {
    let version = env!("CARGO_PKG_VERSION");
    if let Some(id) = build_id(program) {
        return Ok(format!("{version}-{id}"));
    }
    // A linker that writes none: then at least the same file is the same build.
    let meta = program.metadata().doing("cannot look at the running program")?;
    let time = i128::from(meta.mtime()) * 1_000_000_000 + i128::from(meta.mtime_nsec());
    Ok(format!("{version}-{:x}-{time:x}", meta.size()))
}

/// Reads the build id of a 64-bit ELF file of this machine's byte order, in hex.
fn build_id(program: &File) -> Option<String> {
    let header = read(program, 0, 64)?;
    if !header.starts_with(b"\x7fELF\x02") {
        return None;
    }
    let (at, size) = (u64_at(&header, 32)?, u16_at(&header, 54)?);
    let count = u16_at(&header, 56)?;
    let table = read(program, at, u64::from(size) * u64::from(count))?;
    let segments = table.chunks_exact(usize::from(size).max(1));
    segments.filter(|segment| u32_at(segment, 0) == Some(NOTES)).find_map(|segment| {
        let notes = read(program, u64_at(segment, 8)?, u64_at(segment, 32)?)?;
        let align = if u64_at(segment, 48)? == 8 { 8 } else { 4 };
        among(&notes, align)
    })
}

/// Finds the build id among notes: three numbers, the owner and what it says, each padded.
fn among(mut notes: &[u8], align: usize) -> Option<String> {
    loop {
        let (owner, said) = (u32_at(notes, 0)? as usize, u32_at(notes, 4)? as usize);
        let start = (12 + owner).next_multiple_of(align);
        let id = notes.get(start..start.checked_add(said)?)?;
        if u32_at(notes, 8)? == BUILD_ID && notes.get(12..12 + owner)? == OWNER {
            return Some(id.iter().map(|byte| format!("{byte:02x}")).collect());
        }
        notes = notes.get((start + said).next_multiple_of(align)..)?;
    }
}

fn read(program: &File, at: u64, size: u64) -> Option<Vec<u8>> {
    let mut bytes = vec![0; usize::try_from(size).ok().filter(|_| size <= MAX_NOTES)?];
    program.read_exact_at(&mut bytes, at).ok()?;
    Some(bytes)
}

fn u16_at(bytes: &[u8], at: usize) -> Option<u16> {
    Some(u16::from_ne_bytes(*bytes.get(at..)?.first_chunk()?))
}

fn u32_at(bytes: &[u8], at: usize) -> Option<u32> {
    Some(u32::from_ne_bytes(*bytes.get(at..)?.first_chunk()?))
}

fn u64_at(bytes: &[u8], at: usize) -> Option<u64> {
    Some(u64::from_ne_bytes(*bytes.get(at..)?.first_chunk()?))
}

#[cfg(test)]
mod tests {
    use std::time::{Duration, SystemTime};

    use super::*;

    fn note(owner: &[u8], kind: u32, said: &[u8]) -> Vec<u8> {
        let mut bytes = Vec::new();
        for number in [owner.len() as u32, said.len() as u32, kind] {
            bytes.extend(number.to_ne_bytes());
        }
        for part in [owner, said] {
            bytes.extend(part);
            bytes.resize(bytes.len().next_multiple_of(4), 0);
        }
        bytes
    }

    /// A file with one segment of notes, as old as the epoch.
    fn program(notes: &[u8]) -> File {
        let mut bytes = vec![0; 64 + 56];
        bytes[..5].copy_from_slice(b"\x7fELF\x02");
        bytes[32..40].copy_from_slice(&64u64.to_ne_bytes());
        bytes[54..56].copy_from_slice(&56u16.to_ne_bytes());
        bytes[56..58].copy_from_slice(&1u16.to_ne_bytes());
        bytes[64..68].copy_from_slice(&NOTES.to_ne_bytes());
        bytes[72..80].copy_from_slice(&120u64.to_ne_bytes());
        bytes[96..104].copy_from_slice(&(notes.len() as u64).to_ne_bytes());
        bytes.extend(notes);
        file(&bytes)
    }

    fn file(bytes: &[u8]) -> File {
        let file = tempfile::tempfile().unwrap();
        file.write_all_at(bytes, 0).unwrap();
        file.set_modified(SystemTime::UNIX_EPOCH).unwrap();
        file
    }

    #[test]
    fn a_build_is_known_by_what_the_linker_says_not_by_its_time() {
        let other = note(b"GNU\0", 1, &[0; 16]);
        let ours = note(OWNER, BUILD_ID, &[0xab, 0x01, 0xff]);
        let one = program(&[other.clone(), ours.clone()].concat());
        let copy = program(&[other.clone(), ours].concat());
        copy.set_modified(SystemTime::UNIX_EPOCH + Duration::from_secs(60)).unwrap();
        let id = format!("{}-ab01ff", env!("CARGO_PKG_VERSION"));
        assert_eq!((of(&one).unwrap(), of(&copy).unwrap()), (id.clone(), id.clone()));
        let next = program(&[other, note(OWNER, BUILD_ID, &[0xab, 0x02, 0xff])].concat());
        assert_ne!(of(&next).unwrap(), id);
    }

    #[test]
    fn without_a_build_id_size_and_time_tell() {
        let huge = note(OWNER, BUILD_ID, &[1; 4]);
        let mut lies = huge.clone();
        lies[4..8].copy_from_slice(&u32::MAX.to_ne_bytes());
        let foreign = note(b"XYZ\0", BUILD_ID, &[1; 4]);
        for odd in [program(&foreign), program(&lies), program(&huge[..13]), file(b"#!/bin/sh")] {
            assert_eq!(build_id(&odd), None);
            let first = of(&odd).unwrap();
            odd.set_modified(SystemTime::UNIX_EPOCH + Duration::from_secs(1)).unwrap();
            assert_ne!(of(&odd).unwrap(), first);
        }
    }

    #[test]
    fn this_very_program_has_one() {
        assert!(build_id(&File::open("/proc/self/exe").unwrap()).is_some_and(|id| id.len() >= 16));
    }
}
