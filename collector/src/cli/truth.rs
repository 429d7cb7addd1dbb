//! What training rows truly were, as far as it is known, and what a model's scores mean by it.

use super::baselines::answers;
use driftline_agent::inference::Model;
use driftline_collector::calibration::{self, Rows};
use driftline_collector::explain::some;
use driftline_shared::calibration::Calibration;
use driftline_shared::list::Text;
use driftline_shared::manifest::{Task, class_index};

/// Rows of inputs, and the class of each where it is known.
pub type KnownRows = (Vec<Vec<f32>>, Vec<Option<u16>>);

/// What rows truly were, as far as it is known.
#[derive(Default)]
pub struct Truth {
    /// Classes that the rows refer to; not necessarily in the model's order.
    pub classes: Vec<String>,
    /// The class of each training row.
    pub training: Vec<Option<u16>>,
    /// Other rows and their classes, to calibrate with instead.
    pub held_out: Option<KnownRows>,
}

impl Truth {
    /// What the scores of the model mean; `outputs` are its answers to the training rows. Notes say what is missing for it.
    pub fn calibrate(
        &self,
        model: &mut Model,
        task: &Task,
        outputs: &[Vec<f32>],
        notes: &mut Vec<String>,
    ) -> Option<Calibration> {
        let Task::Classification(classes) = task else { return None };
        let places: Vec<Option<u16>> =
            self.classes.iter().map(|name| class_index(classes.iter().map(Text::as_str), name)).collect();
        let known = |rows: &[Option<u16>]| -> Vec<Option<u16>> {
            rows.iter().map(|class| places.get(usize::from((*class)?)).copied().flatten()).collect()
        };
        let truths = known(self.held_out.as_ref().map_or(&self.training, |(_, truths)| truths));
        let unseen: Vec<&str> = (0..)
            .zip(classes.iter())
            .filter(|(at, _)| !truths.contains(&Some(*at)))
            .map(|(_, class)| class.as_str())
            .collect();
        if !unseen.is_empty() && unseen.len() < classes.len() {
            let class = if unseen.len() == 1 { "class" } else { "classes" };
            notes.push(format!(
                "No row has the {class} {}: how often the model is right there is not known.",
                some(&unseen)
            ));
        }
        let of_held_out = self.held_out.as_ref().map(|(inputs, _)| answers(model, inputs).0);
        let held_out = of_held_out.is_some();
        let rows = Rows { outputs: of_held_out.as_deref().unwrap_or(outputs), truths: &truths, held_out };
        calibration::fit(&rows, classes.len(), notes)
    }
}
