//! Rules of the house that a machine can check.

use std::fs;
use std::path::{Path, PathBuf};

/// Lines of a source file before its tests.
const LINES_MAX: usize = 500;

fn root() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).parent().expect("the workspace").to_owned()
}

fn sources(below: &str) -> Vec<(String, String)> {
    let mut found = Vec::new();
    let mut folders = vec![root().join(below)];
    while let Some(folder) = folders.pop() {
        for entry in fs::read_dir(&folder).unwrap_or_else(|e| panic!("{}: {e}", folder.display())) {
            let path = entry.expect("readable").path();
            if path.is_dir() {
                folders.push(path);
            } else if path.extension().is_some_and(|e| e == "rs") {
                let name = path.strip_prefix(root()).expect("below the root").display().to_string();
                found.push((name, fs::read_to_string(&path).expect("readable")));
            }
        }
    }
    found.sort();
    assert!(!found.is_empty(), "no sources below {below}");
    found
}

fn all() -> Vec<(String, String)> {
    ["shared/src", "agent/src", "collector/src", "tests/src", "tests/it", "tests/benches"]
        .iter()
        .flat_map(|d| sources(d))
        .collect()
}

fn before_tests(text: &str) -> impl Iterator<Item = (usize, &str)> {
    text.lines().take_while(|l| !l.starts_with("#[cfg(test)]")).enumerate().map(|(i, l)| (i + 1, l))
}

#[test]
fn every_file_says_what_it_is() {
    let silent: Vec<_> = all().into_iter().filter(|(_, text)| !text.starts_with("//!")).map(|(name, _)| name).collect();
    assert!(silent.is_empty(), "no //! header: {silent:?}");
}

#[test]
fn files_stay_short() {
    let long: Vec<_> = all()
        .into_iter()
        .map(|(name, text)| (name, before_tests(&text).count()))
        .filter(|(_, n)| *n > LINES_MAX)
        .collect();
    assert!(long.is_empty(), "more than {LINES_MAX} lines before the tests: {long:?}");
}

#[test]
fn no_unwrap_sleep_or_ignore() {
    let words = [".unwrap()", "thread::sleep", "#[ignore", "todo!(", "unimplemented!("];
    let mut found = Vec::new();
    // What reads files, folders and programs has a thread of its own to sleep on, a recording has nothing else to do, and a child is looked after.
    let may = |name: &str| {
        name.starts_with("tests/it/")
            || ["source", "command", "images", "record", "trial"]
                .iter()
                .any(|file| name == format!("agent/src/io/{file}.rs"))
    };
    for (name, text) in all().into_iter().filter(|(name, _)| !may(name)) {
        for (line, content) in
            before_tests(&text).filter(|(_, l)| words.iter().any(|w| l.contains(w)) && !l.trim().starts_with("//"))
        {
            found.push(format!("{name}:{line}: {}", content.trim()));
        }
    }
    assert!(found.is_empty(), "{}", found.join("\n"));
}

#[test]
fn shared_needs_neither_std_nor_an_allocator() {
    for (name, text) in sources("shared/src") {
        for (line, content) in before_tests(&text) {
            let bad = ["std::", "extern crate alloc", "alloc::"]
                .iter()
                .any(|w| content.contains(w) && !content.trim_start().starts_with("//"));
            assert!(!bad, "{name}:{line}: {content}");
        }
    }
    assert!(fs::read_to_string(root().join("shared/src/lib.rs")).expect("readable").contains("#![no_std]"));
}

#[test]
fn the_collectors_library_does_not_know_the_agent() {
    for (name, text) in sources("collector/src") {
        let may = name == "collector/src/main.rs" || name.starts_with("collector/src/cli/");
        assert!(may || !text.contains("driftline_agent"), "{name} uses the agent");
    }
}

#[test]
fn only_io_touches_the_world() {
    let words = ["Instant::now", "SystemTime::now", "std::fs::", "TcpListener", "TcpStream", "getrandom::"];
    let mut found = Vec::new();
    for (name, text) in ["shared/src", "agent/src", "collector/src"].iter().flat_map(|d| sources(d)) {
        let may = name.contains("/io/")
            || name.contains("/cli/")
            || name.ends_with("/main.rs")
            || name.ends_with("src/bundle.rs");
        for (line, content) in before_tests(&text).filter(|(_, l)| !may && words.iter().any(|w| l.contains(w))) {
            found.push(format!("{name}:{line}: {}", content.trim()));
        }
    }
    assert!(found.is_empty(), "{}", found.join("\n"));
}
