use std::time::Instant;

use super::*;
use crate::augment::{Mirror, Preset};
use crate::cache::testing::{TestCase, cache_of};

fn label([d, h, w]: [usize; 3]) -> u16 {
    u16::from(d > 6 && h > 6) + u16::from(w == 0)
}

/// Three cases, one of them smaller than the patch.
fn cache() -> (tempfile::TempDir, Arc<Cache>) {
    let directory = tempfile::tempdir().unwrap();
    let cases = [
        TestCase::new("a", [12, 14, 9], label),
        TestCase::new("b", [5, 20, 10], label),
        TestCase::new("c", [16, 16, 16], label),
    ]
    .map(|case| case.with_channels(2));
    let cache = cache_of(directory.path(), &cases, 3);
    (directory, Arc::new(cache))
}

fn config(workers: usize) -> LoaderConfig {
    LoaderConfig {
        patch_size: [8, 8, 8],
        batch_size: 3,
        steps_per_epoch: 20,
        foreground_fraction: 0.33,
        augment: Preset::Nnunet.augmentation([8; 3], &[0, 1, 2]),
        masked_channels: Vec::new(),
        spacing: [1.0; 3],
        seed: 42,
        workers,
        memory: 4 * 3 * 512 * (2 * 4 + 4),
    }
}

fn epoch(cache: &Arc<Cache>, config: LoaderConfig, epoch: usize) -> Vec<Batch> {
    PatchLoader::new(cache.clone(), vec![0, 1, 2], config)
        .unwrap()
        .epoch(epoch)
        .collect::<Result<_>>()
        .unwrap()
}

fn bits(batches: &[Batch]) -> Vec<u32> {
    batches
        .iter()
        .flat_map(|batch| &batch.images)
        .map(|value| value.to_bits())
        .collect()
}

#[test]
fn batches_do_not_depend_on_the_number_of_workers() {
    let (_directory, cache) = cache();
    let alone = epoch(&cache, config(0), 5);
    assert_eq!(alone.len(), 20);
    assert_eq!(alone[0].shape, [3, 2, 8, 8, 8]);
    assert_eq!(alone[0].images.len(), 3 * 2 * 512);
    assert_eq!(alone[0].labels.len(), 3 * 512);
    for workers in [1, 8] {
        let made = epoch(&cache, config(workers), 5);
        assert_eq!(bits(&made), bits(&alone), "{workers} workers");
        assert_eq!(made, alone);
    }
    let mut cases: Vec<_> = alone.iter().flat_map(|batch| &batch.case_ids).collect();
    cases.sort();
    cases.dedup();
    assert_eq!(cases, ["a", "b", "c"]);
}

#[test]
fn epochs_seeds_steps_and_samples_differ() {
    let (_directory, cache) = cache();
    let first = epoch(&cache, config(2), 0);
    assert_ne!(bits(&first), bits(&epoch(&cache, config(2), 1)));
    let other_seed = LoaderConfig {
        seed: 43,
        ..config(2)
    };
    assert_ne!(bits(&first), bits(&epoch(&cache, other_seed, 0)));
    assert_ne!(first[0], first[1]);
    // Neighbouring coordinates give unrelated generators, also with the coordinates swapped.
    let draws: std::collections::HashSet<u64> = (0..1000)
        .flat_map(|i| {
            [
                [0, 0, i, 0],
                [0, i + 1, 0, 0],
                [i + 1, 0, 0, 0],
                [0, 0, 0, i + 1],
            ]
        })
        .map(|coordinates| sample_rng(coordinates).random())
        .collect();
    assert_eq!(draws.len(), 4000);
}

#[test]
fn dropping_an_epoch_stops_its_threads() {
    let (_directory, cache) = cache();
    let endless = LoaderConfig {
        steps_per_epoch: 1_000_000_000,
        ..config(8)
    };
    let loader = PatchLoader::new(cache.clone(), vec![0, 1, 2], endless).unwrap();
    let begun = Instant::now();
    for taken in [0, 1, 20] {
        let mut batches = loader.epoch(taken);
        for _ in 0..taken {
            batches.next().unwrap().unwrap();
        }
        drop(batches);
    }
    assert!(begun.elapsed().as_secs() < 20, "{:?}", begun.elapsed());
    drop(loader);
    // The threads held the cache too.
    assert_eq!(Arc::strong_count(&cache), 1);
}

/// An iterator over made-up batches.
fn made_up(
    steps: usize,
    workers: usize,
    ahead: usize,
    make: impl Fn(usize) -> Result<Batch> + Send + Sync + 'static,
) -> EpochIter {
    let state = LoaderState {
        seed: 0,
        epoch: 0,
        step: 0,
    };
    let make = Arc::new(move |step, _: &AtomicBool| Some(make(step)));
    EpochIter::start(state, steps, workers, ahead, Arc::default(), make)
}

