//! What the inference thread does with samples: the model answers, the state machine counts, and applications get what they asked for.

use super::Worker;
use crate::agent::{Input, Sample};
use crate::derived;
use crate::inference::{Model, Outputs};
use crate::io::serving::{Answer, Asked, Unanswered};
use crate::io::start;
use crate::projection;
use crate::serving::Served;
use crate::signal::Stretch;
use crate::source::Chunk;
use driftline_shared::manifest::Sampled;
use driftline_shared::units::Name;
use std::sync::Arc;
use std::sync::atomic::Ordering;
use tokio::time::Instant;

/// A release that answered before.
pub(super) struct Before {
    pub(super) model: Model,
    name: Name,
    classes: Vec<String>,
}

impl Before {
    pub(super) fn new(model: Model, served: &Served) -> Self {
        Self { model, name: served.release.clone(), classes: served.classes.clone() }
    }

    pub(super) fn of((model, profile): start::Loaded) -> Self {
        Self { model, name: profile.name.clone(), classes: profile.classes.clone() }
    }

    /// What it makes of a sample, with its name.
    fn answer(&mut self, inputs: &[f32]) -> Option<(Vec<f32>, String)> {
        let mut values = Vec::new();
        let outputs = self.model.answer(inputs, &mut values);
        outputs.values().map(|values| (values.to_vec(), self.name.to_string()))
    }
}

/// What the active model made of a sample.
pub(super) struct Answered<'a> {
    /// Its place in the chunk.
    at: usize,
    /// What the model took.
    inputs: &'a [f32],
    /// What is watched of it.
    watched: &'a [f32],
    outputs: Outputs<'a>,
    /// The release before.
    before: &'a mut Option<Before>,
}

impl Worker {
    /// Takes what a source gives: samples, or readings of a signal that become samples.
    pub(super) fn rows(&mut self, chunk: &Chunk) {
        let sampled = self.agent.active().and_then(|p| p.sampled.clone());
        let Some(sampled) = sampled.filter(|s| matches!(**s, Sampled::Signal { .. })) else {
            return self.samples(chunk, |_| {});
        };
        if self.stretch.as_ref().is_none_or(|(known, _)| *known != sampled) {
            self.stretch = Stretch::new(&sampled).map(|stretch| (sampled, stretch));
        }
        let Some((_, stretch)) = &mut self.stretch else { return };
        let mut whole = std::mem::take(&mut self.stretches);
        (whole.malformed, whole.late) = (chunk.malformed, chunk.late);
        let mut cuts = chunk.cuts.iter().peekable();
        for (at, (row, known)) in chunk.values.chunks_exact(stretch.channels()).zip(&chunk.rows).enumerate() {
            while cuts.next_if(|cut| **cut <= at).is_some() {
                stretch.cut();
            }
            stretch.push(row, *known, &mut whole);
        }
        if cuts.next().is_some() {
            stretch.cut();
        }
        self.samples(&whole, |_| {});
        whole.clear();
        self.stretches = whole;
    }

