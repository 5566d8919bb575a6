//! The fused passes against the plain operations in f64: sums, and gradients of a combination of all the sums.

use super::*;

/// Logits of some shape, saturated ones among them, exact in every float type.
fn logits(shape: [usize; 5]) -> Vec<f64> {
    let value = |i: usize| match i % 97 {
        13 => 9984.0,
        57 => -9984.0,
        _ => ((i * 7919 % 257) as f64 - 128.0) / 32.0,
    };
    (0..shape.iter().product()).map(value).collect()
}

fn class_indices([n, c, d, h, w]: [usize; 5]) -> Target {
    // Classes out of range and an ignored label among them.
    let value = |i: usize| (i * 7919 % (c + 3)) as i64 - 1;
    labels((0..n * d * h * w).map(value).collect(), [n, d, h, w]).into()
}

/// Shares of which some count nowhere.
fn shares(shape: [usize; 5], dtype: DType) -> Target {
    let value = |i: usize| match i % 61 {
        7 => -1.0,
        31 => f64::NAN,
        _ => (i * 104_729 % 17) as f64 / 16.0,
    };
    tensor(
        (0..shape.iter().product()).map(value).collect(),
        shape,
        dtype,
    )
    .into()
}

struct Found {
    sums: Vec<(&'static str, Vec<f64>)>,
    gradient: Vec<f64>,
}

fn run(
    shape: [usize; 5],
    dtype: DType,
    target: Target,
    regions: &Regions,
    options: &StatisticsOptions,
) -> Found {
    let z = tensor(logits(shape), shape, dtype).require_grad();
    let s = match dtype {
        F64 => plain_region_statistics(z.clone(), target, regions, options).unwrap(),
        _ => {
            assert!(crate::fused::supports(&z, regions));
            region_statistics(z.clone(), target, regions, options).unwrap()
        }
    };
    let constants = [("labelled", s.labelled), ("voxels", s.voxels)];
    let mut sums = vec![
        ("TP", s.tp),
        ("FP", s.fp),
        ("FN", s.fn_),
        ("cross entropy", s.cross_entropy),
    ];
    let mut further_constants = vec![];
    if let Some(further) = s.further {
        sums.push(("other entropy", further.other_entropy));
        sums.push(("squares", further.squares));
        sums.push(("focal", further.focal));
        further_constants.push(("target squares", further.target_squares));
    }
    let mut total = Tensor::<1>::zeros([1], (&z.device(), sums[0].1.dtype()));
    for (phase, (_, sum)) in sums.iter().enumerate() {
        // Another weight for every sum, exact in f32.
        let weight = |i: usize| ((i * 37 + phase * 29) % 101) as f64 / 64.0 - 0.75;
        let weights = (0..sum.shape().num_elements()).map(weight).collect();
        let weights = TensorData::new::<f64, _>(weights, sum.shape());
        let weights = Tensor::<3>::from_data(weights, (&z.device(), sum.dtype()));
        total = total + (sum.clone() * weights).sum();
    }
    let gradient = z.grad(&total.backward()).unwrap();
    assert_eq!(gradient.dtype(), dtype);
    sums.extend(constants);
    sums.extend(further_constants);
    Found {
        sums: sums
            .into_iter()
            .map(|(name, sum)| (name, values(sum)))
            .collect(),
        gradient: values(gradient),
    }
}

fn compare(found: &[f64], expected: &[f64], tolerance: f64, what: &str) {
    assert_eq!(found.len(), expected.len(), "{what}");
    let largest = expected.iter().fold(0.0f64, |a, b| a.max(b.abs()));
    for (i, (found, expected)) in found.iter().zip(expected).enumerate() {
        let error = (found - expected).abs();
        // NaN is no small error.
        assert!(
            error <= tolerance * (expected.abs() + largest.min(1.0)),
            "{what} at {i}: {found} instead of {expected}"
        );
    }
}

fn modes() -> Vec<StatisticsOptions> {
    let base = StatisticsOptions::new().with_ignore_index(Some(0));
    let sigmoid = base.with_activation(Activation::Sigmoid);
    vec![
        base,
        base.with_further(2.0),
        base.with_further(1.5),
        sigmoid.with_further(2.0),
        sigmoid.with_further(1.5),
    ]
}

#[test]
fn fused_equals_plain() {
    let cases = [
        ([1, 2, 4, 4, 6], RegionGrid::size([2, 2, 2])),
        ([2, 3, 5, 7, 9], RegionGrid::size([2, 3, 4])),
        ([2, 5, 3, 6, 300], RegionGrid::count([2, 4, 7])),
        ([1, 128, 2, 3, 17], RegionGrid::WHOLE),
        ([1, 1, 2, 2, 2], RegionGrid::size([1, 1, 1])),
    ];
    for (shape, grid) in cases {
        let [_, _, d, h, w] = shape;
        let regions = grid.regions([d, h, w]).unwrap();
        for options in modes() {
            for with_shares in [false, true] {
                let target = |dtype| match with_shares {
                    true => shares(shape, dtype),
                    false => class_indices(shape),
                };
                let what = format!("{shape:?} {grid:?} {options:?}, shares: {with_shares}");
                let expected = run(shape, F64, target(F64), &regions, &options);
                for (dtype, tolerance) in [(F32, 2e-6), (DType::F16, 1e-3), (DType::BF16, 8e-3)] {
                    let found = run(shape, dtype, target(F32), &regions, &options);
                    for ((name, found), (_, expected)) in found.sums.iter().zip(&expected.sums) {
                        // The logits are exact in each type, and the sums are f32.
                        compare(
                            found,
                            expected,
                            2e-6,
                            &format!("{name} of {dtype:?} {what}"),
                        );
                    }
                    let name = format!("gradient of {dtype:?} {what}");
                    compare(&found.gradient, &expected.gradient, tolerance, &name);
                }
            }
        }
    }
}

#[test]
fn labels_of_every_integer_type_are_read() {
    let shape = [1, 3, 2, 3, 5];
    let regions = RegionGrid::WHOLE.regions([2, 3, 5]).unwrap();
    let z = tensor(logits(shape), shape, F32);
    let y: Vec<i64> = (0..30).map(|i| i % 5).collect();
    let options = StatisticsOptions::new().with_ignore_index(Some(300));
    let expected = plain_region_statistics(
        z.clone(),
        labels(y.clone(), [1, 2, 3, 5]),
        &regions,
        &options,
    );
    let expected = values(expected.unwrap().labelled);
    assert_eq!(expected, [6.0, 6.0, 6.0]);
    let types = [
        DType::I64,
        DType::I32,
        DType::I16,
        DType::I8,
        DType::U64,
        DType::U32,
        DType::U16,
        DType::U8,
    ];
    for dtype in types {
        let y = labels(y.clone(), [1, 2, 3, 5]);
        let y = y.cast(burn::tensor::IntDType::from(dtype));
        for plain in [false, true] {
            let statistics = match plain {
                true => plain_region_statistics(z.clone(), y.clone(), &regions, &options),
                false => region_statistics(z.clone(), y.clone(), &regions, &options),
            };
            assert_eq!(values(statistics.unwrap().labelled), expected, "{dtype:?}");
        }
    }
    // What i32 can't hold does not wrap around to a class.
    let y = labels(vec![1 << 32; 30], [1, 2, 3, 5]);
    let statistics = region_statistics(z, y, &regions, &options).unwrap();
    assert_eq!(values(statistics.labelled), [0.0; 3]);
}
