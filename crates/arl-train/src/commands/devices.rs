//! `arl devices`.

use std::process::ExitCode;

use comfy_table::Table;

use crate::cli::DevicesArguments;
use crate::config::DeviceChoice;
use crate::device;

/// Lists the devices and says which one `auto` takes.
pub fn run(arguments: &DevicesArguments) -> anyhow::Result<ExitCode> {
    let found = device::list();
    let chosen = device::choose(DeviceChoice::Auto, &found)?;
    if arguments.json {
        let answer = serde_json::json!({ "devices": found, "auto": chosen.kind });
        println!("{}", serde_json::to_string_pretty(&answer)?);
        return Ok(ExitCode::SUCCESS);
    }
    let mut table = Table::new();
    table.load_style(comfy_table::presets::UTF8_HORIZONTAL_ONLY);
    table.set_header(["--device", "name", "usable", "note"]);
    for device in &found {
        let usable = if device.usable { "yes" } else { "no" };
        table.add_row([
            device.kind,
            device.name.as_str(),
            usable,
            device.note.as_str(),
        ]);
    }
    println!("{table}");
    println!("--device auto takes {} ({})", chosen.kind, chosen.name);
    Ok(ExitCode::SUCCESS)
}
