//! The labels that a description declares: classes that exclude each other, or regions that overlap.
//!
//! The rules are nnU-Net's (`utilities/label_handling/label_handling.py`): background is 0, values are consecutive, `ignore`
//! is the highest, and regions are in the order in which they were written.

use std::collections::BTreeSet;
use std::path::Path;

use serde_json::Value;

use super::description::{self, Entries};
use super::faults::Faults;
use super::{LabelClass, LabelRemap, Layout, Region};
use crate::error::DataError;

/// What label maps hold and what is learned from them.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub(super) struct LabelTable {
    pub classes: Vec<LabelClass>,
    pub regions: Vec<Region>,
    pub ignore_label: Option<u16>,
}

/// The structures that a description names, for scoring.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct DeclaredLabels {
    /// Names with their label values: one for a class, several for a region. In the order of the description.
    pub entries: Vec<(String, Vec<u16>)>,
    /// Voxels with this value count nowhere.
    pub ignore_label: Option<u16>,
}

/// Reads the labels of a `dataset.json`, of nnU-Net or of the Decathlon; none of a list of cases that names none. Values
/// with gaps are remapped as label maps are.
///
/// # Errors
/// When the file can't be read or understood, or names no labels though it lists no cases.
pub fn declared_labels(file: &Path, remap: Option<&LabelRemap>) -> crate::Result<DeclaredLabels> {
    let found = description::described_by(file)?;
    let mut faults = Faults::default();
    let labels = found
        .description
        .and_then(|(_, description)| description.labels);
    let declared = match (found.layout, &labels) {
        (Layout::MonaiDatalist, None) => return Ok(DeclaredLabels::default()),
        (_, None) => {
            let cure = r#"add e.g. "labels": {"background": 0, "liver": 1}"#;
            return Err(DataError::invalid(file, "has no \"labels\"", cure));
        }
        (layout, Some(labels)) => {
            let all_text = labels.0.iter().all(|(_, name)| name.is_string());
            match all_text && layout != Layout::NnUnetRaw {
                true => Declared::by_value(file, labels, &mut faults),
                false => Declared::by_name(file, labels, &mut faults),
            }
        }
    };
    if let Some(fault) = faults.errors.into_iter().next() {
        return Err(fault);
    }
    let mut declared = declared.unwrap_or_default();
    declared.remap(remap);
    Ok(DeclaredLabels {
        entries: declared.entries,
        ignore_label: declared.ignore_label,
    })
}

/// Names with their values, as declared.
#[derive(Default)]
pub(super) struct Declared {
    entries: Vec<(String, Vec<u16>)>,
    ignore_label: Option<u16>,
}

impl Declared {
    /// Reads `{"background": 0, "liver": 1, "whole": [1, 2], "ignore": 3}`. Every entry that is wrong is a fault; `None`
    /// when there is one.
    pub fn by_name(path: &Path, labels: &Entries, faults: &mut Faults) -> Option<Self> {
        let before = faults.errors.len();
        let mut declared = Self {
            entries: Vec::new(),
            ignore_label: None,
        };
        let all_text = labels.0.iter().all(|(_, value)| value.is_string());
        for (name, value) in &labels.0 {
            let parsed = match value {
                Value::Array(values) if name != "ignore" && !values.is_empty() => {
                    values.iter().map(label_value).collect()
                }
                value => label_value(value).map(|value| vec![value]),
            };
            let Some(values) = parsed else {
                let cure = if name == "ignore" {
                    "give the ignore label one whole number from 0 to 65535"
                } else if all_text {
                    r#"the map goes from name to number: "labels": {"background": 0, "liver": 1}"#
                } else {
                    "give each class a whole number from 0 to 65535, or each region a list of them"
                };
                let problem = format!("declares label {name:?} as {value}");
                faults.errors.push(DataError::invalid(path, problem, cure));
                continue;
            };
            declared.add(path, name, values, faults);
        }
        (faults.errors.len() == before).then_some(declared)
    }

