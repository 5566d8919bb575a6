//! Numbers that others have published or computed, in f64 (the plain way) and f32 (the fused one).

use super::*;

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

/// MONAI's own test inputs, as 2D images: `X1`, `X3` and `F` of its tests.
mod monai {
    use super::*;

    fn image(values: &[f64], shape: [usize; 4], dtype: DType) -> Tensor<4> {
        Tensor::from_data(
            TensorData::new(values.to_vec(), shape),
            (&Device::flex(), dtype),
        )
    }

    fn indices(values: &[i64], shape: [usize; 3]) -> Tensor<3, Int> {
        Tensor::from_data(TensorData::new(values.to_vec(), shape), &Device::flex())
    }

    fn x1(dtype: DType) -> (Tensor<4>, Tensor<4>) {
        let image = |values: &[f64]| image(values, [1, 1, 2, 2], dtype);
        (image(&[1.0, -1.0, -1.0, 1.0]), image(&[1.0, 0.0, 1.0, 1.0]))
    }

    fn x3(dtype: DType) -> (Tensor<4>, Tensor<3, Int>) {
        let z = [-1.0, 0.0, 1.0, 1.0, 0.0, -1.0, 0.0, 0.0, 0.0, 0.0, 0.0, 0.0];
        let z = image(&z, [2, 2, 1, 3], dtype);
        (z, indices(&[1, 0, 0, 1, 1, 0], [2, 1, 3]))
    }

    fn f(dtype: DType) -> (Tensor<4>, Tensor<3, Int>) {
        let z = [1.0, 1.0, 0.5, 0.0].repeat(3);
        let z = image(&z, [1, 3, 2, 2], dtype);
        (z, indices(&[0, 1, 2, 0], [1, 2, 2]))
    }

    #[test]
    fn tversky() {
        for dtype in [F32, F64] {
            let half = TverskyLossConfig::new()
                .with_alpha(0.5)
                .with_beta(0.5)
                .with_include_background(true);
            let sigmoid = half.clone().with_activation(Activation::Sigmoid);
            let (z, y) = x1(dtype);
            let loss = sigmoid.clone().with_smooth(1e-6).init();
            assert_close(scalar(loss.forward(z.clone(), y)), 0.307576, 1e-6);

            let twice = Tensor::cat(vec![z.clone(), z], 0);
            let y = image(
                &[1.0, 1.0, 1.0, 1.0, 1.0, 0.0, 1.0, 0.0],
                [2, 1, 2, 2],
                dtype,
            );
            let sigmoid = sigmoid.with_smooth(1e-4).init();
            assert_close(scalar(sigmoid.forward(twice, y)), 0.416649, 1e-6);

            let (z, y) = x3(dtype);
            let loss = sigmoid.forward(z.clone(), y.clone());
            assert_close(scalar(loss), 0.435035, 1e-6);
            let softmax = half.with_smooth(1e-4).init();
            let loss = softmax.forward(z.clone(), y.clone());
            assert_close(scalar(loss), 0.383700, 1e-6);
            let each = values(softmax.forward_no_reduction(z, y));
            for (found, expected) in each.iter().zip([0.210961, 0.295339, 0.599952, 0.428547]) {
                assert_close(*found, expected, 1e-6);
            }
        }
    }

    #[test]
    fn dice_and_generalised_dice() {
        for dtype in [F32, F64] {
            let dice = DiceLossConfig::new()
                .with_include_background(true)
                .with_activation(Activation::Sigmoid);
            let (z, y) = x1(dtype);
            let squared = dice.clone().with_squared_denominator(true).init();
            assert_close(scalar(squared.forward(z, y)), 0.178337, 1e-6);

            let (z, y) = x3(dtype);
            let dice = dice.with_smooth(1e-4).init();
            let each = values(dice.forward_no_reduction(z.clone(), y.clone()));
            for (found, expected) in each.iter().zip([0.296529, 0.415137, 0.599976, 0.428559]) {
                assert_close(*found, expected, 1e-6);
            }
            let generalized = GeneralizedDiceLossConfig::new()
                .with_activation(Activation::Sigmoid)
                .with_smooth(1e-4)
                .init();
            assert_close(scalar(generalized.forward(z, y)), 0.469964, 1e-6);
        }
    }

    #[test]
    fn cross_entropy_and_focal() {
        for dtype in [F32, F64] {
            let z = [1.0, 1.0, 0.0, 0.0, 0.0, 1.0, 1.0, 0.0, 1.0, 0.0, 1.0, 0.0];
            let z = image(&z, [2, 2, 1, 3], dtype);
            let y = indices(&[0, 0, 1, 0, 1, 0], [2, 1, 3]);
            let ce = CrossEntropyLossConfig::new().init();
            let expected = (1.0 + std::f64::consts::E).ln() - 1.0;
            assert_close(scalar(ce.forward(z, y)), expected, 1e-6);

            let (z, y) = f(dtype);
            let focal = FocalLossConfig::new();
            let sigmoid = focal.clone().with_activation(Activation::Sigmoid).init();
            assert_close(
                scalar(sigmoid.forward(z.clone(), y.clone())),
                0.349587,
                1e-6,
            );
            // MONAI's softmax mean is over the three classes too; its alpha is 1 − alpha for class 0.
            let softmax = focal.clone().init().forward(z.clone(), y.clone());
            assert_close(scalar(softmax) / 3.0, 0.162757, 1e-6);
            let alpha = focal.with_class_weights(Some(vec![0.2, 0.8, 0.8])).init();
            assert_close(scalar(alpha.forward(z, y)) / 3.0, 0.08138, 5e-6);
        }
    }

    #[test]
    fn top_k_of_nnunet() {
        for dtype in [F32, F64] {
            let (z, y) = reference(dtype);
            let loss = TopKCrossEntropyLossConfig::new().init().forward(z, y);
            assert_close(scalar(loss), 3.8067380377, 3e-6);
        }
    }
}
