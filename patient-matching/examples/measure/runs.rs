//! A command, three times.

use crate::print;
use anyhow::{Context, Result, bail};
use std::process::{Command, Stdio};
use std::time::{Duration, Instant};

/// Runs it and prints the medians.
pub fn three(command: &[String]) -> Result<()> {
    let mut seen = [Vec::new(), Vec::new(), Vec::new()];
    for _ in 0..3 {
        let (wall, processor, peak) = once(command)?;
        print(&format!("  {wall:.2} s wall, {processor:.2} s processor, {peak:.0} MB"))?;
        seen.iter_mut().zip([wall, processor, peak]).for_each(|(all, one)| all.push(one));
    }
    let [wall, processor, peak] = seen.map(|mut all| {
        all.sort_by(f64::total_cmp);
        all.get(1).copied().unwrap_or_default()
    });
    let load = std::fs::read_to_string("/proc/loadavg").unwrap_or_default();
    print(&format!(
        "medians: {wall:.2} s wall, {processor:.2} s processor, {peak:.0} MB; load {}",
        load.trim()
    ))
}

/// Wall and processor seconds and peak megabytes; the last two as the kernel last told before the end.
fn once(command: &[String]) -> Result<(f64, f64, f64)> {
    let (program, arguments) = command.split_first().context("no command")?;
    let begin = Instant::now();
    let mut child = Command::new(program).args(arguments).stdout(Stdio::null()).spawn()?;
    let (mut processor, mut peak) = (0.0, 0.0);
    loop {
        if let Some((p, m)) = usage(&child.id().to_string()) {
            (processor, peak) = (p, m);
        }
        if let Some(status) = child.try_wait()? {
            if !status.success() {
                bail!("{program} ended with {status}");
            }
            return Ok((begin.elapsed().as_secs_f64(), processor, peak));
        }
        std::thread::sleep(Duration::from_millis(5));
    }
}

/// Processor seconds and peak megabytes of a process, while it lives.
pub fn usage(process: &str) -> Option<(f64, f64)> {
    let stat = std::fs::read_to_string(format!("/proc/{process}/stat")).ok()?;
    let ticks: Vec<f64> =
        stat.rsplit(')').next()?.split_whitespace().skip(11).take(2).map_while(|t| t.parse().ok()).collect();
    Some((ticks.iter().sum::<f64>() / 100.0, status(process, "VmHWM:")?))
}

/// A line of the status of a process, in megabytes.
pub fn status(process: &str, line: &str) -> Option<f64> {
    let status = std::fs::read_to_string(format!("/proc/{process}/status")).ok()?;
    let value = status.lines().find_map(|l| l.strip_prefix(line))?;
    Some(value.split_whitespace().next()?.parse::<f64>().ok()? / 1024.0)
}
