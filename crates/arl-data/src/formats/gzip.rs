//! Gzip streams of one or several members, read to the last checksum and not beyond.

use std::io::{self, BufRead, Read};

use flate2::bufread::GzDecoder;

/// The two bytes that a gzip stream starts with.
pub(super) const MARK: [u8; 2] = [0x1f, 0x8b];

/// Decompresses members until the file ends; zeros may fill its last block, as after `gzip` on a tape.
///
/// flate2's own reader of several members takes such zeros for a damaged header.
pub(super) struct Gunzip<R: BufRead> {
    member: Option<GzDecoder<R>>,
}

impl<R: BufRead> Gunzip<R> {
    pub fn new(compressed: R) -> Self {
        Self {
            member: Some(GzDecoder::new(compressed)),
        }
    }
}

impl<R: BufRead> Read for Gunzip<R> {
    fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        if buffer.is_empty() {
            return Ok(0);
        }
        while let Some(member) = &mut self.member {
            let count = member.read(buffer)?;
            if count > 0 {
                return Ok(count);
            }
            // The member has ended and its checksum was right.
            let Some(member) = self.member.take() else {
                break;
            };
            let mut rest = member.into_inner();
            if rest.fill_buf()?.first() == Some(&MARK[0]) {
                self.member = Some(GzDecoder::new(rest));
            } else {
                only_zeros(&mut rest)?;
            }
        }
        Ok(0)
    }
}

/// Reads to the end of a stream.
///
/// # Errors
/// At a byte that is not zero.
pub(super) fn only_zeros(rest: &mut impl BufRead) -> io::Result<()> {
    loop {
        let bytes = rest.fill_buf()?;
        if bytes.is_empty() {
            return Ok(());
        }
        if bytes.iter().any(|&byte| byte != 0) {
            return Err(io::Error::new(
                io::ErrorKind::InvalidData,
                "foreign bytes follow",
            ));
        }
        let count = bytes.len();
        rest.consume(count);
    }
}
