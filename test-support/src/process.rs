//! A stand-in (or any program that prints `ready URL`) in a process of its own.
//!
//! Guarantees: `spawn` returns only when the program serves; the process is gone when the handle is dropped.

use std::{
    ffi::OsStr,
    io::{self, BufRead, BufReader},
    path::{Path, PathBuf},
    process::{Child, Command, ExitStatus, Stdio},
    sync::mpsc,
    thread,
    time::Duration,
};

use rustix::process::{Pid, Signal, WaitId, WaitIdOptions, kill_process, waitid};

/// How long a program may take until it is ready.
const READY: Duration = Duration::from_secs(60);

/// A running program.
pub struct StandIn {
    /// What it printed after `ready `.
    pub url: String,
    pub child: Child,
}

impl StandIn {
    /// The program `name` in the directory of the running executable or the one above it, where cargo puts binaries.
    pub fn binary(name: &str) -> io::Result<PathBuf> {
        let here = std::env::current_exe()?;
        let file = format!("{name}{}", std::env::consts::EXE_SUFFIX);
        here.ancestors().skip(1).take(2).map(|dir| dir.join(&file)).find(|path| path.is_file()).ok_or_else(
            || {
                let hint =
                    format!("{file} is not beside {}; build it first: cargo build -p {name}", here.display());
                io::Error::new(io::ErrorKind::NotFound, hint)
            },
        )
    }

    /// Starts `program` with these arguments and waits for its line `ready URL`; what it prints after it is dropped, what
    /// it writes to standard error goes to ours.
    pub fn spawn<S: AsRef<OsStr>>(program: &Path, args: impl IntoIterator<Item = S>) -> io::Result<Self> {
        Self::run(Command::new(program).args(args))
    }

    /// As [`StandIn::spawn`], for a command with an environment or a directory of its own.
    pub fn run(command: &mut Command) -> io::Result<Self> {
        let mut child = command.stdin(Stdio::null()).stdout(Stdio::piped()).spawn()?;
        let stdout = child.stdout.take();
        let mut started = Self { url: String::new(), child };
        let (tell, told) = mpsc::channel();
        thread::spawn(move || {
            for line in stdout.into_iter().flat_map(|out| BufReader::new(out).lines()).map_while(Result::ok) {
                if let Some(url) = line.strip_prefix("ready ") {
                    let _nobody_waits_any_more = tell.send(url.trim().to_owned());
                }
            }
        });
        started.url = told.recv_timeout(READY).map_err(|_| {
            let what = format!(
                "{} ended or took more than {READY:?} before it printed `ready URL`",
                program(command)
            );
            io::Error::new(io::ErrorKind::TimedOut, what)
        })?;
        Ok(started)
    }

    /// SIGKILL; returns when the process is gone.
    pub fn kill9(&mut self) -> io::Result<()> {
        self.child.kill()?;
        self.child.wait().map(drop)
    }

    /// SIGTERM; returns when the process has ended by itself.
    pub fn terminate(&mut self) -> io::Result<ExitStatus> {
        self.signal(Signal::TERM)?;
        self.child.wait()
    }

    /// SIGSTOP: it stays, and does nothing; returns when it has stopped.
    pub fn stop(&mut self) -> io::Result<()> {
        self.signal(Signal::STOP)?;
        let stopped = WaitIdOptions::STOPPED | WaitIdOptions::EXITED | WaitIdOptions::NOWAIT;
        Ok(waitid(WaitId::Pid(Pid::from_child(&self.child)), stopped).map(drop)?)
    }

    /// SIGCONT: it goes on.
    pub fn cont(&mut self) -> io::Result<()> {
        self.signal(Signal::CONT)
    }

    /// Not to a process that is gone: its number may be another's by now.
    fn signal(&mut self, signal: Signal) -> io::Result<()> {
        if self.child.try_wait()?.is_some() {
            return Err(io::Error::new(io::ErrorKind::NotFound, "the process has ended"));
        }
        Ok(kill_process(Pid::from_child(&self.child), signal)?)
    }
}

impl Drop for StandIn {
    fn drop(&mut self) {
        let _may_be_gone = self.kill9();
    }
}

fn program(command: &Command) -> String {
    command.get_program().to_string_lossy().into_owned()
}
