//! What a stream of windows is compared with: the training data, its neighbours, or the other groups at the same time.
//!
//! A season or a change of load moves a whole fleet, a fault moves one device or one site. So a device's score is looked at
//! beside the middle half of its cohort, a cohort's beside the median of all cohorts, and only the fleet's beside the training
//! data alone (docs/detection.md). Quartiles and medians hardly move when a few members are sick. Where two references
//! disagree, each bet sees the one that leaves the least of a change: a healthy device in a sick cohort is not called sick for
//! being unlike its neighbours, nor a sick one in a sick cohort blamed by itself.

use crate::device::Devices;
use driftline_shared::drift::detector::{Compared, View};
use driftline_shared::drift::scores::{Family, Sum, Sums};
use driftline_shared::units::Name;
use std::collections::BTreeMap;

/// Fewest members of which a median is a reference.
pub const NEIGHBOURS_MIN: usize = 5;
/// Groups of one label of which the median is a reference.
const GROUPS_MIN: usize = 3;
/// A label with more values than this names devices rather than groups of them; the one that the user chose for cohorts is
/// taken at its word.
const LABEL_VALUES_MAX: usize = 64;
/// Labels that groups are made of.
const LABELS_MAX: usize = 16;

/// A group of devices that share a label's value.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Cohort {
    /// The label, such as `site`.
    pub label: String,
    /// Its value, such as `busan`.
    pub value: String,
}

/// A cohort of one slot.
#[derive(Debug)]
pub struct Members {
    /// Which.
    pub cohort: Cohort,
    /// Its devices, by their place.
    pub devices: Vec<usize>,
}

/// Who sent a window in a slot, and which groups they form.
#[derive(Debug, Default)]
pub struct Layout {
    /// The devices, in the order of their names.
    pub devices: Vec<Name>,
    /// Every group of two devices or more, those of one label together.
    pub cohorts: Vec<Members>,
    /// Per label, its cohorts.
    labels: Vec<std::ops::Range<usize>>,
    /// Per device, its cohort of the first label.
    home: Vec<Option<usize>>,
}

impl Layout {
    /// Groups devices by their labels; those of `first` are each other's neighbours.
    pub fn new(names: impl Iterator<Item = Name>, devices: &Devices, first: &str) -> Self {
        let mut layout = Self { devices: names.collect(), ..Self::default() };
        let mut labels: BTreeMap<(bool, &str), BTreeMap<&str, Vec<usize>>> = BTreeMap::new();
        for (i, device) in layout.devices.iter().enumerate().filter_map(|(i, name)| Some((i, devices.get(name)?))) {
            labels.entry((false, first)).or_default().entry(device.cohort(first)).or_default().push(i);
            for (label, value) in device.labels.iter().filter(|(label, _)| *label != first) {
                labels.entry((true, label)).or_default().entry(value).or_default().push(i);
            }
        }
        layout.home = vec![None; layout.devices.len()];
        for ((other, label), groups) in labels.into_iter().take(LABELS_MAX) {
            let several = groups.into_iter().filter(|(_, members)| members.len() > 1).collect::<Vec<_>>();
            // One group of everybody is the fleet, and has its own level.
            let everybody = several.len() == 1 && several[0].1.len() == layout.devices.len();
            if other && (several.len() > LABEL_VALUES_MAX || everybody) {
                continue;
            }
            let begin = layout.cohorts.len();
            for (value, members) in several {
                if !other {
                    members.iter().for_each(|&i| layout.home[i] = Some(layout.cohorts.len()));
                }
                let cohort = Cohort { label: label.to_owned(), value: value.to_owned() };
                layout.cohorts.push(Members { cohort, devices: members });
            }
            layout.labels.push(begin..layout.cohorts.len());
        }
        layout
    }

    fn label_of(&self, cohort: usize) -> std::ops::Range<usize> {
        self.labels.iter().find(|label| label.contains(&cohort)).cloned().unwrap_or(cohort..cohort + 1)
    }
}

/// The references of one stream in one slot: bets on a rise use the highest, bets on a fall the lowest.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct Span {
    near: f64,
    low: f64,
    high: f64,
}

impl Span {
    const BASELINE: Self = Self { near: 0.0, low: 0.0, high: 0.0 };

    /// `near` is the reference that own levels are learned against; `also` may only take away from a change.
    fn of(near: f64, also: impl IntoIterator<Item = f64>) -> Self {
        also.into_iter().fold(Self { near, low: near, high: near }, |span, other| Self {
            near,
            low: span.low.min(other),
            high: span.high.max(other),
        })
    }

