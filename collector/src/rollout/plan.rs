//! A rollout's plan: exactly these devices, in these stages, under a hash that says so.
//!
//! Whoever confirms a plan confirms the hash. When the fleet has changed in between, the hash differs and nothing happens.

use driftline_shared::units::{Name, ReleaseId};
use serde::{Deserialize, Serialize};
use sha2::{Digest as _, Sha256};

/// Most stages of a plan.
pub const STAGES_MAX: usize = 10;

/// What a user asks for, beside model, release and devices.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct Policy {
    /// Cumulative percentages, ascending, the last one 100.
    pub stages: Vec<u32>,
    /// A stage stops when more than this share of what it has executed failed.
    pub failure_limit_percent: u32,
    /// How long a stage is watched before the next begins.
    pub soak_ms: u64,
    /// How long one device may take.
    pub timeout_ms: u64,
}

impl Default for Policy {
    fn default() -> Self {
        Self { stages: vec![10, 50, 100], failure_limit_percent: 10, soak_ms: 10 * 60_000, timeout_ms: 10 * 60_000 }
    }
}

impl Policy {
    /// One sentence about what is impossible here.
    pub fn check(&self) -> Result<(), String> {
        let ascending = self.stages.windows(2).all(|pair| pair[0] < pair[1]);
        if self.stages.is_empty() || self.stages.len() > STAGES_MAX || !ascending || self.stages.first() == Some(&0) {
            return Err(format!("stages are 1 to {STAGES_MAX} ascending percentages, such as 10,50,100"));
        }
        if self.stages.last() != Some(&100) {
            return Err(
                "the last stage must be 100 percent; a smaller rollout takes a narrower choice of devices".into()
            );
        }
        if self.failure_limit_percent > 100 {
            return Err(format!(
                "a failure limit of {} % can never be passed; choose 0 to 100",
                self.failure_limit_percent
            ));
        }
        let day = 24 * 3_600_000;
        if self.soak_ms > 30 * day || self.timeout_ms > 30 * day || self.timeout_ms < 1_000 {
            return Err("soak is at most 30 days, and a device gets 1 second to 30 days".into());
        }
        Ok(())
    }
}

/// A plan.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct Plan {
    /// Model.
    pub model: Name,
    /// The release to bring out.
    pub to: ReleaseId,
    /// How.
    pub policy: Policy,
    /// Devices per stage.
    pub stages: Vec<Vec<Name>>,
}

impl Plan {
    /// Spreads `devices` over the policy's stages: every stage takes devices of all cohorts as evenly as it can, in the order
    /// of a hash, so that the first stage is no accident of names. Stages that would hold no device are left out.
    pub fn new(model: Name, to: ReleaseId, policy: Policy, devices: &[(Name, String)]) -> Self {
        let mut order: Vec<(u64, &str, &Name)> =
            devices.iter().map(|(name, cohort)| (spread(name, to), cohort.as_str(), name)).collect();
        order.sort();
        // The i-th of each cohort comes before the (i+1)-th of any.
        let mut seen = std::collections::BTreeMap::<&str, usize>::new();
        let mut ranked: Vec<(usize, u64, &Name)> = Vec::with_capacity(order.len());
        for (hash, cohort, name) in order {
            let place = seen.entry(cohort).or_default();
            ranked.push((*place, hash, name));
            *place += 1;
        }
        ranked.sort();
        let total = ranked.len();
        let mut stages = Vec::new();
        let mut done = 0;
        for percent in &policy.stages {
            let upto = (total * *percent as usize).div_ceil(100).min(total);
            if upto > done {
                let mut stage: Vec<Name> = ranked[done..upto].iter().map(|(_, _, name)| (*name).clone()).collect();
                stage.sort();
                stages.push(stage);
                done = upto;
            }
        }
        Self { model, to, policy, stages }
    }

    /// How many devices it reaches.
    pub fn devices(&self) -> usize {
        self.stages.iter().map(Vec::len).sum()
    }

    /// The hash that a confirmation must carry.
    pub fn hash(&self) -> String {
        let bytes = serde_json::to_vec(self).expect("a plan is plain data");
        Sha256::digest(bytes)[..8].iter().map(|b| format!("{b:02x}")).collect()
    }
}

/// A device's place in the order of one release's rollout.
fn spread(device: &Name, release: ReleaseId) -> u64 {
    let digest = Sha256::new().chain_update(release.0.to_le_bytes()).chain_update(device.as_str()).finalize();
    u64::from_le_bytes(digest[..8].try_into().expect("eight bytes"))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn fleet(n: usize) -> Vec<(Name, String)> {
        let name = |i| Name::new(&format!("d{i:03}")).expect("a name");
        (0..n).map(|i| (name(i), if i % 2 == 0 { "a" } else { "b" }.into())).collect()
    }

    #[test]
    fn every_device_is_in_one_stage_and_cohorts_are_spread() {
        let plan = Plan::new(Name::new("m").expect("a name"), ReleaseId(1), Policy::default(), &fleet(20));
        assert_eq!(plan.stages.iter().map(Vec::len).collect::<Vec<_>>(), [2, 8, 10]);
        let mut all: Vec<_> = plan.stages.concat();
        all.sort();
        assert_eq!(all, fleet(20).into_iter().map(|(n, _)| n).collect::<Vec<_>>());
        let even = |s: &Vec<Name>| s.iter().filter(|n| n.as_str().as_bytes()[3] % 2 == 0).count() * 2 == s.len();
        assert!(plan.stages.iter().all(even), "{:?}", plan.stages);
    }

    #[test]
    fn a_changed_fleet_changes_the_hash() {
        let plan = |n| Plan::new(Name::new("m").expect("a name"), ReleaseId(1), Policy::default(), &fleet(n)).hash();
        assert_eq!(plan(20), plan(20));
        assert_ne!(plan(20), plan(21));
    }

    #[test]
    fn impossible_policies_are_refused_in_words() {
        let bad = [vec![], vec![0, 100], vec![50], vec![60, 50, 100], vec![10, 10, 100]];
        for stages in bad {
            assert!(Policy { stages, ..Policy::default() }.check().is_err());
        }
        assert_eq!(Policy::default().check(), Ok(()));
    }
}
