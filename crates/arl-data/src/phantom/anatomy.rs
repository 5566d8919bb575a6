//! The parts of an abdomen: where they lie, how large and how bright they are, and how that varies.
//!
//! Places and sizes are fractions of half the body box, and become mm when a part is added. Brightness is in HU,
//! as in the portal venous phase.

use rand::{Rng, RngExt};

use super::shape::{Point, Shape};

/// The classes of the phantom; the position of a name is its label value.
pub(super) const CLASSES: [&str; 10] = [
    "background",
    "liver",
    "spleen",
    "kidney_left",
    "kidney_right",
    "aorta",
    "vertebrae",
    "pancreas",
    "adrenal_glands",
    "bladder",
];
const LIVER: u8 = 1;
const SPLEEN: u8 = 2;
const KIDNEY_LEFT: u8 = 3;
const KIDNEY_RIGHT: u8 = 4;
const AORTA: u8 = 5;
const VERTEBRAE: u8 = 6;
const PANCREAS: u8 = 7;
const ADRENALS: u8 = 8;
const BLADDER: u8 = 9;

/// One solid of one tissue. Later parts are painted over earlier ones.
pub(super) struct Part {
    pub label: u8,
    /// Mean brightness in HU.
    pub hu: f32,
    /// Amplitude of the texture in HU.
    pub texture: f32,
    pub shape: Shape,
    /// Whether the part ends at the inner side of the abdominal wall.
    pub inside: bool,
}

/// One patient.
pub(super) struct Anatomy {
    /// The inside of the abdominal wall.
    pub cavity: Shape,
    /// In the order in which they are painted.
    pub parts: Vec<Part>,
}

/// What can be said about the next part.
#[derive(Clone, Copy)]
struct Tissue {
    label: u8,
    hu: f32,
    texture: f32,
    inside: bool,
}

const fn tissue(label: u8, hu: f32, texture: f32) -> Tissue {
    Tissue {
        label,
        hu,
        texture,
        inside: true,
    }
}

/// A tissue that may reach through the abdominal wall.
const fn wall(label: u8, hu: f32, texture: f32) -> Tissue {
    Tissue {
        inside: false,
        ..tissue(label, hu, texture)
    }
}

const BOWEL: Tissue = tissue(0, 70.0, 20.0);
const GAS: Tissue = tissue(0, -900.0, 30.0);
const MUSCLE: Tissue = wall(0, 60.0, 8.0);

struct Builder<'a, R> {
    half: Point,
    rng: &'a mut R,
    parts: Vec<Part>,
}

impl<R: Rng> Builder<'_, R> {
    fn vary(&mut self, amount: f32) -> f32 {
        self.rng.random_range(-amount..=amount)
    }

    /// `centre` moved by at most `amount` along each axis.
    fn near(&mut self, centre: Point, amount: f32) -> Point {
        centre.map(|c| c + self.vary(amount))
    }

    /// All of `radii` larger or smaller by the same factor, at most `amount`.
    fn sized(&mut self, radii: Point, amount: f32) -> Point {
        let factor = 1.0 + self.vary(amount);
        radii.map(|r| r * factor)
    }

    fn mm(&self, p: Point) -> Point {
        std::array::from_fn(|i| p[i] * self.half[i])
    }

    fn ellipsoid(&self, centre: Point, radii: Point, turn: f32) -> Shape {
        Shape::Ellipsoid {
            centre: self.mm(centre),
            radii: self.mm(radii),
            turn,
            power: 2,
        }
    }

    /// A tube; its radii are fractions of half the body's width.
    fn tube(&self, nodes: &[(Point, f32)]) -> Shape {
        let width = self.half[0];
        Shape::Tube(
            nodes
                .iter()
                .map(|&(p, r)| (self.mm(p), r * width))
                .collect(),
        )
    }

    fn add(&mut self, tissue: Tissue, shape: Shape) {
        self.parts.push(Part {
            label: tissue.label,
            hu: tissue.hu,
            texture: tissue.texture,
            inside: tissue.inside,
            shape,
        });
    }
}

