//! Tasks of the repository: `cargo xtask --help`.

mod check_deps;
mod gen_docs;
mod new_connector;

use std::path::{Path, PathBuf};

use clap::{Parser, Subcommand};

#[derive(Parser)]
struct Cli {
    #[command(subcommand)]
    task: Task,
}

#[derive(Subcommand)]
enum Task {
    /// Checks the direction of dependencies between our own crates.
    CheckDeps,
    /// Makes the parts of the documentation that follow from the code.
    GenDocs {
        /// Changes nothing; fails if something is not up to date.
        #[arg(long)]
        check: bool,
    },
    /// Makes the crate `connector-NAME` out of the template.
    NewConnector {
        /// Lower-case letters, digits and hyphens.
        name: String,
    },
}

/// The folder of the workspace.
fn root() -> PathBuf {
    let here = std::env::var_os("CARGO_MANIFEST_DIR").map_or_else(|| PathBuf::from("xtask"), PathBuf::from);
    here.parent().map_or_else(|| PathBuf::from("."), Path::to_path_buf)
}

fn main() -> anyhow::Result<()> {
    match Cli::parse().task {
        Task::CheckDeps => check_deps::run(),
        Task::GenDocs { check } => gen_docs::run(&root(), check),
        Task::NewConnector { name } => new_connector::run(&root(), &name),
    }
}
