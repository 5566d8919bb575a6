use std::path::{Path, PathBuf};

use safetensors::Dtype;

use super::pickle::{Node, Pickle};
use super::*;

/// What `tests/references/pytorch.py` wrote.
fn reference(name: &str) -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR"))
        .join("../../tests/references/pytorch")
        .join(name)
}

fn refused(path: &Path) -> String {
    let result = Checkpoint::open(path).and_then(|mut checkpoint| checkpoint.weights());
    let line = result.unwrap_err().to_string();
    assert_eq!(line.lines().count(), 1, "{line}");
    assert!(line.starts_with(&path.display().to_string()), "{line}");
    line
}

#[test]
fn tensors_of_every_kind_and_layout_are_read_as_pytorch_has_them() {
    let mut checkpoint = Checkpoint::open(&reference("kinds.pth")).unwrap();
    assert_eq!(
        checkpoint.text(&["init_args", "configuration"]),
        Some("3d_fullres")
    );
    assert_eq!(checkpoint.text(&["init_args", "nothing"]), None);
    assert_eq!(checkpoint.counts(&["mirroring"]), Some(vec![0, 1, 2]));
    let weights = checkpoint.weights().unwrap();
    let names: Vec<&str> = weights.keys().map(String::as_str).collect();
    let expected = [
        "bfloat",
        "buffer",
        "count",
        "double",
        "empty",
        "float",
        "half",
        "middle",
        "parameter",
        "permuted",
        "same",
    ];
    assert_eq!(names, expected);
    // Each holds 0, 1, 2, … in row-major order, but for what starts in the middle of its storage.
    for (name, tensor) in &weights {
        let (dtype, values) = decoded(tensor);
        let first = if name == "middle" { 6.0 } else { 0.0 };
        let count: usize = tensor.shape.iter().product();
        let expected: Vec<f64> = (0..count).map(|i| first + i as f64).collect();
        assert_eq!(values, expected, "{name}");
        let kind = match name.as_str() {
            "bfloat" => Dtype::BF16,
            "half" => Dtype::F16,
            "double" => Dtype::F64,
            "count" => Dtype::I64,
            _ => Dtype::F32,
        };
        assert_eq!(dtype, kind, "{name}");
    }
    assert_eq!(weights["permuted"].shape, [2, 3, 4]);
    assert_eq!(weights["empty"].shape, [0, 3]);
    assert_eq!(weights["count"].shape, [0usize; 0]);
}

/// Small whole numbers; those of 16 bits by the exponent that they have.
fn decoded(tensor: &StoredTensor) -> (Dtype, Vec<f64>) {
    let words = |size: usize| tensor.bytes.chunks_exact(size);
    let short = |bytes: &[u8]| u16::from_le_bytes([bytes[0], bytes[1]]);
    let values = match tensor.dtype {
        Dtype::F32 => words(4)
            .map(|b| f64::from(f32::from_le_bytes(b.try_into().unwrap())))
            .collect(),
        Dtype::F64 => words(8)
            .map(|b| f64::from_le_bytes(b.try_into().unwrap()))
            .collect(),
        Dtype::I64 => words(8)
            .map(|b| i64::from_le_bytes(b.try_into().unwrap()) as f64)
            .collect(),
        Dtype::BF16 => words(2)
            .map(|b| f64::from(f32::from_bits(u32::from(short(b)) << 16)))
            .collect(),
        _ => words(2)
            .map(|b| match short(b) {
                0 => 0.0,
                bits => {
                    let mantissa = f64::from(bits & 0x3ff) / 1024.0;
                    (1.0 + mantissa) * f64::from(i32::from(bits >> 10) - 15).exp2()
                }
            })
            .collect(),
    };
    (tensor.dtype, values)
}

#[test]
fn what_is_no_state_dict_is_refused_in_a_sentence() {
    for (name, part) in [
        (
            "expanded.pth",
            "has the size [1000000] but 1 stored numbers",
        ),
        ("repeated.pth", "would become"),
        ("integers.pth", "holds mask, which is a torch.IntStorage"),
        ("numbers.pth", "holds epoch, which is no tensor"),
        ("list.pth", "holds no dictionary of weights"),
        ("module.pth", "holds no dictionary of weights"),
        ("legacy.pth", "before version 1.6"),
    ] {
        let line = refused(&reference(name));
        assert!(line.contains(part), "{name}: {line}");
    }
}

