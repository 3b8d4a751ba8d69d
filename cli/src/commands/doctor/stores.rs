//! Store and queue, and how far their clocks are from this machine's.

use rbee_queue::queue::QueueProbe;
use rbee_queue::store::StoreProbe;
use rbee_queue::{PostgresStore, RedisQueue, SqliteStore};

use super::finding::Finding;
use super::plain;
use crate::commands::Context;
use crate::home::{HomeArgs, Shape, without_secrets};

/// Clocks may differ by this much. Leases and ticks are judged by the store's clock alone, so that a difference does no harm
/// but in what people read.
pub const SKEW_US: i64 = 5_000_000;

/// Looks at what the URLs name.
pub async fn look(context: &Context, args: &HomeArgs) -> Vec<Finding> {
    match args.shape() {
        Err(failure) => vec![Finding::fail(
            "store",
            plain(&failure),
            "set RBEE_DATABASE_URL too, or take RBEE_REDIS_URL away",
        )],
        Ok(Shape::Embedded) => vec![embedded(context).await],
        Ok(Shape::OneServer { database }) => postgres(&database).await,
        Ok(Shape::Cluster { database, redis }) => {
            let mut found = postgres(&database).await;
            found.extend(queue(&redis).await);
            found
        }
    }
}

async fn embedded(context: &Context) -> Finding {
    let what = "store";
    let path = match context.database() {
        Ok(path) => path,
        Err(failure) => return Finding::fail(what, plain(&failure), "name a file with --store"),
    };
    let shown = path.display();
    if !path.exists() {
        return Finding::ok(what, format!("SQLite, {shown}, made at the first use"));
    }
    match SqliteStore::probe(&path).await {
        Ok(probe) => schema(what, format!("SQLite {}, {shown}", probe.version), &probe),
        Err(error) => Finding::fail(
            what,
            error.to_string(),
            "give the file to this user, or take another one with --store or --data-dir",
        ),
    }
}

async fn postgres(url: &str) -> Vec<Finding> {
    let what = "store";
    match PostgresStore::probe(url).await {
        Ok(probe) => {
            let place = without_secrets(url);
            let found = format!(
                "PostgreSQL {}, {place}, {:.1} ms away",
                probe.version,
                probe.took.as_secs_f64() * 1e3
            );
            let clock = probe.ahead_us.map(|ahead| clock("the store", ahead));
            [schema(what, found, &probe)]
                .into_iter()
                .chain(clock)
                .collect()
        }
        Err(error) => vec![Finding::fail(
            what,
            error.to_string(),
            "start PostgreSQL, or put RBEE_DATABASE_URL right (user, password, host, database)",
        )],
    }
}

fn schema(what: &'static str, found: String, probe: &StoreProbe) -> Finding {
    match probe.schema {
        Some(schema) if schema > probe.known_schema => Finding::fail(
            what,
            format!(
                "{found}: schema {schema}, and this rbee knows {}",
                probe.known_schema
            ),
            "run the newer rbee that made it",
        ),
        Some(schema) if schema < probe.known_schema => Finding::ok(
            what,
            format!(
                "{found}, schema {schema}, brought to {} at the next start",
                probe.known_schema
            ),
        ),
        Some(schema) => Finding::ok(what, format!("{found}, schema {schema}")),
        None => Finding::ok(what, format!("{found}, empty, set up at the first start")),
    }
}

async fn queue(url: &str) -> Vec<Finding> {
    let what = "queue";
    match RedisQueue::probe(url).await {
        Ok(QueueProbe {
            version,
            warning,
            ahead_us,
            took,
        }) => {
            let version = version.unwrap_or_else(|| "of unknown version".to_owned());
            let place = without_secrets(url);
            let ms = took.as_secs_f64() * 1e3;
            let found = format!("Redis {version}, {place}, {ms:.1} ms away");
            let finding = match warning {
                Some(warning) => Finding::warn(what, found, warning),
                None => Finding::ok(what, found),
            };
            vec![finding, clock("the queue", ahead_us)]
        }
        Err(error) => vec![Finding::fail(
            what,
            error.to_string(),
            "start Redis, or put RBEE_REDIS_URL right (password, host, port)",
        )],
    }
}

/// How far another clock is from this machine's.
pub fn clock(whose: &str, ahead_us: i64) -> Finding {
    let (what, seconds) = ("clock", ahead_us as f64 / 1e6);
    match ahead_us.abs() > SKEW_US {
        true => Finding::warn(
            what,
            format!("{whose} is {seconds:+.1} s from this machine"),
            "have both follow a time server (systemd-timesyncd, chrony)",
        ),
        false => Finding::ok(
            what,
            format!("{whose} is {seconds:+.3} s from this machine"),
        ),
    }
}
