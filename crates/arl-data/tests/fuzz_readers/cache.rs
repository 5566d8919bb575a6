//! The files of the cache: a damaged one is made anew or refused when the damaged part is read, and what is read is what was
//! written.

use std::fs;
use std::path::PathBuf;

use arl_data::cache::{Cache, CacheOptions};
use arl_data::dataset::Dataset;
use arl_data::plan::Plan;

use super::allocations::most_during;
use super::descriptions::{cohort, plan};
use super::{Mutator, fuzz};

/// Bytes of an entry of the index: place, length, checksum.
const ENTRY: usize = 16;
/// Bytes behind the index: where the footer begins, its checksum, version, mark.
const TRAILER: usize = 24;
/// Memory that a patch of 40³ voxels and the chunks under it take, whatever the file.
const READING: usize = 16 << 20;

/// A dataset of one case, because a file that is found damaged is preprocessed again, and its cache.
struct OneCase {
    _folder: tempfile::TempDir,
    dataset: Dataset,
    plan: Plan,
    directory: PathBuf,
}

impl OneCase {
    fn new() -> Self {
        let folder = tempfile::tempdir().unwrap();
        let mut dataset = cohort(&folder.path().join("data"));
        let plan = plan(&dataset);
        dataset.training.truncate(1);
        Self {
            directory: folder.path().join("cache"),
            _folder: folder,
            dataset,
            plan,
        }
    }

    fn open(&self) -> Cache {
        let options = CacheOptions::default();
        Cache::open_or_build(
            &self.directory,
            &self.dataset,
            &self.plan,
            &options,
            &|_, _| {},
        )
        .unwrap()
    }

    /// The case's file, made if it is not there.
    fn file(&self) -> PathBuf {
        self.open().cases()[0].path().to_owned()
    }
}

#[test]
fn cache_file() {
    let case = OneCase::new();
    let patch = |cache: &Cache| cache.cases()[0].read_patch([-2, -2, -2], [40, 40, 40], 77);
    let expected = patch(&case.open()).unwrap();
    let path = case.file();
    let seed = fs::read(&path).unwrap();
    let make = |mutator: &mut Mutator| {
        let mut bytes = seed.clone();
        // Nearly all of the file is voxels; half of the damage goes to its start.
        if mutator.one_in(2) {
            let mut start = bytes[..512].to_vec();
            mutator.mutate(&mut start, &seed, &[0, 8, 12, 16, 20, 24]);
            bytes.splice(..512, start);
        } else {
            mutator.mutate(&mut bytes, &seed, &[]);
        }
        bytes
    };
    let used = fuzz("cache_file", 20, make, |bytes| {
        fs::remove_file(&path).unwrap();
        fs::write(&path, bytes).unwrap();
        let cache = case.open();
        match patch(&cache) {
            Ok(found) => {
                assert_eq!(found, expected);
                *bytes != seed && fs::read(&path).unwrap() == *bytes
            }
            Err(error) => {
                let line = error.to_string();
                assert!(
                    line.contains(".arlcache") && line.lines().count() == 1,
                    "{line}"
                );
                false
            }
        }
    });
    assert_eq!(used, 0, "a damaged file was taken for whole");
}

/// Damage with right checksums, as only an enemy or a mistake of ours makes it: what lies behind them is parsed.
#[test]
fn cache_file_with_right_checksums() {
    let case = OneCase::new();
    let path = case.file();
    let seed = fs::read(&path).unwrap();
    let number = |bytes: &[u8]| u64::from_le_bytes(bytes.try_into().unwrap()) as usize;
    let footer = number(&seed[seed.len() - TRAILER..][..8]);
    let json_end =
        footer + 4 + u32::from_le_bytes(seed[footer..footer + 4].try_into().unwrap()) as usize;
    let index = &seed[json_end..seed.len() - TRAILER];
    let parts: Vec<usize> = index
        .chunks_exact(ENTRY)
        .map(|entry| number(&entry[..8]))
        .collect();
    let make = |mutator: &mut Mutator| {
        let (mut before, mut after) = (
            seed[..footer].to_vec(),
            seed[footer..seed.len() - TRAILER].to_vec(),
        );
        if mutator.one_in(2) {
            let fields: Vec<usize> = (0..4).chain(json_end - footer..after.len()).collect();
            mutator.mutate(&mut after, &seed, &fields);
        } else {
            // A chunk of another content and length, and all that the index says of it and of those behind it.
            let at = mutator.below(parts.len());
            let end = parts.get(at + 1).copied().unwrap_or(footer);
            let mut part = before[parts[at]..end].to_vec();
            mutator.mutate(&mut part, &seed, &[0, 4]);
            let entries = json_end - footer;
            let longer = part.len() as i64 - (end - parts[at]) as i64;
            for later in at + 1..parts.len() {
                let place = (parts[later] as i64 + longer) as u64;
                after[entries + later * ENTRY..][..8].copy_from_slice(&place.to_le_bytes());
            }
            let entry = &mut after[entries + at * ENTRY..][..ENTRY];
            entry[8..12].copy_from_slice(&(part.len() as u32).to_le_bytes());
            entry[12..].copy_from_slice(&crc32fast::hash(&part).to_le_bytes());
            before.splice(parts[at]..end, part);
        }
        let footer = before.len() as u64;
        after.extend(footer.to_le_bytes());
        let crc = crc32fast::hash(&after);
        before.extend(after);
        before.extend(crc.to_le_bytes());
        before.extend(&seed[seed.len() - 12..]);
        before
    };
    let used = fuzz("cache_file_with_right_checksums", 60, make, |bytes| {
        fs::write(&path, bytes).unwrap();
        let (cache, opening) = most_during(|| case.open());
        let cached = &cache.cases()[0];
        let (patch, reading) = most_during(|| cached.read_patch([-2, -2, -2], [40, 40, 40], 77));
        let (locations, _) = most_during(|| cached.locations(1));
        assert!(
            opening < READING + 8 * bytes.len(),
            "{opening} bytes of memory to open"
        );
        assert!(
            reading < READING + 8 * bytes.len(),
            "{reading} bytes of memory to read"
        );
        for message in [
            patch.err().map(|e| e.to_string()),
            locations.err().map(|e| e.to_string()),
        ] {
            let message = message.unwrap_or_default();
            assert!(
                message.is_empty() || message.contains(".arlcache"),
                "{message}"
            );
            assert!(message.lines().count() <= 1, "{message}");
        }
        fs::read(&path).unwrap() == *bytes
    });
    assert!(used > 0, "no damage got behind the checksums");
}
