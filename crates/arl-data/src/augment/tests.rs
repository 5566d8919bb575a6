use ndarray::{Array3, Array4, Axis};
use rand::SeedableRng;
use rand::rngs::StdRng;

use super::*;

fn patch() -> (Array4<f32>, Array3<u16>) {
    let image = Array4::from_shape_fn((2, 6, 7, 8), |(c, d, h, w)| {
        ((c * 31 + d * 17 + h * 5 + w * 3) % 23) as f32 / 7.0 - 1.0
    });
    let labels = Array3::from_shape_fn((6, 7, 8), |(d, h, w)| ((d + 2 * h + 3 * w) % 4) as u16);
    (image, labels)
}

fn augmented(config: &AugmentConfig, seed: u64) -> (Array4<f32>, Array3<u16>) {
    let (mut image, mut labels) = patch();
    config.apply(&mut image, &mut labels, &mut StdRng::seed_from_u64(seed));
    (image, labels)
}

#[test]
fn the_generator_decides_everything() {
    let config = AugmentConfig {
        preset: Preset::Nnunet,
        mirror_axes: vec![0, 1, 2],
    };
    let differ = (0..20).filter(|seed| augmented(&config, *seed) != augmented(&config, seed + 1));
    assert!(differ.count() > 10);
    for seed in 0..20 {
        let (image, labels) = augmented(&config, seed);
        assert_eq!(
            (&image, &labels),
            (&augmented(&config, seed).0, &augmented(&config, seed).1)
        );
        assert!(image.iter().all(|v| v.is_finite()));
        assert!(image.is_standard_layout() && labels.is_standard_layout());
    }
}

#[test]
fn none_changes_nothing() {
    let config = AugmentConfig {
        preset: Preset::None,
        mirror_axes: vec![0, 1, 2],
    };
    assert_eq!(augmented(&config, 3), patch());
}

#[test]
fn labels_are_mirrored_with_the_image_and_only_along_the_axes_given() {
    let (original, labels) = patch();
    let mut seen = [false; 2];
    for seed in 0..20 {
        let (mut image, mut flipped) = patch();
        let mut rng = StdRng::seed_from_u64(seed);
        Mirror::default().apply(&mut image, &mut flipped, &[2], &mut rng);
        let mirrored = image != original;
        seen[usize::from(mirrored)] = true;
        if mirrored {
            image.invert_axis(Axis(3));
            flipped.invert_axis(Axis(2));
        }
        assert_eq!((image, flipped), (original.clone(), labels.clone()));
    }
    assert_eq!(seen, [true, true]);
}

#[test]
fn each_transform_is_applied_as_often_as_said() {
    let count = |change: &dyn Fn(&mut Array4<f32>, &mut StdRng)| {
        let mut rng = StdRng::seed_from_u64(1);
        let changed = (0..2000).filter(|_| {
            let (mut image, _) = patch();
            change(&mut image, &mut rng);
            image != patch().0
        });
        changed.count() as f64 / 2000.0
    };
    let near = |actual: f64, expected: f64| assert!((actual - expected).abs() < 0.03, "{actual}");
    near(count(&|x, rng| Noise::default().apply(x, rng)), 0.1);
    // Of the two channels each is left alone half of the time.
    near(count(&|x, rng| Blur::default().apply(x, rng)), 0.2 * 0.75);
    near(count(&|x, rng| Brightness::default().apply(x, rng)), 0.15);
    near(count(&|x, rng| Contrast::default().apply(x, rng)), 0.15);
    near(count(&|x, rng| Gamma::inverted().apply(x, rng)), 0.1);
    near(count(&|x, rng| Gamma::default().apply(x, rng)), 0.3);
}

#[test]
fn contrast_keeps_the_range() {
    let (mut image, _) = patch();
    let always = Contrast {
        probability: 1.0,
        factor: (0.75, 1.25),
    };
    let range = |x: &Array4<f32>| {
        x.iter()
            .fold((9f32, -9f32), |r, v| (r.0.min(*v), r.1.max(*v)))
    };
    let before = range(&image);
    let original = image.clone();
    always.apply(&mut image, &mut StdRng::seed_from_u64(0));
    assert_eq!(range(&image), before);
    assert_ne!(image, original);
}

#[test]
fn presets_are_words() {
    for preset in [Preset::None, Preset::Light, Preset::Nnunet] {
        assert_eq!(preset.to_string().parse(), Ok(preset));
        assert_eq!(
            serde_json::to_string(&preset).unwrap(),
            format!("\"{preset}\"")
        );
    }
    assert!("heavy".parse::<Preset>().unwrap_err().contains("nnunet"));
}
