//! Opening: the format is recognised, its header read and believed, and a stream set to the first voxel.

use std::collections::BTreeMap;
use std::fs::{self, File};
use std::io::{self, BufRead, BufReader, Cursor, Read};
use std::path::{Path, PathBuf};

use flate2::bufread::ZlibDecoder;

use super::gzip::{self, Gunzip};
use super::header::{Encoding, Header, Place, Skip};
use super::{metaimage, nifti, nrrd};
use crate::error::{DataError, Result};

/// No deflate stream expands further than this, so a larger volume cannot be in the file.
const LARGEST_EXPANSION: u64 = 1040;

/// A place that holds files by their paths.
pub trait Files {
    /// Opens a file for reading.
    ///
    /// # Errors
    /// When there is no such file, or it cannot be read.
    fn open<'a>(&'a self, path: &Path) -> io::Result<Input<'a>>;
}

/// An opened file.
pub struct Input<'a> {
    /// Its bytes from the first.
    pub stream: Box<dyn BufRead + Send + 'a>,
    /// How many they are.
    pub length: u64,
}

/// The file system.
#[derive(Clone, Copy, Debug)]
pub struct Disk;

/// Files in memory.
pub type Memory = BTreeMap<PathBuf, Vec<u8>>;

impl Files for Disk {
    fn open<'a>(&'a self, path: &Path) -> io::Result<Input<'a>> {
        // Asked before opening: to open a pipe would wait for its other end.
        let metadata = fs::metadata(path)?;
        if !metadata.is_file() {
            let kind = if metadata.is_dir() {
                "is a folder, not a file"
            } else {
                "is a device or pipe, not a file"
            };
            return Err(io::Error::new(io::ErrorKind::IsADirectory, kind));
        }
        let file = File::open(path)?;
        Ok(Input {
            stream: Box::new(BufReader::with_capacity(1 << 16, file)),
            length: metadata.len(),
        })
    }
}

impl Files for Memory {
    fn open<'a>(&'a self, path: &Path) -> io::Result<Input<'a>> {
        let bytes = self.get(path).ok_or(io::ErrorKind::NotFound)?;
        Ok(Input {
            stream: Box::new(&bytes[..]),
            length: bytes.len() as u64,
        })
    }
}

/// The stream of a file or of what it decompresses to.
pub(super) type Stream<'a> = Box<dyn BufRead + Send + 'a>;

/// An opened volume: the next byte of `stream` is the first voxel's.
pub(super) struct Source<'a> {
    /// The file that the voxels are in, for messages.
    pub path: PathBuf,
    /// All files of the volume, the one with the header first.
    pub files: Vec<PathBuf>,
    pub header: Header,
    pub stream: Stream<'a>,
}

impl<'a> Source<'a> {
    pub fn open(files: &'a dyn Files, path: &Path) -> Result<Self> {
        let mut path = header_of(files, path)?;
        let opened = Opened::new(files, &path)?.decompressed(&path)?;
        let (mut opened, mut header) = opened.read_header(&path)?;
        let mut all_files = vec![path.clone()];
        if let Place::Detached(candidates) = &header.place {
            path = existing(files, &path, "its voxels are missing", candidates)?;
            all_files.push(path.clone());
            opened = Opened::new(files, &path)?;
            if header.encoding == Encoding::Raw && is_named_gzip(&path) {
                header.encoding = Encoding::Gzip;
            }
        }
        let stream = opened.at_first_voxel(&path, &header)?;
        Ok(Source {
            path,
            files: all_files,
            header,
            stream,
        })
    }
}

/// A file whose stream stands somewhere.
struct Opened<'a> {
    stream: Stream<'a>,
    length: u64,
    /// Bytes read so far, after decompression.
    position: u64,
    compressed: bool,
}

impl<'a> Opened<'a> {
    fn new(files: &'a dyn Files, path: &Path) -> Result<Self> {
        let Input { mut stream, length } = files.open(path).map_err(|e| refused(path, e))?;
        let start = stream.fill_buf().map_err(|e| DataError::io(path, e))?;
        if start.is_empty() {
            return Err(damaged(path, "the file is empty"));
        }
        Ok(Opened {
            stream,
            length,
            position: 0,
            compressed: false,
        })
    }

