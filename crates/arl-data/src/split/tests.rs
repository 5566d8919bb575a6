use super::*;
use crate::dataset::{Case, Layout, ReadOptions};

fn ids(n: usize) -> Vec<String> {
    (0..n).map(|i| format!("case_{i:03}")).collect()
}

/// A dataset of `n` cases in a directory, which are not looked at.
fn dataset(root: &Path, n: usize) -> Dataset {
    let case = |id: String| Case {
        id,
        images: Vec::new(),
        label: None,
    };
    Dataset {
        root: root.to_owned(),
        name: "test".into(),
        layout: Layout::NnUnetRaw,
        channel_names: vec!["CT".into()],
        classes: Vec::new(),
        regions: Vec::new(),
        ignore_label: None,
        file_ending: ".nii.gz".into(),
        // The order in which cases are given does not matter.
        training: ids(n).into_iter().rev().map(case).collect(),
        test: Vec::new(),
        folds: Vec::new(),
        held_out: Vec::new(),
        options: ReadOptions::default(),
    }
}

/// The places of the validation cases among the sorted ones.
fn validates(dataset: &Dataset, index: usize) -> Vec<usize> {
    let split = split(dataset, Fold::Index(index)).unwrap();
    let number = |id: &String| id["case_".len()..].parse().unwrap();
    let mut both = [&split.train[..], &split.validation].concat();
    both.sort();
    assert_eq!(both, ids(dataset.training.len()));
    split.validation.iter().map(number).collect()
}

#[test]
fn folds_are_nnunets() {
    let root = tempfile::tempdir().unwrap();
    // scikit-learn's KFold(5, shuffle=True, random_state=12345), as nnU-Net uses it.
    let folds = |n: usize| -> Vec<Vec<usize>> {
        let dataset = dataset(root.path(), n);
        (0..5).map(|index| validates(&dataset, index)).collect()
    };
    assert_eq!(folds(10), [[0, 7], [3, 9], [4, 6], [1, 8], [2, 5]]);
    let thirteen = [&[0, 7, 9][..], &[3, 6, 10], &[8, 11, 12], &[1, 4], &[2, 5]];
    assert_eq!(folds(13), thirteen);
    let twenty = [
        &[3, 8, 13, 16][..],
        &[0, 10, 12, 15],
        &[6, 7, 11, 17],
        &[9, 14, 18, 19],
        &[1, 2, 4, 5],
    ];
    assert_eq!(folds(20), twenty);
    // Beyond them four fifths at random: RandomState(12345 + fold).choice(n, int(n * 0.8), replace=False).
    assert_eq!(validates(&dataset(root.path(), 10), 5), [1, 2]);
    assert_eq!(validates(&dataset(root.path(), 13), 7), [3, 5, 11]);
}

#[test]
fn all_trains_on_everything_that_is_not_held_out() {
    let root = tempfile::tempdir().unwrap();
    let part = split(&dataset(root.path(), 6), Fold::All).unwrap();
    assert_eq!((part.train, part.validation), (ids(6), ids(2)));
    let single = split(&dataset(root.path(), 1), Fold::All).unwrap();
    assert_eq!((single.train, single.validation), (ids(1), ids(1)));
    let mut with_validation = dataset(root.path(), 3);
    with_validation.held_out = vec!["case_001".into()];
    let part = split(&with_validation, Fold::All).unwrap();
    assert_eq!(part.train, ["case_000", "case_002"]);
    assert_eq!(part.validation, ["case_001"]);
}

#[test]
fn impossible_folds_are_errors() {
    let root = tempfile::tempdir().unwrap();
    let fails = |n, index| {
        split(&dataset(root.path(), n), Fold::Index(index))
            .unwrap_err()
            .to_string()
    };
    assert!(fails(10, usize::MAX).contains("no fold"));
    assert!(fails(1, 0).contains("too few"));
    assert!(fails(3, 4).contains("too few"));
    assert!(fails(0, 0).contains("no case"));
}

#[test]
fn the_dataset_and_before_it_the_file_decide() {
    let root = tempfile::tempdir().unwrap();
    let mut dataset = dataset(root.path(), 3);
    dataset.folds = vec![Split {
        train: vec!["case_000".into(), "case_002".into()],
        validation: vec!["case_001".into()],
    }];
    assert_eq!(
        split(&dataset, Fold::Index(0)).unwrap().validation,
        ["case_001"]
    );
    let error = split(&dataset, Fold::Index(1)).unwrap_err().to_string();
    assert!(error.contains("holds 1 folds"), "{error}");

    let path = root.path().join(SPLITS_FILE);
    let read = |text: &str, index| {
        fs::write(&path, text).unwrap();
        split(&dataset, Fold::Index(index)).map_err(|e| e.to_string())
    };
    let good = r#"[{"train": ["case_002"], "val": ["case_000"]},
                   {"train": ["case_001", "case_001"], "val": ["case_001"]},
                   {"train": ["case_009"], "val": []}, {"train": [], "val": ["case_001"]},
                   {"train": ["case_001"], "val": []}]"#;
    let part = read(good, 0).unwrap();
    assert_eq!(part.train, ["case_002"]);
    assert_eq!(part.validation, ["case_000"]);
    let expected = [
        (1, "both trains and validates"),
        (2, "case_009"),
        (3, "no case to train on"),
        (4, "no case to validate on"),
        (5, "holds 5 folds"),
    ];
    for (index, words) in expected {
        let error = read(good, index).unwrap_err();
        assert!(
            error.contains(words) && error.contains(SPLITS_FILE),
            "{error}"
        );
    }
    let faults = faults_of_folds(&dataset);
    assert_eq!(faults.len(), 4, "{faults:?}");
    assert!(read("{}", 0).unwrap_err().contains(SPLITS_FILE));
    assert_eq!(faults_of_folds(&dataset).len(), 1);
}

#[test]
fn folds_are_words() {
    for fold in [Fold::All, Fold::Index(3)] {
        assert_eq!(fold.to_string().parse(), Ok(fold));
        let json = serde_json::to_string(&fold).unwrap();
        assert_eq!(serde_json::from_str::<Fold>(&json).unwrap(), fold);
    }
    assert!("-1".parse::<Fold>().is_err());
}
