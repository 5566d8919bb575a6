//! Values and gradients, on the Flex backend: f64 goes the plain way, f32 the fused one.

use crate::*;
use burn::prelude::*;
use burn::tensor::{DType, TensorData};

const F32: DType = DType::F32;
const F64: DType = DType::F64;

fn tensor(values: Vec<f64>, shape: [usize; 5], dtype: DType) -> Tensor<5> {
    Tensor::from_data(
        TensorData::new(values, shape),
        (&Device::flex().autodiff(), dtype),
    )
}

fn labels(values: Vec<i64>, shape: [usize; 4]) -> Tensor<4, Int> {
    Tensor::from_data(TensorData::new(values, shape), &Device::flex())
}

fn scalar(loss: Tensor<1>) -> f64 {
    loss.cast(F64).into_scalar()
}

fn values<const D: usize>(tensor: Tensor<D>) -> Vec<f64> {
    tensor.cast(F64).into_data().try_to_vec().unwrap()
}

/// `z[b,c,i,j,k] = 2·sin(0.7b + 1.3c + 0.9i + 0.5j + 0.3k)`.
fn wave([n, c, d, h, w]: [usize; 5]) -> Vec<f64> {
    let mut z = Vec::new();
    for (b, c) in (0..n).flat_map(|b| (0..c).map(move |c| (b as f64, c as f64))) {
        for (i, j) in (0..d).flat_map(|i| (0..h).map(move |j| (i as f64, j as f64))) {
            z.extend(
                (0..w)
                    .map(|k| 2.0 * (0.7 * b + 1.3 * c + 0.9 * i + 0.5 * j + 0.3 * k as f64).sin()),
            );
        }
    }
    z
}

/// `y[b,i,j,k] = (b + 2i + j + floor(k/2)) mod 3`.
fn stripes([n, d, h, w]: [usize; 4]) -> Vec<i64> {
    let mut y = Vec::new();
    for (b, i) in (0..n).flat_map(|b| (0..d).map(move |i| (b, i))) {
        for (j, k) in (0..h).flat_map(|j| (0..w).map(move |k| (j, k))) {
            y.push(((b + 2 * i + j + k / 2) % 3) as i64);
        }
    }
    y
}

fn reference(dtype: DType) -> (Tensor<5>, Tensor<4, Int>) {
    let z = tensor(wave([2, 3, 4, 4, 6]), [2, 3, 4, 4, 6], dtype);
    (z, labels(stripes([2, 4, 4, 6]), [2, 4, 4, 6]))
}

fn arl(regions: RegionGrid) -> AdaptiveRegionLossConfig {
    AdaptiveRegionLossConfig::new().with_regions(regions)
}

#[track_caller]
fn assert_close(value: f64, expected: f64, tolerance: f64) {
    assert!(
        (value - expected).abs() <= tolerance,
        "{value} is not {expected} to {tolerance:e}"
    );
}

#[test]
fn reference_losses() {
    let cube = RegionGrid::size([2, 2, 2]);
    let cases = [
        ("A1", arl(cube).with_batch(true), 0.7416072412),
        (
            "A2",
            arl(cube)
                .with_batch(true)
                .with_reduction(RegionReduction::Sum),
            8.8992868940,
        ),
        ("A3", arl(cube), 0.7572454992),
        ("A7", arl(RegionGrid::WHOLE), 0.6890272379),
        ("A8", arl(RegionGrid::size([1, 1, 1])), 0.8736411138),
        (
            "A9",
            arl(RegionGrid::count([2, 2, 3])).with_batch(true),
            0.7416072412,
        ),
    ];
    for (name, config, expected) in cases {
        for dtype in [F32, F64] {
            let (z, y) = reference(dtype);
            let value = scalar(config.init().forward(z, y));
            let error = (value - expected).abs() / expected;
            assert!(
                error <= 1e-6,
                "{name} in {dtype:?}: {value}, expected {expected}"
            );
        }
    }
    // A10 is PyTorch's adaptive pooling, whose regions overlap. Ours do not, so the value differs.
    let (z, y) = reference(F64);
    let value = scalar(
        arl(RegionGrid::count([3, 3, 4]))
            .with_batch(true)
            .init()
            .forward(z, y),
    );
    assert!((value - 0.7374049306).abs() > 1e-4);
}

