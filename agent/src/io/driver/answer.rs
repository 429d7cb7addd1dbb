//! What the inference thread does with samples: the model answers, the state machine counts, and applications get what they asked for.

use super::Worker;
use crate::agent::{Input, Sample};
use crate::inference::{Model, Outputs};
use crate::io::serving::{Answer, Asked, Unanswered};
use crate::io::start;
use crate::serving::Served;
use crate::signal::Stretch;
use crate::source::Chunk;
use driftline_shared::manifest::Sampled;
use driftline_shared::units::Name;
use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::time::Instant;

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

impl Worker {
    /// Takes what a source gives: samples, or readings of a signal that become samples.
    pub(super) fn rows(&mut self, chunk: &Chunk) {
        let sampled = self.agent.active().and_then(|p| p.sampled.clone());
        let Some(sampled) = sampled.filter(|s| matches!(**s, Sampled::Signal { .. })) else {
            self.infer(chunk, 0, None);
            return self.take(chunk);
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
        self.infer(&whole, 0, None);
        self.take(&whole);
        whole.clear();
        self.stretches = whole;
    }

    fn infer(&mut self, chunk: &Chunk, first: usize, deadline: Option<Instant>) {
        let (profile, counters) = (self.agent.active(), &self.hooks.counters);
        self.answered.infer(self.active.as_mut(), profile.map(|profile| &**profile), chunk, first, counters, deadline);
    }

    /// Counts samples that were inferred, after who asked for them was answered.
    fn take(&mut self, chunk: &Chunk) {
        let (width, now) = (chunk.width(), self.clock.now());
        if chunk.malformed > 0 {
            self.agent.handle(now, Input::Malformed(chunk.malformed));
            self.hooks.counters.late.fetch_add(chunk.late.into(), Ordering::Relaxed);
        }
        let mut answered = std::mem::take(&mut self.answered);
        loop {
            let next = answered.each().find_map(|(at, outputs)| {
                let (inputs, read) = (chunk.values.get(at * width..(at + 1) * width)?, chunk.rows.get(at)?);
                let trial = match &mut self.candidate {
                    Some(model) if self.trial => Some(model.answer(inputs, &mut self.trial_outputs)),
                    _ => None,
                };
                let watched = answered.watched(at, inputs);
                let (whole, label, id) = (answered.whole(inputs), read.label, read.id);
                let sample = Sample { event_time: now.wall, inputs: watched, whole, outputs, trial, label, id };
                self.agent.handle(now, Input::Sample(sample));
                // A release may have changed by this sample; the next one belongs to the new model.
                self.act().then_some(at + 1)
            });
            self.answered = answered;
            let Some(next) = next else { break };
            self.infer(chunk, next, None);
            answered = std::mem::take(&mut self.answered);
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
            (Instant::now() > deadline).then_some(Unanswered::Late)
        };
        if let Some(why) = refused {
            self.hooks.counters.late.fetch_add(chunk.rows.len() as u64, Ordering::Relaxed);
            self.handle(Input::Malformed(chunk.rows.len() as u32));
            let _ = reply.send(Err(why));
            return;
        }
        let profile = self.agent.active().cloned();
        let changed = self.agent.drifted().map(|word| format!("{word}, as this device sees it"));
        self.infer(&chunk, 0, Some(deadline));
        let (answered, mut answer) = (&self.answered, Ok(Answer::default()));
        for (at, outputs) in answered.each() {
            let Ok(found) = &mut answer else { break };
            match outputs {
                Outputs::Values(values) => {
                    let inputs = &chunk.values[at * chunk.width()..(at + 1) * chunk.width()];
                    let word = profile.as_ref().and_then(|p| {
                        let strange = p.ranges.outside(answered.watched(at, inputs)).or_else(|| changed.clone());
                        let before = self.before.as_mut().filter(|b| b.classes == p.classes);
                        let earlier = || before.and_then(|b| b.answer(inputs));
                        self.answers.give(p.guard, strange, values, earlier, &mut found.scores)
                    });
                    found.guards.push(word);
                }
                Outputs::Missing => answer = Err(Unanswered::Missing(at + 1)),
                Outputs::Failed => answer = Err(Unanswered::Failed(at + 1)),
            }
        }
        // What was not inferred in time is refused; what was counts.
        if self.answered.end() < chunk.rows.len() {
            answer = Err(Unanswered::Late);
        }
        if let Ok(answer) = &answer {
            let guarded = answer.guards.iter().flatten().count() as u64;
            self.hooks.counters.guarded.fetch_add(guarded, Ordering::Relaxed);
        }
        // An application that has gone away needs no answer; one that waits does not wait for what is counted.
        let _ = reply.send(answer);
        self.take(&chunk);
        let late = chunk.rows.len() - self.answered.end();
        if late > 0 {
            self.hooks.counters.late.fetch_add(late as u64, Ordering::Relaxed);
            self.handle(Input::Malformed(late as u32));
        }
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
