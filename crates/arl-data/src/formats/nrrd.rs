//! NRRD volumes: `.nrrd`, and `.nhdr` with its voxels in another file.
//!
//! Raw, gzip and text encodings, both byte orders. As in ITK, a space other than RAS, LAS and LPS counts as LPS. One axis
//! that is not of space (a list, vectors, time) becomes the channels, wherever it stands.

use std::collections::BTreeMap;
use std::io::BufRead;
use std::path::Path;

use super::element::Element;
use super::header::{Encoding, Header, Place, Skip};
use super::source::{damaged, header_line};
use super::text::numbers;
use super::world::World;
use crate::error::{DataError, Result};

/// The first four bytes of a file.
pub(super) const MARK: [u8; 4] = *b"NRRD";

/// Reads and checks the header of the file at `path`, and says how many bytes it took.
pub(super) fn parse(path: &Path, stream: &mut impl BufRead) -> Result<(Header, u64)> {
    let (fields, bytes) = Fields::read(path, stream)?;
    let element = element(&fields)?;
    let dimension: usize = fields.number("dimension")?;
    if !(1..=4).contains(&dimension) {
        return Err(fields.bad(format!("has {dimension} dimensions")));
    }
    let sizes: Vec<usize> = fields.list("sizes", dimension)?;
    if let Some(size) = sizes.iter().find(|&&n| n == 0) {
        return Err(fields.bad(format!("declares an axis of {size} voxels")));
    }
    let directions = fields.directions(dimension)?;
    let channel_axis = channel_axis(&fields, &sizes, &directions)?;
    let run = sizes[..channel_axis.unwrap_or(dimension)]
        .iter()
        .fold(1usize, |product, &n| product.saturating_mul(n));
    let spatial: Vec<usize> = (0..dimension)
        .filter(|&axis| Some(axis) != channel_axis)
        .collect();

    let vectors = match &directions {
        Some(directions) => spatial
            .iter()
            .filter_map(|&axis| directions[axis])
            .collect(),
        None => fields.spacings(dimension, &spatial)?,
    };
    let (encoding, skip) = (fields.encoding()?, fields.byte_skip()?);
    if skip == Skip::AllButVoxels && encoding != Encoding::Raw {
        return Err(fields.bad("skips -1 bytes of voxels that are not raw".to_owned()));
    }
    let world = World {
        sizes: spatial.iter().map(|&axis| sizes[axis]).collect(),
        vectors,
        origin: fields.origin()?,
        signs: fields.signs(),
    };
    let header = Header {
        geometry: world.geometry().map_err(|problem| fields.bad(problem))?,
        channels: channel_axis.map_or(1, |axis| sizes[axis]),
        run,
        element,
        big_endian: fields.big_endian(element, encoding)?,
        scaling: None,
        encoding,
        place: fields.place()?,
        skipped_lines: fields.optional("line skip", "lineskip")?.unwrap_or(0),
        skip,
    };
    Ok((header, bytes))
}

/// The one axis that is not of space, if any.
fn channel_axis(
    fields: &Fields,
    sizes: &[usize],
    directions: &Option<Vec<Option<[f64; 3]>>>,
) -> Result<Option<usize>> {
    let kinds: Vec<String> = match fields.get("kinds") {
        Some(kinds) => kinds.split_whitespace().map(str::to_lowercase).collect(),
        None => Vec::new(),
    };
    if kinds.iter().any(|kind| kind == "complex") {
        return Err(fields.bad("holds complex numbers".to_owned()));
    }
    let of_space = |axis: usize| match (directions, kinds.get(axis)) {
        (Some(directions), _) => directions[axis].is_some(),
        (None, Some(kind)) => matches!(kind.as_str(), "domain" | "space" | "none" | "???"),
        (None, None) => axis < 3,
    };
    let mut others: Vec<usize> = (0..sizes.len()).filter(|&axis| !of_space(axis)).collect();
    if sizes.len() - others.len() > 3 {
        others.push(3);
    }
    match others[..] {
        [] => Ok(None),
        [axis] if sizes.len() > 1 => Ok(Some(axis)),
        _ => Err(fields.bad("has more than one axis that is not of space".to_owned())),
    }
}