    /// Reads `{"0": "background", "1": "liver"}`, as the Medical Segmentation Decathlon writes labels.
    pub fn by_value(path: &Path, labels: &Entries, faults: &mut Faults) -> Option<Self> {
        let before = faults.errors.len();
        let mut declared = Self {
            entries: Vec::new(),
            ignore_label: None,
        };
        for (value, name) in &labels.0 {
            match (value.parse(), name) {
                (Ok(value), Value::String(name)) => {
                    declared.add(path, name, vec![value], faults);
                }
                _ => faults.errors.push(DataError::invalid(
                    path,
                    format!("declares label {value:?} as {name}"),
                    r#"the map goes from number to name: "labels": {"0": "background", "1": "liver"}"#,
                )),
            }
        }
        (faults.errors.len() == before).then_some(declared)
    }

    fn add(&mut self, path: &Path, name: &str, values: Vec<u16>, faults: &mut Faults) {
        let known = |(other, _): &(String, Vec<u16>)| other == name;
        if self.entries.iter().any(known) || (name == "ignore" && self.ignore_label.is_some()) {
            let problem = format!("declares label {name:?} twice");
            let cure = "give each class a name of its own";
            faults.errors.push(DataError::invalid(path, problem, cure));
        } else if name == "ignore" {
            self.ignore_label = values.first().copied();
        } else {
            self.entries.push((name.to_owned(), values));
        }
    }

    /// All declared values.
    pub fn values(&self) -> BTreeSet<u16> {
        let values = self.entries.iter().flat_map(|(_, values)| values);
        values.copied().chain(self.ignore_label).collect()
    }

    /// Whether the values run from 0 without a gap.
    pub fn is_consecutive(&self) -> bool {
        let values = self.values();
        values.iter().copied().eq(0..values.len() as u16)
    }

    /// The table, with the values as they are after `remap`. Values that are consecutive as they stand are what label maps
    /// hold after the remapping; others are remapped themselves.
    pub fn table(
        mut self,
        path: &Path,
        order: Option<&[Value]>,
        remap: Option<&LabelRemap>,
        faults: &mut Faults,
    ) -> Option<LabelTable> {
        let remap = self.remap(remap);
        let before = faults.errors.len();
        let has_regions = self.entries.iter().any(|(_, values)| values.len() > 1);
        let classes = if has_regions {
            self.values_as_classes()
        } else {
            let mut classes: Vec<LabelClass> = self
                .entries
                .iter()
                .map(|(name, values)| LabelClass {
                    name: name.clone(),
                    value: values[0],
                })
                .collect();
            classes.sort_by_key(|class| class.value);
            classes
        };
        check_classes(path, &classes, self.ignore_label, faults);
        let regions = if has_regions {
            self.regions(path, order, remap, &classes, faults)
        } else {
            Vec::new()
        };
        (faults.errors.len() == before).then_some(LabelTable {
            classes,
            regions,
            ignore_label: self.ignore_label,
        })
    }

