//! What an agent has put on its disk reaches the collector, however often the agent is killed before.

use crate::fleet::{
    Collector, Process, agent, agent_config, free_port, mosquitto, must, pump_bundle, status, wait_for,
};
use driftline_agent::spool::record;
use std::collections::BTreeMap;
use std::fs;
use std::path::{Path, PathBuf};
use std::process::Command;
use std::time::Duration;

/// Windows by stream and number that stand in the spool's segments.
fn on_disk(spool: &Path) -> BTreeMap<(u64, u64), u16> {
    let mut found = BTreeMap::new();
    for entry in fs::read_dir(spool).into_iter().flatten().flatten() {
        if let Ok((stream, segment)) = record::read(&fs::read(entry.path()).unwrap_or_default()) {
            found.extend(segment.records.into_iter().map(|r| ((stream.0, r.lo), r.windows)));
        }
    }
    found
}

/// How often the agent is killed; the long campaign has a thousand and more.
fn kills() -> u32 {
    std::env::var("DRIFTLINE_KILLS").ok().and_then(|n| n.parse().ok()).unwrap_or(50)
}

#[test]
fn a_killed_agent_loses_nothing_that_was_on_its_disk() {
    let dir = tempfile::tempdir().expect("a folder");
    let dir = dir.path();
    let bundle = pump_bundle(dir, 200);
    let port = free_port();
    let source = "kind = \"pumps\"\nseed = 1\nrate_hz = 200.0\n[spool]\ncommit_ms = 100\nframes_max = 100000";
    let config = agent_config(dir, "pump-1", port, Some(&bundle), source);
    let spool = dir.join("pump-1").join("spool");

    // Nobody listens; every life adds windows and is ended in the middle of something.
    let mut durable = BTreeMap::new();
    for life in 0..kills() {
        let before = durable.len();
        let process = agent(dir, "pump-1", &config);
        wait_for("another frame on the disk", || (on_disk(&spool).len() > before).then_some(()));
        std::thread::sleep(Duration::from_millis(u64::from(life * 37 % 150)));
        must(Command::new("kill").args(["-9", &process.id().to_string()]));
        drop(process);
        let now = on_disk(&spool);
        for record in &durable {
            assert_eq!(now.get(record.0), Some(record.1), "it was there before");
        }
        durable = now;
    }
    let windows: u64 = durable.values().map(|&n| u64::from(n)).sum();

    // A torn end, a file of somebody else, and one of a later version stop nothing.
    let segment = fs::read_dir(&spool)
        .expect("the spool")
        .flatten()
        .map(|e| e.path())
        .find(|p| p.extension().is_some_and(|e| e == "seg"));
    let segment = segment.expect("a segment");
    let mut torn = fs::read(&segment).expect("its bytes");
    let whole = torn.clone();
    torn.extend(&whole[record::HEAD_BYTES..record::HEAD_BYTES + 50]);
    fs::write(&segment, torn).expect("a torn end");
    fs::write(spool.join("readme"), "not yours").expect("a file");
    let mut newer = whole;
    newer[7] = b'7';
    fs::write(spool.join("00000000000000aa-000000.seg"), newer).expect("a file");

    let collector = Collector::start_with(dir, None, "", "");
    must(&mut collector.cli(&["models", "add", bundle.to_str().expect("a path")]));
    let config = fs::read_to_string(&config)
        .expect("the config")
        .replace(&format!("port = {port}"), &format!("port = {}", collector.mqtt_port));
    let path = dir.join("pump-1.toml");
    fs::write(&path, config).expect("the config");
    let process: Process = agent(dir, "pump-1", &path);
    wait_for("everything of the earlier lives", || {
        let left = on_disk(&spool).into_keys().filter(|key| durable.contains_key(key)).count();
        let said = process.said();
        assert!(!said.contains("panicked"), "{said}");
        (left == 0).then_some(())
    });
    process.terminate();
    let health = collector.get("health");
    assert!(health["windows"].as_u64() >= Some(windows), "{health} for {windows}");
    // What waited long is stored all the same; only a verdict comes too late for it.
    let other = health["refused"].as_object().map(|refused| refused.keys().filter(|why| *why != "too_late").count());
    assert_eq!(other, Some(0), "{health}");
    println!("{} kills: {windows} windows on the disk, {} arrived", kills(), health["windows"]);
    let said = process.said();
    assert!(said.contains("windows of earlier starts wait in the spool"), "{said}");
    assert!(said.contains("later version") && said.contains("readme is no part of this spool"), "{said}");
}