fn element(fields: &Fields) -> Result<Element> {
    Ok(match fields.required("type")?.to_lowercase().as_str() {
        "signed char" | "int8" | "int8_t" => Element::I8,
        "uchar" | "unsigned char" | "uint8" | "uint8_t" => Element::U8,
        "short" | "short int" | "signed short" | "signed short int" | "int16" | "int16_t" => {
            Element::I16
        }
        "ushort" | "unsigned short" | "unsigned short int" | "uint16" | "uint16_t" => Element::U16,
        "int" | "signed int" | "int32" | "int32_t" => Element::I32,
        "uint" | "unsigned int" | "uint32" | "uint32_t" => Element::U32,
        "longlong"
        | "long long"
        | "long long int"
        | "signed long long"
        | "signed long long int"
        | "int64"
        | "int64_t" => Element::I64,
        "ulonglong" | "unsigned long long" | "unsigned long long int" | "uint64" | "uint64_t" => {
            Element::U64
        }
        "float" => Element::F32,
        "double" => Element::F64,
        other => {
            return Err(fields.bad(format!(
                "holds voxels of type {other:?}, which are no integers or floats up to 64 bits"
            )));
        }
    })
}

/// The `field: value` lines of a header.
struct Fields<'a> {
    path: &'a Path,
    values: BTreeMap<String, String>,
}

impl<'a> Fields<'a> {
    /// Reads to the empty line that ends a header, or to the end of a detached one.
    fn read(path: &'a Path, stream: &mut impl BufRead) -> Result<(Self, u64)> {
        let mut bytes = 0;
        let mut values = BTreeMap::new();
        header_line(path, stream, &mut bytes)?;
        while let Some(line) = header_line(path, stream, &mut bytes)? {
            if line.is_empty() {
                break;
            }
            if line.starts_with('#') || line.contains(":=") {
                continue;
            }
            let Some((field, value)) = line.split_once(':') else {
                let shown: String = line.chars().take(40).collect();
                return Err(damaged(
                    path,
                    &format!("{shown:?} is no line of a NRRD header"),
                ));
            };
            values.insert(field.trim().to_lowercase(), value.trim().to_owned());
        }
        Ok((Fields { path, values }, bytes))
    }

    fn bad(&self, problem: String) -> DataError {
        DataError::invalid(
            self.path,
            format!("its NRRD header {problem}"),
            "export the volume again as .nii.gz",
        )
    }

    fn get(&self, field: &str) -> Option<&str> {
        self.values.get(field).map(String::as_str)
    }

    fn required(&self, field: &str) -> Result<&str> {
        self.get(field)
            .ok_or_else(|| self.bad(format!("has no line \"{field}:\"")))
    }

    fn parsed<T: std::str::FromStr>(&self, field: &str, value: &str) -> Result<T> {
        value
            .parse()
            .map_err(|_| self.bad(format!("has an odd line \"{field}: {value}\"")))
    }

    fn number<T: std::str::FromStr>(&self, field: &str) -> Result<T> {
        self.parsed(field, self.required(field)?)
    }

    /// A number under the name of either spelling.
    fn optional<T: std::str::FromStr>(&self, field: &str, other: &str) -> Result<Option<T>> {
        match self.get(field).or(self.get(other)) {
            Some(value) => self.parsed(field, value).map(Some),
            None => Ok(None),
        }
    }

    fn list<T: std::str::FromStr>(&self, field: &str, length: usize) -> Result<Vec<T>> {
        let value = self.required(field)?;
        numbers(value)
            .filter(|list| list.len() == length)
            .ok_or_else(|| self.bad(format!("has an odd line \"{field}: {value}\"")))
    }

