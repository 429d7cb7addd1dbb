//! stub: replaced by the real one
use crate::collector::{Collector, Topic};
use crate::explain::Lang;
use driftline_shared::units::Now;
use serde_json::Value;
/// stub
pub fn render(_: &Collector, _: Now, _: &Topic, _: Lang) -> Value { Value::Null }
/// stub
pub fn event_text(_: &Collector, _: Lang, e: &crate::record::Event) -> String { e.kind.into() }
/// stub
pub fn health(_: &Collector) -> Value { Value::Null }
/// stub
pub fn topic_name(_: &Topic) -> String { String::new() }
/// stub
pub fn parse_topic(_: &str) -> Option<Topic> { None }