    /// Remaps declared values that have gaps, and returns what it did it with.
    fn remap<'a>(&mut self, remap: Option<&'a LabelRemap>) -> Option<&'a LabelRemap> {
        let remap = remap.filter(|_| !self.is_consecutive())?;
        let values = self.entries.iter_mut().flat_map(|(_, values)| values);
        values
            .chain(&mut self.ignore_label)
            .for_each(|value| *value = remap.of(*value));
        Some(remap)
    }

    /// Every value that a region is made of, under the name of the entry that is this value alone.
    fn values_as_classes(&self) -> Vec<LabelClass> {
        let values: BTreeSet<u16> = self.entries.iter().flat_map(|(_, v)| v).copied().collect();
        values
            .into_iter()
            .map(|value| {
                let own = self.entries.iter().find(|(_, values)| *values == [value]);
                LabelClass {
                    name: own.map_or_else(|| format!("label_{value}"), |(name, _)| name.clone()),
                    value,
                }
            })
            .collect()
    }

    fn regions(
        &self,
        path: &Path,
        order: Option<&[Value]>,
        remap: Option<&LabelRemap>,
        classes: &[LabelClass],
        faults: &mut Faults,
    ) -> Vec<Region> {
        let foreground = || {
            let regions = self.entries.iter();
            regions.filter(|(_, values)| values.iter().any(|&value| value != 0))
        };
        let count = foreground().count();
        let mut wrong = |problem: String, cure: String| {
            faults.errors.push(DataError::invalid(path, problem, cure));
            Vec::new()
        };
        let example = (1..=count).map(|i| i.to_string()).collect::<Vec<_>>();
        let cure = format!(
            "list one label value per region in the order of the labels, later ones are painted over earlier ones: \
             \"regions_class_order\": [{}]",
            example.join(", ")
        );
        let Some(order) = order else {
            return wrong(
                "declares regions but no \"regions_class_order\"".to_owned(),
                cure,
            );
        };
        if order.len() != count {
            let problem = format!(
                "has {} entries in \"regions_class_order\" for {count} regions",
                order.len()
            );
            return wrong(problem, cure);
        }
        let is_class = |value: &u16| *value != 0 && classes.iter().any(|c| c.value == *value);
        let mut regions: Vec<Region> = Vec::new();
        for ((name, values), painted) in foreground().zip(order) {
            if values.contains(&0) {
                let problem =
                    format!("declares region {name:?} as {values:?}, background included");
                return wrong(problem, "leave 0 out: regions are foreground".to_owned());
            }
            let read_as = |value| remap.map_or(value, |remap| remap.of(value));
            let paint = label_value(painted).map(read_as).filter(is_class);
            let Some(paint) = paint else {
                return wrong(
                    format!(
                        "paints region {name:?} as {painted} by \"regions_class_order\", which is no label"
                    ),
                    cure,
                );
            };
            let mut values = values.clone();
            values.sort_unstable();
            values.dedup();
            regions.push(Region {
                name: name.clone(),
                values,
                paint,
            });
        }
        for (i, region) in regions.iter().enumerate() {
            let covers = |later: &&Region| {
                region
                    .values
                    .iter()
                    .all(|value| later.values.contains(value))
            };
            if let Some(later) = regions[i + 1..].iter().find(covers) {
                faults.warnings.push(DataError::invalid(
                    path,
                    format!(
                        "region {:?} is painted before {:?}, which covers it, so predictions will never show it",
                        region.name, later.name
                    ),
                    "write larger regions first, in \"labels\" and in \"regions_class_order\"",
                ));
            }
        }
        regions
    }
}

fn label_value(value: &Value) -> Option<u16> {
    u16::try_from(value.as_u64()?).ok()
}