#[test]
fn a_killed_agent_that_is_connected_loses_and_doubles_nothing() {
    let dir = tempfile::tempdir().expect("a folder");
    let dir = dir.path();
    let bundle = pump_bundle(dir, 200);
    let collector = Collector::start_with(dir, None, "", "");
    must(&mut collector.cli(&["models", "add", bundle.to_str().expect("a path")]));
    let source = "kind = \"pumps\"\nseed = 1\nrate_hz = 200.0\n[spool]\ncommit_ms = 100";
    let config = agent_config(dir, "pump-1", collector.mqtt_port, Some(&bundle), source);
    let closed = || status(&config).and_then(|s| s["windows"]["closed"].as_u64()).unwrap_or(0);
    // What each life's own account says, some time before it is killed: long enough for the disk, too short for much more.
    let (mut counted, mut may_be) = (0, 0);
    for life in 0..kills().div_ceil(2) {
        let process = agent(dir, "pump-1", &config);
        let some = wait_for("windows", || Some(closed()).filter(|&windows| windows > u64::from(life % 5)));
        std::thread::sleep(Duration::from_millis(400));
        counted += some;
        std::thread::sleep(Duration::from_millis(u64::from(life * 37 % 150)));
        // In the middle of something: a window that closes now may or may not get through.
        may_be += closed() + 2;
        must(Command::new("kill").args(["-9", &process.id().to_string()]));
    }
    let process = agent(dir, "pump-1", &config);
    wait_for("everything of the earlier lives", || {
        let said = status(&config)?;
        (said["connected"] == true && said["windows"]["acknowledged"].as_u64() > Some(3)).then_some(())
    });
    let last = wait_for("the last window", || {
        process.terminate();
        let said = process.said();
        let (_, rest) = said.split_once(" windows closed: ")?;
        rest.split(' ').next()?.parse::<u64>().ok()
    });
    let health = collector.get("health");
    let arrived = health["windows"].as_u64().expect("a number");
    println!(
        "{} kills: {counted} windows counted, {arrived} arrived, {may_be} closed; the last life had {last}",
        kills().div_ceil(2)
    );
    assert!(arrived >= counted && arrived <= may_be + last, "{counted} {arrived} {may_be} {last}: {health}");
    assert_eq!(health["frames_lost"], 0);
}

/// A small disk of its own: a file with holes that is mounted, on memory that can be used up. Gone with the test.
struct SmallDisk {
    memory: PathBuf,
    at: PathBuf,
}

impl SmallDisk {
    /// `None` where nothing may be mounted: the simulator and the journal's tests fill disks in memory for everybody.
    fn mount(dir: &Path) -> Option<Self> {
        let disk = Self { memory: dir.join("memory"), at: dir.join("disk") };
        fs::create_dir(&disk.at).and_then(|()| fs::create_dir(&disk.memory)).expect("folders");
        let mounted = Command::new("mount").args(["-t", "tmpfs", "-o", "size=10m", "tmpfs"]).arg(&disk.memory).status();
        if !mounted.is_ok_and(|status| status.success()) {
            println!("not tried: this user may not mount");
            return None;
        }
        let image = disk.memory.join("disk.img");
        fs::File::create(&image).and_then(|file| file.set_len(8 << 20)).expect("an image");
        must(Command::new("mkfs.ext4").args(["-q", "-m", "0", "-E", "lazy_itable_init=1"]).arg(&image));
        must(Command::new("mount").args(["-o", "loop,discard"]).arg(&image).arg(&disk.at));
        Some(disk)
    }

    /// As the kernel does it after an error: nothing can be written any more.
    fn read_only(&self) {
        must(Command::new("mount").args(["-o", "remount,abort"]).arg(&self.at));
    }

    /// The medium takes nothing new any more.
    fn fail(&self) {
        must(Command::new("fstrim").arg(&self.at));
        let mut file = fs::File::create(self.memory.join("used")).expect("a file");
        for size in [65_536, 4096, 1] {
            while std::io::Write::write_all(&mut file, &vec![0; size]).is_ok() {}
        }
    }
}

impl Drop for SmallDisk {
    fn drop(&mut self) {
        for mount in [&self.at, &self.memory] {
            let _ = Command::new("umount").arg("-l").arg(mount).status();
        }
    }
}

