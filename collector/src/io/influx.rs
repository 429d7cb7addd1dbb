//! Export of merged windows to a server of the InfluxDB 2 write API: one point per window, group and feature.
//!
//! Never in the way of ingest: the driver offers what was committed to a queue of fixed length, and what finds no room, or is refused
//! [`TRIES_MAX`] times, is dropped and counted. A window that grows by a late device is written again under its old time, which
//! replaces the point. Health and bucket routes are not called: other servers of the write API lack them.

use crate::collector::Collector;
use crate::config::Influx;
use crate::history::Group;
use crate::record::Write;
use driftline_shared::drift::distance::Convention;
use futures_util::stream;
use influxdb2::models::DataPoint;
use influxdb2::{Client, ClientBuilder};
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;
use tokio::sync::mpsc;

/// Batches that wait.
const BATCHES_MAX: usize = 256;
/// Points of one request.
const POINTS_MAX: usize = 5_000;
/// How often a request is tried.
const TRIES_MAX: u32 = 5;
/// First wait after a failure; it doubles.
const WAIT: Duration = Duration::from_millis(500);

/// Where committed windows are offered.
#[derive(Debug, Clone)]
pub struct Sink {
    queue: mpsc::Sender<Vec<DataPoint>>,
    dropped: Arc<AtomicU64>,
}

/// Starts the export.
pub fn start(config: &Influx, token: String) -> Result<Sink, String> {
    let client = ClientBuilder::new(&config.url, &config.org, token).build().map_err(|e| e.to_string())?;
    let (queue, batches) = mpsc::channel(BATCHES_MAX);
    let dropped = Arc::new(AtomicU64::new(0));
    tokio::spawn(run(client, config.bucket.clone(), batches, dropped.clone()));
    Ok(Sink { queue, dropped })
}

impl Sink {
    /// Offers what has just been committed.
    pub fn offer(&self, core: &Collector, writes: &[Write]) {
        let points: Vec<DataPoint> = writes.iter().flat_map(|write| points(core, write)).collect();
        if points.is_empty() {
            return;
        }
        if let Err(refused) = self.queue.try_send(points) {
            self.drop(refused.into_inner().len());
        }
    }

    /// The counter in Prometheus' text format.
    pub fn metrics(&self) -> String {
        let dropped = self.dropped.load(Ordering::Relaxed);
        let name = "driftline_influxdb_points_dropped_total";
        format!("# HELP {name} Points that were not exported.\n# TYPE {name} counter\n{name} {dropped}\n")
    }

    fn drop(&self, points: usize) {
        count_dropped(&self.dropped, points, "the queue is full");
    }
}

/// Counts lost points, and says so at the first and every thousandth time.
fn count_dropped(dropped: &AtomicU64, points: usize, why: &str) {
    let before = dropped.fetch_add(points as u64, Ordering::Relaxed);
    let after = before + points as u64;
    if before == 0 || before / 1_000 != after / 1_000 {
        tracing::warn!(dropped = after, "points were not exported to InfluxDB: {why}");
    }
}

async fn run(client: Client, bucket: String, mut batches: mpsc::Receiver<Vec<DataPoint>>, dropped: Arc<AtomicU64>) {
    while let Some(mut points) = batches.recv().await {
        while points.len() < POINTS_MAX
            && let Ok(more) = batches.try_recv()
        {
            points.extend(more);
        }
        if let Err(why) = write(&client, &bucket, &points).await {
            count_dropped(&dropped, points.len(), &why);
        }
    }
}

async fn write(client: &Client, bucket: &str, points: &[DataPoint]) -> Result<(), String> {
    let mut wait = WAIT;
    for attempt in 1.. {
        match client.write(bucket, stream::iter(points.to_vec())).await {
            Ok(()) => return Ok(()),
            Err(e) if attempt == TRIES_MAX => return Err(e.to_string()),
            Err(_) => {
                tokio::time::sleep(wait).await;
                wait *= 2;
            }
        }
    }
    Ok(())
}

/// The points of a merged window.
fn points(core: &Collector, write: &Write) -> Vec<DataPoint> {
    let Write::FleetWindow { group, window, .. } = write else { return Vec::new() };
    let Some(release) = core.releases.get(&window.release) else { return Vec::new() };
    let cohort = match group {
        Group::Fleet => "*",
        Group::Cohort(name) => name,
    };
    let time = i64::try_from(window.start.0).unwrap_or(i64::MAX).saturating_mul(1_000_000);
    let features = window.sketches.iter().zip(&release.baseline.features);
    let point =
        |(sketch, feature): (&driftline_shared::sketch::Sketch, &driftline_shared::baseline::FeatureBaseline)| {
            let m = sketch.moments();
            let mut point = DataPoint::builder("driftline_window")
                .tag("fleet", core.settings.fleet.as_str())
                .tag("model", release.model.as_str())
                .tag("release", release.name.as_str())
                .tag("cohort", cohort)
                .tag("feature", feature.name.as_str())
                .field("n", i64::try_from(sketch.n()).unwrap_or(i64::MAX))
                .field("missing", i64::from(sketch.missing()))
                .field("non_finite", i64::from(sketch.non_finite()));
            if m.n > 0 {
                point = point
                    .field("mean", m.mean())
                    .field("sd", m.sd())
                    .field("min", f64::from(m.min))
                    .field("max", f64::from(m.max))
                    .field("js", Convention::JS.of(&feature.counts, sketch.counts()));
            }
            point.timestamp(time).build().ok()
        };
    features.filter_map(point).collect()
}