    fn compare(self, sum: Sum) -> Compared {
        let Sum { n, sum } = sum;
        Compared { n, sum: sum - n * self.near, rise: sum - n * self.high, fall: sum - n * self.low }
    }

    /// A sum's part beyond the reference in a direction, positive when it went there.
    pub fn beyond(self, sum: Sum, sign: f64) -> f64 {
        let compared = self.compare(sum);
        if sign > 0.0 { compared.rise } else { -compared.fall }
    }
}

/// References of one family in one slot.
#[derive(Debug)]
pub struct References {
    device: Vec<Span>,
    cohort: Vec<Span>,
    /// Score sums of the cohorts and of the fleet.
    sums: (Vec<Sum>, Sum),
    /// Medians of the members' means, where they are enough.
    medians: (Vec<Option<f64>>, Option<f64>),
}

impl References {
    /// From every device's score sum, in the layout's order.
    pub fn new(family: Family, layout: &Layout, sums: &[Sum]) -> Self {
        let total = |members: &mut dyn Iterator<Item = usize>| {
            members.fold(Sum::default(), |mut total, i| {
                total.add(sums[i]);
                total
            })
        };
        let cohorts: Vec<Sum> = layout.cohorts.iter().map(|c| total(&mut c.devices.iter().copied())).collect();
        let fleet = total(&mut (0..sums.len()));
        if family.has_level() {
            Self::levels(layout, sums, cohorts, fleet)
        } else {
            Self::shares(layout, sums, cohorts, fleet)
        }
    }

    /// Location and scale: medians of the neighbours, of the label's groups.
    fn levels(layout: &Layout, sums: &[Sum], cohorts: Vec<Sum>, fleet: Sum) -> Self {
        let means = |members: &mut dyn Iterator<Item = usize>| -> Vec<f64> {
            members.filter(|&i| sums[i].n > 0.0).map(|i| sums[i].mean()).collect()
        };
        let of = |members: &mut dyn Iterator<Item = usize>| median(means(members));
        let halves: Vec<Option<(f64, f64)>> =
            layout.cohorts.iter().map(|c| middle_half(means(&mut c.devices.iter().copied()))).collect();
        let enough =
            |found: Option<(f64, usize)>| found.filter(|&(_, n)| n >= NEIGHBOURS_MIN).map(|(median, _)| median);
        let found: Vec<Option<(f64, usize)>> =
            layout.cohorts.iter().map(|c| of(&mut c.devices.iter().copied())).collect();
        let medians: Vec<Option<f64>> = found.iter().map(|f| enough(*f)).collect();
        let among = |label: &std::ops::Range<usize>| {
            let groups: Vec<f64> = found[label.clone()].iter().flatten().map(|(median, _)| *median).collect();
            (groups.len() >= GROUPS_MIN).then(|| median(groups)).flatten().map(|(median, _)| median)
        };
        let home = layout.labels.first().and_then(among);
        let base = home.unwrap_or(0.0);
        let device = layout.home.iter().map(|&cohort| match cohort.and_then(|c| halves[c]) {
            // Inside the middle half of its neighbours, as near to the others as that allows.
            Some((low, high)) => Span::of(base.clamp(low, high), [base]),
            None => Span::of(base, []),
        });
        let cohort = (0..layout.cohorts.len()).map(|c| {
            let label = layout.label_of(c);
            match among(&label) {
                Some(groups) => Span::of(groups, []),
                // Of two groups nobody can say which one moved; the training data can.
                None => Span::of(0.0, label.filter(|&other| other != c).filter_map(|other| medians[other])),
            }
        });
        let fleet_median = enough(of(&mut (0..sums.len())));
        Self {
            device: device.collect(),
            cohort: cohort.collect(),
            sums: (cohorts, fleet),
            medians: (medians, fleet_median),
        }
    }

