//! What a model makes of a chunk of samples: all that lies between a question and its answer.

use super::report::Counters;
use crate::derived;
use crate::inference::{Model, Outputs};
use crate::observe::Profile;
use crate::projection;
use crate::source::Chunk;
use std::sync::atomic::Ordering;
use std::time::Instant;

/// What the active model made of a chunk's samples; kept from one chunk to the next, so that nothing is allocated per sample.
#[derive(Debug, Default)]
pub struct Answered {
    /// The chunk's first sample that was inferred.
    first: usize,
    made: Vec<Made>,
    /// Outputs, one sample after the other.
    outputs: Vec<f32>,
    /// What is watched of samples that are more than a row of readings, likewise.
    watched: Vec<f32>,
    /// One sample's, on their way to the others.
    scratch: Vec<f32>,
}

/// What became of one sample.
#[derive(Debug, Clone, Copy)]
enum Made {
    /// Its outputs end here.
    Values(usize),
    Missing,
    Failed,
}

impl Answered {
    fn begin(&mut self, first: usize) {
        self.first = first;
        self.made.clear();
        self.outputs.clear();
        self.watched.clear();
    }

    /// What the model made of the chunk's samples, with their places.
    pub fn each(&self) -> impl Iterator<Item = (usize, Outputs<'_>)> {
        let mut from = 0;
        self.made.iter().enumerate().map(move |(at, made)| {
            let outputs = match *made {
                Made::Values(to) => {
                    let values = self.outputs.get(from..to).unwrap_or_default();
                    from = to;
                    Outputs::Values(values)
                }
                Made::Missing => Outputs::Missing,
                Made::Failed => Outputs::Failed,
            };
            (self.first + at, outputs)
        })
    }

    /// What is watched of the sample at this place, which the model took as `inputs`.
    pub fn watched<'a>(&'a self, at: usize, inputs: &'a [f32]) -> &'a [f32] {
        if self.watched.is_empty() {
            return inputs;
        }
        let many = self.watched.len() / self.made.len().max(1);
        let from = (at - self.first) * many;
        self.watched.get(from..from + many).unwrap_or_default()
    }

    /// The sample itself, where more than itself is watched of it; else nothing.
    pub fn whole<'a>(&self, inputs: &'a [f32]) -> &'a [f32] {
        if self.watched.is_empty() { &[] } else { inputs }
    }

    /// The chunk's first sample that was not inferred.
    pub fn end(&self) -> usize {
        self.first + self.made.len()
    }

    /// Lets a model answer a chunk's samples from `first` on, as long as it is not too late; without one they have failed. Allocates
    /// nothing per sample.
    pub fn infer(
        &mut self,
        mut model: Option<&mut Model>,
        profile: Option<&Profile>,
        chunk: &Chunk,
        first: usize,
        counters: &Counters,
        deadline: Option<Instant>,
    ) {
        self.begin(first);
        // A release that takes another's place takes the same samples, or is refused.
        let sampled = profile.and_then(|p| p.sampled.as_deref());
        let mut began = Instant::now();
        for inputs in chunk.values.chunks_exact(chunk.width()).take(chunk.rows.len()).skip(first) {
            let outputs = match &mut model {
                Some(model) => model.answer(inputs, &mut self.scratch),
                None => Outputs::Failed,
            };
            let made = match outputs {
                Outputs::Values(values) => {
                    self.outputs.extend_from_slice(values);
                    Made::Values(self.outputs.len())
                }
                Outputs::Missing => Made::Missing,
                Outputs::Failed => Made::Failed,
            };
            self.made.push(made);
            // One answer ends where the next one begins.
            let ended = Instant::now();
            counters.latency.add(ended - began);
            counters.heartbeat.fetch_add(1, Ordering::Relaxed);
            began = ended;
            if let Some(sampled) = sampled {
                derived::values(sampled, inputs, &mut self.scratch);
                if let Some(of) = profile.and_then(|profile| profile.projection.as_deref()) {
                    let embedding = model.as_ref().map(|model| model.embedding()).unwrap_or_default();
                    projection::values(of, embedding, &mut self.scratch);
                }
                self.watched.extend_from_slice(&self.scratch);
                began = Instant::now();
            }
            if deadline.is_some_and(|deadline| ended > deadline) {
                break;
            }
        }
    }
}