#[test]
fn reference_region() {
    for dtype in [F32, F64] {
        let (z, y) = reference(dtype);
        let report = arl(RegionGrid::size([2, 2, 2]))
            .init()
            .region_report(z, y)
            .unwrap();
        // Image 0, class 1, region 0 of 12.
        let at = |maps: Tensor<3>| values(maps)[12];
        assert_close(at(report.tp), 0.14929344937, 1e-6);
        assert_close(at(report.fp), 0.31711287721, 1e-6);
        assert_close(at(report.fn_), 0.10070655063, 1e-6);
        assert_close(at(report.alpha), 0.6035907536, 1e-6);
        assert_close(at(report.beta), 0.3964188197, 1e-6);
        assert_close(at(report.loss), 0.6077483783, 1e-6);
    }
}

#[test]
fn reference_dice_and_cross_entropy() {
    for dtype in [F32, F64] {
        let (z, y) = reference(dtype);
        let batch = DiceLossConfig::new().with_batch(true).init();
        assert_close(
            scalar(batch.forward(z.clone(), y.clone())),
            1.0 - 0.2818009455,
            1e-6,
        );
        let each = DiceLossConfig::new().init();
        assert_close(
            scalar(each.forward(z.clone(), y.clone())),
            1.0 - 0.2806472802,
            1e-6,
        );
        let ce = CrossEntropyLossConfig::new().init();
        assert_close(scalar(ce.forward(z.clone(), y.clone())), 1.7564566527, 2e-6);
        let both = LossConfig::of(LossKind::DiceCe).init();
        assert_close(
            scalar(both.forward(z.clone(), y.clone())),
            1.4758093725 + 1.0,
            2e-6,
        );

        // The plane i = 3 ignored.
        let y = y.slice_assign(
            [0..2, 3..4, 0..4, 0..6],
            labels(vec![255; 48], [2, 1, 4, 6]),
        );
        let ce = CrossEntropyLossConfig::new()
            .with_ignore_index(Some(255))
            .init();
        assert_close(scalar(ce.forward(z.clone(), y.clone())), 1.7444617416, 2e-6);
        let dice = DiceLossConfig::new()
            .with_batch(true)
            .with_ignore_index(Some(255))
            .init();
        assert_close(scalar(dice.forward(z, y)), 1.0 - 0.2545552189, 1e-6);
    }
}

#[test]
fn reference_gradients() {
    let expected = [
        (0, -3.152297257e-4, -3.088797551e-4),
        (96, 4.200569392e-4, 3.845305463e-4),
        (575, 1.496845203e-4, 1.459457444e-4),
    ];
    for dtype in [F32, F64] {
        for detach in [false, true] {
            let (z, y) = reference(dtype);
            let z = z.require_grad();
            let loss = arl(RegionGrid::size([2, 2, 2]))
                .with_detach_coefficients(detach)
                .init();
            let gradient = values(z.grad(&loss.forward(z.clone(), y).backward()).unwrap());
            for (index, full, detached) in expected {
                assert_close(gradient[index], if detach { detached } else { full }, 1e-9);
            }
        }
    }
}

/// One foreground class of probability `p` on eight voxels, the first `foreground` of which are labelled.
fn edge_case(p: f64, foreground: usize, dtype: DType) -> [f64; 3] {
    let logit = |p: f64| if p == 0.0 { -1e4 } else { p.ln() };
    let z: Vec<f64> = [1.0 - p, p]
        .into_iter()
        .flat_map(|p| vec![logit(p); 8])
        .collect();
    let y = (0..8).map(|i| i64::from(i < foreground)).collect();
    let loss = arl(RegionGrid::WHOLE).with_include_background(false).init();
    let report = loss
        .region_report(tensor(z, [1, 2, 2, 2, 2], dtype), labels(y, [1, 2, 2, 2]))
        .unwrap();
    [report.loss, report.alpha, report.beta].map(|maps| values(maps)[0])
}

#[test]
fn edge_cases() {
    let cases = [
        ("perfect", 1.0, 8, [0.0, 0.7, 0.7]),
        ("no foreground, p = 0", 0.0, 0, [0.0, 0.7, 0.7]),
        (
            "no foreground, p = .01",
            0.01,
            0,
            [0.9985734665, 0.7, 0.3003996004],
        ),
        (
            "no foreground, p = .5",
            0.5,
            0,
            [0.9999714294, 0.7, 0.3000079998],
        ),
        (
            "all foreground, p = 0",
            0.0,
            8,
            [0.9999857145, 0.300004, 0.7],
        ),
        (
            "all foreground, p = .5",
            0.5,
            8,
            [0.4117598616, 0.300008, 0.7],
        ),
        (
            "half foreground, p = .5",
            0.5,
            4,
            [0.4999920002, 0.500004, 0.500004],
        ),
    ];
    for (name, p, foreground, expected) in cases {
        for dtype in [F32, F64] {
            let found = edge_case(p, foreground, dtype);
            for (found, expected) in found.into_iter().zip(expected) {
                assert!(
                    (found - expected).abs() < 1e-6,
                    "{name} in {dtype:?}: {found}, expected {expected}"
                );
            }
        }
    }
}

