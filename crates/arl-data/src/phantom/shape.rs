//! Solids given by their signed distance, from which organs are built.

/// A point or an extent in mm: x to the patient's left, y to the back, z to the head.
pub(super) type Point = [f32; 3];

/// A solid. Its signed distance is negative inside.
pub(super) enum Shape {
    /// `Σ |x/a|^power = 1`: an ellipsoid for 2, a box with round edges for 4. An infinite radius makes a cylinder.
    Ellipsoid {
        centre: Point,
        radii: Point,
        /// Rotation about z in radians.
        turn: f32,
        power: i32,
    },
    /// Balls along a chain of points, joined by cones.
    Tube(Vec<(Point, f32)>),
    /// The inside of all of them, with seams rounded over so many mm.
    Union(Vec<Shape>, f32),
    /// The first without the second.
    Minus(Box<Shape>, Box<Shape>),
    /// The space above a dome: `z > top - drop · squared distance from (x, y)`.
    AboveDome { x: f32, y: f32, top: f32, drop: f32 },
}

impl Shape {
    /// Approximate distance in mm from `p` to the surface: exact to first order near the surface, where it matters.
    pub fn distance(&self, p: Point) -> f32 {
        match self {
            Self::Ellipsoid {
                centre,
                radii,
                turn,
                power,
            } => ellipsoid(p, *centre, *radii, *turn, *power),
            Self::Tube(nodes) => nodes
                .windows(2)
                .map(|pair| cone(p, pair[0], pair[1]))
                .fold(f32::INFINITY, f32::min),
            Self::Union(parts, seam) => parts
                .iter()
                .map(|part| part.distance(p))
                .reduce(|a, b| smooth_min(a, b, *seam))
                .unwrap_or(f32::INFINITY),
            Self::Minus(solid, hole) => solid.distance(p).max(-hole.distance(p)),
            Self::AboveDome { x, y, top, drop } => {
                top - drop * ((p[0] - x).powi(2) + (p[1] - y).powi(2)) - p[2]
            }
        }
    }

    /// A box around the solid, as its lowest and its highest corner.
    pub fn bounds(&self) -> [Point; 2] {
        match self {
            Self::Ellipsoid { centre, radii, .. } => {
                // In the plane any rotation fits into the longer radius.
                let plane = radii[0].max(radii[1]);
                ball(*centre, [plane, plane, radii[2]])
            }
            Self::Tube(nodes) => hull(nodes.iter().map(|&(p, r)| ball(p, [r; 3]))),
            Self::Union(parts, seam) => {
                let [low, high] = hull(parts.iter().map(Self::bounds));
                [low.map(|x| x - seam), high.map(|x| x + seam)]
            }
            Self::Minus(solid, _) => solid.bounds(),
            Self::AboveDome { .. } => [[f32::NEG_INFINITY; 3], [f32::INFINITY; 3]],
        }
    }
}

fn ball(centre: Point, radii: Point) -> [Point; 2] {
    [
        std::array::from_fn(|i| centre[i] - radii[i]),
        std::array::from_fn(|i| centre[i] + radii[i]),
    ]
}

/// The smallest box around some boxes.
fn hull(boxes: impl Iterator<Item = [Point; 2]>) -> [Point; 2] {
    boxes.fold(
        [[f32::INFINITY; 3], [f32::NEG_INFINITY; 3]],
        |[low, high], [l, h]| {
            [
                std::array::from_fn(|i| low[i].min(l[i])),
                std::array::from_fn(|i| high[i].max(h[i])),
            ]
        },
    )
}

/// First-order distance `(f - 1) / |∇f|` with `f` the power norm of the scaled offset.
fn ellipsoid(p: Point, centre: Point, radii: Point, turn: f32, power: i32) -> f32 {
    let (sin, cos) = turn.sin_cos();
    let [x, y, z] = [p[0] - centre[0], p[1] - centre[1], p[2] - centre[2]];
    let offset = [cos * x + sin * y, cos * y - sin * x, z];
    let scaled: [f32; 3] = std::array::from_fn(|i| (offset[i] / radii[i]).abs());
    let norm = scaled
        .iter()
        .map(|s| s.powi(power))
        .sum::<f32>()
        .powf(1.0 / power as f32);
    if norm < 1e-3 {
        return -radii.iter().copied().fold(f32::INFINITY, f32::min);
    }
    let gradient = (0..3)
        .map(|i| ((scaled[i] / norm).powi(power - 1) / radii[i]).powi(2))
        .sum::<f32>()
        .sqrt();
    (norm - 1.0) / gradient
}

/// Distance to the segment between two balls whose radius changes linearly.
fn cone(p: Point, (a, radius_a): (Point, f32), (b, radius_b): (Point, f32)) -> f32 {
    let dot = |u: Point, v: Point| (0..3).map(|i| u[i] * v[i]).sum::<f32>();
    let along: Point = std::array::from_fn(|i| b[i] - a[i]);
    let from: Point = std::array::from_fn(|i| p[i] - a[i]);
    let t = (dot(from, along) / dot(along, along).max(1e-6)).clamp(0.0, 1.0);
    let rest: Point = std::array::from_fn(|i| from[i] - t * along[i]);
    dot(rest, rest).sqrt() - (radius_a + t * (radius_b - radius_a))
}

/// The smaller of two distances, blended where they differ by less than `seam`.
fn smooth_min(a: f32, b: f32, seam: f32) -> f32 {
    if seam <= 0.0 {
        return a.min(b);
    }
    let overlap = (seam - (a - b).abs()).max(0.0) / seam;
    a.min(b) - overlap * overlap * seam / 4.0
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn distances_are_right_on_the_axes() {
        let ball = Shape::Ellipsoid {
            centre: [1., 0., 0.],
            radii: [2., 2., 2.],
            turn: 0.3,
            power: 2,
        };
        assert!((ball.distance([5., 0., 0.]) - 2.).abs() < 1e-4);
        assert!((ball.distance([1., 0., 1.]) + 1.).abs() < 1e-4);
        let tube = Shape::Tube(vec![([0., 0., 0.], 1.), ([0., 0., 10.], 1.)]);
        assert!((tube.distance([3., 0., 5.]) - 2.).abs() < 1e-4);
    }

    #[test]
    fn a_hole_is_outside() {
        let ball = |radius| {
            Box::new(Shape::Ellipsoid {
                centre: [0.; 3],
                radii: [radius; 3],
                turn: 0.,
                power: 2,
            })
        };
        let shell = Shape::Minus(ball(3.), ball(2.));
        assert!(shell.distance([1., 0., 0.]) > 0.);
        assert!(shell.distance([2.5, 0., 0.]) < 0.);
    }
}
