//! Log lines for people and for journald.
//!
//! Under systemd every line begins with its level as `<n>` (sd-daemon(3)) and has no time: the journal has both. Elsewhere
//! lines have a time and the level's name. `DRIFTLINE_LOG` filters, such as `debug` or `driftline_agent=debug,rumqttc=info`.

use std::io::IsTerminal;
use tracing::{Event, Level, Subscriber};
use tracing_subscriber::filter::{LevelFilter, Targets};
use tracing_subscriber::fmt::format::Writer;
use tracing_subscriber::fmt::{FmtContext, FormatEvent, FormatFields};
use tracing_subscriber::layer::SubscriberExt;
use tracing_subscriber::registry::LookupSpan;
use tracing_subscriber::util::SubscriberInitExt;

/// What is logged when `DRIFTLINE_LOG` is not set. The libraries' own warnings would only repeat ours.
const FILTER: &str = "driftline_agent=info,error";

/// Starts logging to standard error. A second call does nothing.
pub fn start() {
    let asked = std::env::var("DRIFTLINE_LOG").ok().and_then(|text| text.parse().ok());
    let filter =
        asked.or_else(|| FILTER.parse().ok()).unwrap_or_else(|| Targets::new().with_default(LevelFilter::INFO));
    let layer = tracing_subscriber::fmt::layer().with_writer(std::io::stderr);
    let registry = tracing_subscriber::registry().with(filter);
    let _ = if std::env::var_os("JOURNAL_STREAM").is_some() {
        registry.with(layer.event_format(Journal)).try_init()
    } else {
        registry.with(layer.with_target(false).with_ansi(std::io::stderr().is_terminal())).try_init()
    };
}

struct Journal;

impl<S, N> FormatEvent<S, N> for Journal
where
    S: Subscriber + for<'a> LookupSpan<'a>,
    N: for<'a> FormatFields<'a> + 'static,
{
    fn format_event(
        &self,
        context: &FmtContext<'_, S, N>,
        mut writer: Writer<'_>,
        event: &Event<'_>,
    ) -> std::fmt::Result {
        let level = match *event.metadata().level() {
            Level::ERROR => 3,
            Level::WARN => 4,
            Level::INFO => 6,
            _ => 7,
        };
        write!(writer, "<{level}>")?;
        context.field_format().format_fields(writer.by_ref(), event)?;
        writeln!(writer)
    }
}
