//! A private PostgreSQL on loopback, gone when it is dropped. Where PostgreSQL is not installed, starting it is an error.

use std::net::TcpListener;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};

use anyhow::{Context, Result, ensure};

/// A running cluster.
pub struct Cluster {
    /// Where connectors find it.
    pub url: String,
    programs: PathBuf,
    data: PathBuf,
    as_postgres: bool,
}

impl Cluster {
    /// Starts one below `folder`. Its kernel does not fail here, so it runs without fsync.
    pub fn start(folder: &Path) -> Result<Self> {
        let programs = programs().context(
            "PostgreSQL is not installed: no initdb below /usr/lib/postgresql; install it, or choose --store sqlite",
        )?;
        let home = folder.join("postgres");
        std::fs::create_dir_all(&home)?;
        let as_postgres = output("id", &["-u"])?.trim() == "0";
        if as_postgres {
            output("chmod", &["755", &folder.display().to_string()])?;
            output("chown", &["postgres", &home.display().to_string()])?;
        }
        let port = TcpListener::bind("127.0.0.1:0")?.local_addr()?.port();
        let url = format!("postgres://postgres@127.0.0.1:{port}/postgres");
        let cluster = Self { url, programs, data: home.join("data"), as_postgres };
        cluster.run("initdb", &["-A", "trust", "-U", "postgres", "--no-sync"])?;
        let options = format!("-p {port} -k {} -c listen_addresses=127.0.0.1 -c fsync=off", home.display());
        let log = home.join("log").display().to_string();
        cluster.run("pg_ctl", &["-l", &log, "-w", "-o", &options, "start"])?;
        Ok(cluster)
    }

    fn run(&self, program: &str, args: &[&str]) -> Result<()> {
        let path = self.programs.join(program);
        let mut command = if self.as_postgres {
            let mut command = Command::new("runuser");
            command.args(["-u", "postgres", "--"]).arg(path);
            command
        } else {
            Command::new(path)
        };
        command
            .arg("-D")
            .arg(&self.data)
            .args(args)
            .current_dir("/")
            .stdout(Stdio::null())
            .stdin(Stdio::null());
        ensure!(command.status()?.success(), "{program} of the private PostgreSQL failed");
        Ok(())
    }
}

impl Drop for Cluster {
    fn drop(&mut self) {
        let _ended_or_never_begun = self.run("pg_ctl", &["-m", "immediate", "-w", "stop"]);
    }
}

/// The folder of the newest installed programs.
fn programs() -> Option<PathBuf> {
    let versions =
        std::fs::read_dir("/usr/lib/postgresql").ok()?.flatten().map(|version| version.path().join("bin"));
    versions.filter(|bin| bin.join("initdb").is_file()).max()
}

fn output(program: &str, args: &[&str]) -> Result<String> {
    let output = Command::new(program).args(args).output()?;
    ensure!(output.status.success(), "{program} {} failed", args.join(" "));
    Ok(String::from_utf8_lossy(&output.stdout).into_owned())
}