#[test]
fn damaged_and_foreign_files_are_refused_in_a_sentence() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("damaged.pth");
    let whole = std::fs::read(reference("kinds.pth")).unwrap();
    for length in (0..whole.len()).step_by(7) {
        std::fs::write(&path, &whole[..length]).unwrap();
        refused(&path);
    }
    // A changed byte of a tensor fails its checksum.
    let ones = whole
        .windows(4)
        .rposition(|bytes| bytes == 1f32.to_le_bytes());
    let mut changed = whole.clone();
    changed[ones.unwrap()] ^= 1;
    std::fs::write(&path, &changed).unwrap();
    assert!(refused(&path).contains("damaged"));
    std::fs::write(&path, b"PK\x05\x06\0\0\0\0\0\0\0\0\0\0\0\0\0\0\0\0\0\0").unwrap();
    assert!(refused(&path).contains("without data.pkl"));
    refused(&folder.path().join("nothing.pth"));
    refused(folder.path());
}

#[test]
fn any_changed_byte_is_read_or_refused_but_never_a_panic() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("changed.pth");
    let whole = std::fs::read(reference("kinds.pth")).unwrap();
    for place in (0..whole.len()).step_by(3) {
        let mut changed = whole.clone();
        changed[place] ^= [0xff, 0x01, 0x80][place / 3 % 3];
        std::fs::write(&path, &changed).unwrap();
        let _ = Checkpoint::open(&path).and_then(|mut checkpoint| checkpoint.weights());
    }
}

#[test]
fn a_million_references_to_a_value_do_not_copy_it() {
    // [(0, 0, …), the same, …]: as the log of a long training refers to numpy's types.
    let mut bytes = b"\x80\x02]((".to_vec();
    bytes.extend([b'K', 0].repeat(100));
    bytes.extend(b"tq\x01");
    bytes.extend(b"h\x01".repeat(2_000_000));
    bytes.extend(b"e.");
    let pickle = Pickle::read(&bytes).unwrap();
    let members = pickle.members(pickle.root()).unwrap();
    assert_eq!(members.len(), 2_000_001);
    assert_eq!(pickle.counts(members[2_000_000]), Some(vec![0; 100]));
}

#[test]
fn deep_and_cyclic_values_are_read_without_recursion() {
    let mut bytes = b"\x80\x02".to_vec();
    bytes.extend(b"]".repeat(1_000_000));
    bytes.extend(b"a".repeat(999_999));
    bytes.push(b'.');
    let pickle = Pickle::read(&bytes).unwrap();
    assert!(matches!(pickle.node(pickle.root()), Node::List(members) if members.len() == 1));
    // A list that holds itself.
    let pickle = Pickle::read(b"\x80\x02]q\x00h\x00a.").unwrap();
    assert_eq!(pickle.members(pickle.root()), Some(&[pickle.root()][..]));
}

#[test]
fn broken_pickles_say_where() {
    for (bytes, part) in [
        (&b"\x80\x02"[..], "ends"),
        (b"\x80\x02.", "lacks a value"),
        (b"\x80\x02K\x01(.", "lacks a value"),
        (b"\x80\x02K\x01t.", "lacks a mark"),
        (b"\x80\x02h\x07.", "unknown value 7"),
        (b"\x80\x02}(K\x01u.", "key without a value"),
        (b"\x80\x02\x8d\xff\xff\xff\xff\xff\xff\xff\xff.", "ends"),
        (b"\x80\x02\x82\x01.", "unknown code 0x82 at byte 2"),
        (b"\x80\x02cos\nsystem", "ends within"),
        (b"\x80\x02K\x01K\x02\x93.", "by no text"),
    ] {
        let problem = Pickle::read(bytes).err().unwrap();
        assert!(problem.contains(part), "{problem}");
    }
    // What a pickle would call is named, not called.
    let pickle = Pickle::read(b"\x80\x02cos\nsystem\nX\x02\x00\x00\x00ls\x85R.").unwrap();
    assert!(matches!(pickle.node(pickle.root()), Node::Call { .. }));
}
