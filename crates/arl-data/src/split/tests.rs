use super::*;

fn cases(n: usize) -> Vec<String> {
    (0..n).map(|i| format!("case_{i:03}")).collect()
}

#[test]
fn every_case_validates_once() {
    let root = tempfile::tempdir().unwrap();
    let ids = cases(13);
    let mut reversed = ids.clone();
    reversed.reverse();
    let mut seen = Vec::new();
    for index in 0..5 {
        let part = split(&ids, Fold::Index(index), 5, 7, root.path()).unwrap();
        assert_eq!(
            part,
            split(&reversed, Fold::Index(index), 5, 7, root.path()).unwrap()
        );
        assert!(part.validation.len() == 2 || part.validation.len() == 3);
        let mut both = [part.train, part.validation.clone()].concat();
        both.sort();
        assert_eq!(both, ids);
        seen.extend(part.validation);
    }
    seen.sort();
    assert_eq!(seen, ids);
    let other = split(&ids, Fold::Index(0), 5, 8, root.path()).unwrap();
    assert_ne!(
        other,
        split(&ids, Fold::Index(0), 5, 7, root.path()).unwrap()
    );
}

#[test]
fn all_trains_on_everything() {
    let root = tempfile::tempdir().unwrap();
    let part = split(&cases(6), Fold::All, 5, 0, root.path()).unwrap();
    assert_eq!(part.train, cases(6));
    assert_eq!(part.validation, cases(2));
    let single = split(&cases(1), Fold::All, 5, 0, root.path()).unwrap();
    assert_eq!((single.train, single.validation), (cases(1), cases(1)));
}

#[test]
fn impossible_folds_are_errors() {
    let root = tempfile::tempdir().unwrap();
    let fails = |n, index| {
        split(&cases(n), Fold::Index(index), 5, 0, root.path())
            .unwrap_err()
            .to_string()
    };
    assert!(fails(10, 5).contains("no fold 5"));
    assert!(fails(1, 0).contains("too few"));
    assert!(fails(3, 4).contains("too few"));
    assert!(fails(0, 0).contains("no case"));
}

#[test]
fn the_file_decides() {
    let root = tempfile::tempdir().unwrap();
    let path = root.path().join(SPLITS_FILE);
    let read = |text: &str, index| {
        fs::write(&path, text).unwrap();
        split(&cases(3), Fold::Index(index), 5, 0, root.path()).map_err(|e| e.to_string())
    };
    let good = r#"[{"train": ["case_002"], "val": ["case_000"]},
                   {"train": ["case_001", "case_001"], "val": ["case_001"]},
                   {"train": ["case_009"], "val": []}, {"train": [], "val": []}]"#;
    let part = read(good, 0).unwrap();
    assert_eq!(part.train, ["case_002"]);
    assert_eq!(part.validation, ["case_000"]);
    assert!(
        read(good, 1)
            .unwrap_err()
            .contains("both trains and validates")
    );
    assert!(read(good, 2).unwrap_err().contains("case_009"));
    assert!(read(good, 3).unwrap_err().contains("no case to train on"));
    assert!(read(good, 4).unwrap_err().contains("holds 4 folds"));
    assert!(read("{}", 0).unwrap_err().contains(SPLITS_FILE));
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
