//! Tasks of the repository: `cargo xtask --help`.
#![allow(clippy::indexing_slicing, reason = "a JSON value indexed by a name that it lacks is null")]

mod bench;
mod check_deps;
mod crash;
mod demo;
mod gen_docs;
mod new_connector;

use std::path::{Path, PathBuf};
use std::process::ExitCode;

use clap::{Parser, Subcommand};

#[derive(Parser)]
struct Cli {
    #[command(subcommand)]
    task: Task,
}

#[derive(Subcommand)]
enum Task {
    /// Runs the whole chain on this machine, with an outage and a hard kill, and counts what arrived.
    Demo(demo::Demo),
    /// Kills the real connector at random moments, and counts what is lost or doubled.
    Crash(crash::Crash),
    /// Measures speed, growth and a backlog, beside plain loops.
    #[command(subcommand)]
    Bench(bench::Bench),
    /// The auditor of the demo.
    #[command(hide = true)]
    DemoVerify(demo::Verify),
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

fn main() -> anyhow::Result<ExitCode> {
    match Cli::parse().task {
        Task::Demo(args) => return runtime()?.block_on(demo::demo(args)),
        Task::Crash(args) => return runtime()?.block_on(crash::crash(args)),
        Task::DemoVerify(args) => return runtime()?.block_on(demo::verify(args)),
        Task::Bench(what) => bench::run(what),
        Task::CheckDeps => check_deps::run(),
        Task::GenDocs { check } => gen_docs::run(&root(), check),
        Task::NewConnector { name } => new_connector::run(&root(), &name),
    }
    .map(|()| ExitCode::SUCCESS)
}

fn runtime() -> std::io::Result<tokio::runtime::Runtime> {
    tokio::runtime::Builder::new_multi_thread().worker_threads(2).enable_all().build()
}
