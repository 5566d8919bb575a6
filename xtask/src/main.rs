//! Chores of the ARL workspace, run as `cargo xtask COMMAND`.
//!
//! One file per command:
//! - [`llvm`] installs the LLVM that the `cuda` feature links.

mod llvm;

use std::process::ExitCode;

use clap::{Parser, Subcommand};

/// Chores of the ARL workspace.
#[derive(Parser)]
#[command(name = "cargo xtask", bin_name = "cargo xtask")]
struct Cli {
    #[command(subcommand)]
    command: Command,
}

#[derive(Subcommand)]
enum Command {
    Llvm(llvm::Args),
}

fn main() -> ExitCode {
    let result = match Cli::parse().command {
        Command::Llvm(args) => llvm::run(&args),
    };
    match result {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            eprintln!("error: {error:#}");
            ExitCode::FAILURE
        }
    }
}
