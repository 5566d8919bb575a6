//! Which structures are scored, how they are called, and how far apart their surfaces may be.

use std::collections::{BTreeMap, BTreeSet};
use std::path::Path;
use std::str::FromStr;

use arl_data::LabelRemap;
use arl_data::dataset::{DeclaredLabels, declared_labels};
use arl_data::metrics::Structure;
use ndarray::Array3;

/// `2`, or `liver=3,spleen=2`, or both: `1,liver=3`.
#[derive(Debug, Clone, Default, PartialEq)]
pub struct Tolerances {
    /// For every structure without its own.
    every: Option<f64>,
    /// By name or label.
    own: BTreeMap<String, f64>,
}

impl FromStr for Tolerances {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, Self::Err> {
        let mut tolerances = Self::default();
        for part in text.split(',') {
            let (name, number) = match part.rsplit_once('=') {
                Some((name, number)) => (Some(name.trim()), number),
                None => (None, part),
            };
            let tolerance: f64 = number
                .trim()
                .parse()
                .ok()
                .filter(|mm: &f64| mm.is_finite() && *mm >= 0.0)
                .ok_or_else(|| {
                    format!("{number:?} is no distance in mm; write 2 or liver=3,1=2")
                })?;
            match name {
                Some(name) => drop(tolerances.own.insert(name.to_owned(), tolerance)),
                None => tolerances.every = Some(tolerance),
            }
        }
        Ok(tolerances)
    }
}

/// The structures that are scored.
pub struct Structures {
    /// First the declared ones, then those found in the label maps.
    pub all: Vec<Structure>,
    /// Voxels with this label in the reference do not count.
    pub ignore: Option<u16>,
    /// Declared names, by the structure's label or region.
    names: BTreeMap<String, String>,
    tolerances: Tolerances,
}

impl Structures {
    /// The classes and regions of a `dataset.json` beside the reference folder, if there is one.
    pub fn declared(
        reference: &Path,
        remap: Option<&LabelRemap>,
        tolerances: Tolerances,
    ) -> anyhow::Result<Self> {
        let mut structures = Self {
            all: Vec::new(),
            ignore: None,
            names: BTreeMap::new(),
            tolerances,
        };
        // `labelsTs`, `.` and `../labelsTs` alike have a parent that way.
        let reference = std::path::absolute(reference)
            .and_then(|path| path.canonicalize())
            .unwrap_or_else(|_| reference.to_owned());
        let file = reference.parent().map(|parent| parent.join("dataset.json"));
        if let Some(file) = file.filter(|file| file.is_file()) {
            structures.declare(declared_labels(&file, remap)?);
        }
        structures.apply_tolerances()?;
        Ok(structures)
    }

    fn declare(&mut self, declared: DeclaredLabels) {
        self.ignore = declared.ignore_label;
        for (name, labels) in declared.entries {
            let structure = Structure::region(labels);
            if structure.is_background() {
                continue;
            }
            let names = self.names.entry(structure.to_string()).or_default();
            if names.is_empty() {
                names.push_str(&name);
                self.all.push(structure);
            } else {
                names.push_str(", ");
                names.push_str(&name);
            }
        }
    }

    fn apply_tolerances(&mut self) -> anyhow::Result<()> {
        for name in self.tolerances.own.keys() {
            // A number may be a label that is found later.
            let known = name.parse::<u16>().is_ok()
                || self.names.contains_key(name)
                || self.names.values().any(|declared| declared == name);
            anyhow::ensure!(
                known,
                "--tolerance: there is no class {name:?}; there are {}",
                self.names.values().cloned().collect::<Vec<_>>().join(", ")
            );
        }
        for index in 0..self.all.len() {
            self.all[index].tolerance = self.tolerance(&self.all[index]);
        }
        Ok(())
    }

    fn tolerance(&self, structure: &Structure) -> f64 {
        let own = &self.tolerances.own;
        own.get(&structure.to_string())
            .or_else(|| own.get(self.name(structure)))
            .copied()
            .or(self.tolerances.every)
            .unwrap_or(Structure::DEFAULT_TOLERANCE)
    }

    /// Adds a class for each label of `map` that no structure has yet, background and ignored voxels left out.
    pub fn add_labels_of(&mut self, map: &Array3<u16>) {
        let mut found = vec![false; usize::from(u16::MAX) + 1];
        for &label in map {
            found[usize::from(label)] = true;
        }
        let known: BTreeSet<u16> = self.all.iter().flat_map(|s| &s.labels).copied().collect();
        for label in 1..=u16::MAX {
            if found[usize::from(label)] && Some(label) != self.ignore && !known.contains(&label) {
                let structure = Structure::class(label);
                let tolerance = self.tolerance(&structure);
                self.all.push(structure.with_tolerance(tolerance));
            }
        }
    }

    /// The declared name, or nothing.
    pub fn name(&self, structure: &Structure) -> &str {
        self.names
            .get(&structure.to_string())
            .map_or("", String::as_str)
    }
}

#[cfg(test)]
mod tests {
    use ndarray::array;

    use super::*;

    fn declared(json: &str, tolerances: &str) -> anyhow::Result<Structures> {
        let folder = tempfile::tempdir()?;
        std::fs::write(folder.path().join("dataset.json"), json)?;
        let tolerances = tolerances.parse().map_err(anyhow::Error::msg)?;
        std::fs::create_dir(folder.path().join("labelsTs"))?;
        Structures::declared(&folder.path().join("labelsTs"), None, tolerances)
    }

    #[test]
    fn regions_and_labels() {
        let json = r#"{"labels": {"background": 0, "whole tumour": [1, 2, 3], "core": [2, 3],
            "enhancing": 3, "ignore": 4}}"#;
        let mut structures = declared(json, "1,core=3,7=5").unwrap();
        structures.add_labels_of(&array![[[0, 1, 2, 4, 7]]]);
        let scored: Vec<_> = structures
            .all
            .iter()
            .map(|s| (s.to_string(), structures.name(s), s.tolerance))
            .collect();
        let expected = [
            ("(1, 2, 3)", "whole tumour", 1.0),
            ("(2, 3)", "core", 3.0),
            ("3", "enhancing", 1.0),
            ("7", "", 5.0),
        ];
        assert_eq!(
            scored,
            expected.map(|(key, name, mm)| (key.into(), name, mm))
        );
        assert_eq!(structures.ignore, Some(4));
    }

    #[test]
    fn lists_of_cases_name_labels_by_value_or_not_at_all() {
        let json = r#"{"training": [], "labels": {"0": "background", "1": "liver"}}"#;
        let structures = declared(json, "2").unwrap();
        assert_eq!(structures.all.len(), 1);
        assert_eq!(structures.name(&structures.all[0]), "liver");
        assert!(declared(r#"{"training": []}"#, "2").unwrap().all.is_empty());
    }

    #[test]
    fn faults_are_named() {
        let of = |json, tolerances| format!("{:#}", declared(json, tolerances).err().unwrap());
        let error = of(r#"{"labels": {"liver": 1.5}}"#, "2");
        assert!(
            error.contains("dataset.json") && error.contains("liver"),
            "{error}"
        );
        assert!(of("{}", "2").contains("labels"));
        assert!(of("{", "2").contains("dataset.json"));
        let error = of(r#"{"labels": {"liver": 1}}"#, "spleen=2");
        assert!(
            error.contains("spleen") && error.contains("liver"),
            "{error}"
        );
        for tolerances in ["", "-1", "liver", "liver=far", "inf"] {
            assert!(tolerances.parse::<Tolerances>().is_err(), "{tolerances}");
        }
    }
}
