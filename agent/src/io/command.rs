//! Rows that a program prints: it is started, read, and started again when it fails.
//!
//! A program that ends well ends the source, like a file. One that fails, floods with an endless line or prints no header is stopped and
//! started again after a while, longer each time; while it prints faster than the model answers, it waits on its pipe. What it says on its
//! standard error goes to the log, as far as a log can bear.

use super::report::{Counters, Trouble};
use super::source::{Player, log_ignored, log_malformed};
use crate::config::Format;
use crate::source::{Chunk, Row, Rows, SourceError, Wanted};
use std::io::{BufRead, BufReader, Read};
use std::os::unix::process::CommandExt;
use std::process::{Child, ExitStatus, Stdio};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::{Duration, Instant};

/// Wait before the first new start; it doubles with each failure.
const RESTART_FIRST: Duration = Duration::from_secs(1);
/// Longest wait.
const RESTART_MAX: Duration = Duration::from_secs(60);
/// A program that ran so long begins with the first wait again.
const HEALTHY: Duration = Duration::from_secs(60);

/// A program that has closed its output gets so long to end.
const LINGER: Duration = Duration::from_secs(2);

/// Lines of a program's standard error that are logged in a [`QUIET`] time, and bytes of each.
const SAID_LINES_MAX: u32 = 20;
const SAID_BYTES_MAX: u64 = 1024;
const QUIET: Duration = Duration::from_secs(60);

/// The program that runs, so that it can be ended while its reader waits for a line. Clones hold the same one.
#[derive(Debug, Clone, Default)]
pub(super) struct Leash(Arc<Mutex<Held>>);

#[derive(Debug, Default)]
struct Held {
    child: Option<Child>,
    cut: bool,
}

impl Leash {
    fn held(&self) -> std::sync::MutexGuard<'_, Held> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn hold(&self, child: Child) {
        let mut held = self.held();
        held.child = Some(child);
        if held.cut {
            drop(held);
            self.end();
        }
    }

    /// How the program ended whose output has. One that closes its output and lives on is ended.
    fn status(&self) -> std::io::Result<ExitStatus> {
        let until = Instant::now() + LINGER;
        loop {
            let mut held = self.held();
            let Some(child) = &mut held.child else { return Err(std::io::Error::other("it was ended")) };
            if let Some(status) = child.try_wait()? {
                drop(held);
                self.end();
                return Ok(status);
            }
            drop(held);
            if Instant::now() > until {
                self.end();
                return Err(std::io::Error::other("it closed its output and lived on"));
            }
            std::thread::sleep(LINGER / 100);
        }
    }

    fn end(&self) {
        if let Some(mut child) = self.held().child.take() {
            // Its group too: what it has started may outlive it and read the same sensor.
            if let Some(group) = i32::try_from(child.id()).ok().and_then(rustix::process::Pid::from_raw) {
                let _ = rustix::process::kill_process_group(group, rustix::process::Signal::KILL);
            }
            let _ = child.kill();
            let _ = child.wait();
        }
    }

    /// Ends what runs; nothing is started any more.
    pub(super) fn cut(&self) {
        self.held().cut = true;
        self.end();
    }
}

pub(super) struct Command {
    leash: Leash,
    words: Vec<String>,
    format: Format,
    wanted: Wanted,
    running: Option<Running>,
    failures: u32,
    started: bool,
    malformed: u64,
    counters: Arc<Counters>,
}

struct Running {
    rows: Rows,
    since: Instant,
}

impl Command {
    pub(super) fn new(leash: Leash, words: &[String], format: Format, wanted: Wanted, counters: Arc<Counters>) -> Self {
        let words = words.to_vec();
        Self { leash, words, format, wanted, running: None, failures: 0, started: false, malformed: 0, counters }
    }

    fn start(&self) -> Result<Running, SourceError> {
        let program = self.words.first().cloned().unwrap_or_default();
        let mut command = std::process::Command::new(&program);
        // With a process group of its own, so that what it starts ends with it.
        let words = command.args(&self.words[1..]);
        words.stdin(Stdio::null()).stdout(Stdio::piped()).stderr(Stdio::piped()).process_group(0);
        let failed = |source| SourceError::Command { program: program.clone(), source };
        let mut child = command.spawn().map_err(failed)?;
        let (out, err) = (child.stdout.take(), child.stderr.take());
        self.leash.hold(child);
        if let Some(err) = err {
            let name = program.clone();
            // It ends with the pipe, which the program's end closes.
            let logger = std::thread::Builder::new().name("driftline-said".into());
            logger.spawn(move || said(BufReader::new(err), |line| tracing::info!("{name}: {line}"))).map_err(failed)?;
        }
        let Some(out) = out else { return Err(failed(std::io::Error::other("no pipe"))) };
        let rows = Rows::open(Box::new(out), self.format, self.wanted.clone(), &program)?;
        log_ignored(&rows, &program);
        Ok(Running { rows, since: Instant::now() })
    }

