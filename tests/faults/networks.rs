//! Cut off: nothing of the outside answers, and nothing is rolled back for it.
//!
//! Two network namespaces with a cable between them: one with the service, a reference and the receiver, one with the
//! daemon. Both end with the test.

use std::net::{IpAddr, Ipv4Addr};
use std::process::{Child, Command, Stdio};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};

use super::places::{has, inside, sh};
use super::process::Daemon;
use super::site::{File, Receiver, Site, until};
use super::wire::{Refusing, Reply};

/// Where the service is; the daemon is at `.2`.
const THERE: IpAddr = IpAddr::V4(Ipv4Addr::new(10, 87, 0, 1));

/// The daemon's own network; as long as this process lives.
struct Room(Child);

impl Room {
    /// Only inside of a network namespace of the test's own.
    fn with_a_cable() -> Room {
        let keeper = Command::new("unshare").args(["--net", "sleep", "600"]).stdin(Stdio::null()).spawn().unwrap();
        let room = Room(keeper);
        let pid = room.0.id();
        // Until then it is in the test's.
        let own = |who: &str| std::fs::read_link(format!("/proc/{who}/ns/net")).unwrap();
        while own(&pid.to_string()) == own("self") {
            std::thread::yield_now();
        }
        sh("ip link set lo up");
        sh(&format!("ip link add there type veth peer name here netns {pid}"));
        sh("ip addr add 10.87.0.1/24 dev there && ip link set there up");
        room.ip("link set lo up");
        room.ip("addr add 10.87.0.2/24 dev here");
        room.ip("link set here up");
        room
    }

    fn ip(&self, what: &str) {
        sh(&format!("nsenter --net --target {} ip {what}", self.0.id()));
    }

    fn daemon(&self, site: &Site) -> Daemon {
        let pid = self.0.id().to_string();
        Daemon::spawn_under(site, &["nsenter", "--net", "--target", &pid], &[])
    }
}

impl Drop for Room {
    fn drop(&mut self) {
        // The kernel ends a network, and the cable with it, some time after its last process has; the next room's cable
        // has the same name.
        drop(Command::new("ip").args(["link", "del", "there"]).status());
        drop(self.0.kill());
        drop(self.0.wait());
    }
}

/// Pulls the cable out on one side or the other, and in again.
#[derive(Clone, Copy, Debug)]
enum Cut {
    /// At the daemon's: the kernel has no way to send anything.
    Here,
    /// At the far end: what is sent is never answered.
    There,
}

impl Cut {
    fn down(self, room: &Room) {
        match self {
            // The address goes, as when a lease is lost.
            Cut::Here => room.ip("addr del 10.87.0.2/24 dev here"),
            Cut::There => sh("ip link set there down"),
        }
    }

    fn up(self, room: &Room) {
        match self {
            Cut::Here => room.ip("addr add 10.87.0.2/24 dev here"),
            Cut::There => sh("ip link set there up"),
        }
    }
}

#[tokio::test(flavor = "multi_thread")]
#[ignore = "runs inside of a_daemon_that_is_cut_off_rolls_nothing_back_says_why_and_goes_on_when_the_way_is_open"]
async fn inside_a_network_that_is_cut() {
    for (cut, why) in [(Cut::There, "backstop itself is cut off"), (Cut::Here, "could not be sent from here")] {
        let room = Room::with_a_cable();
        let site = Site::at(THERE);
        let (receiver, tables) = Receiver::at(THERE);
        let asked = Arc::new(AtomicBool::new(false));
        let heard = Arc::clone(&asked);
        let reference = Refusing::at(THERE).open(move |_| {
            heard.store(true, Ordering::Relaxed);
            Reply::json(200, &serde_json::json!({}))
        });
        let app = site.app.address();
        let probe = format!(
            "[services.api.probes.health]\nhttp = {{ url = \"http://{app}/\" }}\ninterval = \"100ms\"\ntimeout = \"100ms\"\n\
             [services.api.triggers.down]\nhealth = {{ probe = \"health\", failures = 3 }}\nfor = \"500ms\"\n"
        );
        site.write(&File {
            service: "notify = [\"team\"]".to_owned(),
            guard: format!("references = [\"http://{}/\"]", reference.address),
            more: format!("{tables}\n{probe}"),
            ..File::default()
        });
        let daemon = room.daemon(&site);
        until("the daemon's answer", async || daemon.try_get("/v1/status").await).await;
        daemon.knows_good("v1").await;
        // A reference that was never up tells nothing.
        until("a look at the reference", async || asked.load(Ordering::Relaxed).then_some(())).await;

        // v2 is broken, but nobody can see that; what can be seen is that nothing answers, just after it came.
        cut.down(&room);
        site.deploy("v2");
        until("v2", async || (daemon.service().await["running"]["release"] == "v2").then_some(())).await;
        let line = daemon.says("", why).await;
        println!("{cut:?}: {line}");
        let before = daemon.looks().await;
        until("more looks", async || (daemon.looks().await > before + 40.0).then_some(())).await;
        assert!(site.ran().is_empty());
        assert!(!receiver.types().contains(&"held".to_owned()), "nobody can be told: {:?}", receiver.types());

        cut.up(&room);
        // It sees again, does what it could not do, and tells what it could not tell.
        daemon.incident("recovered").await;
        assert_eq!((site.ran(), site.running().as_str()), (vec!["v1".to_owned()], "v1"), "{cut:?}");
        let told = if why.contains("cut off") { "held" } else { "blind" };
        receiver.told(told).await;
        receiver.told("recovered").await;
        daemon.stop().await;
    }
}

#[test]
fn a_daemon_that_is_cut_off_rolls_nothing_back_says_why_and_goes_on_when_the_way_is_open() {
    if has("ip", &["-V"]) && has("nsenter", &["-V"]) {
        inside(&["--mount", "--net"], "networks::inside_a_network_that_is_cut");
    }
}