/// Compares the gradient with central differences in f64, at every seventh logit.
fn check_gradient(name: &str, loss: impl Fn(Tensor<5>) -> Tensor<1>, shape: [usize; 5]) {
    let z = wave(shape);
    let x = tensor(z.clone(), shape, F64).require_grad();
    let gradient = values(x.grad(&loss(x.clone()).backward()).unwrap());
    let step = 1e-5;
    for i in (0..z.len()).step_by(7) {
        let at = |delta: f64| {
            let mut z = z.clone();
            z[i] += delta;
            scalar(loss(tensor(z, shape, F64)))
        };
        let difference = (at(step) - at(-step)) / (2.0 * step);
        let error = (gradient[i] - difference).abs();
        assert!(
            error < 1e-9 + 1e-6 * difference.abs(),
            "{name} at {i}: {} and {difference}",
            gradient[i]
        );
    }
}

#[test]
fn gradients_match_finite_differences() {
    let shape = [2, 3, 3, 4, 5];
    let mut y = stripes([2, 3, 4, 5]);
    for i in (0..y.len()).step_by(11) {
        y[i] = 9;
    }
    let y = labels(y, [2, 3, 4, 5]);
    let base = arl(RegionGrid::size([2, 2, 2]))
        .with_ignore_index(Some(9))
        .with_smooth(1e-3);
    let variants = [
        ("mean", base.clone()),
        ("sum", base.clone().with_reduction(RegionReduction::Sum)),
        (
            "present",
            base.clone().with_reduction(RegionReduction::Present),
        ),
        ("batch", base.clone().with_batch(true)),
        ("no background", base.clone().with_include_background(false)),
        (
            "class weights",
            base.clone().with_class_weights(Some(vec![0.2, 1.0, 3.0])),
        ),
        (
            "by count",
            base.clone().with_regions(RegionGrid::count([2, 3, 2])),
        ),
    ];
    for (name, config) in variants {
        let loss = config.init();
        check_gradient(name, |z| loss.forward(z, y.clone()), shape);
    }
    let dice = DiceLossConfig::new().with_ignore_index(Some(9)).init();
    check_gradient("dice", |z| dice.forward(z, y.clone()), shape);
    let ce = CrossEntropyLossConfig::new()
        .with_class_weights(Some(vec![0.5, 1.0, 2.0]))
        .init();
    check_gradient("cross entropy", |z| ce.forward(z, y.clone()), shape);
    let both = LossConfig::of(LossKind::ArlCe)
        .with_regions(RegionGrid::size([2, 2, 2]))
        .init();
    check_gradient("arl+ce", |z| both.forward(z, y.clone()), shape);
    let deep =
        DeepSupervision::new(&LossConfig::of(LossKind::ArlDiceCe)).with_weights(vec![1.0, 0.5]);
    check_gradient(
        "deep",
        |z| deep.forward(vec![z.clone(), z.narrow(2, 0, 2)], y.clone()),
        shape,
    );
}

#[test]
fn present_is_the_mean_over_the_regions_of_a_class_then_over_classes() {
    // Classes 0, 1 and 2 occur in 2, 1 and 2 of the 4 regions; 3 does not occur at all.
    let y = labels(vec![0, 0, 0, 1, 2, 2, 2, 2], [1, 1, 2, 4]);
    let z = tensor(wave([1, 4, 1, 2, 4]), [1, 4, 1, 2, 4], F64);
    let config = arl(RegionGrid::size([1, 1, 2])).with_reduction(RegionReduction::Present);
    let region = values(
        config
            .init()
            .region_report(z.clone(), y.clone())
            .unwrap()
            .loss,
    );
    let of = |class: usize, regions: &[usize]| {
        let sum: f64 = regions.iter().map(|k| region[class * 4 + k]).sum();
        sum / regions.len() as f64
    };
    let [a, b, c] = [of(0, &[0, 1]), of(1, &[1]), of(2, &[2, 3])];
    let value = scalar(config.init().forward(z.clone(), y.clone()));
    assert_close(value, (a + b + c) / 3.0, 1e-12);

    let weighted = config.with_class_weights(Some(vec![0.0, 1.0, 3.0, 7.0]));
    assert_close(
        scalar(weighted.init().forward(z, y)),
        (b + 3.0 * c) / 4.0,
        1e-12,
    );
}