fn empty_batch() -> Batch {
    Batch::with_capacity(1, 1, [1; 3])
}

#[test]
fn the_rest_of_an_epoch_has_the_same_bits_after_a_restart() {
    let (_directory, cache) = cache();
    let whole = epoch(&cache, config(0), 5);
    for (workers, done) in [(0, 7), (1, 1), (8, 13), (8, 20)] {
        let loader = PatchLoader::new(cache.clone(), vec![0, 1, 2], config(workers)).unwrap();
        let mut first = loader.epoch(5);
        for _ in 0..done {
            first.next().unwrap().unwrap();
        }
        // The state is kept as text, and read by another loader with another number of threads.
        let text = serde_json::to_string(&first.state()).unwrap();
        drop(first);
        let state: LoaderState = serde_json::from_str(&text).unwrap();
        assert_eq!((state.seed, state.epoch, state.step), (42, 5, done));
        let loader = PatchLoader::new(cache.clone(), vec![0, 1, 2], config(3)).unwrap();
        let rest: Vec<Batch> = loader
            .epoch_from(state)
            .unwrap()
            .collect::<Result<_>>()
            .unwrap();
        assert_eq!(
            bits(&rest),
            bits(&whole[done..]),
            "{workers} workers, {done} done"
        );
        assert_eq!(rest, whole[done..]);
    }
}

#[test]
fn a_state_that_does_not_fit_is_refused() {
    let (_directory, cache) = cache();
    let loader = PatchLoader::new(cache, vec![0], config(0)).unwrap();
    let state = loader.epoch(2).state();
    let refusal = |state| loader.epoch_from(state).unwrap_err().to_string();
    let other_seed = LoaderState { seed: 7, ..state };
    assert!(refusal(other_seed).contains("seed 7, the loader has 42"));
    let past_the_end = LoaderState { step: 21, ..state };
    assert!(refusal(past_the_end).contains("step 21, an epoch has 20"));
}

#[test]
fn no_more_batches_are_ahead_than_fit_into_the_memory() {
    use std::sync::atomic::AtomicUsize;
    for (workers, ahead) in [(1, 1), (8, 1), (8, 3), (2, 10)] {
        let begun = Arc::new(AtomicUsize::new(0));
        let counter = begun.clone();
        let mut batches = made_up(100, workers, ahead, move |_| {
            counter.fetch_add(1, Ordering::SeqCst);
            Ok(empty_batch())
        });
        for step in 0..30 {
            // The threads go as far as they may.
            let limit = Instant::now();
            while begun.load(Ordering::SeqCst) < step + ahead {
                assert!(limit.elapsed().as_secs() < 20, "step {step}");
                std::thread::yield_now();
            }
            std::thread::sleep(Duration::from_micros(200));
            assert_eq!(begun.load(Ordering::SeqCst), step + ahead);
            batches.next().unwrap().unwrap();
        }
    }
}

#[test]
fn the_memory_of_a_batch_is_what_it_holds() {
    let (_directory, cache) = cache();
    let loader = PatchLoader::new(cache, vec![0], config(0)).unwrap();
    let batch = loader.epoch(0).next().unwrap().unwrap();
    let bytes = 4 * batch.images.len() + 4 * batch.labels.len();
    assert_eq!(loader.batch_bytes(), bytes as u64);
}

#[test]
fn an_error_or_panic_names_the_case_and_ends_the_epoch() {
    for (workers, panics) in [(0, true), (1, true), (8, true), (0, false), (8, false)] {
        let mut batches = made_up(100, workers, 4, move |step| {
            workers::guarded("case_7", || match step {
                5 if panics => panic!("no voxel {step}"),
                5 => Err(DataError::Worker {
                    case: "case_7".into(),
                    message: "no voxel 5".into(),
                }),
                _ => Ok(()),
            })
            .map(|()| empty_batch())
        });
        for step in 0..5 {
            assert!(batches.next().unwrap().is_ok(), "step {step}");
        }
        let message = batches.next().unwrap().unwrap_err().to_string();
        assert!(message.contains("case case_7: no voxel 5"), "{message}");
        assert!(batches.next().is_none());
        assert_eq!(batches.state().step, 5);
    }
}

#[test]
fn a_panic_outside_of_a_case_ends_the_epoch_too() {
    for workers in [1, 2, 8] {
        let mut batches = made_up(100, workers, 4, |step| match step {
            3 => panic!("out of luck"),
            _ => Ok(empty_batch()),
        });
        assert_eq!(batches.by_ref().take(3).filter(Result::is_ok).count(), 3);
        let message = batches.next().unwrap().unwrap_err().to_string();
        assert!(message.contains("out of luck"), "{message}");
        assert!(batches.next().is_none());
    }
}

