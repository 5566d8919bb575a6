//! What the losses promise besides their values.

use super::*;

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

#[test]
fn any_number_of_threads_gives_the_same_bits() {
    let shape = [2, 3, 9, 8, 33];
    let run = |threads, kind| {
        let pool = rayon::ThreadPoolBuilder::new()
            .num_threads(threads)
            .build()
            .unwrap();
        pool.install(|| {
            let z = tensor(wave(shape), shape, F32).require_grad();
            let loss = LossConfig::of(kind)
                .with_regions(RegionGrid::size([4, 4, 4]))
                .init();
            let loss = loss.forward(z.clone(), labels(stripes([2, 9, 8, 33]), [2, 9, 8, 33]));
            (
                scalar(loss.clone()),
                values(z.grad(&loss.backward()).unwrap()),
            )
        })
    };
    for kind in LossKind::ALL {
        assert_eq!(run(1, kind), run(5, kind), "{kind}");
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
        deep.try_forward(Vec::<Tensor<5>>::new(), y).unwrap_err(),
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

#[test]
fn an_image_is_a_volume_of_depth_1() {
    let z = tensor(wave([2, 3, 1, 7, 9]), [2, 3, 1, 7, 9], F32);
    let y = labels(stripes([2, 1, 7, 9]), [2, 1, 7, 9]);
    let (flat_z, flat_y): (Tensor<4>, Tensor<3, Int>) =
        (z.clone().squeeze_dim(2), y.clone().squeeze_dim(1));
    for kind in LossKind::ALL {
        let config = LossConfig::of(kind).with_regions(RegionGrid::size([1, 4, 4]));
        let loss = config.init();
        let volume = scalar(loss.forward(z.clone(), y.clone()));
        assert_eq!(scalar(loss.forward(flat_z.clone(), flat_y.clone())), volume);
        let deep = DeepSupervision::new(&config);
        assert_eq!(
            scalar(deep.forward(vec![flat_z.clone()], flat_y.clone())),
            volume
        );
    }
}

#[test]
fn a_mask_is_the_shares_that_it_stands_for() {
    let (z, y) = reference(F32);
    let classes = Tensor::<1, Int>::arange(0..3, &y.device()).reshape([1, 3, 1, 1, 1]);
    let mask = y
        .clone()
        .unsqueeze_dim::<5>(1)
        .equal(classes.cast(y.dtype()));
    for activation in [Activation::Softmax, Activation::Sigmoid] {
        let loss = arl(RegionGrid::size([2, 2, 2]))
            .with_activation(activation)
            .init();
        let by_index = scalar(loss.forward(z.clone(), y.clone()));
        assert_close(
            scalar(loss.forward(z.clone(), mask.clone())),
            by_index,
            1e-6,
        );
        let shares = mask.clone().float();
        assert_close(scalar(loss.forward(z.clone(), shares)), by_index, 1e-6);
    }
}

#[test]
fn a_single_sigmoid_channel_is_foreground() {
    let z = tensor(wave([1, 1, 2, 3, 4]), [1, 1, 2, 3, 4], F32);
    let y: Vec<i64> = (0..24).map(|i| i64::from(i % 3 == 0)).collect();
    let shares: Vec<f64> = y.iter().map(|&label| label as f64).collect();
    let shares = tensor(shares, [1, 1, 2, 3, 4], F32);
    let dice = DiceLossConfig::new()
        .with_activation(Activation::Sigmoid)
        .init();
    let by_index = scalar(dice.forward(z.clone(), labels(y, [1, 2, 3, 4])));
    assert_close(
        scalar(dice.forward(z.clone(), shares.clone())),
        by_index,
        1e-7,
    );
    assert!(by_index > 0.1);
    // With softmax one channel says nothing.
    let softmax = DiceLossConfig::new().init().try_forward(z, shares);
    assert_eq!(softmax.unwrap_err(), LossError::OnlyBackground);
}

#[test]
fn labels_that_are_no_class_are_found() {
    let mut y = vec![0, 1, 2, 2, 9, 1, 0, 2];
    assert_eq!(
        check_labels(labels(y.clone(), [2, 1, 2, 2]), 3, Some(9)),
        Ok(())
    );
    y[6] = -4;
    let error = check_labels(labels(y.clone(), [2, 1, 2, 2]), 3, Some(9)).unwrap_err();
    let expected = LossError::Labels {
        count: 1,
        last: 2,
        value: -4,
        position: [1, 0, 1, 0],
    };
    assert_eq!(error, expected);
    assert_eq!(
        error.to_string(),
        "1 labels are neither a class (0 to 2) nor ignored; the first is -4 at [n,d,h,w] = [1, 0, 1, 0]"
    );
    let two = check_labels(labels(y, [2, 1, 2, 2]), 3, None).unwrap_err();
    assert!(
        matches!(
            two,
            LossError::Labels {
                count: 2,
                value: 9,
                ..
            }
        ),
        "{two}"
    );
}

#[test]
fn options_out_of_range_are_errors_that_name_them() {
    let (z, y) = reference(F32);
    let criteria: Vec<(crate::Criterion, &str)> = vec![
        (DiceLossConfig::new().with_smooth(0.0).into(), "smooth is 0"),
        (
            TverskyLossConfig::new().with_alpha(-1.0).into(),
            "alpha is -1",
        ),
        (
            TverskyLossConfig::new().with_exponent(0.0).into(),
            "exponent is 0",
        ),
        (
            FocalLossConfig::new().with_gamma(-0.5).into(),
            "gamma is -0.5",
        ),
        (
            CrossEntropyLossConfig::new()
                .with_label_smoothing(1.5)
                .into(),
            "label_smoothing is 1.5",
        ),
        (
            CrossEntropyLossConfig::new()
                .with_label_smoothing(0.1)
                .with_activation(Activation::Sigmoid)
                .into(),
            "label smoothing needs softmax",
        ),
        (
            TopKCrossEntropyLossConfig::new().with_share(0.0).into(),
            "share is 0",
        ),
        (
            AdaptiveRegionLossConfig::new().with_smooth(f64::NAN).into(),
            "smooth is NaN",
        ),
    ];
    for (criterion, expected) in criteria {
        let loss = LossConfig::new().with_term(1.0, criterion).init();
        let error = loss
            .try_forward(z.clone(), y.clone())
            .unwrap_err()
            .to_string();
        assert!(error.starts_with(expected), "{error}");
    }
    let nothing = LossConfig::new().init().try_forward(z.clone(), y.clone());
    assert_eq!(nothing.unwrap_err(), LossError::NoTerms);
    let shares = tensor(vec![0.0; 8], [1, 1, 2, 2, 2], F32);
    let error = DiceLossConfig::new()
        .init()
        .try_forward(z.clone(), shares)
        .unwrap_err();
    assert!(
        error.to_string().contains("[2, 3, 4, 4, 6]")
            && error.to_string().contains("[1, 1, 2, 2, 2]")
    );
    let empty = Tensor::<5>::zeros([0, 3, 4, 4, 6], &Device::flex());
    let error = DiceLossConfig::new()
        .init()
        .try_forward(empty, labels(vec![], [0, 4, 4, 6]))
        .unwrap_err();
    assert_eq!(
        error,
        LossError::Empty {
            logits: [0, 3, 4, 4, 6]
        }
    );
}

#[test]
fn cross_entropy_without_reduction_is_that_of_each_voxel() {
    let (z, y) = reference(F32);
    for activation in [Activation::Softmax, Activation::Sigmoid] {
        let loss = CrossEntropyLossConfig::new()
            .with_activation(activation)
            .with_ignore_index(Some(1))
            .init();
        let each = loss.try_forward_no_reduction(z.clone(), y.clone()).unwrap();
        assert_eq!(each.dims(), [2, 3, 4, 4, 6]);
        // A third of the voxels is ignored.
        let count = match activation {
            Activation::Softmax => 128.0,
            Activation::Sigmoid => 3.0 * 128.0,
        };
        let mean = scalar(each.sum()) / count;
        assert_close(mean, scalar(loss.forward(z.clone(), y.clone())), 1e-6);
    }
}

#[test]
fn false_positives_of_a_volume_without_any_class_have_a_sane_loss() {
    // One sigmoid channel, and background everywhere.
    let z = tensor(vec![2.0; 64], [1, 1, 4, 4, 4], F32).require_grad();
    let loss = AdaptiveRegionLossConfig::new()
        .with_regions(RegionGrid::size([2, 2, 2]))
        .with_activation(Activation::Sigmoid)
        .with_empty_regions(EmptyRegions::FalsePositives)
        .init();
    let value = loss.forward(z.clone(), labels(vec![0; 64], [1, 4, 4, 4]));
    let p = 1.0 / (1.0 + (-2.0f64).exp());
    assert_close(scalar(value), 8.0 * p, 1e-5);

    let z = tensor(wave([1, 3, 2, 2, 2]), [1, 3, 2, 2, 2], F32);
    let smoothed = CrossEntropyLossConfig::new()
        .with_label_smoothing(0.1)
        .with_class_weights(Some(vec![0.0, 1.0, 1.0]))
        .init();
    let value = smoothed.forward(z, labels(vec![0; 8], [1, 2, 2, 2]));
    assert_eq!(scalar(value), 0.0);
}

#[test]
fn a_network_of_nan_has_a_loss_of_nan() {
    for kind in LossKind::ALL {
        for dtype in [F32, F64] {
            for broken in [0, 5, 9] {
                let mut z = wave([1, 3, 1, 2, 2]);
                // One logit, of the voxel's own class or of another.
                z[broken] = f64::NAN;
                let z = tensor(z, [1, 3, 1, 2, 2], dtype);
                let loss = LossConfig::of(kind).init();
                let value = scalar(loss.forward(z, labels(vec![1; 4], [1, 1, 2, 2])));
                assert!(value.is_nan(), "{kind} in {dtype:?}: {value}");
            }
        }
    }
}

#[test]
fn a_class_may_be_masked_by_a_logit_of_minus_infinity() {
    let (z, _) = reference(F32);
    let z = z.slice_fill([0..2, 2..3], f32::NEG_INFINITY).require_grad();
    // The masked class does not occur.
    let y = labels((0..192).map(|i| i % 2).collect(), [2, 4, 4, 6]);
    for kind in LossKind::ALL {
        let loss = LossConfig::of(kind)
            .with_regions(RegionGrid::size([2, 2, 2]))
            .init();
        let value = loss.forward(z.clone(), y.clone());
        assert!(scalar(value.clone()).is_finite(), "{kind}");
        let gradient = values(z.grad(&value.backward()).unwrap());
        assert!(gradient.iter().all(|g| g.is_finite()), "{kind}");
    }
}

#[test]
fn labels_are_checked_in_any_type() {
    let y = |dtype: DType| {
        labels(vec![0, 1, 2, 255], [1, 1, 2, 2]).cast(burn::tensor::IntDType::from(dtype))
    };
    for dtype in [DType::U8, DType::U16, DType::U32, DType::U64, DType::I32] {
        assert_eq!(check_labels(y(dtype), 256, None), Ok(()), "{dtype:?}");
        assert_eq!(check_labels(y(dtype), 3, Some(255)), Ok(()), "{dtype:?}");
        let error = check_labels(y(dtype), 3, Some(-100)).unwrap_err();
        assert!(
            matches!(
                error,
                LossError::Labels {
                    count: 1,
                    value: 255,
                    ..
                }
            ),
            "{error}"
        );
        // PyTorch's own label to ignore, which no unsigned label can be.
        let z = tensor(vec![0.0; 12], [1, 3, 1, 2, 2], F64);
        let ce = CrossEntropyLossConfig::new()
            .with_ignore_index(Some(-100))
            .init();
        assert_close(scalar(ce.forward(z, y(dtype))), 3.0f64.ln(), 1e-12);
    }
}

#[test]
fn a_target_of_another_size_is_refused_at_every_scale() {
    let (z, y) = reference(F32);
    let deep = DeepSupervision::new(&LossConfig::of(LossKind::ArlCe));
    let coarse = tensor(vec![0.0; 2 * 3 * 12], [2, 3, 2, 2, 3], F32);
    let turned = y.swap_dims(1, 3);
    let error = deep.try_forward(vec![z, coarse], turned).unwrap_err();
    assert!(matches!(error, LossError::Shape { .. }), "{error}");
}
