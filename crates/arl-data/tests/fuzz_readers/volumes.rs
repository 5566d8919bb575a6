//! NIfTI-1 and -2, pairs, NRRD and MetaImage, each compressed and not, from memory.

use std::fs;
use std::io::{Read, Write};
use std::path::{Path, PathBuf};

use arl_data::DataError;
use arl_data::formats::{
    Memory, ending_of, read_channels_from, read_header_from, read_labels_from,
};
use flate2::Compression;
use flate2::bufread::{MultiGzDecoder, ZlibDecoder};
use flate2::write::GzEncoder;

use super::allocations::most_during;
use super::fuzz;
use super::mutate::Mutator;

/// Memory that reading takes whatever the file: buffers, and the tables of decompression.
const BUFFERS: usize = 1 << 20;
/// How many times its stored voxels a volume may take: one byte becomes four, and memory grows in steps.
const PER_BYTE: usize = 40;

/// By how much memory for compressed voxels may be ahead of them.
const GROWTH: usize = 8;

/// A valid volume.
struct Seed {
    path: PathBuf,
    header: Vec<u8>,
    /// The file that its header names, where voxels lie apart.
    voxels: Option<(PathBuf, Vec<u8>)>,
}

/// A mutated volume.
struct Input {
    path: PathBuf,
    files: Memory,
    /// The mutated file.
    bytes: Vec<u8>,
}

impl AsRef<[u8]> for Input {
    fn as_ref(&self) -> &[u8] {
        &self.bytes
    }
}

/// The references of some endings, with the files of their voxels.
fn seeds(endings: &[&str]) -> Vec<Seed> {
    let references = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/references");
    let mut seeds = Vec::new();
    for folder in ["nifti", "volumes"] {
        let mut paths: Vec<PathBuf> = fs::read_dir(references.join(folder))
            .unwrap()
            .map(|entry| entry.unwrap().path())
            .filter(|path| ending_of(path).is_some_and(|ending| endings.contains(&ending)))
            .collect();
        paths.sort();
        for path in paths {
            let files = arl_data::formats::files_of(&path).unwrap();
            seeds.push(Seed {
                header: fs::read(&path).unwrap(),
                voxels: files
                    .get(1)
                    .map(|voxels| (voxels.clone(), fs::read(voxels).unwrap())),
                path,
            });
        }
    }
    assert!(!seeds.is_empty());
    seeds
}

fn mutated(seeds: &[Seed], fields: &[usize], mutator: &mut Mutator) -> Input {
    let seed = &seeds[mutator.below(seeds.len())];
    let other = &seeds[mutator.below(seeds.len())];
    let mut files = Memory::new();
    let (mut header, mut voxels) = (seed.header.clone(), seed.voxels.clone());
    if let Some((_, voxels)) = &mut voxels
        && mutator.one_in(4)
    {
        change(voxels, &other.header, &[], mutator);
    }
    change(&mut header, &other.header, fields, mutator);
    if let Some((path, voxels)) = voxels {
        files.insert(path, voxels);
    }
    files.insert(seed.path.clone(), header.clone());
    Input {
        path: seed.path.clone(),
        files,
        bytes: header,
    }
}

/// Mutates a file; a compressed one mostly inside of its compression.
fn change(bytes: &mut Vec<u8>, other: &[u8], fields: &[usize], mutator: &mut Mutator) {
    let mut plain = Vec::new();
    if bytes.starts_with(&[0x1f, 0x8b])
        && !mutator.one_in(3)
        && MultiGzDecoder::new(&bytes[..])
            .read_to_end(&mut plain)
            .is_ok()
    {
        mutator.mutate(&mut plain, other, fields);
        let mut compressed = GzEncoder::new(Vec::new(), Compression::fast());
        compressed.write_all(&plain).unwrap();
        *bytes = compressed.finish().unwrap();
    } else {
        mutator.mutate(bytes, other, fields);
    }
}

/// Bytes in the files of a volume, after decompression of all that can be decompressed.
fn honest_bytes(files: &Memory) -> usize {
    let mut honest = 0;
    for bytes in files.values() {
        honest += bytes.len();
        for at in 0..bytes.len().saturating_sub(1) {
            let mut plain = Vec::new();
            let rest = &bytes[at..];
            // What comes before a fault counts: it was there to be read.
            let _ = match (rest[0], rest[1]) {
                (0x1f, 0x8b) => MultiGzDecoder::new(rest).read_to_end(&mut plain),
                (0x78, _) => ZlibDecoder::new(rest).read_to_end(&mut plain),
                _ => continue,
            };
            honest = honest.max(plain.len());
        }
    }
    honest
}