#[test]
fn waiting_is_counted() {
    let (_directory, cache) = cache();
    let loader = PatchLoader::new(cache, vec![0], config(0)).unwrap();
    assert_eq!(loader.waited(), Duration::ZERO);
    let begun = Instant::now();
    assert_eq!(loader.epoch(0).count(), 20);
    let waited = loader.waited();
    assert!(waited > Duration::ZERO && waited <= begun.elapsed());
}

#[test]
fn wrong_requests_are_errors() {
    let (directory, cache) = cache();
    let message = |cases: Vec<usize>, config: LoaderConfig| {
        PatchLoader::new(cache.clone(), cases, config)
            .unwrap_err()
            .to_string()
    };
    assert!(message(vec![], config(0)).contains("no case"));
    assert!(message(vec![0, 3], config(0)).contains("case 3 of 3"));
    let mut wrong = config(0);
    wrong.patch_size[1] = 0;
    assert!(message(vec![0], wrong).contains("patch size"));
    let mut wrong = config(0);
    wrong.batch_size = 0;
    assert!(message(vec![0], wrong).contains("batch size"));
    let mut wrong = config(0);
    wrong.augment.spatial.mirror = Some(Mirror {
        probability: 1.5,
        axes: vec![0],
    });
    assert!(message(vec![0], wrong).contains("mirror: probability is 1.5"));

    let mut config = config(0);
    let operator = crate::augment::BinaryOperator {
        channels: vec![2],
        ..Default::default()
    };
    let operator = crate::augment::IntensityTransform::BinaryOperator(operator);
    config.augment.intensity.push(operator);
    let error = PatchLoader::new(cache.clone(), vec![0], config).unwrap_err();
    assert!(error.to_string().contains("below 2"), "{error}");

    let cases = [
        TestCase::new("one", [4; 3], label),
        TestCase::new("two", [4; 3], label).with_channels(2),
    ];
    let mixed = cache_of(directory.path(), &cases, 3);
    let error = PatchLoader::new(Arc::new(mixed), vec![0, 1], self::config(0)).unwrap_err();
    assert!(
        error.to_string().contains("case two has 2 channels"),
        "{error}"
    );
}

#[test]
fn validation_patches_are_fixed_and_centred_on_foreground() {
    let (_directory, cache) = cache();
    let patches = |seed| validation_patches(&cache, &[2, 0], [8; 3], 10, seed, &[]).unwrap();
    let first = patches(1);
    assert_eq!(first, patches(1));
    assert_ne!(first, patches(2));
    assert_eq!(first.len(), 10);
    for (index, patch) in first.iter().enumerate() {
        assert_eq!(patch.shape, [1, 2, 8, 8, 8]);
        assert_eq!(patch.case_ids, [["c", "a"][index % 2]]);
        assert!(patch.labels.iter().any(|&label| label > 0));
        assert!(
            patch.images.iter().all(|value| value.fract() == 0.0),
            "augmented"
        );
    }
}

#[test]
fn what_is_outside_of_the_body_stays_zero_in_masked_channels() {
    use crate::augment::{IntensityTransform, Noise};
    let directory = tempfile::tempdir().unwrap();
    let body = |[d, h, w]: [usize; 3]| match d > 3 && w > 3 {
        true => u16::from(h > 6),
        false => OUTSIDE_OF_BODY,
    };
    let cases = [TestCase::new("a", [12, 12, 12], body).with_channels(2)];
    let cache = Arc::new(cache_of(directory.path(), &cases, 2));
    let noise = Noise {
        probability: 1.0,
        ..Noise::default()
    };
    let mut augment = Preset::Nnunet.augmentation([8; 3], &[0, 1, 2]);
    augment.intensity.push(IntensityTransform::Noise(noise));
    let config = LoaderConfig {
        augment,
        masked_channels: vec![1],
        ..config(0)
    };
    let loader = PatchLoader::new(cache.clone(), vec![0], config).unwrap();
    let (mut outside, mut inside) = (0, 0);
    for batch in loader.epoch(1) {
        let batch = batch.unwrap();
        assert!(batch.labels.iter().all(|label| [0, 1].contains(label)));
        for patch in batch.images.chunks_exact(2 * 512) {
            let (free, masked) = patch.split_at(512);
            assert!(free.iter().all(|&value| value != 0.0), "noise everywhere");
            outside += masked.iter().filter(|&&value| value == 0.0).count();
            inside += masked.iter().filter(|&&value| value != 0.0).count();
        }
    }
    // Some 40 % of the case is body, and patches reach out of it.
    assert!(
        outside > 2 * inside / 3 && inside > 1000,
        "{outside} {inside}"
    );
    let patches = validation_patches(&cache, &[0], [8; 3], 10, 1, &[1]).unwrap();
    for patch in &patches {
        assert!(patch.labels.iter().all(|label| [0, 1].contains(label)));
    }
    let masked = |patch: &Batch| patch.images[512..].contains(&0.0);
    assert!(
        patches.iter().any(masked),
        "a patch that reaches out of the body"
    );
}