    /// Decompresses a file that starts with the mark of gzip.
    fn decompressed(mut self, path: &Path) -> Result<Self> {
        let start = self.stream.fill_buf().map_err(|e| DataError::io(path, e))?;
        if start.starts_with(&gzip::MARK) {
            self.stream = Box::new(BufReader::new(Gunzip::new(self.stream)));
            self.compressed = true;
        } else if is_named_gzip(path) {
            let kind = if is_text(start) {
                "a text file"
            } else {
                "not gzip-compressed"
            };
            return Err(DataError::invalid(
                path,
                format!("is named .gz but is {kind}"),
                "export the volume again as .nii.gz (or rename it to .nii if it is uncompressed)",
            ));
        }
        Ok(self)
    }

    /// Recognises the format by the first four bytes and parses the header.
    fn read_header(mut self, path: &Path) -> Result<(Self, Header)> {
        let mut start = [0; 4];
        self.stream
            .read_exact(&mut start)
            .map_err(|e| broken(path, e, "inside the header"))?;
        let mut stream = Cursor::new(start).chain(self.stream);
        let (header, position) = if nifti::is_header(start) {
            nifti::parse(path, &mut stream)?
        } else if start == nrrd::MARK {
            nrrd::parse(path, &mut stream)?
        } else if is_text(&start) && super::ending_of(path).is_some_and(metaimage::is_ending) {
            metaimage::parse(path, &mut stream)?
        } else {
            return Err(unknown(path, is_text(&start)));
        };
        // All of `start` was read, or else parsing has failed.
        Ok((
            Opened {
                stream: stream.into_inner().1,
                position,
                ..self
            },
            header,
        ))
    }

    /// Skips to the first voxel and refuses a volume that the file cannot hold, before any memory is asked for.
    fn at_first_voxel(mut self, path: &Path, header: &Header) -> Result<Stream<'a>> {
        let before = |e| broken(path, e, "before the first voxel");
        for _ in 0..header.skipped_lines {
            self.position += skip_line(&mut self.stream).map_err(before)?;
        }
        let compressed =
            self.compressed || matches!(header.encoding, Encoding::Gzip | Encoding::Zlib);
        let room = if compressed {
            self.length.saturating_mul(LARGEST_EXPANSION)
        } else if header.encoding == Encoding::Text {
            // A digit and a separator per number.
            let numbers = (self.length - self.position.min(self.length)).div_ceil(2);
            numbers.saturating_mul(header.element.size() as u64)
        } else {
            self.length - self.position.min(self.length)
        };
        let stored = header.stored_bytes();
        let skip = match (header.skip, stored) {
            (Skip::Bytes(bytes), _) => bytes,
            (Skip::AllButVoxels, Some(stored)) => room.saturating_sub(stored),
            (Skip::AllButVoxels, None) => 0,
        };
        if stored
            .and_then(|stored| stored.checked_add(skip))
            .is_none_or(|needed| needed > room)
        {
            let [d, h, w] = header.geometry.shape;
            let channels = match header.channels {
                1 => String::new(),
                channels => format!("{channels} channels of "),
            };
            return Err(damaged(
                path,
                &format!(
                    "its header declares {channels}{d} × {h} × {w} voxels of {} bytes, the file holds {} bytes",
                    header.element.size(),
                    self.length
                ),
            ));
        }
        let mut stream: Stream<'a> = match header.encoding {
            Encoding::Raw | Encoding::Text => self.stream,
            Encoding::Gzip => Box::new(BufReader::new(Gunzip::new(self.stream))),
            Encoding::Zlib => Box::new(BufReader::new(ZlibDecoder::new(self.stream))),
        };
        let skipped = io::copy(&mut stream.by_ref().take(skip), &mut io::sink()).map_err(before)?;
        if skipped < skip {
            return Err(before(io::ErrorKind::UnexpectedEof.into()));
        }
        Ok(stream)
    }
}

/// The header beside voxels of an `.img` file; any other path as it is.
fn header_of(files: &dyn Files, path: &Path) -> Result<PathBuf> {
    let stem = path
        .to_str()
        .and_then(|path| path.strip_suffix(".img").or(path.strip_suffix(".img.gz")));
    match stem {
        None => Ok(path.to_owned()),
        Some(stem) => {
            let candidates = [".hdr", ".hdr.gz"].map(|e| PathBuf::from(format!("{stem}{e}")));
            existing(files, path, "its header is missing", &candidates)
        }
    }
}

