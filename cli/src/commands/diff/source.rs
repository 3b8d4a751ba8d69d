//! One side of a comparison: the results of a batch, or a file of results.
//!
//! Results of a batch are written to a file without a name first, so that a comparison takes as much memory as two
//! lines, and a connection that breaks is gone on with.

use std::fs::File;
use std::io::{BufRead, BufReader, Seek, SeekFrom};
use std::path::Path;

use anyhow::Context as _;
use rbee_queue::jsonl::{Rendering, Shape};

use crate::batch_choice;
use crate::client::{Client, ExportQuery, Remote};
use crate::commands::Context;
use crate::failure::Failure;
use crate::output::{DASH, Sink};
use crate::results::{self, Sinks, Written};

/// Bytes read at once.
const READ_BUFFER_BYTES: usize = 1 << 18;

/// Result lines to be compared.
pub struct Side {
    /// The batch or the file, for people.
    pub name: String,
    pub lines: Box<dyn BufRead + Send>,
    /// Jobs of a batch that have no result yet.
    pub missing: u64,
    /// Whether each line says by which key its job is known.
    pub knows_jobs: bool,
}

impl Side {
    /// The file of this name, else the batch.
    pub async fn open(context: &Context, named: &str) -> Result<Side, Failure> {
        let path = Path::new(named);
        if named == DASH {
            return Ok(Side::of_lines(
                "stdin",
                Box::new(BufReader::new(std::io::stdin())),
            ));
        }
        if path.exists() && !path.is_dir() {
            let file = File::open(path).with_context(|| format!("cannot read {named}"))?;
            let lines = BufReader::with_capacity(READ_BUFFER_BYTES, file);
            return Ok(Side::of_lines(named, Box::new(lines)));
        }
        if named.contains(['/', '.']) {
            return Err(Failure::usage(format!("there is no file {named}")));
        }
        Side::of_batch(context, named).await
    }

    fn of_lines(name: &str, lines: Box<dyn BufRead + Send>) -> Side {
        Side {
            name: name.to_owned(),
            lines,
            missing: 0,
            knows_jobs: false,
        }
    }

    async fn of_batch(context: &Context, named: &str) -> Result<Side, Failure> {
        let spool = context.data()?.spool()?;
        let mut file = tempfile::tempfile_in(spool).context("cannot make a temporary file")?;
        let copy = file.try_clone().context("cannot make a temporary file")?;
        let sink = Sink::spool(copy);
        let (name, written) = match context.server() {
            Some(_) => of_server(context, named, sink).await?,
            None => of_embedded(context, named, sink).await?,
        };
        file.seek(SeekFrom::Start(0))
            .context("cannot read back the results")?;
        Ok(Side {
            name,
            lines: Box::new(BufReader::with_capacity(READ_BUFFER_BYTES, file)),
            missing: written.missing,
            knows_jobs: true,
        })
    }
}

async fn of_embedded(
    context: &Context,
    named: &str,
    sink: Sink,
) -> Result<(String, Written), Failure> {
    let home = context.open_store().await?;
    let batch = batch_choice::find(home.store(), named).await?;
    let rendering = Rendering {
        shape: Some(Shape::Short),
        with_keys: true,
        ..Rendering::default()
    };
    let written = results::write_into(
        &home.batches,
        &batch.id,
        rendering,
        Sinks {
            results: sink,
            errors: None,
        },
    )
    .await?;
    home.close().await;
    Ok((batch.id.to_string(), written))
}

async fn of_server(
    context: &Context,
    named: &str,
    sink: Sink,
) -> Result<(String, Written), Failure> {
    let client = Client::open(context)?;
    let batch = client.batch(named).await?;
    let remote = Remote {
        client: &client,
        id: batch.id.as_str(),
        query: ExportQuery {
            format: Some("short"),
            with_keys: true,
            ..ExportQuery::default()
        },
        talk: &context.talk,
    };
    let written = remote
        .write_into(Sinks {
            results: sink,
            errors: None,
        })
        .await?;
    Ok((batch.id.to_string(), written))
}