    /// Shares of something rare have no median worth the name: what the others have more of than the training data is taken off.
    fn shares(layout: &Layout, sums: &[Sum], cohorts: Vec<Sum>, fleet: Sum) -> Self {
        let without = |all: Sum, one: Sum| Sum { n: all.n - one.n, sum: all.sum - one.sum }.mean().max(0.0);
        let device = layout.home.iter().zip(sums).map(|(&cohort, &own)| match cohort {
            Some(c) if layout.cohorts[c].devices.len() >= NEIGHBOURS_MIN => Span::of(without(cohorts[c], own), []),
            _ => Span::BASELINE,
        });
        let cohort = (0..cohorts.len()).map(|c| {
            let mut others = Sum::default();
            layout.label_of(c).filter(|&other| other != c).for_each(|other| others.add(cohorts[other]));
            Span::of(others.mean().max(0.0), [])
        });
        let (device, cohort) = (device.collect(), cohort.collect());
        let none = vec![None; cohorts.len()];
        Self { device, cohort, sums: (cohorts, fleet), medians: (none, None) }
    }

    /// The reference of a device.
    pub fn of_device(&self, device: usize) -> Span {
        self.device[device]
    }

    /// The reference of a cohort.
    pub fn of_cohort(&self, cohort: usize) -> Span {
        self.cohort[cohort]
    }

    /// The reference of the fleet: the training data.
    pub fn of_fleet(&self) -> Span {
        Span::BASELINE
    }

    fn device_view(&self, device: usize, sum: Sum) -> Compared {
        self.device[device].compare(sum)
    }

    fn cohort_view(&self, cohort: usize) -> Compared {
        most_of(self.sums.0[cohort], self.medians.0[cohort], self.cohort[cohort])
    }

    fn fleet_view(&self) -> Compared {
        most_of(self.sums.1, self.medians.1, Span::BASELINE)
    }
}

/// A group's comparison: a few very sick members move its mean and not its median, so a change needs both.
fn most_of(sum: Sum, median: Option<f64>, span: Span) -> Compared {
    let by_sum = span.compare(sum);
    let Some(median) = median else { return by_sum };
    let by_median = span.compare(Sum { n: sum.n, sum: sum.n * median });
    Compared { rise: by_sum.rise.min(by_median.rise), fall: by_sum.fall.max(by_median.fall), ..by_sum }
}

/// What every stream of a slot sees of one feature.
#[derive(Debug)]
pub struct Views {
    /// Per device.
    pub devices: Vec<View>,
    /// Per cohort.
    pub cohorts: Vec<View>,
    /// Of all devices.
    pub fleet: View,
}

impl Views {
    /// From the devices' score sums; `families` names their order.
    pub fn new(families: &[Family], layout: &Layout, rows: &[Sums]) -> Self {
        let mut views = Self {
            devices: vec![View::default(); rows.len()],
            cohorts: vec![View::default(); layout.cohorts.len()],
            fleet: View::default(),
        };
        for (k, &family) in families.iter().enumerate() {
            let sums: Vec<Sum> = rows.iter().map(|row| row.get(k).copied().unwrap_or_default()).collect();
            let references = References::new(family, layout, &sums);
            // A view has room for every family.
            for (i, view) in views.devices.iter_mut().enumerate() {
                let _ = view.push(references.device_view(i, sums[i]));
            }
            for (c, view) in views.cohorts.iter_mut().enumerate() {
                let _ = view.push(references.cohort_view(c));
            }
            let _ = views.fleet.push(references.fleet_view());
        }
        views
    }
}

/// The quartiles of at least [`NEIGHBOURS_MIN`] values.
fn middle_half(mut values: Vec<f64>) -> Option<(f64, f64)> {
    if values.len() < NEIGHBOURS_MIN {
        return None;
    }
    values.sort_by(f64::total_cmp);
    let quarter = values.len() / 4;
    Some((values[quarter], values[values.len() - 1 - quarter]))
}

