//! The tables that `arl evaluate` prints.

use arl_data::metrics::{CaseScores, MeanScores, Metric, Summary};
use comfy_table::{CellAlignment, Table};

use super::structures::Structures;

/// Metrics whose mean over the structures of a case says something.
const OF_A_CASE: [Metric; 3] = [
    Metric::Dice,
    Metric::Hausdorff95,
    Metric::NormalisedSurfaceDice,
];

/// Prints the means per case and per structure.
pub fn print(summary: &Summary, structures: &Structures, metrics: &[Metric]) {
    let of_a_case: Vec<Metric> = OF_A_CASE
        .into_iter()
        .filter(|metric| metrics.contains(metric))
        .collect();
    if !of_a_case.is_empty() {
        let headers = of_a_case.iter().map(|&m| format!("mean {}", header(m)));
        let rows = summary.metric_per_case.iter().map(|case| {
            let values = of_a_case.iter().map(|&m| number(m, case.mean(m)));
            [file_name(case)].into_iter().chain(values).collect()
        });
        show(1, ["case".into()].into_iter().chain(headers), rows);
    }

    /// A column: its title, and how many cases were left out for its reason.
    type LeftOut = (&'static str, fn(&MeanScores) -> usize);
    let left_out: [LeftOut; 3] = [
        ("absent", |mean| mean.absent),
        ("missed", |mean| mean.missed),
        ("spurious", |mean| mean.spurious),
    ];
    let total = &summary.foreground_mean;
    let left_out: Vec<_> = left_out
        .into_iter()
        .filter(|(_, of)| of(total) > 0)
        .collect();
    let row = |label: String, name: &str, mean: &MeanScores| {
        let values = metrics.iter().map(|&m| number(m, mean.value(m)));
        let counts = left_out.iter().map(|(_, of)| of(mean).to_string());
        [label, name.to_owned()]
            .into_iter()
            .chain(values)
            .chain(counts)
            .collect()
    };
    let headers = ["label".to_owned(), "class".to_owned()]
        .into_iter()
        .chain(metrics.iter().map(|&metric| header(metric)))
        .chain(left_out.iter().map(|(name, _)| (*name).to_owned()));
    let rows = summary
        .mean
        .iter()
        .map(|(structure, mean)| row(structure.to_string(), structures.name(structure), mean));
    let last = row(String::new(), "foreground mean", total);
    show(2, headers, rows.chain([last]));
    explain(total, metrics);
}

/// Says which cases the means of distances leave out.
fn explain(total: &MeanScores, metrics: &[Metric]) {
    let of_distance = [
        Metric::Hausdorff,
        Metric::Hausdorff95,
        Metric::AverageSurfaceDistance,
    ];
    let distances = of_distance.iter().any(|metric| metrics.contains(metric));
    let infinite = total.missed + total.spurious;
    if distances && infinite > 0 {
        println!(
            "the means of distances leave out {} missed and {} spurious structures, whose distance is infinite",
            total.missed, total.spurious
        );
    }
}

fn show(
    words: usize,
    headers: impl Iterator<Item = String>,
    rows: impl Iterator<Item = Vec<String>>,
) {
    let mut table = Table::new();
    table.load_style(comfy_table::presets::UTF8_HORIZONTAL_ONLY);
    table.set_header(headers);
    table.add_rows(rows);
    for column in table.column_iter_mut().skip(words) {
        column.set_cell_alignment(CellAlignment::Right);
    }
    println!("{table}");
}

fn header(metric: Metric) -> String {
    match metric {
        Metric::Hausdorff | Metric::Hausdorff95 | Metric::AverageSurfaceDistance => {
            format!("{} mm", metric.name())
        }
        Metric::VolumeError => "volume ml".into(),
        Metric::RelativeVolumeError => "volume %".into(),
        _ => metric.name().into(),
    }
}

fn number(metric: Metric, value: Option<f64>) -> String {
    let Some(value) = value else {
        return "-".into();
    };
    match metric {
        Metric::Hausdorff | Metric::Hausdorff95 | Metric::AverageSurfaceDistance => {
            format!("{value:.2}")
        }
        Metric::VolumeError => format!("{value:+.2}"),
        Metric::RelativeVolumeError => format!("{:+.1}", 100.0 * value),
        _ => format!("{value:.3}"),
    }
}

fn file_name(case: &CaseScores) -> String {
    let name = case.prediction_file.file_name().unwrap_or_default();
    name.to_string_lossy().into_owned()
}
