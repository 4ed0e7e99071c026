//! Arguments and their execution. Numbers go to standard output, progress and warnings to standard error.

mod files;
mod run;

use clap::{Args, Parser, Subcommand};
use std::io::Write;
use std::path::PathBuf;
use std::process::ExitCode;

/// Finds the same person in lists of people, without labelled examples, and says why.
#[derive(Parser)]
#[command(name = "patient-matching", version)]
struct Cli {
    #[command(subcommand)]
    command: Command,
}

#[derive(Subcommand)]
enum Command {
    /// Learns a model from one list (for deduplication) or two (for linking) and writes it.
    Train {
        /// One or two CSV files.
        #[arg(num_args = 1..=2, required = true)]
        files: Vec<PathBuf>,
        #[command(flatten)]
        common: Common,
        /// Where the model goes.
        #[arg(long)]
        out: PathBuf,
    },
    /// Links the people of two lists, one to one.
    Link {
        /// The first list.
        a: PathBuf,
        /// The second list.
        b: PathBuf,
        #[command(flatten)]
        common: Common,
        #[command(flatten)]
        output: Output,
    },
    /// Finds the duplicates of one list.
    Dedupe {
        /// The list.
        a: PathBuf,
        #[command(flatten)]
        common: Common,
        #[command(flatten)]
        output: Output,
        /// Where the clusters go, as `rec_id,cluster_id`.
        #[arg(long)]
        clusters: Option<PathBuf>,
    },
    /// Looks the people of a second list up in the first, one by one, as a running system does.
    Query {
        /// The list to search.
        a: PathBuf,
        /// The people to look up.
        who: PathBuf,
        #[command(flatten)]
        common: Common,
        /// Candidates to show per person.
        #[arg(long, default_value_t = 5)]
        top: usize,
    },
    /// Says why two records are, or are not, the same person.
    Explain {
        /// Record id of the first person.
        a: String,
        /// Record id of the second person.
        b: String,
        /// The one or two lists that hold them.
        #[arg(long = "in", num_args = 1..=2, required = true)]
        files: Vec<PathBuf>,
        #[command(flatten)]
        common: Common,
        /// Show short hashes instead of values.
        #[arg(long)]
        hashed: bool,
    },
    /// Links or deduplicates and compares the answer with the truth.
    Evaluate {
        /// One or two CSV files.
        #[arg(num_args = 1..=2, required = true)]
        files: Vec<PathBuf>,
        /// The truth, as `id_a,id_b` or `rec_id,entity_id`.
        #[arg(long)]
        truth: PathBuf,
        #[command(flatten)]
        common: Common,
    },
    /// Makes up a register to try things with: people in households, with duplicates and the truth about them.
    Synth {
        /// Records.
        #[arg(long, default_value_t = 20_000)]
        records: usize,
        /// Equal seeds give equal registers.
        #[arg(long, default_value_t = 1)]
        seed: u64,
        /// Share of the records that are copies of other ones.
        #[arg(long, default_value_t = 0.2)]
        duplicates: f64,
        /// Where the register goes.
        #[arg(long)]
        out: PathBuf,
        /// Where a second list goes, which holds copies of 60 % of the first and relatives of the rest.
        #[arg(long)]
        second: Option<PathBuf>,
        /// Where the truth goes, as `rec_id,entity_id`, or as `id_a,id_b` when there is a second list.
        #[arg(long)]
        truth: PathBuf,
    },
}

#[derive(Args)]
struct Common {
    /// Which column is which field.
    #[arg(long)]
    schema: PathBuf,
    /// A model to use instead of learning one.
    #[arg(long)]
    model: Option<PathBuf>,
    /// Learn from these files alone, however few people they hold. This version ships no model, so that files
    /// without `--model` are always learnt from.
    #[arg(long)]
    no_pretrained: bool,
    /// Threads; the answer is the same for any number.
    #[arg(long)]
    threads: Option<usize>,
    /// Print numbers as JSON.
    #[arg(long)]
    json: bool,
    /// No progress on standard error.
    #[arg(long)]
    quiet: bool,
}

#[derive(Args)]
struct Output {
    /// Where the pairs go, as `id_a,id_b,probability,weight,outcome`.
    #[arg(long)]
    out: Option<PathBuf>,
    /// Where a report for people goes, one HTML file.
    #[arg(long)]
    report: Option<PathBuf>,
    /// Where the model that was used goes.
    #[arg(long)]
    save_model: Option<PathBuf>,
}

pub fn main() -> ExitCode {
    match run::run(Cli::parse().command) {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            let _ = writeln!(std::io::stderr(), "error: {error:#}");
            ExitCode::FAILURE
        }
    }
}
