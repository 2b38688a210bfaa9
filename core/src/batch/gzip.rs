//! Gzip (RFC 1952) into a buffer that is kept: several times faster for small entries than a new reader for each.

use std::fmt;

use flate2::{Crc, Decompress, FlushDecompress, Status};

/// What is wrong with gzip data.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub enum GzipError {
    /// It does not start with gzip's magic bytes.
    Magic,
    /// The header asks for something that RFC 1952 does not define.
    Header,
    /// It ends too early.
    Truncated,
    /// The compressed data is invalid.
    Corrupt,
    /// The checksum, or the length, differs from the trailer's.
    Checksum,
    /// Something other than zeros or another gzip member follows it.
    Trailing,
}

impl GzipError {
    pub(super) fn code(self) -> &'static str {
        match self {
            GzipError::Magic => "gzip_magic",
            GzipError::Header => "gzip_header",
            GzipError::Truncated => "gzip_truncated",
            GzipError::Corrupt => "gzip_corrupt",
            GzipError::Checksum => "gzip_checksum",
            GzipError::Trailing => "gzip_trailing",
        }
    }
}

impl fmt::Display for GzipError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            GzipError::Magic => "the data is neither a JSON object nor gzip",
            GzipError::Header => "the gzip header is not one of RFC 1952",
            GzipError::Truncated => "the gzip data is cut off",
            GzipError::Corrupt => "the gzip data is corrupt",
            GzipError::Checksum => "the gzip data does not match its checksum and length",
            GzipError::Trailing => "the gzip data is followed by something else",
        })
    }
}

impl std::error::Error for GzipError {}

/// The bytes that gzip data starts with.
pub(super) const MAGIC: [u8; 2] = [0x1f, 0x8b];

/// Room behind the expected end of the text: inflate copies fast only while it has some to spare.
const SLACK: usize = 1 << 10;
/// Deflate cannot do better: 258 bytes take two bits.
const MAX_RATIO: usize = 1032;

pub(super) struct Gunzip {
    inflate: Decompress,
    /// The text and, behind it, leftovers. The whole length stays initialised, because flate2 would clear the spare
    /// capacity of a vector on each call.
    text: Vec<u8>,
}

impl Gunzip {
    pub(super) fn new() -> Gunzip {
        Gunzip { inflate: Decompress::new(false), text: Vec::new() }
    }

    /// The buffer that outlives a call.
    pub(super) fn buffer(&mut self) -> &mut Vec<u8> {
        &mut self.text
    }

    /// The text of all members, or `None` when it is longer than the limit.
    pub(super) fn unpack(&mut self, mut packed: &[u8], limit: usize) -> Result<Option<&[u8]>, GzipError> {
        // The trailer tells the length, usually. It is not to be trusted, and must not make us take more than could be needed.
        let told = packed.last_chunk().map_or(0, |length| u32::from_le_bytes(*length) as usize);
        self.grow(told.min(packed.len().saturating_mul(MAX_RATIO)), limit);
        let mut filled = 0;
        loop {
            let start = filled;
            let Some(rest) = self.member(after_header(packed)?, &mut filled, limit)? else { return Ok(None) };
            let (trailer, rest) = rest.split_first_chunk::<8>().ok_or(GzipError::Truncated)?;
            let member = self.text.get(start..filled).unwrap_or_default();
            let mut crc = Crc::new();
            crc.update(member);
            if u64::from_le_bytes(*trailer) != u64::from(crc.sum()) | (u64::from(member.len() as u32) << 32) {
                return Err(GzipError::Checksum);
            }
            // Other decoders accept a padding with zeros, and several members in a row. So did the original's.
            let padding = rest.iter().take_while(|&&byte| byte == 0).count();
            packed = rest.get(padding..).unwrap_or_default();
            if packed.is_empty() {
                return Ok(self.text.get(..filled));
            }
            if !packed.starts_with(&MAGIC) {
                return Err(GzipError::Trailing);
            }
        }
    }

    /// Inflates one member to `text[filled..]`, moves `filled`, and returns what follows the compressed data.
    fn member<'p>(&mut self, mut packed: &'p [u8], filled: &mut usize, limit: usize) -> Result<Option<&'p [u8]>, GzipError> {
        self.inflate.reset(false);
        loop {
            let room = self.text.get_mut(*filled..).unwrap_or_default();
            let (size, read, written) = (room.len(), self.inflate.total_in(), self.inflate.total_out());
            let status = self.inflate.decompress(packed, room, FlushDecompress::Finish).map_err(|_| GzipError::Corrupt)?;
            let read = (self.inflate.total_in() - read) as usize;
            let written = (self.inflate.total_out() - written) as usize;
            packed = packed.get(read..).unwrap_or_default();
            *filled += written;
            if *filled > limit {
                return Ok(None);
            }
            if status == Status::StreamEnd {
                return Ok(Some(packed));
            }
            if written < size {
                return Err(GzipError::Truncated);
            }
            self.grow(filled.saturating_mul(2), limit);
        }
    }

    /// Makes room for a text of this length, as far as the limit allows, and then some.
    fn grow(&mut self, length: usize, limit: usize) {
        let length = length.min(limit).saturating_add(SLACK);
        if self.text.len() < length {
            self.text.reserve_exact(length - self.text.len());
            self.text.resize(length, 0);
        }
    }
}

/// What follows the header of a member (RFC 1952, section 2.3).
fn after_header(packed: &[u8]) -> Result<&[u8], GzipError> {
    const DEFLATE: u8 = 8;
    const HEADER_CRC: u8 = 2;
    const EXTRA: u8 = 4;
    const NAME: u8 = 8;
    const COMMENT: u8 = 16;
    const RESERVED: u8 = 0b1110_0000;

    if !packed.starts_with(&MAGIC) {
        return Err(if MAGIC.starts_with(packed) { GzipError::Truncated } else { GzipError::Magic });
    }
    let (&[_, _, method, flags, ..], mut rest) = packed.split_first_chunk::<10>().ok_or(GzipError::Truncated)?;
    if method != DEFLATE || flags & RESERVED != 0 {
        return Err(GzipError::Header);
    }
    if flags & EXTRA != 0 {
        let (length, after) = rest.split_first_chunk().ok_or(GzipError::Truncated)?;
        rest = after.get(usize::from(u16::from_le_bytes(*length))..).ok_or(GzipError::Truncated)?;
    }
    for text in [NAME, COMMENT] {
        if flags & text != 0 {
            let end = rest.iter().position(|&byte| byte == 0).ok_or(GzipError::Truncated)?;
            rest = rest.get(end + 1..).unwrap_or_default();
        }
    }
    if flags & HEADER_CRC != 0 {
        rest = rest.get(2..).ok_or(GzipError::Truncated)?;
    }
    Ok(rest)
}