    /// Says what happened and waits before the next start.
    fn failed(&mut self, what: &str) {
        self.leash.end();
        let healthy = self.running.take().is_some_and(|r| r.since.elapsed() >= HEALTHY);
        self.failures = if healthy { 1 } else { self.failures.saturating_add(1) };
        self.counters.troubles.add(Trouble::ProgramFailed);
        let wait = RESTART_FIRST.saturating_mul(1 << (self.failures - 1).min(6)).min(RESTART_MAX);
        tracing::warn!("{what}; it is started again in {} s", wait.as_secs());
        std::thread::sleep(wait);
    }
}

/// Hands a program's standard error on line by line, so many of them in a while, and then says how many were left out.
fn said(mut from: impl BufRead, mut log: impl FnMut(&str)) {
    let (mut since, mut lines, mut left_out) = (Instant::now(), 0, 0u64);
    let mut line = Vec::new();
    loop {
        line.clear();
        // What is longer is more than one line.
        match from.by_ref().take(SAID_BYTES_MAX).read_until(b'\n', &mut line) {
            Ok(0) | Err(_) => break,
            Ok(_) => {}
        }
        if since.elapsed() >= QUIET {
            told(left_out, &mut log);
            (since, lines, left_out) = (Instant::now(), 0, 0);
        }
        lines += 1;
        if lines <= SAID_LINES_MAX { log(String::from_utf8_lossy(&line).trim_end()) } else { left_out += 1 }
    }
    told(left_out, &mut log);
}

fn told(left_out: u64, log: &mut impl FnMut(&str)) {
    if left_out > 0 {
        log(&format!("{left_out} more lines on its standard error were left out"));
    }
}

fn is_mistake(error: &SourceError) -> bool {
    !matches!(error, SourceError::Read { .. } | SourceError::Empty { .. })
}

impl Player for Command {
    fn fill(&mut self, chunk: &mut Chunk, rows: usize) -> Result<bool, SourceError> {
        while chunk.rows.len() < rows {
            if self.leash.held().cut {
                return Ok(false);
            }
            let Some(running) = &mut self.running else {
                match self.start() {
                    Ok(running) => self.running = Some(running),
                    // What never ran, or prints other columns, is a mistake in the configuration.
                    Err(error) if !self.started && is_mistake(&error) => {
                        self.leash.end();
                        return Err(error);
                    }
                    Err(error) => self.failed(&error.to_string()),
                }
                self.started = true;
                continue;
            };
            match running.rows.next(&mut chunk.values) {
                Ok(Row::Sample(known)) => chunk.rows.push(known),
                Ok(Row::Malformed { line, error }) => {
                    chunk.malformed += 1;
                    self.malformed += 1;
                    log_malformed(self.malformed, line, &error);
                    // Each counts as a row, so that a program of nothing else is not read for ever at once.
                    if chunk.malformed as usize >= rows {
                        return Ok(true);
                    }
                }
                Ok(Row::End) if self.leash.held().cut => return Ok(false),
                Ok(Row::End) => match self.leash.status() {
                    Ok(status) if status.success() => return Ok(false),
                    Ok(status) => self.failed(&format!("the program {} ended ({status})", self.words[0])),
                    Err(error) => self.failed(&format!("the program {} is gone ({error})", self.words[0])),
                },
                Err(error) => self.failed(&error.to_string()),
            }
        }
        Ok(true)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_program_that_floods_its_standard_error_is_cut_short() {
        let mut logged = Vec::new();
        let flood = "no sensor\n".repeat(10_000) + &"x".repeat(5_000);
        said(flood.as_bytes(), |line| logged.push(line.to_owned()));
        assert_eq!(logged.len(), SAID_LINES_MAX as usize + 1);
        assert_eq!(logged[0], "no sensor");
        assert_eq!(logged.last().expect("a line"), "9985 more lines on its standard error were left out");
        logged.clear();
        said("\u{fffd} one\n".as_bytes(), |line| logged.push(line.to_owned()));
        assert_eq!(logged, ["\u{fffd} one"]);
    }
}
