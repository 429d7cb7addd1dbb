//! A new release is loaded and checked in a process of its own first, with limits of memory, processor time and time: a model made to
//! exhaust them, or to crash what runs it, ends that process and not the agent.

use super::{start, trim};
use crate::bundle::Bundle;
use driftline_shared::list::Text;
use rustix::process::{Resource, Rlimit, setrlimit};
use std::io::Read;
use std::os::unix::process::ExitStatusExt;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};
use std::time::{Duration, Instant};

/// Most address space of a trial: the program itself, and room for a model. Where the service may have less, three quarters of that.
const MEMORY_BYTES_MAX: u64 = 768 << 20;
/// Less than this no model gets by.
const MEMORY_BYTES_MIN: u64 = 96 << 20;
/// Processor time of a trial in seconds.
const CPU_S_MAX: u64 = 30;
/// Time of a trial.
const TIME_MAX: Duration = Duration::from_secs(60);
/// Pause between looks at the child.
const LOOK: Duration = Duration::from_millis(20);
/// The subcommand of the agent that is the child.
pub const SUBCOMMAND: &str = "try-release";

/// How trials are made.
#[derive(Debug, Clone, Default)]
pub struct Trial {
    /// The agent's own program; without one, as in the demo with its twenty agents in one process, nothing is tried beforehand.
    pub program: Option<PathBuf>,
}

impl Trial {
    /// Models have been loaded: an agent with a process of its own needs no more of its code than answering takes.
    pub(crate) fn loaded(&self) {
        if self.program.is_some() {
            trim::code();
        }
    }

    /// Tries the bundle in a directory; the sentence says why it must not be loaded.
    pub(crate) fn of(&self, dir: &Path) -> Result<(), String> {
        self.within(dir, TIME_MAX)
    }

    fn within(&self, dir: &Path, time: Duration) -> Result<(), String> {
        let Some(program) = &self.program else { return Ok(()) };
        let mut command = Command::new(program);
        command.arg(SUBCOMMAND).arg("--bundle").arg(dir);
        command.env_clear().stdin(Stdio::null()).stdout(Stdio::null()).stderr(Stdio::piped());
        let cannot = |e: std::io::Error| format!("the model could not be tried beforehand ({e})");
        let mut child = command.spawn().map_err(cannot)?;
        let until = Instant::now() + time;
        let status = loop {
            match child.try_wait().map_err(cannot)? {
                Some(status) => break status,
                None if Instant::now() >= until => {
                    let _ = child.kill();
                    let _ = child.wait();
                    return Err(format!("the model took longer than {} s to load and answer", time.as_secs()));
                }
                None => std::thread::sleep(LOOK),
            }
        };
        if status.success() {
            return Ok(());
        }
        let mut said = String::new();
        let _ = child.stderr.take().map(|pipe| pipe.take(4096).read_to_string(&mut said));
        let said = said.lines().last().unwrap_or_default().trim();
        Err(match status.signal() {
            Some(_) => format!(
                "the model broke off in its trial ({status}): it is damaged, or needs more than {} MiB or {CPU_S_MAX} s of the processor",
                memory() >> 20
            ),
            None => Text::<300>::cut(said.strip_prefix("driftline-agent: ").unwrap_or(said)).to_string(),
        })
    }
}

/// How much memory a trial may have.
fn memory() -> u64 {
    let own = std::fs::read_to_string("/proc/self/cgroup").unwrap_or_default();
    let group = own.lines().find_map(|line| line.strip_prefix("0::/")).unwrap_or_default();
    let group = Path::new("/sys/fs/cgroup").join(group);
    // What stands above a group limits it too.
    let limits = group.ancestors().take_while(|group| group.starts_with("/sys/fs/cgroup"));
    let limits = limits.filter_map(|group| std::fs::read_to_string(group.join("memory.max")).ok()?.trim().parse().ok());
    limits.min().map_or(MEMORY_BYTES_MAX, of_service)
}

/// The share of the service's memory that a trial may have.
fn of_service(bytes: u64) -> u64 {
    (bytes / 4 * 3).clamp(MEMORY_BYTES_MIN, MEMORY_BYTES_MAX)
}

/// The child: takes its limits upon itself, then loads the bundle and checks its golden rows.
pub fn try_release(dir: &Path) -> anyhow::Result<()> {
    let limit = |resource, max| setrlimit(resource, Rlimit { current: Some(max), maximum: Some(max) });
    limit(Resource::As, memory())?;
    // Should the service's memory run out all the same, the child goes first.
    let _ = std::fs::write("/proc/self/oom_score_adj", "1000");
    limit(Resource::Cpu, CPU_S_MAX)?;
    limit(Resource::Core, 0)?;
    start::load(&Bundle::read(dir)?)?;
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_trial_that_takes_for_ever_is_ended() {
        use std::os::unix::fs::PermissionsExt;
        let dir = tempfile::tempdir().expect("a folder");
        let (program, pid) = (dir.path().join("hangs"), dir.path().join("pid"));
        std::fs::write(&program, format!("#!/bin/sh\necho $$ > {}\nexec sleep 600\n", pid.display()))
            .expect("a program");
        std::fs::set_permissions(&program, std::fs::Permissions::from_mode(0o755)).expect("its mode");
        let trial = Trial { program: Some(program) };
        let why = trial.within(dir.path(), Duration::from_secs(1)).expect_err("it hangs");
        assert_eq!(why, "the model took longer than 1 s to load and answer");
        let pid = std::fs::read_to_string(pid).expect("it was started");
        assert!(!Path::new("/proc").join(pid.trim()).exists(), "it was ended");
    }

    #[test]
    fn a_trial_leaves_memory_to_the_model_that_answers() {
        assert_eq!([64 << 20, 256 << 20, 4 << 30].map(of_service), [96 << 20, 192 << 20, 768 << 20]);
    }
}
