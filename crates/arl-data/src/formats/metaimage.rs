//! MetaImage volumes: `.mha`, and `.mhd` with its voxels in another file.
//!
//! Raw, zlib and text voxels, both byte orders; `ElementNumberOfChannels` or a fourth axis becomes the channels.

use std::collections::BTreeMap;
use std::io::BufRead;
use std::path::Path;

use super::element::Element;
use super::header::{Encoding, Header, Place, Skip};
use super::source::{damaged, header_line};
use super::text::numbers;
use super::world::World;
use crate::error::{DataError, Result};

/// Whether a file with this ending is expected to be a MetaImage; its text carries no mark.
pub(super) fn is_ending(ending: &str) -> bool {
    matches!(ending, ".mha" | ".mhd")
}

/// Reads and checks the header of the file at `path`, and says how many bytes it took.
pub(super) fn parse(path: &Path, stream: &mut impl BufRead) -> Result<(Header, u64)> {
    let (fields, bytes) = Fields::read(path, stream)?;
    if fields
        .get(&["ObjectType"])
        .is_some_and(|kind| kind != "Image")
    {
        return Err(fields.bad("describes no image".to_owned()));
    }
    let axes: usize = fields.number("NDims")?;
    if !(1..=4).contains(&axes) {
        return Err(fields.bad(format!("has {axes} dimensions")));
    }
    let sizes: Vec<usize> = fields
        .list(&["DimSize"], axes)?
        .ok_or_else(|| fields.missing("DimSize"))?;
    let vector: usize = match fields.get(&["ElementNumberOfChannels"]) {
        Some(_) => fields.number("ElementNumberOfChannels")?,
        None => 1,
    };
    let fourth = sizes.get(3).copied().unwrap_or(1);
    if vector == 0 || sizes.contains(&0) {
        return Err(fields.bad("declares an axis of 0 voxels".to_owned()));
    }
    if vector > 1 && fourth > 1 {
        return Err(fields.bad("has four dimensions and vectors too".to_owned()));
    }
    let in_space = axes.min(3);
    let volume = sizes[..in_space]
        .iter()
        .fold(1usize, |product, &n| product.saturating_mul(n));
    let world = World {
        vectors: fields.vectors(axes)?,
        origin: fields.origin(axes)?,
        // ITK's world is LPS.
        signs: [-1.0, -1.0, 1.0],
        sizes: sizes[..in_space].to_vec(),
    };
    let encoding = fields.encoding();
    let header = Header {
        geometry: world.geometry().map_err(|problem| fields.bad(problem))?,
        channels: vector.max(fourth),
        run: if vector > 1 { 1 } else { volume },
        element: fields.element()?,
        big_endian: fields.flag(&["BinaryDataByteOrderMSB", "ElementByteOrderMSB"]),
        scaling: None,
        encoding,
        place: fields.place()?,
        skipped_lines: 0,
        skip: fields.skip(encoding)?,
    };
    Ok((header, bytes))
}

/// The `Key = Value` lines of a header.
struct Fields<'a> {
    path: &'a Path,
    values: BTreeMap<String, String>,
}

impl<'a> Fields<'a> {
    /// Reads to the line that says where the voxels are, which ends a header.
    fn read(path: &'a Path, stream: &mut impl BufRead) -> Result<(Self, u64)> {
        let mut bytes = 0;
        let mut values = BTreeMap::new();
        while let Some(line) = header_line(path, stream, &mut bytes)? {
            let Some((key, value)) = line.split_once('=') else {
                if line.trim().is_empty() {
                    continue;
                }
                let shown: String = line.chars().take(40).collect();
                return Err(damaged(
                    path,
                    &format!("{shown:?} is no line of a MetaImage header"),
                ));
            };
            let key = key.trim().to_owned();
            let last = key == "ElementDataFile";
            values.insert(key, value.trim().to_owned());
            if last {
                return Ok((Fields { path, values }, bytes));
            }
        }
        Err(damaged(
            path,
            "its MetaImage header has no line \"ElementDataFile = ...\"",
        ))
    }

    fn bad(&self, problem: String) -> DataError {
        DataError::invalid(
            self.path,
            format!("its MetaImage header {problem}"),
            "export the volume again as .nii.gz",
        )
    }

    fn missing(&self, key: &str) -> DataError {
        self.bad(format!("has no line \"{key} = ...\""))
    }

