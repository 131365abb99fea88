//! `queue hold`, `release`, `move`, `readdress` and `export`.

use std::fs::{DirBuilder, OpenOptions};
use std::io::{self, Write};
use std::os::unix::fs::{DirBuilderExt, OpenOptionsExt};
use std::path::{Path, PathBuf};
use std::process::ExitCode;

use anyhow::{Context, bail};
use clap::{Args, Subcommand};

use super::{FAILED, Which, show};
use crate::control::{Client, ControlError, Download};
use crate::message::Address;
use crate::ops::{MoveOrder, ReaddressOrder};

#[derive(Subcommand)]
pub(super) enum Order {
    /// Send messages no more until they are released
    Hold(Which),
    /// Let held messages go on: they are due now
    Release(Which),
    /// Let messages wait for another account, such as those of one that is held
    Move(Move),
    /// Send messages to another address, in place of one that does not have them yet
    Readdress(Readdress),
    /// Write messages as they came, as .eml
    Export(Export),
}

#[derive(Args)]
pub(super) struct Move {
    /// The account that they wait for from then on
    #[arg(long, value_name = "MAILBOX")]
    to: Address,
    #[command(flatten)]
    which: Which,
}

#[derive(Args)]
pub(super) struct Readdress {
    /// Which messages
    #[arg(required = true, value_name = "ID")]
    ids: Vec<String>,
    /// Whom they do not go to any more
    #[arg(long, value_name = "ADDRESS")]
    from: Address,
    /// Whom they go to
    #[arg(long, value_name = "ADDRESS")]
    to: Address,
}

#[derive(Args)]
pub(super) struct Export {
    /// Which messages
    #[arg(required = true, value_name = "ID")]
    ids: Vec<String>,
    /// The file to write, or the folder that gets a file ID.eml for each message (default: standard output)
    #[arg(long, short, value_name = "PATH")]
    output: Option<PathBuf>,
}

pub(super) async fn run(client: &Client, order: Order) -> anyhow::Result<ExitCode> {
    match order {
        Order::Hold(which) => {
            let ordered = client.queue_hold(&which.into()).await?;
            print!("{}", show::ordered(&ordered, "held until `xoauth2-relay queue release`"));
        }
        Order::Release(which) => {
            let ordered = client.queue_release(&which.into()).await?;
            print!("{}", show::ordered(&ordered, "released: due now, once the account and the pace allow"));
        }
        Order::Move(Move { to, which }) => {
            let order = MoveOrder { which: which.into(), to: to.to_string() };
            let ordered = client.queue_move(&order).await?;
            print!("{}", show::ordered(&ordered, &format!("moved to {to}")));
        }
        Order::Readdress(Readdress { ids, from, to }) => {
            let order = ReaddressOrder { ids, from: from.to_string(), to: to.to_string() };
            let ordered = client.queue_readdress(&order).await?;
            print!("{}", show::ordered(&ordered, &format!("readdressed from {from} to {to}")));
            // Whoever names a message and a recipient means them: what could not be done is no success.
            if !ordered.left.is_empty() {
                return Ok(ExitCode::from(FAILED));
            }
        }
        Order::Export(args) => export(client, &args).await?,
    }
    Ok(ExitCode::SUCCESS)
}

async fn export(client: &Client, Export { ids, output }: &Export) -> anyhow::Result<()> {
    match (ids.as_slice(), output) {
        ([id], None) => {
            let mut download = client.queue_export(id).await?;
            match pour(&mut download, &mut io::stdout().lock()).await {
                // Whoever has read enough closes the pipe.
                Err(Broken::Output(error)) if error.kind() == io::ErrorKind::BrokenPipe => Ok(()),
                poured => poured.map(|_| ()).context("the message cannot be printed"),
            }
        }
        (_, None) => bail!("several messages need a folder: add --output FOLDER, which gets a file ID.eml for each"),
        ([id], Some(path)) if !path.is_dir() => to_file(client, id, path).await,
        (ids, Some(folder)) => {
            if !folder.is_dir() {
                let made = DirBuilder::new().mode(0o700).create(folder);
                made.with_context(|| format!("the folder {} cannot be made", folder.display()))?;
            }
            for id in ids {
                // What is no id is no file name either: the relay says so before anything is written.
                to_file(client, id, &folder.join(format!("{id}.eml"))).await?;
            }
            Ok(())
        }
    }
}

/// Into a file for its owner alone that was not there before: what leaves the queue's folder is mail all the same.
async fn to_file(client: &Client, id: &str, path: &Path) -> anyhow::Result<()> {
    let mut download = client.queue_export(id).await?;
    let made = OpenOptions::new().write(true).create_new(true).mode(0o600).open(path);
    let mut file = match made {
        Err(error) if error.kind() == io::ErrorKind::AlreadyExists => {
            bail!("{} is there already: name another file, or remove it", path.display())
        }
        made => made.with_context(|| format!("{} cannot be made", path.display()))?,
    };
    let poured = pour(&mut download, &mut file).await;
    match poured.and_then(|octets| Ok(file.sync_all().map(|()| octets)?)) {
        Ok(octets) => {
            println!("{id} is in {} ({octets} octets)", path.display());
            Ok(())
        }
        Err(error) => {
            // Half a message would be taken for a whole one.
            let _ = std::fs::remove_file(path);
            Err(error).with_context(|| format!("{} cannot be written", path.display()))
        }
    }
}

/// Hands on all of it; how many octets.
async fn pour(download: &mut Download, to: &mut impl Write) -> Result<usize, Broken> {
    let mut octets = 0;
    while let Some(piece) = download.next().await? {
        to.write_all(&piece)?;
        octets += piece.len();
    }
    to.flush()?;
    Ok(octets)
}

/// Which end failed.
#[derive(Debug, thiserror::Error)]
enum Broken {
    #[error(transparent)]
    Input(#[from] ControlError),
    #[error(transparent)]
    Output(#[from] io::Error),
}
