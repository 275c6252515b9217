//! The demo's folder: two releases of a shop, a `current` symlink, the scripts that deploy it, and the configuration.

use std::fs;
use std::io;
use std::os::unix::fs::{PermissionsExt, symlink};
use std::path::{Path, PathBuf};

use super::shop::Behaviour;

/// The configuration that the demo runs with, as operators read it.
const CONFIG: &str = include_str!("../../../config/demo.toml");

/// Deploys a release, and rolls one back: the same thing. The shop's supervisor starts it again.
const SWITCH: &str = r#"#!/bin/sh
# usage: switch.sh RELEASE
# Points `current` at a release and stops the shop; its supervisor starts it again from there.
set -eu
cd "$(dirname "$0")/.."
[ -d "releases/$1" ] || { echo "there is no release $1" >&2; exit 1; }
ln -sfn "releases/$1" current.new
mv -T current.new current
echo "current -> releases/$1"
[ ! -s shop.pid ] || kill "$(cat shop.pid)" 2>/dev/null || true
"#;

const RESTART: &str = r#"#!/bin/sh
# Empties the cache and stops the shop; its supervisor starts it again.
set -eu
cd "$(dirname "$0")/.."
rm -rf cache
echo "cache emptied"
[ ! -s shop.pid ] || kill "$(cat shop.pid)" 2>/dev/null || true
"#;

/// The folder, removed when the demo is done unless it is to be kept.
#[derive(Debug)]
pub struct Stage {
    pub dir: PathBuf,
    keep: bool,
}

impl Stage {
    /// Makes the folder, with `old` as the release that runs.
    pub fn build(keep: bool, old: &Behaviour, new: &Behaviour) -> io::Result<Stage> {
        let name = format!("backstop-demo-{}", std::process::id());
        let dir = std::env::temp_dir().join(name);
        fs::create_dir(&dir)?;
        let stage = Stage { dir, keep };
        for release in [old, new] {
            let folder = stage.dir.join("releases").join(&release.version);
            fs::create_dir_all(&folder)?;
            fs::write(folder.join("shop.toml"), release.to_toml())?;
        }
        fs::create_dir(stage.dir.join("bin"))?;
        for (name, text) in [("switch.sh", SWITCH), ("restart.sh", RESTART)] {
            let script = stage.dir.join("bin").join(name);
            fs::write(&script, text)?;
            fs::set_permissions(&script, fs::Permissions::from_mode(0o755))?;
        }
        fs::write(stage.config(), CONFIG)?;
        symlink(Path::new("releases").join(&old.version), stage.dir.join("current"))?;
        Ok(stage)
    }

    pub fn config(&self) -> PathBuf {
        self.dir.join("demo.toml")
    }

    pub fn socket(&self) -> PathBuf {
        self.dir.join("state/backstop.sock")
    }

    pub fn switch_script(&self) -> PathBuf {
        self.dir.join("bin/switch.sh")
    }

    /// Where the daemon writes its log.
    pub fn log(&self) -> PathBuf {
        self.dir.join("daemon.log")
    }
}

impl Drop for Stage {
    fn drop(&mut self) {
        if !self.keep
            && let Err(error) = fs::remove_dir_all(&self.dir)
        {
            eprintln!("the demo's folder {} stays behind: {error}", self.dir.display());
        }
    }
}