/// The median and how many values it is of.
fn median(mut values: Vec<f64>) -> Option<(f64, usize)> {
    let n = values.len();
    if n == 0 {
        return None;
    }
    let (below, &mut upper, _) = values.select_nth_unstable_by(n / 2, f64::total_cmp);
    let lower = if n % 2 == 1 { upper } else { below.iter().copied().fold(f64::NEG_INFINITY, f64::max) };
    Some((0.5 * (lower + upper), n))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::device::Device;
    use driftline_shared::units::WallMs;

    fn fleet(sites: &[usize]) -> (Devices, Vec<Name>) {
        let mut devices = Devices::new();
        for (site, &size) in sites.iter().enumerate() {
            for i in 0..size {
                let mut device = Device::new(WallMs(0));
                device.labels.insert("site".into(), format!("s{site}"));
                device.labels.insert("firmware".into(), (i % 2).to_string());
                device.labels.insert("serial".into(), format!("{site}-{i}"));
                devices.insert(Name::new(&format!("d{site}-{i:03}")).expect("a name"), device);
            }
        }
        let names = devices.keys().cloned().collect();
        (devices, names)
    }

    fn views(sites: &[usize], level: impl Fn(usize, usize) -> f64) -> (Views, Layout) {
        let (devices, names) = fleet(sites);
        let rows: Vec<Sums> = sites
            .iter()
            .enumerate()
            .flat_map(|(site, &size)| (0..size).map(move |i| (site, i)))
            .map(|(site, i)| std::iter::once(Sum { n: 60.0, sum: 60.0 * level(site, i) }).collect())
            .collect();
        let layout = Layout::new(names.into_iter(), &devices, "site");
        (Views::new(&[Family::Location], &layout, &rows), layout)
    }

    fn rises(view: &View) -> f64 {
        view[0].rise / view[0].n
    }

    #[test]
    fn a_median_of_even_and_odd_numbers() {
        assert_eq!(median(vec![3.0, 1.0, 2.0]), Some((2.0, 3)));
        assert_eq!(median(vec![4.0, 1.0, 2.0, 3.0]), Some((2.5, 4)));
        assert_eq!(median(vec![]), None);
    }

    #[test]
    fn labels_make_groups_and_serial_numbers_do_not() {
        let (_, layout) = views(&[6, 6, 6], |_, _| 0.0);
        let names: Vec<String> =
            layout.cohorts.iter().map(|m| format!("{}={}", m.cohort.label, m.cohort.value)).collect();
        assert_eq!(names, ["site=s0", "site=s1", "site=s2", "firmware=0", "firmware=1"]);
    }

    #[test]
    fn what_moves_everybody_is_seen_by_the_fleet_alone() {
        let (views, _) = views(&[6, 6, 6], |_, _| 0.5);
        assert!(views.devices.iter().chain(&views.cohorts).all(|v| rises(v).abs() < 1e-12));
        assert_eq!(rises(&views.fleet), 0.5);
    }

    #[test]
    fn a_sick_site_is_seen_as_a_site() {
        let (views, _) = views(&[6, 6, 6], |site, _| if site == 1 { 0.5 } else { 0.0 });
        assert!(views.devices.iter().all(|v| rises(v).abs() < 1e-12));
        assert_eq!(views.cohorts[..3].iter().map(rises).collect::<Vec<_>>(), [0.0, 0.5, 0.0]);
        assert!(rises(&views.fleet).abs() < 1e-12, "a third of the devices is not most of them");
    }

    #[test]
    fn of_two_sites_the_training_data_tells_which_moved() {
        let (views, _) = views(&[6, 6], |site, _| if site == 1 { 0.5 } else { 0.0 });
        assert_eq!(views.cohorts[..2].iter().map(rises).collect::<Vec<_>>(), [-0.5, 0.5]);
        assert_eq!(views.cohorts[0][0].fall, 0.0, "the healthy site did not fall");
    }

    #[test]
    fn healthy_devices_of_a_sick_cohort_are_not_blamed() {
        let (views, _) = views(&[10, 10, 10], |site, i| if site == 0 && i < 7 { 0.5 } else { 0.0 });
        for (i, view) in views.devices.iter().enumerate() {
            assert!(i < 7 || rises(view) < 1e-12, "{i}: {:?}", view[0]);
            assert!(view[0].fall > -1e-12, "{i}: {:?}", view[0]);
        }
        assert!((rises(&views.cohorts[0]) - 0.35).abs() < 1e-12, "by the mean, which is the smaller");
    }

    #[test]
    fn half_a_sick_cohort_is_seen_at_full_size() {
        let (views, _) = views(&[6], |_, i| if i < 3 { 0.5 } else { 0.0 });
        let found: Vec<f64> = views.devices.iter().map(rises).collect();
        assert_eq!(found, [0.5, 0.5, 0.5, 0.0, 0.0, 0.0]);
        assert!(views.devices[3..].iter().all(|v| v[0].fall == 0.0));
    }

    #[test]
    fn a_sick_device_is_seen_as_a_device() {
        let (views, _) = views(&[6, 6, 6], |site, i| if (site, i) == (1, 2) { 1.0 } else { 0.0 });
        let found: Vec<usize> = (0..18).filter(|&i| rises(&views.devices[i]) > 0.5).collect();
        assert_eq!(found, [8]);
        assert!(views.cohorts.iter().all(|v| rises(v).abs() < 1e-12));
    }
}
