//! Measures what the README of this crate states: speed, memory, and how the answers hold up when the data is
//! worse. Everything is printed as it was seen, load of the machine included.

mod online;
mod quality;
mod runs;

use anyhow::Result;
use clap::{Parser, Subcommand};
use std::path::PathBuf;

#[derive(Parser)]
enum Cli {
    /// Runs a command three times and prints the medians of its wall and processor time, and its peak memory.
    Runs {
        /// The command and its arguments.
        #[arg(trailing_var_arg = true, allow_hyphen_values = true, required = true)]
        command: Vec<String>,
    },
    /// Fills an index from a list, looks up every 500th person instead of adding them, and writes a snapshot.
    Online {
        list: PathBuf,
        #[arg(long)]
        schema: PathBuf,
        #[arg(long)]
        model: PathBuf,
        /// Folder of the index; it must be empty.
        #[arg(long)]
        folder: PathBuf,
    },
    /// Opens the index that `online` left.
    Start {
        #[arg(long)]
        model: PathBuf,
        #[arg(long)]
        folder: PathBuf,
    },
    /// How answers hold up: in a stream, learnt from fewer records, with duplicates, without a field.
    Quality {
        #[command(subcommand)]
        what: Quality,
    },
}

#[derive(Subcommand)]
enum Quality {
    /// Two lists as a stream in three random orders, beside `link`.
    Stream(Files),
    /// Models learnt from 200, 2,000 and 20,000 records, used for all.
    Sizes(Files),
    /// Two lists of which the first holds 5 % and 17 % changed copies of its own people.
    Duplicates(Files),
    /// Every field left out in turn.
    Without(Files),
    /// Other ids and another order of the rows; and how many rows share one weight.
    Permuted(Files),
}

#[derive(clap::Args)]
struct Files {
    /// One or two lists.
    #[arg(num_args = 1..=2, required = true)]
    lists: Vec<PathBuf>,
    #[arg(long)]
    truth: PathBuf,
    #[arg(long)]
    schema: PathBuf,
}

fn main() -> Result<()> {
    match Cli::parse() {
        Cli::Runs { command } => runs::three(&command),
        Cli::Online { list, schema, model, folder } => online::fill_and_ask(&list, &schema, &model, &folder),
        Cli::Start { model, folder } => online::start(&model, &folder),
        Cli::Quality { what } => match what {
            Quality::Stream(files) => quality::stream(&files),
            Quality::Sizes(files) => quality::sizes(&files),
            Quality::Duplicates(files) => quality::duplicates(&files),
            Quality::Without(files) => quality::without(&files),
            Quality::Permuted(files) => quality::permuted(&files),
        },
    }
}

fn print(line: &str) -> Result<()> {
    use std::io::Write;
    Ok(writeln!(std::io::stdout(), "{line}")?)
}
