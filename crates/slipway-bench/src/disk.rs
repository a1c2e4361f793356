//! The disk's own price of durability: 4 KiB appended and fdatasynced, as a log commit does it.

use std::fs::OpenOptions;
use std::io::Write as _;
use std::path::Path;
use std::time::{Duration, Instant};

use anyhow::{Context as _, Result};

/// Times of single `fdatasync` calls, in order.
pub(crate) fn measure(dir: &Path) -> Result<Vec<Duration>> {
    let path = dir.join("fdatasync");
    let mut file = OpenOptions::new()
        .create(true)
        .append(true)
        .open(&path)
        .with_context(|| format!("opening {}", path.display()))?;
    let block = [7_u8; 4096];
    let mut times = Vec::with_capacity(1_000);
    for _ in 0..1_000 {
        file.write_all(&block)?;
        let start = Instant::now();
        file.sync_data()?;
        times.push(start.elapsed());
    }
    std::fs::remove_file(&path)?;
    times.sort_unstable();
    Ok(times)
}

/// Waits until what was written so far is on the disk: what follows is measured beside nobody's
/// writing back.
pub(crate) fn settle() {
    rustix::fs::sync();
}
