//! A real Prometheus, as Debian packages it, on a port of this machine.

use std::fs;
use std::net::{SocketAddr, TcpListener};
use std::path::Path;
use std::process::{Child, Command, Stdio};

use rustix::process::{Pid, Signal, kill_process};

use crate::site::until;

#[derive(Debug)]
pub struct Prometheus {
    child: Option<Child>,
    pub address: SocketAddr,
}

impl Prometheus {
    /// Scrapes the targets every 200 ms, and answers when this returns.
    pub async fn start(folder: &Path, targets: &[SocketAddr]) -> Prometheus {
        backstop::platform::http::install_crypto();
        // Nobody else is given this port so soon: they are handed out in turn.
        let address = TcpListener::bind("127.0.0.1:0").unwrap().local_addr().unwrap();
        let mut prometheus = Prometheus { child: None, address };
        let list: Vec<String> = targets.iter().map(|target| format!("'{target}'")).collect();
        let scrape = format!(
            "global: {{ scrape_interval: 200ms, scrape_timeout: 200ms }}\nscrape_configs:\n- job_name: shop\n  static_configs:\n  \
             - targets: [{}]\n",
            list.join(", ")
        );
        fs::write(folder.join("prometheus.yml"), scrape).unwrap();
        prometheus.go_on(folder).await;
        prometheus
    }

    /// With what it stored before.
    pub async fn go_on(&mut self, folder: &Path) {
        let log = fs::File::options().create(true).append(true).open(folder.join("prometheus.log")).unwrap();
        let child = Command::new("prometheus")
            .arg(format!("--config.file={}", folder.join("prometheus.yml").display()))
            .arg(format!("--storage.tsdb.path={}", folder.join("tsdb").display()))
            .arg(format!("--web.listen-address={}", self.address))
            .stdin(Stdio::null())
            .stdout(Stdio::null())
            .stderr(log)
            .spawn()
            .expect("prometheus is installed: apt-get install prometheus");
        self.child = Some(child);
        let ready = format!("http://{}/-/ready", self.address);
        until("Prometheus to be ready", async || {
            let answer = reqwest::get(&ready).await.ok()?;
            answer.status().is_success().then_some(())
        })
        .await;
    }

    pub async fn stop(&mut self) {
        let mut child = self.child.take().expect("it runs");
        kill_process(Pid::from_child(&child), Signal::TERM).unwrap();
        until("Prometheus's end", async || child.try_wait().unwrap()).await;
    }
}

impl Drop for Prometheus {
    fn drop(&mut self) {
        if let Some(mut child) = self.child.take() {
            drop(child.kill());
            drop(child.wait());
        }
    }
}