    /// The step of each axis through space, `None` for an axis that is not of space.
    fn directions(&self, dimension: usize) -> Result<Option<Vec<Option<[f64; 3]>>>> {
        let Some(value) = self.get("space directions") else {
            return Ok(None);
        };
        let odd = || self.bad(format!("has an odd line \"space directions: {value}\""));
        let mut directions = Vec::new();
        let mut rest = value.trim_start();
        while !rest.is_empty() {
            if let Some(after) = rest.strip_prefix("none") {
                directions.push(None);
                rest = after.trim_start();
            } else {
                let (vector, after) = rest
                    .strip_prefix('(')
                    .and_then(|rest| rest.split_once(')'))
                    .ok_or_else(odd)?;
                directions.push(Some(vector_3(vector).ok_or_else(odd)?));
                rest = after.trim_start();
            }
        }
        if directions.len() != dimension {
            return Err(odd());
        }
        // Written as NaN by some programs.
        for direction in &mut directions {
            *direction = direction.filter(|vector| !vector.iter().all(|v| v.is_nan()));
        }
        Ok(Some(directions))
    }

    /// Steps along the axes of the world, from `spacings`; 1 mm without them.
    fn spacings(&self, dimension: usize, spatial: &[usize]) -> Result<Vec<[f64; 3]>> {
        let spacings = match self.get("spacings") {
            Some(_) => self.list("spacings", dimension)?,
            None => vec![1.0; dimension],
        };
        let vector = |(row, &axis): (usize, &usize)| {
            let mut vector = [0.0; 3];
            vector[row] = spacings[axis];
            vector
        };
        Ok(spatial.iter().enumerate().map(vector).collect())
    }

    fn origin(&self) -> Result<[f64; 3]> {
        let Some(value) = self.get("space origin") else {
            return Ok([0.0; 3]);
        };
        value
            .strip_prefix('(')
            .and_then(|value| value.strip_suffix(')'))
            .and_then(vector_3)
            .ok_or_else(|| self.bad(format!("has an odd line \"space origin: {value}\"")))
    }

    /// What turns the header's world into RAS.
    fn signs(&self) -> [f64; 3] {
        match self.get("space").unwrap_or("").to_lowercase().as_str() {
            "right-anterior-superior" | "ras" => [1.0, 1.0, 1.0],
            "left-anterior-superior" | "las" => [-1.0, 1.0, 1.0],
            _ => [-1.0, -1.0, 1.0],
        }
    }

    fn encoding(&self) -> Result<Encoding> {
        Ok(match self.required("encoding")?.to_lowercase().as_str() {
            "raw" => Encoding::Raw,
            "gzip" | "gz" => Encoding::Gzip,
            "text" | "txt" | "ascii" => Encoding::Text,
            other => return Err(self.bad(format!("has encoding {other:?}, which is not read"))),
        })
    }

    fn big_endian(&self, element: Element, encoding: Encoding) -> Result<bool> {
        match self.get("endian").map(str::to_lowercase).as_deref() {
            Some("big") => Ok(true),
            Some("little") => Ok(false),
            None if element.size() == 1 || encoding == Encoding::Text => Ok(false),
            _ => Err(self.bad("has no line \"endian: little\" or \"endian: big\"".to_owned())),
        }
    }

    fn byte_skip(&self) -> Result<Skip> {
        match self.optional::<i64>("byte skip", "byteskip")? {
            None => Ok(Skip::Bytes(0)),
            Some(-1) => Ok(Skip::AllButVoxels),
            Some(bytes) => u64::try_from(bytes)
                .map(Skip::Bytes)
                .map_err(|_| self.bad(format!("skips {bytes} bytes"))),
        }
    }

    fn place(&self) -> Result<Place> {
        match self.get("data file").or(self.get("datafile")) {
            None => Ok(Place::Here),
            Some(name) if name.starts_with("LIST") || name.contains('%') => {
                Err(self.bad("spreads the voxels over several files".to_owned()))
            }
            Some(name) => Ok(Place::Detached(vec![self.path.with_file_name(name)])),
        }
    }
}

/// `x,y` or `x,y,z`.
fn vector_3(text: &str) -> Option<[f64; 3]> {
    match numbers(text)?[..] {
        [x, y] => Some([x, y, 0.0]),
        [x, y, z] => Some([x, y, z]),
        _ => None,
    }
}
