//! The two weak spots of the published form, as the documentation tells them, and their cures.

use super::*;

/// One region of a class that is not there, a sigmoid's `p` everywhere: the derivative to the logit, times the voxels.
fn push(p: f64, config: AdaptiveRegionLossConfig) -> f64 {
    let z = tensor(vec![(p / (1.0 - p)).ln(); 8], [1, 1, 2, 2, 2], F64).require_grad();
    let y = labels(vec![0; 8], [1, 2, 2, 2]);
    let loss = config
        .with_regions(RegionGrid::WHOLE)
        .with_activation(Activation::Sigmoid)
        .init();
    let gradient = z.grad(&loss.forward(z.clone(), y).backward()).unwrap();
    values(gradient).iter().sum()
}

/// The table of [`EmptyRegions`].
#[test]
fn a_false_positive_in_an_empty_region_is_pushed_as_documented() {
    let documented = [
        [0.0001, 0.109, 0.00690, 0.000699, 0.0001],
        [0.001, 0.0139, 0.0611, 0.00690, 0.000999],
        [0.01, 0.00141, 0.240, 0.0605, 0.0099],
        [0.1, 0.000129, 0.0984, 0.218, 0.09],
        [0.5, 0.0000143, 0.0135, 0.0864, 0.25],
        [0.9, 0.00000159, 0.00154, 0.0118, 0.09],
    ];
    for [p, published, smoother, smoothest, false_positives] in documented {
        let new = AdaptiveRegionLossConfig::published;
        let found = [
            push(p, new()),
            push(p, new().with_smooth(0.01)),
            push(p, new().with_smooth(0.1)),
            push(p, new().with_empty_regions(EmptyRegions::FalsePositives)),
        ];
        for (found, expected) in
            found
                .into_iter()
                .zip([published, smoother, smoothest, false_positives])
        {
            // Three digits are documented.
            assert!(
                (found / expected - 1.0).abs() < 6e-3,
                "p = {p}: {found}, documented {expected}"
            );
        }
    }
}

/// `classes` classes on 4³ regions of 4³ voxels; class `c > 0` has one region of its own, the rest is background. All logits
/// are 0, but the background's, which makes its probability 0.9.
fn crowd(classes: usize) -> (Tensor<5>, Tensor<4, Int>) {
    let shape = [1, classes, 16, 16, 16];
    let background = (9.0 * (classes as f64 - 1.0)).ln();
    let z = (0..classes)
        .flat_map(|c| vec![if c == 0 { background } else { 0.0 }; 4096])
        .collect();
    let y = (0..4096)
        .map(|i| {
            let region = (i / 1024) * 16 + (i / 64 % 4) * 4 + i / 4 % 4;
            let plane = i / 256 % 4 + i / 16 % 4 + i % 4;
            // Half of the region.
            if (1..classes).contains(&region) && plane % 2 == 0 {
                region as i64
            } else {
                0
            }
        })
        .collect();
    (tensor(z, shape, F64), labels(y, [1, 16, 16, 16]))
}

/// The figures of [`RegionReduction`].
#[test]
fn with_many_classes_nearly_all_pairs_are_empty() {
    let (z, y) = crowd(23);
    let config = arl(RegionGrid::size([4, 4, 4]));
    let regions = RegionGrid::size([4, 4, 4]).regions([16; 3]).unwrap();
    let statistics =
        region_statistics(z.clone(), y.clone(), &regions, &StatisticsOptions::new()).unwrap();
    let occurs: Vec<bool> = values(statistics.labelled)
        .iter()
        .map(|&v| v > 0.0)
        .collect();
    let present = occurs.iter().filter(|&&occurs| occurs).count();
    // Background everywhere, and one region for each of the others.
    assert_eq!((present, occurs.len()), (64 + 22, 23 * 64));
    let losses = values(config.init().forward_no_reduction(z.clone(), y.clone()));
    let of_present: f64 = losses
        .iter()
        .zip(&occurs)
        .filter_map(|(loss, &occurs)| occurs.then_some(loss))
        .sum();
    let mean = scalar(config.init().forward(z.clone(), y.clone()));
    assert_close(of_present / (mean * occurs.len() as f64), 0.0240, 5e-5);

    // The push on the logits of a class within its own region: minus the sum of the derivatives.
    let pushed = |loss: &dyn Fn(Tensor<5>, Tensor<4, Int>) -> Tensor<1>| {
        let z = z.clone().require_grad();
        let gradient = z.grad(&loss(z.clone(), y.clone()).backward()).unwrap();
        // Class 1 has region 1: d, h in 0..4, w in 4..8.
        -scalar(gradient.slice([0..1, 1..2, 0..4, 0..4, 4..8]).sum())
    };
    let with = |reduction, empty_regions| {
        let config = config.clone().with_reduction(reduction);
        let loss = config.with_empty_regions(empty_regions).init();
        pushed(&|z, y| loss.forward(z, y))
    };
    let (index, false_positives) = (EmptyRegions::Index, EmptyRegions::FalsePositives);
    let dice = DiceLossConfig::new().with_include_background(true).init();
    let documented = [
        (with(RegionReduction::Mean, index), 4.52e-6),
        (with(RegionReduction::Sum, index), 2.89e-4),
        (with(RegionReduction::Present, index), 2.80e-4),
        (with(RegionReduction::Mean, false_positives), 4.61e-6),
        (with(RegionReduction::Present, false_positives), 2.99e-4),
        (pushed(&|z, y| dice.forward(z, y)), 2.47e-4),
    ];
    for (found, documented) in documented {
        assert!(
            (found / documented - 1.0).abs() < 6e-3,
            "{found}, documented {documented}"
        );
    }
}

#[test]
fn false_positives_of_an_empty_region_cost_their_share() {
    // Two regions; class 1 has all of the first.
    let p: f64 = 0.25;
    let z = [(1.0 - p).ln(), p.ln()];
    let z = tensor(
        z.iter().flat_map(|&z| vec![z; 8]).collect(),
        [1, 2, 1, 2, 4],
        F64,
    );
    let y = labels(vec![1, 1, 0, 0, 1, 1, 0, 0], [1, 1, 2, 4]);
    let config = arl(RegionGrid::size([1, 2, 2])).with_empty_regions(EmptyRegions::FalsePositives);
    let losses = values(config.init().forward_no_reduction(z.clone(), y.clone()));
    assert_close(losses[3], p, 1e-12);
    assert_close(losses[0], 1.0 - p, 1e-12);
    // Present: the empty regions are added to the one that has the class.
    let value = config
        .with_reduction(RegionReduction::Present)
        .init()
        .forward(z, y);
    assert_close(scalar(value), losses.iter().sum::<f64>() / 2.0, 1e-12);
}
