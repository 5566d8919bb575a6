//! Gradients against central differences in f64, and the fused ones in f32 against those in f64.

use super::*;

const STEP: f64 = 1e-5;

/// A loss under test.
type Criterion<'a> = (String, Box<dyn Fn(Tensor<5>) -> Tensor<1> + 'a>);

fn gradient(z: &[f64], shape: [usize; 5], dtype: DType, loss: &Criterion) -> Vec<f64> {
    let x = tensor(z.to_vec(), shape, dtype).require_grad();
    values(x.grad(&loss.1(x.clone()).backward()).unwrap())
}

/// The gradient in f64 against differences, at every `stride`-th logit; the one in f32 against that in f64, at all.
fn check(z: &[f64], shape: [usize; 5], stride: usize, loss: &Criterion) {
    let name = &loss.0;
    let exact = gradient(z, shape, F64, loss);
    for i in (0..z.len()).step_by(stride) {
        let at = |delta: f64| {
            let mut z = z.to_vec();
            z[i] += delta;
            scalar(loss.1(tensor(z, shape, F64)))
        };
        let (above, below) = (at(STEP), at(-STEP));
        let difference = (above - below) / (2.0 * STEP);
        let error = (exact[i] - difference).abs();
        // What rounding leaves of a difference of large values.
        let rounding = 1e-9 + 1e-10 * above.abs();
        assert!(
            error < rounding + 1e-6 * difference.abs(),
            "{name} at {i}: {} and {difference}",
            exact[i]
        );
    }
    let largest = exact.iter().fold(0.0f64, |a, b| a.max(b.abs()));
    for (i, (found, exact)) in gradient(z, shape, F32, loss).iter().zip(&exact).enumerate() {
        let error = (found - exact).abs();
        assert!(
            error <= 1e-5 * (exact.abs() + largest),
            "{name} in f32 at {i}: {found} instead of {exact}, the largest is {largest}"
        );
    }
}

/// Every loss, and the options that change its arithmetic.
fn losses<'a>(classes: usize, regions: RegionGrid, target: Target) -> Vec<Criterion<'a>> {
    let sigmoid = Activation::Sigmoid;
    let weights: Vec<f32> = (0..classes).map(|c| 0.5 + (c % 3) as f32).collect();
    let arl = AdaptiveRegionLossConfig::published()
        .with_regions(regions)
        .with_ignore_index(Some(9))
        .with_smooth(1e-3);
    let dice = DiceLossConfig::new()
        .with_include_background(true)
        .with_smooth(0.1)
        .with_ignore_index(Some(9));
    let tversky = TverskyLossConfig::new()
        .with_include_background(true)
        .with_smooth(0.1)
        .with_ignore_index(Some(9));
    let generalized = GeneralizedDiceLossConfig::new().with_ignore_index(Some(9));
    let ce = CrossEntropyLossConfig::new().with_ignore_index(Some(9));
    let focal = FocalLossConfig::new().with_ignore_index(Some(9));
    let mut criteria: Vec<(&str, crate::Criterion)> = vec![
        ("arl, sigmoid", arl.clone().with_activation(sigmoid).into()),
        (
            "arl, sigmoid, false positives",
            arl.clone()
                .with_activation(sigmoid)
                .with_empty_regions(EmptyRegions::FalsePositives)
                .with_batch(true)
                .into(),
        ),
        (
            "dice, sigmoid",
            dice.clone().with_activation(sigmoid).into(),
        ),
        (
            "squared dice, sigmoid",
            dice.clone()
                .with_activation(sigmoid)
                .with_squared_denominator(true)
                .into(),
        ),
        (
            "focal tversky, sigmoid",
            tversky
                .clone()
                .with_exponent(0.75)
                .with_activation(sigmoid)
                .into(),
        ),
        (
            "generalised dice, sigmoid",
            generalized.clone().with_activation(sigmoid).into(),
        ),
        (
            "binary cross entropy",
            ce.clone()
                .with_activation(sigmoid)
                .with_class_weights(Some(weights.clone()))
                .into(),
        ),
        (
            "focal, sigmoid",
            focal.clone().with_activation(sigmoid).into(),
        ),
        (
            "focal, sigmoid, 0.7",
            focal
                .clone()
                .with_activation(sigmoid)
                .with_gamma(0.7)
                .into(),
        ),
    ];
    if classes > 1 {
        criteria.extend::<Vec<(&str, crate::Criterion)>>(vec![
            ("arl", arl.clone().into()),
            (
                "arl, sum",
                arl.clone().with_reduction(RegionReduction::Sum).into(),
            ),
            (
                "arl, total",
                arl.clone().with_reduction(RegionReduction::Total).into(),
            ),
            (
                "arl, present",
                arl.clone().with_reduction(RegionReduction::Present).into(),
            ),
            (
                "arl, present, false positives",
                arl.clone()
                    .with_reduction(RegionReduction::Present)
                    .with_empty_regions(EmptyRegions::FalsePositives)
                    .into(),
            ),
            (
                "arl, false positives",
                arl.clone()
                    .with_empty_regions(EmptyRegions::FalsePositives)
                    .into(),
            ),
            ("arl, batch", arl.clone().with_batch(true).into()),
            (
                "arl, no background",
                arl.clone().with_include_background(false).into(),
            ),
            (
                "arl, class weights",
                arl.clone().with_class_weights(Some(weights.clone())).into(),
            ),
            ("dice", dice.clone().into()),
            (
                "dice over regions, batch, weights",
                dice.clone()
                    .with_regions(regions)
                    .with_batch(true)
                    .with_class_weights(Some(weights.clone()))
                    .into(),
            ),
            (
                "squared dice",
                dice.clone().with_squared_denominator(true).into(),
            ),
            (
                "tversky over regions",
                tversky.clone().with_regions(regions).into(),
            ),
            ("focal tversky", tversky.with_exponent(0.75).into()),
            (
                "jaccard",
                TverskyLossConfig::jaccard()
                    .with_ignore_index(Some(9))
                    .into(),
            ),
            ("generalised dice", generalized.clone().into()),
            (
                "generalised dice, simple, batch",
                generalized
                    .with_balance(ClassBalance::Simple)
                    .with_batch(true)
                    .with_include_background(false)
                    .into(),
            ),
            (
                "cross entropy",
                ce.clone().with_class_weights(Some(weights.clone())).into(),
            ),
            (
                "cross entropy, smoothed",
                ce.with_label_smoothing(0.2)
                    .with_class_weights(Some(weights.clone()))
                    .into(),
            ),
            (
                "focal",
                focal.clone().with_class_weights(Some(weights)).into(),
            ),
            ("focal, 3.5", focal.with_gamma(3.5).into()),
        ]);
    }
    if classes > 1 && matches!(target, Target::Labels(_)) {
        let top_k = TopKCrossEntropyLossConfig::new()
            .with_share(0.3)
            .with_ignore_index(Some(9));
        criteria.push(("top-k", top_k.into()));
    }
    criteria
        .into_iter()
        .map(|(name, criterion)| -> Criterion {
            let loss = LossConfig::new().with_term(1.0, criterion).init();
            let target = target.clone();
            let kind = match target {
                Target::Labels(_) => "labels",
                Target::Shares(_) => "shares",
            };
            (
                format!("{name}, {classes} classes, {regions:?}, {kind}"),
                Box::new(move |z| loss.forward(z, target.clone())),
            )
        })
        .collect()
}