fn check_classes(path: &Path, classes: &[LabelClass], ignore: Option<u16>, faults: &mut Faults) {
    let mut wrong = |problem: String, cure: &str| {
        faults.errors.push(DataError::invalid(path, problem, cure));
    };
    if classes.first().is_none_or(|class| class.value != 0) {
        let cure = r#"add "background": 0 to the labels"#;
        return wrong("declares no label 0".to_owned(), cure);
    }
    if classes.len() < 2 {
        let cure = "add the classes to be segmented to the labels";
        return wrong("declares no class but the background".to_owned(), cure);
    }
    let gap = |(expected, class): &(usize, &LabelClass)| usize::from(class.value) != *expected;
    if let Some((expected, class)) = classes.iter().enumerate().find(gap) {
        return wrong(
            format!(
                "declares {:?} as {}, but label values must run from 0 without gap or double, and {expected} was next",
                class.name, class.value
            ),
            "renumber the labels in it and in the label maps, or have that done on reading with --remap-labels auto",
        );
    }
    if let Some(ignore) = ignore
        && usize::from(ignore) != classes.len()
    {
        wrong(
            format!(
                "declares \"ignore\" as {ignore}, but it must be the highest label, {}",
                classes.len()
            ),
            "renumber the ignore label in it and in the label maps, or have that done on reading with --remap-labels",
        );
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn table(
        labels: &str,
        order: Option<&str>,
        remap: Option<&str>,
    ) -> (Option<LabelTable>, Faults) {
        let mut faults = Faults::default();
        let entries: Entries = serde_json::from_str(labels).unwrap();
        let order: Option<Vec<Value>> = order.map(|text| serde_json::from_str(text).unwrap());
        let remap: Option<LabelRemap> = remap.map(|text| text.parse().unwrap());
        let declared = Declared::by_name(Path::new("dataset.json"), &entries, &mut faults);
        let table = declared.and_then(|declared| {
            let path = Path::new("dataset.json");
            declared.table(path, order.as_deref(), remap.as_ref(), &mut faults)
        });
        (table, faults)
    }

    fn refused(labels: &str, order: Option<&str>) -> String {
        let (table, faults) = table(labels, order, None);
        assert_eq!(table, None);
        faults.errors[0].to_string()
    }

    const BRATS: &str =
        r#"{"background": 0, "whole": [1, 2, 3], "core": [2, 3], "enhancing": 3, "ignore": 4}"#;

    #[test]
    fn regions_keep_the_order_in_which_they_were_written() {
        let (found, faults) = table(BRATS, Some("[1, 2, 3]"), None);
        let found = found.unwrap();
        assert!(faults.errors.is_empty() && faults.warnings.is_empty());
        let regions: Vec<_> = found
            .regions
            .iter()
            .map(|r| (&r.name[..], r.paint))
            .collect();
        assert_eq!(regions, [("whole", 1), ("core", 2), ("enhancing", 3)]);
        assert_eq!(found.regions[1].values, [2, 3]);
        assert_eq!(found.ignore_label, Some(4));
        let classes: Vec<_> = found
            .classes
            .iter()
            .map(|c| (&c.name[..], c.value))
            .collect();
        let expected = [
            ("background", 0),
            ("label_1", 1),
            ("label_2", 2),
            ("enhancing", 3),
        ];
        assert_eq!(classes, expected);
        // A list of one value is that value: no regions, and no order is asked for.
        let (single, _) = table(r#"{"background": 0, "a": [1], "b": 2}"#, None, None);
        assert!(single.unwrap().regions.is_empty());
    }

    #[test]
    fn wrong_regions_are_refused() {
        assert!(refused(BRATS, None).contains("no \"regions_class_order\""));
        assert!(refused(BRATS, Some("[1, 2]")).contains("2 entries"));
        assert!(refused(BRATS, Some("[1, 2, 9]")).contains("\"enhancing\" as 9"));
        assert!(refused(BRATS, Some("[1, 2, \"x\"]")).contains("which is no label"));
        let with_background = r#"{"background": 0, "a": [0, 1], "b": 1}"#;
        assert!(refused(with_background, Some("[1, 1]")).contains("background included"));
        assert!(refused(r#"{"background": 0, "a": [1, 3]}"#, Some("[1]")).contains("without gap"));
        assert!(refused(r#"{"background": 0, "a": []}"#, None).contains("\"a\" as []"));
        assert!(refused(r#"{"background": 0, "a": 1, "ignore": [2]}"#, None).contains("ignore"));
        assert!(refused(r#"{"background": 0, "a": 1, "a": 2}"#, None).contains("twice"));
        let reversed = r#"{"background": 0, "core": [2, 3], "whole": [1, 2, 3]}"#;
        let (_, faults) = table(reversed, Some("[2, 1]"), None);
        assert!(faults.warnings[0].to_string().contains("never show it"));
    }

    #[test]
    fn values_with_gaps_are_remapped_and_others_are_not() {
        let (found, _) = table(
            r#"{"background": 0, "a": 10, "b": 255}"#,
            None,
            Some("10:1,255:2"),
        );
        let values: Vec<u16> = found.unwrap().classes.iter().map(|c| c.value).collect();
        assert_eq!(values, [0, 1, 2]);
        let (found, _) = table(
            r#"{"background": 0, "a": 1, "b": 2}"#,
            None,
            Some("2:1,3:2"),
        );
        let values: Vec<u16> = found.unwrap().classes.iter().map(|c| c.value).collect();
        assert_eq!(values, [0, 1, 2]);
    }

    #[test]
    fn what_regions_are_painted_as_is_remapped_with_them() {
        let labels = r#"{"background": 0, "whole": [10, 20], "core": 20}"#;
        let (found, _) = table(labels, Some("[10, 20]"), Some("10:1,20:2"));
        let regions = found.unwrap().regions;
        assert_eq!((&regions[0].values[..], regions[0].paint), (&[1, 2][..], 1));
        assert_eq!((&regions[1].values[..], regions[1].paint), (&[2][..], 2));
    }

    #[test]
    fn the_decathlon_declares_labels_by_value() {
        let mut faults = Faults::default();
        let path = Path::new("dataset.json");
        let labels = r#"{"0": "background", "2": "Posterior", "1": "Anterior"}"#;
        let labels = serde_json::from_str(labels).unwrap();
        let declared = Declared::by_value(path, &labels, &mut faults).unwrap();
        let classes = declared
            .table(path, None, None, &mut faults)
            .unwrap()
            .classes;
        assert_eq!((&classes[1].name[..], classes[2].value), ("Anterior", 2));
        let wrong = serde_json::from_str(r#"{"background": 0}"#).unwrap();
        assert!(Declared::by_value(path, &wrong, &mut faults).is_none());
    }
}
