//! The command `patient-matching`: find the same person in lists, without labels, and say why.

mod cli;

fn main() -> std::process::ExitCode {
    cli::main()
}
