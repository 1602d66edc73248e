//! The `kchaos` command.

use std::process::ExitCode;

fn main() -> ExitCode {
    let exit = kchaos::cli::main();
    kchaos::standard_error::settle();
    exit.into()
}
