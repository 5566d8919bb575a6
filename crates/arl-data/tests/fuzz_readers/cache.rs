//! The files of the cache: a damaged one is made anew or refused when the damaged part is read, and what is read is what was
//! written.

use std::fs;

use arl_data::cache::{Cache, CacheOptions};

use super::descriptions::{cohort, plan};
use super::fuzz;

#[test]
fn cache_file() {
    let folder = tempfile::tempdir().unwrap();
    let mut dataset = cohort(&folder.path().join("data"));
    // One case: a file that is found damaged is preprocessed again.
    let plan = plan(&dataset);
    dataset.training.truncate(1);
    let directory = folder.path().join("cache");
    let options = CacheOptions::default();
    let open = || Cache::open_or_build(&directory, &dataset, &plan, &options, &|_, _| {}).unwrap();
    let patch = |cache: &Cache| cache.cases()[0].read_patch([-2, -2, -2], [40, 40, 40], 77);
    let expected = patch(&open()).unwrap();
    let mut files = fs::read_dir(&directory)
        .unwrap()
        .map(|entry| entry.unwrap().path());
    let path = files
        .find(|path| path.extension().is_some_and(|e| e == "arlcache"))
        .unwrap();
    let seed = fs::read(&path).unwrap();
    let make = |mutator: &mut super::Mutator| {
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
        let cache = open();
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
