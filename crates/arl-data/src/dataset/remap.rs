//! Label values that are read as other values, so that label maps need not be written anew.

use std::collections::{BTreeMap, BTreeSet};
use std::fmt;
use std::str::FromStr;

use ndarray::Array3;
use serde::{Deserialize, Serialize};

/// Which label values stand for which others. Values that are not mentioned stay as they are.
///
/// As text: `255:1,2:1` reads 255 and 2 as 1; `auto` numbers the values that occur 0, 1, 2, ... in ascending order.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(try_from = "String", into = "String")]
pub enum LabelRemap {
    /// The values that occur in a dataset's label maps (0 always among them), ascending, become 0, 1, 2, ... Opening a
    /// dataset turns this into the pairs that it found.
    Auto,
    /// From the value in the file to the value that is read.
    Pairs(BTreeMap<u16, u16>),
}

impl LabelRemap {
    /// Numbers `values` 0, 1, 2, ... in ascending order, 0 among them.
    pub(crate) fn consecutive(mut values: BTreeSet<u16>) -> Self {
        values.insert(0);
        Self::Pairs(values.into_iter().zip(0..).collect())
    }

    /// What `value` is read as. [`Auto`](Self::Auto) changes nothing until a dataset has been looked at.
    pub fn of(&self, value: u16) -> u16 {
        match self {
            Self::Auto => value,
            Self::Pairs(pairs) => pairs.get(&value).copied().unwrap_or(value),
        }
    }

    /// Replaces every voxel by what its value is read as.
    pub fn apply(&self, labels: &mut Array3<u16>) {
        let table: Vec<u16> = (0..=u16::MAX).map(|value| self.of(value)).collect();
        labels.mapv_inplace(|value| table[usize::from(value)]);
    }
}

impl fmt::Display for LabelRemap {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Auto => f.write_str("auto"),
            Self::Pairs(pairs) => {
                let pairs: Vec<String> = pairs.iter().map(|(a, b)| format!("{a}:{b}")).collect();
                f.write_str(&pairs.join(","))
            }
        }
    }
}

impl FromStr for LabelRemap {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        if text == "auto" {
            return Ok(Self::Auto);
        }
        let mut pairs = BTreeMap::new();
        for pair in text.split(',') {
            let wrong = || format!("{pair:?} is no pair like 255:1 of numbers from 0 to 65535");
            let (from, to) = pair.split_once(':').ok_or_else(wrong)?;
            let number = |text: &str| text.trim().parse::<u16>().map_err(|_| wrong());
            let from = number(from)?;
            if pairs.insert(from, number(to)?).is_some() {
                return Err(format!("{from} is remapped twice"));
            }
        }
        Ok(Self::Pairs(pairs))
    }
}

impl TryFrom<String> for LabelRemap {
    type Error = String;

    fn try_from(text: String) -> Result<Self, String> {
        text.parse()
    }
}

impl From<LabelRemap> for String {
    fn from(remap: LabelRemap) -> String {
        remap.to_string()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn pairs_are_words() {
        let remap: LabelRemap = "255:1, 2:1".parse().unwrap();
        assert_eq!(remap.to_string(), "2:1,255:1");
        assert_eq!((remap.of(255), remap.of(2), remap.of(7)), (1, 1, 7));
        let json = serde_json::to_string(&remap).unwrap();
        assert_eq!(serde_json::from_str::<LabelRemap>(&json).unwrap(), remap);
        assert_eq!("auto".parse(), Ok(LabelRemap::Auto));
        for wrong in ["", "1", "1:", "-1:0", "1:70000", "1:2,1:3", "a:b"] {
            assert!(wrong.parse::<LabelRemap>().is_err(), "{wrong}");
        }
    }

    #[test]
    fn every_voxel_is_replaced_once() {
        // 1 becomes 2 and 2 becomes 3: not 3 both.
        let remap: LabelRemap = "1:2,2:3".parse().unwrap();
        let mut labels = Array3::from_shape_vec([1, 1, 4], vec![0, 1, 2, 65535]).unwrap();
        remap.apply(&mut labels);
        assert_eq!(labels.into_raw_vec_and_offset().0, [0, 2, 3, 65535]);
        let found = LabelRemap::consecutive(BTreeSet::from([4, 255]));
        assert_eq!(found.to_string(), "0:0,4:1,255:2");
    }
}
