//! Medians and percentiles as NumPy defines them, so that plans equal nnU-Net's to the last digit.

/// The middle value, or the mean of the two middle ones.
///
/// # Panics
/// Without values.
pub(crate) fn median(values: Vec<f64>) -> f64 {
    percentile(values, 50.0)
}

/// The value below which `percent` of the values lie, linear between neighbours (`numpy.percentile`).
///
/// # Panics
/// Without values.
pub(crate) fn percentile(mut values: Vec<f64>, percent: f64) -> f64 {
    values.sort_by(f64::total_cmp);
    let position = percent / 100.0 * (values.len() - 1) as f64;
    let (low, high) = (position.floor() as usize, position.ceil() as usize);
    between(values[low], values[high], position.fract())
}

/// The point at `share` of the way from `low` to `high`, with NumPy's rounding.
pub(crate) fn between(low: f64, high: f64, share: f64) -> f64 {
    if share < 0.5 {
        low + (high - low) * share
    } else {
        high - (high - low) * (1.0 - share)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn percentiles_are_numpys() {
        let values = vec![3.6, 0.1, 0.7, 2.2];
        assert_eq!(median(values.clone()), 1.4500000000000002);
        assert_eq!(percentile(values.clone(), 10.0), 0.28);
        assert_eq!(percentile(values, 90.0), 3.1800000000000006);
        assert_eq!(median(vec![5.0]), 5.0);
    }
}
