//! Archives as a fuzzer can write them: no sums, no padding, no digests to guess.

use std::collections::BTreeMap;
use std::fmt::Write as _;

use sha2::{Digest as _, Sha256};
use tar::{EntryType, Header};

const BLOCK: usize = 512;

/// Reads lines `TYPE NAME|LINK|MODE|DATA`, TYPE being the byte that stands in the header; a line
/// `=` begins the next layer. In data `\n` is a line's end and `@{NAME}` the SHA-256 of an earlier
/// entry's, which is called by its LINK or else its NAME, where `@{self}` is its own. Data of `x` and
/// `g` is `KEY=VALUE`, separated by `;`, and behind `layer:` such lines with `!` instead of `|`.
pub(super) fn layers(text: &[u8]) -> Vec<Vec<u8>> {
    let (mut layers, mut layer, mut hashes) = (Vec::new(), Vec::new(), BTreeMap::new());
    for line in text.split(|byte| *byte == b'\n').take(100) {
        match line {
            b"=" if layers.len() < 8 => layers.push(std::mem::take(&mut layer)),
            [kind, b' ', rest @ ..] => entry(&mut layer, *kind, rest, &mut hashes),
            _ => {}
        }
    }
    layers.push(layer);
    layers.iter_mut().for_each(|layer| layer.resize(layer.len() + 2 * BLOCK, 0));
    layers
}

fn entry(to: &mut Vec<u8>, kind: u8, rest: &[u8], hashes: &mut BTreeMap<String, String>) {
    let mut parts = rest.splitn(4, |byte| *byte == b'|');
    let mut part = || parts.next().unwrap_or_default();
    let (name, link, mode, data) = (part(), part(), part(), part());
    let data = content(kind, data, hashes);
    let hash = Sha256::digest(&data);
    let hex: String = hash.iter().map(|byte| format!("{byte:02x}")).collect();
    let called = if link.is_empty() { name } else { link };
    hashes.insert(String::from_utf8_lossy(called).into_owned(), hex.clone());
    let own = str::from_utf8(name).map(|name| name.replace("@{self}", &hex));
    let name = own.as_ref().map_or(name, |own| own.as_bytes());
    let mode = str::from_utf8(mode).ok().and_then(|mode| u32::from_str_radix(mode, 8).ok());
    to.extend_from_slice(header(kind, name, link, mode.unwrap_or(0o644), data.len()).as_bytes());
    to.extend_from_slice(&data);
    to.resize(to.len().next_multiple_of(BLOCK), 0);
}

fn content(kind: u8, data: &[u8], hashes: &BTreeMap<String, String>) -> Vec<u8> {
    let Ok(text) = str::from_utf8(data) else { return data.to_vec() };
    let text = text.replace("\\n", "\n");
    match (kind, text.strip_prefix("layer:")) {
        (b'x' | b'g', _) => records(&text),
        (_, Some(inner)) => layers(inner.replace('!', "|").as_bytes()).concat(),
        _ => filled(text, hashes).into_bytes(),
    }
}

fn header(kind: u8, name: &[u8], link: &[u8], mode: u32, size: usize) -> Header {
    let mut header = Header::new_gnu();
    header.set_entry_type(EntryType::new(kind));
    header.set_mode(mode & 0o7_777_777);
    header.set_uid(1234);
    header.set_gid(2345);
    header.set_mtime(1_000_000_000);
    header.set_size(size as u64);
    let old = header.as_old_mut();
    for (field, bytes) in [(&mut old.name, name), (&mut old.linkname, link)] {
        let count = bytes.len().min(field.len());
        field[..count].copy_from_slice(&bytes[..count]);
    }
    header.set_cksum();
    header
}

/// Puts the hashes of earlier files where they are meant to be.
fn filled(mut text: String, hashes: &BTreeMap<String, String>) -> String {
    for (name, hash) in hashes {
        text = text.replace(&format!("@{{{name}}}"), hash);
    }
    text
}

/// Records of a PAX header, each with its length.
fn records(text: &str) -> Vec<u8> {
    let mut all = String::new();
    for record in text.split(';') {
        let mut length = record.len() + 3;
        while length.to_string().len() + record.len() + 2 > length {
            length += 1;
        }
        writeln!(all, "{length} {record}").ok();
    }
    all.into_bytes()
}

/// Makes the sums of an archive's headers right.
pub(super) fn summed(bytes: &[u8]) -> Vec<u8> {
    let (mut bytes, mut at) = (bytes.to_vec(), 0);
    while let Some(block) = bytes.get_mut(at..at + BLOCK) {
        let mut header = Header::new_old();
        header.as_mut_bytes().copy_from_slice(block);
        header.set_cksum();
        if block.iter().any(|byte| *byte != 0) && !is_compressed(block) {
            block.copy_from_slice(header.as_bytes());
        }
        let size = header.entry_size().unwrap_or(0).min(1 << 20);
        at += BLOCK + usize::try_from(size).unwrap_or(0).next_multiple_of(BLOCK);
    }
    bytes
}

fn is_compressed(bytes: &[u8]) -> bool {
    matches!(
        bytes,
        [0x1f, 0x8b, ..] | [0x28, 0xb5, 0x2f, 0xfd, ..] | [0x50..=0x5f, 0x2a, 0x4d, 0x18, ..]
    )
}
