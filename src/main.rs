//! The command line of xoauth2-relay.

#![forbid(unsafe_code)]

use std::process::ExitCode;

fn main() -> ExitCode {
    xoauth2_relay::cli::main()
}
