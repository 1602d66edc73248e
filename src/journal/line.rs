//! A line of a journal file: `crc32c-hex SP seq SP json LF`. The checksum covers everything after it but the line feed.
//!
//! There is exactly one way to write a record, so that a changed bit anywhere in a line is found.

use serde::{Deserialize, Serialize};

use crate::event::Event;

/// Version of the format. A journal of another version is refused as a whole.
pub(super) const FORMAT: u32 = 1;

/// Longest line that is written or read, in bytes. The longest record is a plan.
pub(super) const MAX_LINE: usize = 4 << 20;

/// What a line says.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub(super) enum Record {
    /// A process began to write here. First line of each file.
    Opened(Opened),
    /// Something happened.
    Event(Event),
}

/// The process that began to write.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub(super) struct Opened {
    /// Version of the format.
    pub format: u32,
    /// Id of the run: lines of different runs are never mixed.
    pub run: String,
    /// Which file of the run this is.
    pub file: File,
    /// Process that writes from here on.
    pub pid: u32,
    /// The boot whose monotonic clock it uses.
    pub boot_id: String,
    /// Set if the process goes on with the journal of another one.
    pub takes_over: Option<TakesOver>,
}

/// The state in which a process found the journal that it goes on with.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case", deny_unknown_fields)]
pub(super) struct TakesOver {
    /// The line before was torn: it has no line feed of its own, and was never acknowledged.
    pub torn: bool,
}

/// The files of a journal.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub(super) enum File {
    /// Few records, each synced to disk before anything is done that relies on it.
    Undo,
    /// The rest.
    Events,
}

impl File {
    pub(super) fn name(self) -> &'static str {
        match self {
            Self::Undo => "undo.jsonl",
            Self::Events => "events.jsonl",
        }
    }

    /// Largest size that is written or read, in bytes.
    pub(super) fn cap(self) -> u64 {
        match self {
            Self::Undo => 16 << 20,
            Self::Events => 512 << 20,
        }
    }
}

/// A line with its line feed.
pub(super) fn encode(seq: u64, record: &Record) -> Result<Vec<u8>, serde_json::Error> {
    let mut line = b"00000000 ".to_vec();
    line.extend_from_slice(format!("{seq} ").as_bytes());
    serde_json::to_writer(&mut line, record)?;
    let crc = format!("{:08x}", crc32c::crc32c(&line[9..]));
    line[..8].copy_from_slice(crc.as_bytes());
    line.push(b'\n');
    Ok(line)
}

/// Why a line is rejected.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) enum BadLine {
    /// The line is not what was written.
    Rotten(&'static str),
    /// The line is what was written, but by a version of kchaos that knows other records.
    Foreign(String),
}

/// Returns what a line (without its line feed) says, with its sequence number.
pub(super) fn decode(line: &[u8]) -> Result<(u64, Record), BadLine> {
    let (crc, rest) = line.split_at_checked(9).ok_or(BadLine::Rotten("it is too short"))?;
    // Compared as text: the same number in capital letters would be another way to write it.
    if crc != format!("{:08x} ", crc32c::crc32c(rest)).as_bytes() {
        return Err(BadLine::Rotten("its checksum does not match"));
    }
    let numbered = rest.iter().position(|b| *b == b' ').and_then(|space| {
        let seq = std::str::from_utf8(&rest[..space]).ok()?.parse().ok()?;
        Some((seq, &rest[space + 1..]))
    });
    let (seq, json) = numbered.ok_or(BadLine::Rotten("it has no sequence number"))?;
    let record = serde_json::from_slice(json).map_err(|e| BadLine::Foreign(e.to_string()))?;
    if let Record::Opened(Opened { format, .. }) = &record
        && *format != FORMAT
    {
        return Err(BadLine::Foreign(format!("its format is {format}, known is {FORMAT}")));
    }
    Ok((seq, record))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::clock::Mono;
    use crate::event::{EventKind, Phase};

    fn line() -> Vec<u8> {
        encode(41, &Record::Event(Event { at: Mono(7), kind: EventKind::Phase(Phase::Fault) })).expect("encodes")
    }

    #[test]
    fn a_line_is_readable_by_people() {
        assert_eq!(
            String::from_utf8(line()).unwrap(),
            "006f4f8d 41 {\"event\":{\"at\":7,\"kind\":{\"phase\":\"fault\"}}}\n"
        );
    }

    #[test]
    fn every_flipped_bit_is_found() {
        let good = line();
        for bit in 0..(good.len() - 1) * 8 {
            let mut bad = good[..good.len() - 1].to_vec();
            bad[bit / 8] ^= 1 << (bit % 8);
            assert!(matches!(decode(&bad), Err(BadLine::Rotten(_))), "bit {bit}");
        }
    }

    #[test]
    fn a_record_of_a_newer_version_is_foreign_and_not_rotten() {
        for json in [
            r#"{"event":{"at":7,"kind":{"shaken":{}}}}"#,
            r#"{"opened":{"format":2,"run":"r","file":"undo","pid":1,"boot-id":"","takes-over":null}}"#,
        ] {
            let rest = format!("0 {json}");
            let line = format!("{:08x} {rest}", crc32c::crc32c(rest.as_bytes()));
            assert!(matches!(decode(line.as_bytes()), Err(BadLine::Foreign(_))), "{json}");
        }
    }
}