    /// Infers and sketches a chunk; `each` sees what the active model made of each sample, and the release before. Allocates nothing per sample.
    pub(super) fn samples(&mut self, chunk: &Chunk, mut each: impl FnMut(Answered<'_>)) {
        let width = (chunk.values.len() / chunk.rows.len().max(1)).max(1);
        let now = self.clock.now();
        // A release that takes its place takes the same samples, or is refused.
        let sampled = self.agent.active().and_then(|p| p.sampled.clone());
        if chunk.malformed > 0 {
            self.agent.handle(now, Input::Malformed(chunk.malformed));
            self.hooks.counters.late.fetch_add(chunk.late.into(), Ordering::Relaxed);
        }
        for (at, (inputs, read)) in chunk.values.chunks_exact(width).zip(&chunk.rows).enumerate() {
            let began = Instant::now();
            let outputs = match &mut self.active {
                Some(model) => model.answer(inputs, &mut self.outputs),
                None => Outputs::Failed,
            };
            self.hooks.counters.latency.add(began.elapsed());
            let watched = match &sampled {
                Some(sampled) => {
                    derived::values(sampled, inputs, &mut self.derived);
                    if let Some(of) = self.agent.active().and_then(|profile| profile.projection.as_deref()) {
                        let embedding = self.active.as_ref().map(Model::embedding).unwrap_or_default();
                        projection::values(of, embedding, &mut self.derived);
                    }
                    &self.derived
                }
                None => inputs,
            };
            each(Answered { at, inputs, watched, outputs, before: &mut self.before });
            let trial = match &mut self.candidate {
                Some(model) if self.trial => Some(model.answer(inputs, &mut self.trial_outputs)),
                _ => None,
            };
            let sample =
                Sample { event_time: now.wall, inputs: watched, outputs, trial, label: read.label, id: read.id };
            self.agent.handle(now, Input::Sample(sample));
            // A release may have changed by this sample; the next one belongs to the new model.
            self.act();
        }
    }

    /// Answers an application.
    pub(super) fn asked(&mut self, asked: Asked) {
        let Asked { chunk, served, deadline, reply } = asked;
        let now_served = self.served.borrow().clone();
        let refused = if self.active.is_none() || now_served.is_none() {
            Some(Unanswered::NoModel)
        } else if !now_served.is_some_and(|now| Arc::ptr_eq(&now, &served)) {
            // It was read for another release, whose classes it would be told.
            Some(Unanswered::Changed)
        } else {
            (std::time::Instant::now() > deadline).then_some(Unanswered::Late)
        };
        if let Some(why) = refused {
            self.hooks.counters.late.fetch_add(chunk.rows.len() as u64, Ordering::Relaxed);
            self.handle(Input::Malformed(chunk.rows.len() as u32));
            let _ = reply.send(Err(why));
            return;
        }
        let profile = self.agent.active().cloned();
        let mut answers = std::mem::take(&mut self.answers);
        let changed = self.agent.drifted().map(|word| format!("{word}, as this device sees it"));
        let mut answer = Ok(Answer::default());
        self.samples(&chunk, |Answered { at, inputs, watched, outputs, before }| match (outputs, &mut answer) {
            (Outputs::Values(values), Ok(answer)) => {
                let word = profile.as_ref().and_then(|p| {
                    let strange = p.ranges.outside(watched).or_else(|| changed.clone());
                    let earlier = || before.as_mut().filter(|b| b.classes == p.classes).and_then(|b| b.answer(inputs));
                    answers.give(p.guard, strange, values, earlier, &mut answer.scores)
                });
                answer.guards.push(word);
            }
            (Outputs::Missing, Ok(_)) => answer = Err(Unanswered::Missing(at + 1)),
            (Outputs::Failed, Ok(_)) => answer = Err(Unanswered::Failed(at + 1)),
            (_, Err(_)) => {}
        });
        self.answers = answers;
        if self.agent.active().map(|p| p.digest) != profile.map(|p| p.digest) {
            // Some of the samples were another model's: neither are they one answer, nor may any of it be held.
            self.answers.forget();
            answer = Err(Unanswered::Changed);
        }
        if let Ok(answer) = &answer {
            let guarded = answer.guards.iter().flatten().count() as u64;
            self.hooks.counters.guarded.fetch_add(guarded, Ordering::Relaxed);
        }
        // An application that has gone away needs no answer.
        let _ = reply.send(answer);
    }

    /// Tells applications what they can ask.
    pub(super) fn serve(&mut self) {
        self.answers.forget();
        let served = self.active.as_ref().zip(self.agent.active()).map(|(model, profile)| {
            Arc::new(Served {
                model: profile.model.clone(),
                release: profile.name.clone(),
                tensors: model.tensors(),
                // What is derived of a sample cannot be given instead of it.
                columns: if profile.sampled.is_some() { Vec::new() } else { profile.inputs.clone() },
                output: model.output().to_owned(),
                outputs: model.outputs(),
                classes: profile.classes.clone(),
                image: profile.sampled.clone().filter(|s| matches!(**s, Sampled::Image { .. })),
            })
        });
        let release = self.agent.active().map(|p| (p.model.clone(), p.name.clone(), p.release));
        self.hooks.counters.change(|snapshot| snapshot.release = release);
        self.served.send_replace(served);
    }
}
