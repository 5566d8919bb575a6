//! `arl`: train, predict and evaluate 3D medical image segmentation with the adaptive region-specific loss.

mod allocator;
mod budget;
mod bytes;
mod checkpoints;
mod cli;
mod commands;
mod config;
mod device;
mod faults;
mod layers;
mod memory;
mod monitor;
mod network;
mod nnunet;
mod overlay;
mod patches;
mod planning;
mod preview;
mod run;
mod schedule;
mod sliding_window;
mod trainer;

use std::io::IsTerminal;
use std::process::ExitCode;

use clap::Parser;

use cli::{Cli, Command};

fn main() -> ExitCode {
    let cli = Cli::parse();
    faults::keep_quiet();
    tracing_subscriber::fmt()
        .with_env_filter(
            tracing_subscriber::EnvFilter::try_from_env("ARL_LOG")
                // Kernels that a GPU can't run are tried and passed over; what does fail comes back as an error.
                .unwrap_or_else(|_| {
                    "warn,arl=info,arl_data=info,cubecl=off,burn_train=off,wgpu=error".into()
                }),
        )
        .with_writer(std::io::stderr)
        .with_ansi(std::io::stderr().is_terminal())
        .without_time()
        .with_target(false)
        .init();
    match faults::catch(|| run(&cli.command)) {
        Ok(code) => code,
        Err(error) => {
            eprintln!("error: {}", faults::chain(&error));
            ExitCode::FAILURE
        }
    }
}

fn run(command: &Command) -> anyhow::Result<ExitCode> {
    match command {
        Command::Devices(arguments) => commands::devices::run(arguments),
        Command::Check(arguments) => commands::check::run(arguments),
        Command::Plan(arguments) => commands::plan::run(arguments),
        Command::Preprocess(arguments) => commands::preprocess::run(arguments),
        Command::Train(arguments) => commands::train::run(arguments),
        Command::Predict(arguments) => commands::predict::run(arguments),
        Command::Import(arguments) => commands::import::run(arguments),
        Command::Export(arguments) => commands::export::run(arguments),
        Command::Evaluate(arguments) => commands::evaluate::run(arguments),
        Command::Demo(arguments) => commands::demo::run(arguments),
    }
}