/// An error is one line that names a file of the volume.
fn check_error(input: &Input, error: &DataError) {
    let message = error.to_string();
    let named = input
        .files
        .keys()
        .any(|path| message.starts_with(&path.display().to_string()));
    let folder = input.path.parent().unwrap().display().to_string();
    assert!(named || message.starts_with(&folder), "{message}");
    assert_eq!(message.lines().count(), 1, "{message}");
}

/// Reads a volume in every way; whether it was accepted as an image.
fn read(input: &Input) -> bool {
    let (channels, most) = most_during(|| read_channels_from(&input.files, &input.path));
    let allowed = |bytes: usize| BUFFERS + PER_BYTE * bytes;
    if most > allowed(input.bytes.len()) {
        let honest = honest_bytes(&input.files);
        assert!(
            most <= allowed(honest),
            "{most} bytes of memory for {honest} bytes of voxels"
        );
    }
    let (header, most) = most_during(|| read_header_from(&input.files, &input.path));
    assert!(
        most <= BUFFERS + input.bytes.len(),
        "{most} bytes of memory for a header"
    );
    let labels = read_labels_from(&input.files, &input.path);
    match (&channels, &header) {
        (Ok(channels), Ok(header)) => {
            assert_eq!(channels.len(), header.channels);
            for channel in channels {
                assert_eq!(channel.geometry, header.geometry);
                assert_eq!(channel.data.shape(), header.geometry.shape);
                assert!(
                    channel
                        .geometry
                        .spacing()
                        .iter()
                        .all(|v| v.is_finite() && *v > 0.0)
                );
            }
            if let Ok(labels) = &labels {
                assert_eq!(channels.len(), 1);
                assert_eq!(labels.geometry, header.geometry);
                for (&label, &value) in labels.data.iter().zip(&channels[0].data) {
                    assert!(
                        (f32::from(label) - value).abs() <= 0.01,
                        "{label} is {value}"
                    );
                }
            }
        }
        (Ok(_), Err(error)) => panic!("voxels without a header: {error}"),
        (Err(error), _) => {
            check_error(input, error);
            let error = labels.as_ref().expect_err("labels without an image");
            check_error(input, error);
        }
    }
    channels.is_ok()
}

fn run(target: &str, endings: &[&str], fields: &[usize]) {
    let seeds = seeds(endings);
    let make = |mutator: &mut Mutator| mutated(&seeds, fields, mutator);
    let accepted = fuzz(target, 8_000, make, read);
    assert!(accepted > 0, "not one mutated file was still valid");
}

/// Numbers of both versions of the header that decide what is read.
const NIFTI_FIELDS: [usize; 36] = [
    0, 4, 12, 14, 16, 24, 32, 40, 42, 44, 46, 48, 50, 56, 70, 72, 76, 80, 84, 88, 104, 108, 112,
    116, 120, 123, 168, 176, 184, 252, 254, 256, 280, 344, 348, 400,
];

#[test]
fn nifti() {
    run("nifti", &[".nii"], &NIFTI_FIELDS);
}

#[test]
fn nifti_compressed() {
    run("nifti_compressed", &[".nii.gz"], &NIFTI_FIELDS);
}

#[test]
fn nifti_pairs() {
    run("nifti_pairs", &[".hdr", ".hdr.gz"], &NIFTI_FIELDS);
}

#[test]
fn nrrd() {
    run("nrrd", &[".nrrd", ".nhdr"], &[]);
}

#[test]
fn metaimage() {
    run("metaimage", &[".mha", ".mhd"], &[]);
}

/// The sizes of a compressed volume can be checked against its file only roughly (deflate may shrink a thousandfold), so
/// memory has to wait for the voxels.
#[test]
fn a_lying_header_over_compressed_voxels_takes_no_memory() {
    let path = PathBuf::from("lying.nii.gz");
    let references = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/references");
    let mut plain = fs::read(references.join("volumes/written_f4.nii")).unwrap();
    for (axis, length) in [300i16, 300, 300].into_iter().enumerate() {
        plain[42 + 2 * axis..][..2].copy_from_slice(&length.to_le_bytes());
    }
    // Voxels that cannot be compressed: 200 kB of the 108 MB that the header declares.
    let mut state = 1u64;
    plain.extend((0..200_000).map(|_| {
        state = state
            .wrapping_mul(6364136223846793005)
            .wrapping_add(1442695040888963407);
        (state >> 56) as u8
    }));
    let mut compressed = GzEncoder::new(Vec::new(), Compression::fast());
    compressed.write_all(&plain).unwrap();
    let files = Memory::from([(path.clone(), compressed.finish().unwrap())]);
    let (result, most) = most_during(|| read_channels_from(&files, &path));
    let message = result.unwrap_err().to_string();
    assert!(message.contains("voxels missing"), "{message}");
    assert!(
        most < BUFFERS + GROWTH * plain.len(),
        "{most} bytes of memory"
    );
}
