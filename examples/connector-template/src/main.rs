//! The binary of this connector.

fn main() -> std::process::ExitCode {
    connector_core::main::<connector_template::Config>()
}