    /// The value under the first of several names for the same.
    fn get(&self, keys: &[&str]) -> Option<&str> {
        let mut found = keys.iter().filter_map(|&key| self.values.get(key));
        found.next().map(String::as_str)
    }

    fn number<T: std::str::FromStr>(&self, key: &str) -> Result<T> {
        let value = self.get(&[key]).ok_or_else(|| self.missing(key))?;
        value
            .parse()
            .map_err(|_| self.bad(format!("has an odd line \"{key} = {value}\"")))
    }

    fn list<T: std::str::FromStr>(&self, keys: &[&str], length: usize) -> Result<Option<Vec<T>>> {
        let Some(value) = self.get(keys) else {
            return Ok(None);
        };
        match numbers(value).filter(|list| list.len() == length) {
            Some(list) => Ok(Some(list)),
            None => Err(self.bad(format!("has an odd line \"{} = {value}\"", keys[0]))),
        }
    }

    fn flag(&self, keys: &[&str]) -> bool {
        let value = self.get(keys).unwrap_or_default();
        value.starts_with(['T', 't', '1'])
    }

    /// The step of each axis through space: rows of the matrix, times the spacing.
    fn vectors(&self, axes: usize) -> Result<Vec<[f64; 3]>> {
        let spacing: Vec<f64> = self
            .list(&["ElementSpacing", "ElementSize"], axes)?
            .unwrap_or_else(|| vec![1.0; axes]);
        let matrix: Option<Vec<f64>> =
            self.list(&["TransformMatrix", "Rotation", "Orientation"], axes * axes)?;
        let component = |axis: usize, row: usize| match &matrix {
            Some(matrix) if row < axes => matrix[axis * axes + row],
            _ => f64::from(u8::from(axis == row)),
        };
        let vector = |axis: usize| [0, 1, 2].map(|row| component(axis, row) * spacing[axis]);
        Ok((0..axes.min(3)).map(vector).collect())
    }

    fn origin(&self, axes: usize) -> Result<[f64; 3]> {
        let offset: Option<Vec<f64>> = self.list(&["Offset", "Origin", "Position"], axes)?;
        let offset = offset.unwrap_or_default();
        Ok([0, 1, 2].map(|row| offset.get(row).copied().unwrap_or(0.0)))
    }

    fn element(&self) -> Result<Element> {
        Ok(
            match self
                .get(&["ElementType"])
                .ok_or_else(|| self.missing("ElementType"))?
            {
                "MET_CHAR" => Element::I8,
                "MET_UCHAR" => Element::U8,
                "MET_SHORT" => Element::I16,
                "MET_USHORT" => Element::U16,
                "MET_INT" | "MET_LONG" => Element::I32,
                "MET_UINT" | "MET_ULONG" => Element::U32,
                "MET_LONG_LONG" => Element::I64,
                "MET_ULONG_LONG" => Element::U64,
                "MET_FLOAT" => Element::F32,
                "MET_DOUBLE" => Element::F64,
                other => {
                    return Err(self.bad(format!(
                    "holds voxels of type {other:?}, which are no integers or floats up to 64 bits"
                )));
                }
            },
        )
    }

    fn encoding(&self) -> Encoding {
        if self.get(&["BinaryData"]).is_some() && !self.flag(&["BinaryData"]) {
            Encoding::Text
        } else if self.flag(&["CompressedData"]) {
            Encoding::Zlib
        } else {
            Encoding::Raw
        }
    }

    fn skip(&self, encoding: Encoding) -> Result<Skip> {
        if self.get(&["HeaderSize"]).is_none() {
            return Ok(Skip::Bytes(0));
        }
        match self.number::<i64>("HeaderSize")? {
            -1 if encoding == Encoding::Raw => Ok(Skip::AllButVoxels),
            bytes => match u64::try_from(bytes) {
                Ok(0) => Ok(Skip::Bytes(0)),
                Ok(bytes) if encoding == Encoding::Raw => Ok(Skip::Bytes(bytes)),
                _ => Err(self.bad(format!("skips {bytes} bytes"))),
            },
        }
    }

    fn place(&self) -> Result<Place> {
        match self.get(&["ElementDataFile"]).unwrap_or_default() {
            "LOCAL" | "Local" | "local" => Ok(Place::Here),
            "" => Err(self.missing("ElementDataFile")),
            name if name.starts_with("LIST") || name.contains('%') => {
                Err(self.bad("spreads the voxels over several files".to_owned()))
            }
            name => Ok(Place::Detached(vec![self.path.with_file_name(name)])),
        }
    }
}