#[test]
fn detaching_changes_the_gradient_only() {
    let (z, y) = reference(F64);
    let z = z.require_grad();
    let full = arl(RegionGrid::size([2, 2, 2]))
        .init()
        .forward(z.clone(), y.clone());
    let detached = arl(RegionGrid::size([2, 2, 2]))
        .with_detach_coefficients(true)
        .init()
        .forward(z.clone(), y);
    assert_eq!(scalar(full.clone()), scalar(detached.clone()));
    let (full, detached) = (
        z.grad(&full.backward()).unwrap(),
        z.grad(&detached.backward()).unwrap(),
    );
    assert!(scalar((full - detached).abs().sum()) > 1e-4);
}

/// The fused pass against the plain one: sums, and gradients of a random combination of the sums.
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
        let [n, c, d, h, w] = shape;
        let regions = grid.regions([d, h, w]).unwrap();
        // Classes out of range and an ignored label among them.
        let y = (0..(n * d * h * w) as i64)
            .map(|i| (i * 7919 % (c as i64 + 3)) - 1)
            .collect();
        let y = labels(y, [n, d, h, w]);
        let run = |fused: bool| {
            let z = tensor(wave(shape), shape, F32).require_grad();
            let statistics = if fused {
                assert!(crate::fused::supports(&z, &regions));
                region_statistics(z.clone(), y.clone(), &regions, Some(0)).unwrap()
            } else {
                plain_region_statistics(z.clone(), y.clone(), &regions, Some(0)).unwrap()
            };
            let RegionStatistics {
                tp,
                fp,
                fn_,
                cross_entropy,
                labelled,
            } = statistics;
            let mix = |sums: Tensor<3>, phase: f32| {
                let index =
                    Tensor::<1, Int>::arange(0..sums.shape().num_elements() as i64, &sums.device());
                (index.float().reshape(sums.shape()) * 0.37 + phase).sin() * sums
            };
            let total = mix(tp.clone(), 0.1)
                + mix(fp.clone(), 0.5)
                + mix(fn_.clone(), 1.1)
                + mix(cross_entropy.clone(), 2.0);
            let gradient = values(z.grad(&total.sum().backward()).unwrap());
            ([tp, fp, fn_, cross_entropy, labelled].map(values), gradient)
        };
        let (fused, fused_gradient) = run(true);
        let (plain, plain_gradient) = run(false);
        for (fused, plain) in fused.iter().flatten().zip(plain.iter().flatten()) {
            assert_close(*fused, *plain, 1e-6 + 1e-6 * plain.abs());
        }
        for (fused, plain) in fused_gradient.iter().zip(&plain_gradient) {
            assert_close(*fused, *plain, 1e-6 + 1e-5 * plain.abs());
        }
    }
}

#[test]
fn any_number_of_threads_gives_the_same_bits() {
    let shape = [2, 3, 9, 8, 33];
    let run = |threads| {
        let pool = rayon::ThreadPoolBuilder::new()
            .num_threads(threads)
            .build()
            .unwrap();
        pool.install(|| {
            let z = tensor(wave(shape), shape, F32).require_grad();
            let loss = LossConfig::of(LossKind::ArlDiceCe)
                .with_regions(RegionGrid::size([4, 4, 4]))
                .init();
            let loss = loss.forward(z.clone(), labels(stripes([2, 9, 8, 33]), [2, 9, 8, 33]));
            (
                scalar(loss.clone()),
                values(z.grad(&loss.backward()).unwrap()),
            )
        })
    };
    assert_eq!(run(1), run(5));
}

#[test]
fn saturated_logits_stay_finite() {
    for dtype in [F32, F64] {
        let sign = |i: usize| if i.is_multiple_of(3) { 1e4 } else { -1e4 };
        let z = tensor((0..192).map(sign).collect(), [1, 3, 4, 4, 4], dtype).require_grad();
        let y = labels(stripes([1, 4, 4, 4]), [1, 4, 4, 4]);
        let loss = LossConfig::of(LossKind::ArlDiceCe)
            .with_regions(RegionGrid::size([2, 2, 2]))
            .init();
        let loss = loss.forward(z.clone(), y);
        assert!(scalar(loss.clone()).is_finite());
        assert!(
            values(z.grad(&loss.backward()).unwrap())
                .iter()
                .all(|g| g.is_finite())
        );
    }
}