/// Draws a patient whose body box has the half extents `half` in mm.
pub(super) fn draw(half: Point, rng: &mut impl Rng) -> Anatomy {
    let mut b = Builder {
        half,
        rng,
        parts: Vec::new(),
    };
    let cavity = body(&mut b);
    bones(&mut b);
    bowel(&mut b);
    upper_organs(&mut b);
    vessels(&mut b);
    kidneys_and_adrenals(&mut b);
    pancreas(&mut b);
    bladder(&mut b);
    Anatomy {
        cavity,
        parts: b.parts,
    }
}

/// Skin, fat, the muscle wall, the fat between the organs, and the lungs above the diaphragm. Returns the cavity.
fn body(b: &mut Builder<impl Rng>) -> Shape {
    let fat = 0.10 + b.vary(0.05);
    let layer = |b: &Builder<_>, r: f32| b.ellipsoid([0.0; 3], [r, r, f32::INFINITY], 0.0);
    for (tissue, radius) in [
        (wall(0, 20.0, 5.0), 1.0),
        (wall(0, -100.0, 10.0), 0.98),
        (MUSCLE, 1.0 - fat),
        (wall(0, -95.0, 25.0), 0.92 - fat),
    ] {
        let shape = layer(b, radius);
        b.add(tissue, shape);
    }
    let top = 0.85 + b.vary(0.06);
    let drop = 0.55;
    for (x, side) in [(-0.42, 0.0), (0.45, -0.08)] {
        let shape = Shape::AboveDome {
            x: x * b.half[0],
            y: 0.0,
            top: (top + side) * b.half[2],
            drop: drop * b.half[2] / b.half[0].powi(2),
        };
        b.add(tissue(0, -850.0, 60.0), shape);
    }
    // The organs stop at the wall, not at the fat in front of it.
    layer(b, 0.915 - fat)
}

/// Muscles of the back, ribs, vertebrae with discs and canal, and the wings of the pelvis.
fn bones(b: &mut Builder<impl Rng>) {
    for side in [-1.0, 1.0] {
        let back = b.ellipsoid([0.2 * side, 0.66, 0.0], [0.17, 0.17, f32::INFINITY], 0.0);
        b.add(MUSCLE, back);
        let psoas = b.tube(&[
            ([0.2 * side, 0.44, 0.2], 0.05),
            ([0.25 * side, 0.38, -1.1], 0.11),
        ]);
        b.add(MUSCLE, psoas);
        let start = b.vary(0.1);
        for level in 0..6 {
            // Ribs run downwards from the back to the front.
            let z = 1.15 + start - 0.22 * level as f32;
            let nodes: Vec<(Point, f32)> = (0..=8)
                .map(|step| {
                    let angle = 1.3 - 2.0 * step as f32 / 8.0;
                    let (sin, cos) = angle.sin_cos();
                    (
                        [0.87 * cos * side, 0.83 * sin, z - 0.04 * step as f32],
                        0.028,
                    )
                })
                .take(9 - level)
                .collect();
            let rib = b.tube(&nodes);
            b.add(wall(0, 350.0, 60.0), rib);
        }
        let wing = b.ellipsoid([0.55 * side, 0.3, -0.95], [0.07, 0.42, 0.35], -0.5 * side);
        b.add(wall(0, 320.0, 80.0), wing);
    }

    let column = b.near([0.0, 0.46, 0.0], 0.02);
    let [x, y, _] = column;
    let radii = b.sized([0.145, 0.17, 0.115], 0.08);
    let disc = b.ellipsoid([x, y, 0.0], [radii[0], radii[1], f32::INFINITY], 0.0);
    b.add(tissue(0, 90.0, 8.0), disc);
    let start = b.vary(0.12);
    for level in -5..=5 {
        let z = start + 0.25 * level as f32;
        for (scale, hu) in [(1.0, 420.0), (0.8, 190.0)] {
            let body = Shape::Ellipsoid {
                centre: b.mm([x, y, z]),
                radii: b.mm(radii.map(|r| r * scale)),
                turn: 0.0,
                power: 4,
            };
            b.add(wall(VERTEBRAE, hu, 60.0), body);
        }
        let arch = b.ellipsoid([x, y + 0.21, z], [0.13, 0.13, 0.11], 0.0);
        let processes = [
            b.tube(&[([x, y + 0.3, z], 0.04), ([x, y + 0.39, z - 0.08], 0.03)]),
            b.tube(&[([x - 0.3, y + 0.2, z], 0.03), ([x + 0.3, y + 0.2, z], 0.03)]),
        ];
        b.add(wall(VERTEBRAE, 330.0, 60.0), arch);
        for process in processes {
            b.add(wall(VERTEBRAE, 330.0, 60.0), process);
        }
    }
    let canal = b.ellipsoid([x, y + 0.215, 0.0], [0.062, 0.075, f32::INFINITY], 0.0);
    b.add(wall(0, 30.0, 5.0), canal);
}

