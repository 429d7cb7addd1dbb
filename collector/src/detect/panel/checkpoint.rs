//! The state of all detectors at a settled slot, as it is stored: what they have learned of each stream, and what they have alarmed about,
//! goes back further than the windows from which a restart could step them again.

use super::{Detectors, LOG_BYTES_MAX, Panel, REPLAY_SLOTS_MAX, REPLAY_SLOTS_MIN, Row};
use crate::detect::reference::Cohort;
use crate::device::Devices;
use bincode::config::standard;
use driftline_shared::sketch::Sketch;
use driftline_shared::units::Name;

/// Changes whenever detectors of before would read something else into what was stored; those then begin anew.
const FORMAT: u32 = 1;

/// The name of a group, and its detectors.
type OfGroup = ((String, String), Row);

#[derive(bincode::Encode, bincode::Decode)]
struct Saved {
    format: u32,
    settled: u64,
    devices: Vec<(String, Row)>,
    cohorts: Vec<OfGroup>,
    fleet: Row,
}

impl Panel {
    /// Moves the checkpoint on when the log has grown to twice the span that is replayed.
    pub(super) fn settle(&mut self, devices: &Devices, cohort_label: &str) {
        let a_slot = self.now.device.len().max(1) * self.release.baseline.features.len() * size_of::<Sketch>();
        let keep = (LOG_BYTES_MAX / a_slot.max(1)).clamp(REPLAY_SLOTS_MIN, REPLAY_SLOTS_MAX);
        let Some(closed) = self.closed else { return };
        let kept: Vec<u64> = self.log.range(..=closed).map(|(&slot, _)| slot).collect();
        if kept.len() < 2 * keep {
            return;
        }
        let old = &kept[..kept.len() - keep];
        let mut state = std::mem::take(&mut self.checkpoint);
        for &slot in old {
            self.step(&mut state, slot, devices, cohort_label);
        }
        self.checkpoint = state;
        for slot in old {
            self.log.remove(slot);
        }
        self.settled = old.last().copied();
        self.moved = true;
    }

    /// The checkpoint's slot and what is to be stored of it, where it has moved.
    pub fn take_checkpoint(&mut self) -> Option<(u64, Vec<u8>)> {
        let settled = self.settled.filter(|_| std::mem::take(&mut self.moved))?;
        let Detectors { device, cohort, fleet } = &self.checkpoint;
        let saved = Saved {
            format: FORMAT,
            settled,
            devices: device.iter().map(|(name, row)| (name.to_string(), row.clone())).collect(),
            cohorts: cohort.iter().map(|(c, row)| ((c.label.clone(), c.value.clone()), row.clone())).collect(),
            fleet: fleet.clone(),
        };
        Some((settled, bincode::encode_to_vec(saved, standard()).ok()?))
    }

    /// Goes on from what was stored: windows after its slot are still to come. False, and nothing has changed, where that cannot be
    /// understood.
    pub fn restore(&mut self, bytes: &[u8]) -> bool {
        let Ok((saved, _)) = bincode::decode_from_slice::<Saved, _>(bytes, standard()) else { return false };
        let names = |(name, row): (String, Row)| Some((Name::new(&name).ok()?, row));
        let cohort = |((label, value), row): OfGroup| (Cohort { label, value }, row);
        let device: Option<_> = saved.devices.into_iter().map(names).collect();
        let Some(device) = device.filter(|_| saved.format == FORMAT && self.log.is_empty()) else { return false };
        let cohort = saved.cohorts.into_iter().map(cohort).collect();
        self.checkpoint = Detectors { device, cohort, fleet: saved.fleet };
        self.now = self.checkpoint.clone();
        (self.settled, self.closed) = (Some(saved.settled), Some(saved.settled));
        true
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::detect::budget::Budget;
    use crate::device::Device;
    use crate::evaluate::series::{baseline_of, release_of};
    use driftline_shared::random::Random;
    use driftline_shared::sketch::Grid;
    use driftline_shared::units::{ReleaseId, WallMs};
    use driftline_shared::window::Window;
    use std::sync::Arc;

    #[test]
    fn a_drift_that_began_before_the_windows_that_are_left_is_known_after_a_restart() {
        let mut random = Random::new(7);
        let table: Vec<Vec<f32>> = (0..6_000).map(|_| vec![random.normal() as f32, random.normal() as f32]).collect();
        let release = Arc::new(release_of(baseline_of(&table), 60_000));
        let grids: Vec<Grid> = release.baseline.features.iter().map(|f| Grid::new(&f.cells)).collect();
        let names: Vec<Name> = (0..6).map(|at| Name::new(&format!("d{at}")).expect("a name")).collect();
        let devices: Devices = names.iter().map(|name| (name.clone(), Device::new(WallMs(0)))).collect();
        let mut panel = Panel::new(Arc::clone(&release), Budget::default());
        let (mut windows, mut stored) = (Vec::new(), None);
        for slot in 1..900u64 {
            for (at, name) in names.iter().enumerate() {
                let mut window: Box<Window> =
                    Box::new(Window::new(ReleaseId(1), WallMs(slot * 60_000), 60_000, grids.iter()));
                window.samples = 60;
                for _ in 0..60 {
                    let shift = if at == 2 && slot > 300 { 0.3 } else { 0.0 };
                    for (sketch, (grid, shift)) in window.sketches.iter_mut().zip(grids.iter().zip([shift, 0.0])) {
                        sketch.add(grid, random.normal() as f32 + shift);
                    }
                }
                assert!(panel.add(slot, name, &window));
                windows.push((slot, name.clone(), window));
            }
            panel.close_through(slot, &devices, "site");
            stored = panel.take_checkpoint().or(stored);
        }
        let before = panel.signals();
        assert_eq!(before.len(), 1, "the shift of one device is seen");
        let (settled, stored) = stored.expect("the log has grown");
        assert!(settled < 899);
        let mut after = Panel::new(Arc::clone(&release), Budget::default());
        assert!(after.restore(&stored));
        for (slot, name, window) in &windows {
            after.add(*slot, name, window);
        }
        after.close_through(899, &devices, "site");
        assert_eq!(format!("{before:?}"), format!("{:?}", after.signals()));
        assert!(after.take_checkpoint().is_none(), "nothing new to store");
        // From the newest windows alone it would be the device's own level.
        let mut blank = Panel::new(Arc::clone(&release), Budget::default());
        for (slot, name, window) in windows.iter().filter(|(slot, ..)| *slot > 899 - 256) {
            blank.add(*slot, name, window);
        }
        blank.close_through(899, &devices, "site");
        assert_eq!(blank.signals().len(), 0);
        // Damage, and another format.
        assert!(!Panel::new(Arc::clone(&release), Budget::default()).restore(&stored[..stored.len() / 2]));
        let mut other = stored.clone();
        other[0] = 9;
        assert!(!Panel::new(release, Budget::default()).restore(&other));
    }
}
