//! Arithmetic of 4×4 affines whose last row is `0 0 0 1`.

/// Rows of the matrix.
pub(crate) type Affine = [[f64; 4]; 4];

/// `a · b`: first `b`, then `a`.
pub(crate) fn product(a: &Affine, b: &Affine) -> Affine {
    std::array::from_fn(|r| std::array::from_fn(|c| (0..4).map(|i| a[r][i] * b[i][c]).sum()))
}

/// The inverse; `None` where there is none.
pub(crate) fn inverse(m: &Affine) -> Option<Affine> {
    let linear = inverse_3([0, 1, 2].map(|r| [m[r][0], m[r][1], m[r][2]]))?;
    let mut inverse = [[0.0; 4]; 4];
    for r in 0..3 {
        inverse[r][..3].copy_from_slice(&linear[r]);
        inverse[r][3] = -(0..3).map(|c| linear[r][c] * m[c][3]).sum::<f64>();
    }
    inverse[3][3] = 1.0;
    Some(inverse)
}

/// The inverse of a 3×3 matrix by its cofactors; `None` where there is none.
pub(crate) fn inverse_3(m: [[f64; 3]; 3]) -> Option<[[f64; 3]; 3]> {
    let cofactor = |r: usize, c: usize| {
        let (r1, r2, c1, c2) = ((r + 1) % 3, (r + 2) % 3, (c + 1) % 3, (c + 2) % 3);
        m[r1][c1] * m[r2][c2] - m[r1][c2] * m[r2][c1]
    };
    let determinant: f64 = (0..3).map(|c| m[0][c] * cofactor(0, c)).sum();
    let inverse = std::array::from_fn(|r| std::array::from_fn(|c| cofactor(c, r) / determinant));
    let finite = inverse.as_flattened().iter().all(|v: &f64| v.is_finite());
    finite.then_some(inverse)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_affine_times_its_inverse_changes_nothing() {
        let affine = [
            [0.8, -0.3, 0.1, -10.0],
            [0.2, 1.2, -0.4, 20.0],
            [0.1, 0.5, -2.5, 3.0],
            [0.0, 0.0, 0.0, 1.0],
        ];
        let identity = product(&affine, &inverse(&affine).unwrap());
        for (r, row) in identity.iter().enumerate() {
            for (c, &value) in row.iter().enumerate() {
                assert!((value - f64::from(u8::from(r == c))).abs() < 1e-13);
            }
        }
        assert_eq!(inverse(&[[0.0; 4]; 4]), None);
    }
}