/// Loops of small bowel at random, and the colon with gas in it.
fn bowel(b: &mut Builder<impl Rng>) {
    for _ in 0..26 {
        let a = b.near([0.0, -0.3, -0.42], 0.36);
        let c = b.near(a, 0.3);
        let radius = 0.075 + b.vary(0.02);
        let brightness = b.vary(20.0);
        let shape = b.tube(&[(a, radius), (c, radius)]);
        b.add(
            Tissue {
                hu: BOWEL.hu + brightness,
                ..BOWEL
            },
            shape,
        );
        if brightness > 12.0 {
            let shape = b.tube(&[(a, radius * 0.55), (c, radius * 0.5)]);
            b.add(GAS, shape);
        }
    }
    for side in [-1.0, 1.0] {
        let low = b.near([0.66 * side, 0.15, -0.75], 0.04);
        let high = b.near([0.68 * side, 0.1, -0.1], 0.04);
        let wall = b.tube(&[(low, 0.12), (high, 0.1)]);
        b.add(BOWEL, wall);
        let gas = b.tube(&[(low, 0.07), (high, 0.06)]);
        b.add(tissue(0, -300.0, 250.0), gas);
    }
}

/// Liver with gallbladder, stomach with fluid and gas, and spleen.
fn upper_organs(b: &mut Builder<impl Rng>) {
    let right = b.near([-0.47, -0.04, 0.35], 0.03);
    let left = b.near([0.0, -0.45, 0.42], 0.04);
    let (big, small) = (
        b.sized([0.40, 0.62, 0.47], 0.1),
        b.sized([0.36, 0.28, 0.27], 0.15),
    );
    let seam = 0.15 * b.half[0];
    let lobes = vec![
        b.ellipsoid(right, big, 0.15),
        b.ellipsoid(left, small, -0.2),
    ];
    let brightness = b.vary(12.0);
    b.add(
        tissue(LIVER, 108.0 + brightness, 12.0),
        Shape::Union(lobes, seam),
    );
    let centre = b.near([-0.28, -0.42, 0.02], 0.04);
    let gallbladder = b.ellipsoid(centre, [0.09, 0.12, 0.12], 0.3);
    b.add(tissue(0, 12.0, 3.0), gallbladder);

    let centre = b.near([0.32, -0.36, 0.38], 0.04);
    let radii = b.sized([0.27, 0.3, 0.28], 0.15);
    let stomach = b.ellipsoid(centre, radii, -0.3);
    b.add(BOWEL, stomach);
    let fluid = b.ellipsoid(centre, radii.map(|r| 0.82 * r), -0.3);
    b.add(tissue(0, 25.0, 15.0), fluid);
    let [x, y, z] = centre;
    let gas = b.ellipsoid([x, y - 0.12, z], radii.map(|r| 0.55 * r), -0.3);
    b.add(GAS, gas);

    let centre = b.near([0.66, 0.28, 0.40], 0.03);
    let radii = b.sized([0.18, 0.38, 0.3], 0.15);
    let [x, y, z] = centre;
    let spleen = Shape::Minus(
        Box::new(b.ellipsoid(centre, radii, -0.3)),
        Box::new(b.ellipsoid([x - 0.2, y - 0.12, z], [0.16, 0.3, 0.4], -0.3)),
    );
    let brightness = b.vary(10.0);
    b.add(tissue(SPLEEN, 122.0 + brightness, 8.0), spleen);
}

