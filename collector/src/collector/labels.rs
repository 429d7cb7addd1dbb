//! Truth that comes late: taken from people, told to the device that judged the samples, one batch at a time.
//!
//! Only the device knows which sample an id names and what the model said of it, so the collector checks classes, hashes ids and
//! forwards. A batch is stored before anybody hears that it was taken, is told again until the device answers, and is then
//! forgotten; the counts come back in windows like all others. What a device counted twice or not at all it says in its answer.

use super::{Collector, Output, Refused, Topic};
use crate::history::{Place, Truths};
use crate::record::Write;
use driftline_shared::list::{List, Text};
use driftline_shared::manifest::{Task, class_index};
use driftline_shared::units::{MonoMs, Name, Now, WallMs, hash};
use driftline_shared::window::Window;
use driftline_shared::wire::messages::{self, TRUTH_CLASSES_MAX, TRUTHS_MAX};
use driftline_shared::wire::topic::{DeviceTopic, Leaf};
use driftline_shared::wire::{self, FRAME_BYTES_MAX, Kind};
use serde::de::{Deserializer, MapAccess, Visitor};
use serde::{Deserialize, Serialize};
use serde_json::{Value, json};
use std::collections::{BTreeMap, BTreeSet, VecDeque};

/// Truths in one request.
pub const LABELS_PER_REQUEST_MAX: usize = 10_000;
/// Longest id of a sample.
const ID_BYTES_MAX: usize = 256;
/// Batches waiting for one device.
const BATCHES_PER_DEVICE_MAX: usize = 64;
/// Batches waiting for all.
const BATCHES_MAX: usize = 4_096;
/// A batch without an answer is told again after so long.
const RETRY_MS: u64 = 10_000;
/// Refused truths that are spelled out.
const SAID_MAX: usize = 3;

/// Truths about the samples of one device.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct LabelsRequest {
    /// Which device judged them.
    pub device: Name,
    /// Ids and true classes, in the order they came; an id may come twice.
    #[serde(deserialize_with = "pairs", serialize_with = "object")]
    pub labels: Vec<(String, String)>,
}

fn object<S: serde::Serializer>(pairs: &[(String, String)], serializer: S) -> Result<S::Ok, S::Error> {
    serializer.collect_map(pairs.iter().map(|(id, class)| (id, class)))
}

/// A JSON object as its pairs, so that repeated ids are seen; classes may be numbers.
fn pairs<'de, D: Deserializer<'de>>(deserializer: D) -> Result<Vec<(String, String)>, D::Error> {
    struct Pairs;
    impl<'de> Visitor<'de> for Pairs {
        type Value = Vec<(String, String)>;
        fn expecting(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
            f.write_str("an object of sample ids and true classes")
        }
        fn visit_map<A: MapAccess<'de>>(self, mut map: A) -> Result<Self::Value, A::Error> {
            let mut pairs = Vec::new();
            while let Some((id, class)) = map.next_entry::<String, Value>()? {
                if pairs.len() >= LABELS_PER_REQUEST_MAX {
                    let message = format!("one request takes at most {LABELS_PER_REQUEST_MAX} labels");
                    return Err(serde::de::Error::custom(message));
                }
                let class = class.as_str().map_or_else(|| class.to_string(), str::to_owned);
                pairs.push((id, class));
            }
            Ok(pairs)
        }
    }
    deserializer.deserialize_map(Pairs)
}

/// Batches on their way to devices.
#[derive(Debug, Default)]
pub struct Queues {
    queues: BTreeMap<Name, Queue>,
    waiting: usize,
    last: u64,
}

#[derive(Debug, Default)]
struct Queue {
    batches: VecDeque<(u64, Vec<u8>)>,
    /// When the first of them was told.
    told: Option<MonoMs>,
}

impl Queues {
    /// Rebuilds the queues from what was stored.
    pub fn restore(stored: Vec<(Name, u64, Vec<u8>)>) -> Self {
        let mut queues = Self::default();
        stored.into_iter().for_each(|(device, batch, frame)| queues.push(&device, batch, frame));
        queues
    }

    fn push(&mut self, device: &Name, batch: u64, frame: Vec<u8>) {
        self.waiting += 1;
        self.last = self.last.max(batch);
        self.queues.entry(device.clone()).or_default().batches.push_back((batch, frame));
    }

    fn of(&self, device: &Name) -> usize {
        self.queues.get(device).map_or(0, |queue| queue.batches.len())
    }

    /// Batches that no device has answered.
    pub fn waiting(&self) -> usize {
        self.waiting
    }

