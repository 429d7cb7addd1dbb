//! The `driftline` binary: the collector, its command line, and the demo.
#![forbid(unsafe_code)]

mod cli;

fn main() -> std::process::ExitCode {
    cli::main()
}