/// The first of some files that exists.
fn existing(
    files: &dyn Files,
    of: &Path,
    problem: &str,
    candidates: &[PathBuf],
) -> Result<PathBuf> {
    let found = candidates.iter().find(
        |path| !matches!(files.open(path), Err(error) if error.kind() == io::ErrorKind::NotFound),
    );
    found.cloned().ok_or_else(|| {
        let names: Vec<String> = candidates
            .iter()
            .map(|path| path.display().to_string())
            .collect();
        DataError::invalid(
            of,
            format!("{problem} ({})", names.join(" or ")),
            "put the files of the header and of the voxels into one folder",
        )
    })
}

fn is_named_gzip(path: &Path) -> bool {
    path.extension().is_some_and(|e| e == "gz")
}

fn skip_line(stream: &mut Stream) -> io::Result<u64> {
    let mut count = 0;
    loop {
        let bytes = stream.fill_buf()?;
        if bytes.is_empty() {
            return Err(io::ErrorKind::UnexpectedEof.into());
        }
        let end = bytes.iter().position(|&byte| byte == b'\n');
        let read = end.map_or(bytes.len(), |end| end + 1);
        stream.consume(read);
        count += read as u64;
        if end.is_some() {
            return Ok(count);
        }
    }
}

/// The next line of a header without its end; `None` at the end of the file. Adds its bytes to `position`.
///
/// # Errors
/// When reading fails, or the line is longer than any of a header.
pub(super) fn header_line(
    path: &Path,
    stream: &mut impl BufRead,
    position: &mut u64,
) -> Result<Option<String>> {
    const LONGEST: u64 = 1 << 16;
    let mut line = Vec::new();
    let count = stream
        .by_ref()
        .take(LONGEST)
        .read_until(b'\n', &mut line)
        .map_err(|e| broken(path, e, "inside the header"))? as u64;
    *position += count;
    if count == 0 {
        return Ok(None);
    }
    if line.pop_if(|byte| *byte == b'\n').is_none() && count == LONGEST {
        return Err(damaged(path, "a line of its header does not end"));
    }
    line.pop_if(|byte| *byte == b'\r');
    Ok(Some(String::from_utf8_lossy(&line).into_owned()))
}

/// An error of opening.
fn refused(path: &Path, error: io::Error) -> DataError {
    match error.kind() {
        io::ErrorKind::NotFound if path.is_symlink() => DataError::invalid(
            path,
            "is a link to a file that does not exist",
            "restore the file or remove the link",
        ),
        io::ErrorKind::NotFound => {
            DataError::invalid(path, "there is no such file", "check the path")
        }
        io::ErrorKind::IsADirectory => {
            DataError::invalid(path, error.to_string(), "name a volume's file")
        }
        _ => DataError::io(path, error),
    }
}

/// An error of the stream: the operating system's own, or the end of a file that should go on.
pub(super) fn broken(path: &Path, error: io::Error, place: &str) -> DataError {
    use io::ErrorKind::{InvalidData, InvalidInput, UnexpectedEof};
    match error.kind() {
        UnexpectedEof => damaged(path, &format!("the file ends {place}")),
        InvalidData | InvalidInput => damaged(path, &format!("{error} {place}")),
        _ => DataError::io(path, error),
    }
}

pub(super) fn damaged(path: &Path, problem: &str) -> DataError {
    DataError::invalid(
        path,
        format!("truncated or damaged: {problem}"),
        "copy or download the file again",
    )
}

fn unknown(path: &Path, text: bool) -> DataError {
    let format = match super::ending_of(path) {
        Some(".nrrd" | ".nhdr") => "NRRD",
        Some(".mha" | ".mhd") => "MetaImage",
        _ => "NIfTI",
    };
    let kind = if text {
        "a text file"
    } else {
        "no header of it"
    };
    DataError::invalid(
        path,
        format!("not a {format} file ({kind} is there)"),
        "export the volume again as .nii.gz",
    )
}

/// Whether bytes that should be binary are readable by a person.
fn is_text(start: &[u8]) -> bool {
    let start = &start[..start.len().min(512)];
    start
        .iter()
        .all(|&byte| byte >= b' ' || matches!(byte, b'\n' | b'\r' | b'\t'))
}