    /// The device may have lost what it was told.
    pub fn again(&mut self, device: &Name) {
        if let Some(queue) = self.queues.get_mut(device) {
            queue.told = None;
        }
    }

    /// Whether this was the batch being told; the next one is due then.
    fn answered(&mut self, device: &Name, batch: u64) -> bool {
        let Some(queue) = self.queues.get_mut(device) else { return false };
        if queue.batches.front().is_none_or(|(first, _)| *first != batch) {
            return false;
        }
        queue.batches.pop_front();
        queue.told = None;
        self.waiting -= 1;
        if queue.batches.is_empty() {
            self.queues.remove(device);
        }
        true
    }
}

/// What is wrong with single truths of a request.
#[derive(Default)]
struct Sorted {
    good: Vec<(u64, String)>,
    unknown_class: usize,
    repeated: usize,
    bad_id: usize,
    said: Vec<String>,
}

impl Sorted {
    fn say(&mut self, sentence: String) {
        if self.said.len() < SAID_MAX {
            self.said.push(sentence);
        }
    }
}

impl Collector {
    pub(super) fn add_labels(&mut self, now: Now, request: &LabelsRequest) -> Result<Value, Refused> {
        let device = &request.device;
        if !self.devices.contains_key(device) {
            let message = format!("There is no device {device}.");
            return Err(Refused::new("not_found", message, "driftline devices list"));
        }
        if request.labels.is_empty() {
            return Err(Refused::new("bad_request", "The request names no samples.", "give at least one id and class"));
        }
        let classes = self.classes_of(device)?;
        let sorted = sort(&request.labels, &classes);
        if sorted.good.is_empty() {
            let first = sorted.said.first().cloned().unwrap_or_default();
            let message = format!("None of the {} labels can be used. {first}", request.labels.len());
            return Err(Refused::new("bad_request", message, "correct the labels and send them again"));
        }
        let frames = frames(&sorted.good);
        let full = self.labels.of(device) + frames.len() > BATCHES_PER_DEVICE_MAX;
        if full || self.labels.waiting() + frames.len() > BATCHES_MAX {
            let message = format!("Too many labels wait for {device} already; none of these was taken.");
            return Err(Refused::new("conflict", message, "wait until the device has answered, then send them again"));
        }
        for mut labels in frames {
            // Numbers of an earlier life of this program must not come again: the device would answer as it did then.
            labels.batch = (self.labels.last + 1).max(now.wall.0 << 10);
            let mut frame = vec![0; FRAME_BYTES_MAX];
            let len = wire::write(Kind::Labels, &labels, &mut frame).expect("the limits of a batch fit a frame");
            frame.truncate(len);
            self.writes.push(Write::LabelsQueued { device: device.clone(), batch: labels.batch, frame: frame.clone() });
            self.labels.push(device, labels.batch, frame);
        }
        self.tell_labels(now, device);
        Ok(json!({
            "device": device, "labels": request.labels.len(), "forwarded": sorted.good.len(),
            "unknown_class": sorted.unknown_class, "repeated": sorted.repeated, "bad_id": sorted.bad_id,
            "problems": sorted.said,
        }))
    }

    /// Takes in a window that carries late truth alone. Nothing was sketched: no detector is asked, and what the device runs now may
    /// be another release.
    pub(super) fn take_truths(&mut self, device: &Name, slot: u64, window: Box<Window>, model: &Name) {
        let cohort = self.cohort_of(device);
        self.history.add_truths(slot, &cohort, &window);
        let live = self.book.all().filter(|i| i.is_live() && i.model == *model).map(|i| i.id);
        self.changed.extend(live.map(Topic::Incident));
        self.writes.push(Write::Window { device: device.clone(), slot, window });
    }

    /// Notes late truth that is to be stored.
    pub(super) fn write_truths(&mut self) {
        for (place, truths) in self.history.take_changed_truths() {
            if let Some(release) = self.releases.get(&place.0) {
                let at = WallMs(place.2 * u64::from(release.schema.window_ms));
                self.writes.push(Write::Truths { place, at, truths });
            }
        }
    }

    /// Puts back stored truth that fits its release.
    pub(super) fn restore_truths(&mut self, stored: Vec<(Place, Truths)>) {
        for (place, truths) in stored {
            let cells = self.releases.get(&place.0).map_or(0, |r| r.schema.task.classes().pow(2));
            if truths.confusion.is_empty() || truths.confusion.len() == cells {
                self.history.restore_truths(&place, truths);
            }
        }
    }

