//! The two ends of a comparison: a load client and an upstream that takes everything.
//!
//! Both do as little as they can, because they share the machine with what is measured; neither knows the relay. `benches/compare/run`
//! starts them; `cargo run --release --example compare-load -- --help` says what they can do.

mod client;
mod cloud;
mod dialogue;
mod figures;
mod sink;

use clap::{Parser, Subcommand};

#[derive(Parser)]
#[command(about = "The load client and the upstream of benches/compare")]
struct Arguments {
    #[command(subcommand)]
    end: End,
}

#[derive(Subcommand)]
enum End {
    /// Hands in mail and prints figures as JSON
    Load(client::Load),
    /// Takes mail, and gives tokens; prints its ports as JSON and runs until it is killed
    Sink(sink::Sink),
}

fn main() -> anyhow::Result<()> {
    // One thread: the other processors belong to what is measured.
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build()?;
    match Arguments::parse().end {
        End::Load(load) => runtime.block_on(client::run(load)),
        End::Sink(sink) => runtime.block_on(sink::run(sink)),
    }
}
