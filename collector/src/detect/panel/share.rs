//! A panel's share of the false alarms that the whole fleet may have: during a rollout, or with several models, there are several
//! panels, and one number that a user has set.

use super::Panel;
use crate::detect::budget::Budget;
use driftline_shared::units::WallMs;

/// A panel counts while devices have reported within so many of its slots.
const SLOTS: u64 = 16;

impl Panel {
    /// Devices that reported lately, times windows per millisecond: false alarms come in proportion to it.
    fn weight(&self, now: WallMs) -> f64 {
        let from = self.slot_of(now.0).saturating_sub(SLOTS);
        let devices = self.log.range(from..).map(|(_, windows)| windows.len()).max().unwrap_or(0);
        devices as f64 / f64::from(self.release.schema.window_ms.max(1))
    }
}

/// Divides a budget among panels by their weights. Those that see nothing take nothing.
pub fn divide<'a>(fleet: Budget, now: WallMs, panels: impl Iterator<Item = &'a mut Panel>) {
    let panels: Vec<(&mut Panel, f64)> =
        panels.map(|panel| (panel.weight(now), panel)).filter(|(w, _)| *w > 0.0).map(|(w, panel)| (panel, w)).collect();
    let all: f64 = panels.iter().map(|(_, weight)| weight).sum();
    for (panel, weight) in panels {
        panel.budget = Budget { false_alarms_per_month: fleet.false_alarms_per_month * weight / all };
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::detect::panel::Level;
    use crate::device::Devices;
    use driftline_shared::random::Random;
    use driftline_shared::sketch::Grid;
    use driftline_shared::units::{Name, ReleaseId};
    use driftline_shared::window::Window;
    use std::sync::Arc;

    #[test]
    fn releases_that_run_beside_each_other_share_what_was_set_for_the_fleet() {
        let mut random = Random::new(1);
        let table: Vec<Vec<f32>> = (0..600).map(|_| vec![random.normal() as f32]).collect();
        let baseline = crate::evaluate::series::baseline_of(&table);
        let release = Arc::new(crate::evaluate::series::release_of(baseline, 60_000));
        let grids: Vec<Grid> = release.baseline.features.iter().map(|f| Grid::new(&f.cells)).collect();
        let mut panels = [3, 1].map(|devices| {
            let mut panel = Panel::new(Arc::clone(&release), Budget::default());
            for device in 0..devices {
                let name = Name::new(&format!("d{device}")).expect("a name");
                let window: Box<Window> = Box::new(Window::new(ReleaseId(1), WallMs(6_000_000), 60_000, grids.iter()));
                assert!(panel.add(100, &name, &window));
            }
            panel.close_through(100, &Devices::new(), "site");
            panel
        });
        let threshold = |panel: &Panel| panel.threshold(&Level::Fleet, &panel.now);
        let alone = threshold(&panels[0]);
        let share = |panels: &mut [Panel; 2], slot: u64| {
            divide(Budget::default(), WallMs(slot * 60_000), panels.iter_mut());
            [0, 1].map(|at| alone / threshold(&panels[at]))
        };
        let parts = share(&mut panels, 101);
        assert!((parts[0] - 0.75).abs() < 1e-9 && (parts[1] - 0.25).abs() < 1e-9, "{parts:?}");
        // The first has gone; what is left has the whole budget.
        let name = Name::new("d0").expect("a name");
        let window: Box<Window> = Box::new(Window::new(ReleaseId(1), WallMs(12_000_000), 60_000, grids.iter()));
        assert!(panels[1].add(200, &name, &window));
        assert!((share(&mut panels, 201)[1] - 1.0).abs() < 1e-9);
    }
}