    /// Class names of every release of the model that the device runs.
    fn classes_of(&self, device: &Name) -> Result<Vec<String>, Refused> {
        let running = self.devices.get(device).and_then(|d| d.release).and_then(|id| self.releases.get(&id));
        let Some(running) = running else {
            let message = format!("It is not known which model {device} runs, so its classes are not known either.");
            return Err(Refused::new("conflict", message, "driftline models add, with the bundle the device runs"));
        };
        let mut classes = Vec::new();
        let newest_first = self.releases.values().filter(|r| r.model == running.model);
        for release in std::iter::once(running).chain(newest_first) {
            if let Task::Classification(names) = &release.schema.task {
                for name in names.iter().map(ToString::to_string) {
                    if !classes.contains(&name) {
                        classes.push(name);
                    }
                }
            }
        }
        if classes.is_empty() {
            let message = format!("{} gives numbers, not classes: there is no label to compare with.", running.model);
            return Err(Refused::new("bad_request", message, "labels are for classifiers"));
        }
        Ok(classes)
    }

    /// Tells devices what waits for them, when it was never told or not answered.
    pub(super) fn send_labels(&mut self, now: Now) {
        let due = |queue: &Queue| queue.told.is_none_or(|at| now.mono >= at.after(RETRY_MS));
        let names: Vec<Name> = self.labels.queues.iter().filter(|(_, q)| due(q)).map(|(n, _)| n.clone()).collect();
        names.iter().for_each(|device| self.tell_labels(now, device));
    }

    fn tell_labels(&mut self, now: Now, device: &Name) {
        let due = |queue: &Queue| queue.told.is_none_or(|at| now.mono >= at.after(RETRY_MS));
        let connected = self.devices.get(device).is_some_and(|d| d.connected);
        let Some(queue) = self.labels.queues.get_mut(device).filter(|queue| connected && due(queue)) else { return };
        let Some((_, frame)) = queue.batches.front() else { return };
        let payload = frame.clone();
        queue.told = Some(now.mono);
        let (fleet, device) = (self.settings.fleet.clone(), device.clone());
        let topic = DeviceTopic { fleet, device, leaf: Leaf::Labels }.to_string();
        self.output(Output::Publish { topic, payload, qos: 1, retain: false });
    }

    /// A device says what became of truths.
    pub(super) fn told(&mut self, now: Now, device: &Name, truth: &messages::Truth) {
        if truth.batch != 0 {
            if !self.labels.answered(device, truth.batch) {
                return;
            }
            self.writes.push(Write::LabelsDone { batch: truth.batch });
        }
        let sum = &mut self.counters.truth;
        sum.counted = sum.counted.saturating_add(truth.counted);
        sum.repeated = sum.repeated.saturating_add(truth.repeated);
        sum.unknown = sum.unknown.saturating_add(truth.unknown);
        sum.refused = sum.refused.saturating_add(truth.refused);
        self.tell_labels(now, device);
    }
}

/// Hashes ids and makes class names those of the model.
fn sort(labels: &[(String, String)], classes: &[String]) -> Sorted {
    let mut sorted = Sorted::default();
    let mut seen = BTreeSet::new();
    // Where classes have names, people may also count them.
    let named = classes.iter().all(|class| class.parse::<f64>().is_err());
    for (id, class) in labels {
        let shown = Text::<32>::cut(class);
        if id.is_empty() || id.len() > ID_BYTES_MAX {
            sorted.bad_id += 1;
            sorted.say(format!("An id has 1 to {ID_BYTES_MAX} bytes; one has {}.", id.len()));
            continue;
        }
        let by_number = || class.trim().parse::<u16>().ok().filter(|_| named);
        let place = class_index(classes.iter().map(String::as_str), class).or_else(by_number);
        let Some(name) = place.and_then(|at| classes.get(usize::from(at))) else {
            sorted.unknown_class += 1;
            sorted.say(format!("The model has no class {shown}; it has {}.", Text::<200>::cut(&classes.join(", "))));
            continue;
        };
        let id = hash(id.as_bytes());
        if !seen.insert(id) {
            sorted.repeated += 1;
            sorted.say("An id comes more than once; its first label counts.".to_owned());
            continue;
        }
        sorted.good.push((id, name.clone()));
    }
    sorted
}

