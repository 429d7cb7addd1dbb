//! Gives the system back the pages of code that only loading a model needed: tract's parser and optimiser are most of the program, and run
//! once per release.
//!
//! The one unsafe call of the agent (docs/decisions/0019-pages-of-code.md).

#![allow(unsafe_code, reason = "madvise has no safe form; reviewed in docs/decisions/0019-pages-of-code.md")]

use rustix::mm::{Advice, madvise};
use std::path::Path;

/// Lets go of the program's own code. What runs on reads its pages again; a system that does not know the advice keeps them all.
pub(crate) fn code() {
    let (Ok(maps), Ok(program)) = (std::fs::read_to_string("/proc/self/maps"), std::env::current_exe()) else { return };
    for (start, len) in ranges(&maps, &program) {
        // SAFETY: the range is a mapping of this process, as /proc says, and stays one: nothing unmaps the program's own code.
        // MADV_PAGEOUT changes no content; pages that are needed again are read again (madvise(2)).
        let advised = unsafe { madvise(std::ptr::with_exposed_provenance_mut(start), len, Advice::LinuxPageOut) };
        if let Err(error) = advised {
            tracing::debug!("pages of code stay in memory: {error}");
        }
    }
}

/// Start and length of the mappings of a file that hold code nobody may write to.
fn ranges(maps: &str, program: &Path) -> Vec<(usize, usize)> {
    let range = |line: &str| {
        let mut words = line.split_ascii_whitespace();
        let (span, kind) = (words.next()?, words.next()?);
        // Offset, device, inode, and the path, which may have spaces.
        let path = line.splitn(6, ' ').last()?.trim_start();
        let (start, end) = span.split_once('-')?;
        let (start, end) = (usize::from_str_radix(start, 16).ok()?, usize::from_str_radix(end, 16).ok()?);
        let ours = kind == "r-xp" && Path::new(path) == program;
        (ours && end > start).then(|| (start, end - start))
    };
    maps.lines().filter_map(range).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_the_programs_own_code_is_found() {
        let maps = "\
5581a0000000-5581a0100000 r--p 00000000 fe:00 42                         /opt/a b/agent
5581a0100000-5581a0c00000 r-xp 00100000 fe:00 42                         /opt/a b/agent
5581a0c00000-5581a0d00000 r--p 00c00000 fe:00 42                         /opt/a b/agent
5581a0d00000-5581a0e00000 rw-p 00000000 00:00 0                          [heap]
7f0000000000-7f0000100000 r-xp 00000000 fe:00 7                          /lib/libc.so.6
nonsense
ffffffffff600000-ffffffffff601000 --xp 00000000 00:00 0                  [vsyscall]
";
        assert_eq!(ranges(maps, Path::new("/opt/a b/agent")), [(0x5581_a010_0000, 0xb0_0000)]);
    }
}