/// Class indices with ignored voxels and labels that are no class; the last plane is ignored altogether, and with more than
/// two classes the last does not occur.
fn hard_target([n, classes, d, h, w]: [usize; 5]) -> Target {
    let used = match classes {
        1 | 2 => 2,
        classes => classes - 1,
    };
    let value = |i: usize| match (i / (h * w) % d, i % 11) {
        (plane, _) if plane + 1 == d => 9,
        (_, 4) => 9,
        (_, 8) => -3,
        _ => ((i * 7 + i / 5) % used) as i64,
    };
    // 9 is the ignored label, also where it could be a class.
    labels((0..n * d * h * w).map(value).collect(), [n, d, h, w]).into()
}

/// Shares that are no single class, some of which do not count.
fn soft_target(shape: [usize; 5]) -> Target {
    let voxels = shape[2] * shape[3] * shape[4];
    let value = |i: usize| match (i % voxels % 7, i / voxels % 3) {
        (5, 0) => -1.0,
        _ => ((i * 104_729 + i / 7) % 9) as f64 / 8.0,
    };
    tensor((0..shape.iter().product()).map(value).collect(), shape, F64).into()
}

#[test]
fn gradients_match_finite_differences() {
    let grids = [
        RegionGrid::size([2, 2, 2]),
        RegionGrid::size([1, 1, 1]),
        RegionGrid::WHOLE,
        RegionGrid::count([2, 3, 2]),
    ];
    let cases = [
        ([2, 3, 3, 4, 5], &grids[..], 19),
        ([2, 1, 3, 4, 5], &grids[..1], 7),
        ([1, 2, 3, 4, 5], &grids[..1], 7),
        ([1, 17, 3, 3, 4], &grids[..1], 53),
        ([1, 128, 2, 3, 3], &grids[3..], 577),
    ];
    for (shape, grids, stride) in cases {
        for &grid in grids {
            let grid = match (grid, shape) {
                // Too many for an axis of two.
                (RegionGrid::Count(_), [.., 2, 3, 3]) => RegionGrid::count([1, 2, 2]),
                (grid, _) => grid,
            };
            for target in [hard_target(shape), soft_target(shape)] {
                for loss in losses(shape[1], grid, target) {
                    check(&wave(shape), shape, stride, &loss);
                }
            }
        }
    }
}

#[test]
fn deeply_supervised_gradients_match_finite_differences() {
    let shape = [2, 3, 4, 4, 5];
    let Target::Labels(y) = hard_target(shape) else {
        unreachable!("class indices");
    };
    let deep = DeepSupervision::new(
        &LossConfig::of(LossKind::ArlDiceCe)
            .with_regions(RegionGrid::size([2, 2, 2]))
            .with_ignore_index(Some(9)),
    )
    .with_weights(vec![1.0, 0.5]);
    let loss = |z: Tensor<5>| deep.forward(vec![z.clone(), z.narrow(2, 0, 2)], y.clone());
    check(
        &wave(shape),
        shape,
        7,
        &("deep supervision".to_owned(), Box::new(loss)),
    );
}

#[test]
fn saturated_logits_have_finite_values_and_gradients() {
    let shape = [1, 3, 4, 4, 4];
    let sign = |i: usize| if i.is_multiple_of(3) { 1e4 } else { -1e4 };
    let z: Vec<f64> = (0..192).map(sign).collect();
    for target in [hard_target(shape), soft_target(shape)] {
        for loss in losses(3, RegionGrid::size([2, 2, 2]), target) {
            for dtype in [F32, F64] {
                let name = &loss.0;
                let x = tensor(z.clone(), shape, dtype).require_grad();
                let value = loss.1(x.clone());
                assert!(scalar(value.clone()).is_finite(), "{name} in {dtype:?}");
                // Burn's own derivatives of powers are infinite at 0; the kernels' are not.
                if dtype == F32 {
                    let gradient = values(x.grad(&value.backward()).unwrap());
                    assert!(gradient.iter().all(|g| g.is_finite()), "{name}");
                }
            }
        }
    }
}