/// Truths in as many batches as they need; sorted by class, so that a batch names few.
fn frames(truths: &[(u64, String)]) -> Vec<messages::Labels> {
    let mut frames: Vec<messages::Labels> = Vec::new();
    let mut truths: Vec<&(u64, String)> = truths.iter().collect();
    truths.sort_by(|a, b| a.1.cmp(&b.1));
    for (id, class) in truths {
        let class: Text<64> = Text::cut(class);
        let has_room = |frame: &messages::Labels| {
            frame.truths.len() < TRUTHS_MAX
                && (frame.classes.len() < TRUTH_CLASSES_MAX || frame.classes.contains(&class))
        };
        if !frames.last().is_some_and(has_room) {
            frames.push(messages::Labels { batch: 0, classes: List::default(), truths: List::default() });
        }
        let frame = frames.last_mut().expect("pushed above");
        let at = frame.classes.iter().position(|known| *known == class).unwrap_or_else(|| {
            let _ = frame.classes.push(class);
            frame.classes.len() - 1
        });
        let _ = frame.truths.push((*id, at as u16));
    }
    frames
}

#[cfg(test)]
mod tests {
    use super::*;

    fn sorted(labels: &[(&str, &str)], classes: &[&str]) -> Sorted {
        let own = |text: &&str| (*text).to_owned();
        let labels: Vec<_> = labels.iter().map(|(id, class)| (own(id), own(class))).collect();
        sort(&labels, &classes.iter().map(own).collect::<Vec<_>>())
    }

    #[test]
    fn what_cannot_be_used_is_counted_and_said_and_the_rest_goes_on() {
        let long = "x".repeat(ID_BYTES_MAX + 1);
        let found = sorted(
            &[("1", "hot"), ("2", "cold"), ("1", "ok"), ("", "ok"), (&long, "ok"), ("3", " ok ")],
            &["ok", "hot"],
        );
        assert_eq!(found.good, [(hash(b"1"), "hot".to_owned()), (hash(b"3"), "ok".to_owned())]);
        assert_eq!((found.unknown_class, found.repeated, found.bad_id), (1, 1, 2));
        assert_eq!(found.said[0], "The model has no class cold; it has ok, hot.");
        assert_eq!(found.said.len(), SAID_MAX);
    }

    #[test]
    fn classes_may_be_counted_only_where_they_have_names() {
        assert_eq!(sorted(&[("1", "1")], &["ok", "hot"]).good[0].1, "hot");
        // 1 is the name of no class here, and is not taken for 20.
        assert_eq!(sorted(&[("1", "1")], &["10", "20"]).unknown_class, 1);
        assert_eq!(sorted(&[("1", "20.0")], &["10", "20"]).good[0].1, "20");
    }

    #[test]
    fn many_truths_and_many_classes_take_several_batches() {
        let truths =
            |classes: usize| (0..3000u64).map(|i| (i, format!("c{}", i as usize % classes))).collect::<Vec<_>>();
        let sizes = |classes| frames(&truths(classes)).iter().map(|f| f.truths.len()).collect::<Vec<_>>();
        assert_eq!(sizes(3), [1024, 1024, 952]);
        // A hundred classes of thirty, sorted: the limits on truths and on classes both cut.
        assert_eq!(sizes(100), [1024, 1024, 952]);
        assert_eq!(sizes(1500), vec![128; 23].into_iter().chain([56]).collect::<Vec<_>>());
        let mut buffer = vec![0; FRAME_BYTES_MAX];
        for frame in frames(&truths(64)) {
            wire::write(Kind::Labels, &frame, &mut buffer).expect("a batch fits");
        }
    }

    #[test]
    fn a_request_keeps_repeated_ids_and_has_a_limit() {
        let parsed: LabelsRequest =
            serde_json::from_str(r#"{"device":"d","labels":{"a":"x","a":1}}"#).expect("a request");
        assert_eq!(parsed.labels, [("a".to_owned(), "x".to_owned()), ("a".to_owned(), "1".to_owned())]);
        let many: Vec<String> = (0..=LABELS_PER_REQUEST_MAX).map(|i| format!("\"{i}\":1")).collect();
        let error =
            serde_json::from_str::<LabelsRequest>(&format!("{{\"device\":\"d\",\"labels\":{{{}}}}}", many.join(",")));
        assert!(error.expect_err("too many").to_string().contains("at most 10000 labels"));
        assert!(serde_json::from_str::<LabelsRequest>(r#"{"device":"d","labels":[]}"#).is_err());
    }

    #[test]
    fn batches_are_told_one_by_one_and_go_when_answered() {
        let device = Name::new("d").expect("a name");
        let mut queues = Queues::restore(vec![(device.clone(), 5, vec![1]), (device.clone(), 6, vec![2])]);
        assert!(!queues.answered(&device, 6), "not the one being told");
        assert!(queues.answered(&device, 5) && !queues.answered(&device, 5));
        assert_eq!((queues.waiting(), queues.last), (1, 6));
        assert!(queues.answered(&device, 6));
        assert_eq!((queues.waiting(), queues.of(&device)), (0, 0));
    }
}