#[test]
fn a_volume_without_labels_costs_nothing() {
    for dtype in [F32, F64] {
        for name in LossKind::NAMES
            .into_iter()
            .filter(|name| !name.contains("dice"))
        {
            let (z, _) = reference(dtype);
            let z = z.require_grad();
            let y = labels(vec![255; 192], [2, 4, 4, 6]);
            let loss = LossConfig::of(name.parse().unwrap())
                .init()
                .forward(z.clone(), y);
            assert_eq!(scalar(loss.clone()), 0.0, "{name}");
            assert!(
                values(z.grad(&loss.backward()).unwrap())
                    .iter()
                    .all(|&g| g == 0.0),
                "{name}"
            );
        }
    }
}

#[test]
fn ignored_voxels_do_not_matter() {
    let (z, y) = reference(F32);
    let y = y.slice_assign(
        [0..2, 3..4, 0..4, 0..6],
        labels(vec![255; 48], [2, 1, 4, 6]),
    );
    let noise = tensor(vec![f64::from(f32::MAX); 144], [2, 3, 1, 4, 6], F32);
    let loss = LossConfig::of(LossKind::ArlDiceCe)
        .with_regions(RegionGrid::size([2, 2, 2]))
        .with_ignore_index(Some(255))
        .init();
    let before = scalar(loss.forward(z.clone(), y.clone()));
    let after = scalar(loss.forward(z.slice_assign([0..2, 0..3, 3..4, 0..4, 0..6], noise), y));
    assert_eq!(before, after);
}

#[test]
fn sums_share_one_pass_and_add_up() {
    let (z, y) = reference(F64);
    let value = |kind| {
        scalar(
            LossConfig::of(kind)
                .with_regions(RegionGrid::size([2, 2, 2]))
                .init()
                .forward(z.clone(), y.clone()),
        )
    };
    let [arl, dice, ce] = [LossKind::Arl, LossKind::Dice, LossKind::Ce].map(value);
    assert_close(value(LossKind::ArlCe), arl + ce, 1e-12);
    assert_close(value(LossKind::ArlDiceCe), arl + dice + ce, 1e-12);
}

#[test]
fn deep_supervision_of_one_output_is_the_loss() {
    let (z, y) = reference(F32);
    let config = LossConfig::of(LossKind::ArlCe).with_regions(RegionGrid::size([2, 2, 2]));
    let plain = scalar(config.init().forward(z.clone(), y.clone()));
    let deep = DeepSupervision::new(&config);
    assert_eq!(scalar(deep.forward(vec![z.clone()], y.clone())), plain);
    // The coarser of two has no weight.
    let coarse = tensor(vec![0.0; 2 * 3 * 12], [2, 3, 2, 2, 3], F32);
    assert_eq!(scalar(deep.forward(vec![z, coarse], y.clone())), plain);
    assert_eq!(
        deep.try_forward(vec![], y).unwrap_err(),
        LossError::NoOutputs
    );
}

#[test]
fn wrong_input_is_an_error_with_shapes() {
    let z = tensor(vec![0.0; 2 * 3 * 8], [2, 3, 2, 2, 2], F32);
    let y = labels(vec![0; 12], [2, 2, 1, 3]);
    let error = arl(RegionGrid::WHOLE)
        .init()
        .try_forward(z.clone(), y)
        .unwrap_err()
        .to_string();
    assert!(
        error.contains("[2, 3, 2, 2, 2]") && error.contains("[2, 2, 1, 3]"),
        "{error}"
    );
    let y = labels(vec![0; 16], [2, 2, 2, 2]);
    let weights = arl(RegionGrid::WHOLE)
        .with_class_weights(Some(vec![1.0]))
        .init();
    assert_eq!(
        weights.try_forward(z.clone(), y.clone()).unwrap_err(),
        LossError::ClassWeights {
            given: 1,
            classes: 3
        }
    );
    let fine = arl(RegionGrid::count([3, 1, 1])).init().try_forward(z, y);
    assert_eq!(
        fine.unwrap_err(),
        LossError::TooManyRegions {
            axis: 0,
            length: 2,
            count: 3
        }
    );
}
