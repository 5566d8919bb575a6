//! A picture of a result: the image, the reference and the prediction side by side, on the slice with most organs.

use std::path::Path;

use anyhow::Context;
use arl_data::{Volume, files};
use ndarray::Axis;

/// Width of a panel in pixels, about.
const PANEL: f64 = 320.0;
/// Soft tissue window in Hounsfield units, for images that reach down to air.
const SOFT_TISSUE: [f32; 2] = [-160.0, 240.0];
const GAP: usize = 4;

/// Writes a PNG of an axial slice: the image alone, then with each label map over it.
///
/// # Errors
/// When the grids differ or the file can't be written.
pub fn write(path: &Path, image: &Volume<f32>, maps: &[&Volume<u16>]) -> anyhow::Result<()> {
    for map in maps {
        let matches = image.geometry.same_size(&map.geometry);
        matches.map_err(|difference| anyhow::anyhow!("image and labels differ: {difference}"))?;
    }
    let foreground = |d: usize| {
        maps[0]
            .data
            .index_axis(Axis(0), d)
            .iter()
            .filter(|&&l| l > 0)
            .count()
    };
    let slice = (0..image.geometry.shape[0])
        .max_by_key(|&d| foreground(d))
        .unwrap_or(0);
    let [_, rows, columns] = image.geometry.shape;
    let [_, row_mm, column_mm] = image.geometry.spacing();
    let pixel_mm = columns as f64 * column_mm / PANEL;
    let (width, height) = (
        PANEL as usize,
        (rows as f64 * row_mm / pixel_mm).ceil() as usize,
    );
    // Anterior up and the patient's right on the left, as radiologists look at it.
    let flip = |axis: usize| image.geometry.affine[axis][axis] > 0.0;
    let (flip_row, flip_column) = (flip(1), flip(0));
    let [low, high] = window(image);
    let panels = maps.len() + 1;
    let total = panels * width + (panels - 1) * GAP;
    let mut pixels = vec![255u8; total * height * 3];
    for panel in 0..panels {
        for y in 0..height {
            for x in 0..width {
                let row = ((y as f64 + 0.5) * pixel_mm / row_mm) as usize;
                let column = ((x as f64 + 0.5) * pixel_mm / column_mm) as usize;
                let (row, column) = (row.min(rows - 1), column.min(columns - 1));
                let row = if flip_row { rows - 1 - row } else { row };
                let column = if flip_column {
                    columns - 1 - column
                } else {
                    column
                };
                let value = image.data[[slice, row, column]];
                let grey = ((value - low) / (high - low)).clamp(0.0, 1.0) * 255.0;
                let label = if panel == 0 {
                    0
                } else {
                    maps[panel - 1].data[[slice, row, column]]
                };
                let start = (y * total + panel * (width + GAP) + x) * 3;
                pixels[start..start + 3].copy_from_slice(&blend(grey, label));
            }
        }
    }
    save(path, &pixels, total, height).with_context(|| format!("writing {}", path.display()))
}

fn window(image: &Volume<f32>) -> [f32; 2] {
    let low = image.data.iter().copied().fold(f32::INFINITY, f32::min);
    let high = image.data.iter().copied().fold(f32::NEG_INFINITY, f32::max);
    if low < -500.0 {
        SOFT_TISSUE
    } else {
        [low, high.max(low + 1e-6)]
    }
}

/// A grey value from 0 to 255 with the colour of its label over it; background has none.
pub fn blend(grey: f32, label: u16) -> [u8; 3] {
    let rgb = match label {
        0 => [grey; 3],
        _ => colour(label).map(|c| 0.45 * grey + 0.55 * c),
    };
    rgb.map(|c| c as u8)
}

/// A colour per label: hues a golden angle apart, so that neighbouring numbers look different.
fn colour(label: u16) -> [f32; 3] {
    let hue = (f32::from(label) * 137.508) % 360.0 / 60.0;
    [0.0f32, 4.0, 2.0]
        .map(|shift| 255.0 * (((hue + shift) % 6.0 - 3.0).abs() - 1.0).clamp(0.0, 1.0))
}

/// Writes `[height, width, 3]` bytes as a PNG, whole or not at all.
pub fn save(path: &Path, pixels: &[u8], width: usize, height: usize) -> anyhow::Result<()> {
    let mut png = Vec::new();
    let mut encoder = png::Encoder::new(&mut png, u32::try_from(width)?, u32::try_from(height)?);
    encoder.set_color(png::ColorType::Rgb);
    encoder.set_depth(png::BitDepth::Eight);
    let mut writer = encoder.write_header()?;
    writer.write_image_data(pixels)?;
    writer.finish()?;
    Ok(files::replace(path, ".png", |temporary| {
        std::fs::write(temporary, png)
    })?)
}

#[cfg(test)]
mod tests {
    use super::*;
    use arl_data::Geometry;
    use ndarray::Array3;

    #[test]
    fn a_picture_holds_a_panel_for_the_image_and_each_map() {
        let affine = [
            [1., 0., 0., 0.],
            [0., 1., 0., 0.],
            [0., 0., 2., 0.],
            [0., 0., 0., 1.],
        ];
        let geometry = Geometry::new([2, 4, 8], affine);
        let image = Volume::new(Array3::zeros([2, 4, 8]), geometry.clone());
        let labels = Volume::new(Array3::ones([2, 4, 8]), geometry);
        let directory = tempfile::tempdir().unwrap();
        let path = directory.path().join("picture.png");
        write(&path, &image, &[&labels, &labels]).unwrap();
        let file = std::io::BufReader::new(std::fs::File::open(&path).unwrap());
        let mut reader = png::Decoder::new(file).read_info().unwrap();
        assert_eq!((reader.info().width, reader.info().height), (968, 160));
        let mut pixels = vec![0; reader.output_buffer_size().unwrap()];
        reader.next_frame(&mut pixels).unwrap();
        assert_eq!(pixels[..3], [0, 0, 0], "the image is black");
        assert_ne!(pixels[324 * 3..325 * 3], [0, 0, 0], "the label is coloured");
    }
}