/// The aorta, and beside it the vena cava, which looks like it and is not labelled.
fn vessels(b: &mut Builder<impl Rng>) {
    let [x, y, _] = b.near([0.07, 0.2, 0.0], 0.02);
    let bend = b.vary(0.05);
    let brightness = b.vary(15.0);
    let aorta = b.tube(&[
        ([x - 0.02, y + 0.06, 1.1], 0.062),
        ([x + bend, y, 0.3], 0.056),
        ([x - bend, y, -0.4], 0.046),
        ([x, y + 0.02, -1.1], 0.04),
    ]);
    b.add(tissue(AORTA, 165.0 + brightness, 5.0), aorta);
    let [x, y, _] = b.near([-0.13, 0.2, 0.0], 0.02);
    let cava = b.tube(&[
        ([x, y - 0.05, 0.9], 0.066),
        ([x, y, 0.2], 0.058),
        ([x + 0.02, y, -1.1], 0.05),
    ]);
    b.add(tissue(0, 140.0 + brightness, 6.0), cava);
}

/// Kidneys with cortex and pelvis, and on top of each an adrenal gland of two limbs.
fn kidneys_and_adrenals(b: &mut Builder<impl Rng>) {
    for (side, label, z) in [(1.0, KIDNEY_LEFT, 0.02), (-1.0, KIDNEY_RIGHT, -0.06)] {
        let centre = b.near([0.41 * side, 0.46, z], 0.03);
        let radii = b.sized([0.145, 0.2, 0.27], 0.12);
        let [x, y, z] = centre;
        let turn = 0.5 * side;
        let hilum = |b: &Builder<_>| {
            Box::new(b.ellipsoid([x - 0.14 * side, y - 0.06, z], [0.08, 0.09, 0.1], 0.0))
        };
        for (scale, hu, texture) in [(1.0, 195.0, 10.0), (0.62, 150.0, 25.0)] {
            let kidney = Shape::Minus(
                Box::new(b.ellipsoid(centre, radii.map(|r| r * scale), turn)),
                hilum(b),
            );
            b.add(tissue(label, hu, texture), kidney);
        }

        let [x, y, z] = b.near([0.25 * side, 0.34, z + 0.33], 0.02);
        let apex: Point = [x, y - 0.06, z + 0.03];
        for dx in [-0.06, 0.06] {
            let limb = b.tube(&[(apex, 0.038), ([x + dx, y + 0.12, z - 0.08], 0.032)]);
            b.add(tissue(ADRENALS, 85.0, 6.0), limb);
        }
    }
}

/// The pancreas, hardly brighter than the bowel it lies against.
fn pancreas(b: &mut Builder<impl Rng>) {
    let duodenum = b.tube(&[
        ([-0.3, -0.12, 0.12], 0.075),
        ([-0.33, 0.0, -0.12], 0.07),
        ([-0.1, 0.02, -0.22], 0.065),
    ]);
    b.add(BOWEL, duodenum);
    let path = [
        ([-0.17, 0.0, -0.04], 0.085),
        ([-0.15, -0.08, 0.06], 0.08),
        ([-0.02, -0.14, 0.12], 0.058),
        ([0.16, -0.02, 0.15], 0.064),
        ([0.42, 0.18, 0.24], 0.05),
    ];
    let size = 1.0 + b.vary(0.15);
    let nodes = path.map(|(p, r)| (b.near(p, 0.03), r * size));
    let shape = b.tube(&nodes);
    let brightness = b.vary(6.0);
    b.add(tissue(PANCREAS, 92.0 + brightness, 14.0), shape);
}

/// The bladder, filled to a varying degree.
fn bladder(b: &mut Builder<impl Rng>) {
    let centre = b.near([0.0, -0.18, -0.78], 0.04);
    let radii = b.sized([0.27, 0.32, 0.2], 0.2);
    let rim = b.ellipsoid(centre, radii, 0.0);
    b.add(tissue(BLADDER, 45.0, 5.0), rim);
    let urine = b.ellipsoid(centre, radii.map(|r| 0.88 * r), 0.0);
    b.add(tissue(BLADDER, 6.0, 3.0), urine);
}