#[test]
fn the_last_room_of_a_disk_is_left_to_others() {
    let dir = tempfile::tempdir().expect("a folder");
    let bundle = pump_bundle(dir.path(), 200);
    // No disk has a tebibyte too many.
    let source = "kind = \"pumps\"\nseed = 1\nrate_hz = 200.0\n[spool]\ncommit_ms = 100\nfree_mb = 1048576";
    let config = agent_config(dir.path(), "pump-1", free_port(), Some(&bundle), source);
    let mut process = agent(dir.path(), "pump-1", &config);
    let told = process.after("cannot be written (");
    assert!(told.contains(" MiB are free, and spool.free_mb leaves 1048576 MiB to others)"), "{told}");
    assert!(on_disk(&dir.path().join("pump-1/spool")).is_empty());
}

#[test]
fn a_full_disk_and_one_that_becomes_read_only_stop_nothing() {
    full_and_then(SmallDisk::read_only, &["Read-only file system"]);
}

#[test]
fn a_full_disk_and_one_that_fails_stop_nothing() {
    // By which block the medium refuses first: of a file, or of the file system's journal.
    full_and_then(SmallDisk::fail, &["No space left on device", "Input/output error"]);
}

/// An agent on a small disk that fills, is emptied, and then breaks; what it took while the disk was full arrives.
fn full_and_then(breaks: impl Fn(&SmallDisk), errors: &[&str]) {
    let dir = tempfile::tempdir().expect("a folder");
    let dir = dir.path();
    let Some(disk) = SmallDisk::mount(dir) else { return };
    let bundle = pump_bundle(dir, 200);
    // A broker without a collector: what is sent is not acknowledged, and has to be kept.
    let (_mosquitto, port) = mosquitto(dir);
    let source =
        "kind = \"pumps\"\nseed = 1\nrate_hz = 200.0\n[spool]\ncommit_ms = 100\nframes_max = 100000\nfree_mb = 0";
    let config = agent_config(dir, "pump-1", port, Some(&bundle), source);
    let text = fs::read_to_string(&config).expect("the file");
    let data = dir.join("pump-1");
    fs::write(&config, text.replace(&format!("{data:?}"), &format!("{:?}", disk.at.join("pump-1")))).expect("a file");
    let mut process = agent(dir, "pump-1", &config);
    let spool = disk.at.join("pump-1/spool");
    wait_for("frames on the disk", || (on_disk(&spool).len() > 2).then_some(()));
    let samples = || status(&config).expect("a status")["samples"]["in_windows"].as_u64().expect("a number");
    let goes_on = || {
        let before = samples();
        wait_for("more samples", || (samples() > before + 50).then_some(()));
    };

    // Full: every byte that is left.
    let filler = disk.at.join("filler");
    let mut file = fs::File::create(&filler).expect("a file");
    for size in [65_536, 4096, 512, 1] {
        while std::io::Write::write_all(&mut file, &vec![0; size]).is_ok() {}
    }
    let told = process.after("cannot be written (No space left on device");
    assert!(told.contains("windows are kept in memory until it can; make room or check the disk"), "{told}");
    goes_on();
    drop(file);
    fs::remove_file(&filler).expect("the filler");
    process.after(" is written again");

    // Everything arrives, whatever the disk did.
    let collector = Collector::start(dir, Some(port), "");
    must(&mut collector.cli(&["models", "add", bundle.to_str().expect("a path")]));
    wait_for("all windows with the collector", || {
        let windows = &status(&config).expect("a status")["windows"];
        let [closed, acknowledged] = ["closed", "acknowledged"].map(|key| windows[key].as_u64().expect("a number"));
        assert_eq!((&windows["merged"], &windows["evicted"]), (&0.into(), &0.into()));
        (closed > 20 && acknowledged + 20 > closed).then_some(())
    });
    assert_eq!(collector.get("health")["frames_lost"], 0);

    // Without a collector windows have to be written again.
    drop(collector);
    breaks(&disk);
    let refused = wait_for("the disk to refuse again", || {
        process
            .said()
            .split(" is written again")
            .nth(1)?
            .split_once("cannot be written (")
            .map(|(_, told)| told.to_owned())
    });
    assert!(errors.iter().any(|error| refused.starts_with(error)), "{refused}");
    goes_on();
    let before = process.said().len();
    goes_on();
    assert!(process.said().len() - before < 4096, "it does not say so again and again");
    must(Command::new("kill").args(["-9", &process.id().to_string()]));
}
