//! What runs, as a service and its detectors show it.
//!
//! Length: one world, and each way in which its detectors may disagree.

use super::*;

const TARGET: Option<TargetId> = Some(TargetId(1));

fn at(seconds: i64) -> Timestamp {
    Timestamp::from_millis(seconds * 1000)
}

fn outside() -> Detector {
    Detector { describe: "symlink".into(), kind: DetectorKind::Outside, interval: Duration::from_secs(10) }
}

fn inside() -> Detector {
    // Which series it reads is the store's matter.
    let kind = DetectorKind::Probe { probe: "health".into() };
    Detector { describe: "probe".into(), kind, interval: Duration::from_secs(10) }
}

fn inside_other() -> Detector {
    Detector { describe: "build".into(), ..inside() }
}

fn announced() -> Detector {
    Detector { describe: "announced".into(), kind: DetectorKind::Announced, interval: Duration::ZERO }
}

fn release(name: &str) -> Release {
    Release(name.into())
}

/// What is true of the world, read every 10 s.
struct Service {
    releases: Releases,
    now: i64,
    changes: Vec<Change>,
    named: Vec<Named>,
    /// What the journal has: the changes with the detectors that named them, and the names, of earlier runs too.
    journal: (Vec<(Change, Option<String>)>, Vec<Named>),
    symlink: Option<&'static str>,
    /// By target. None: it does not answer.
    processes: Vec<Option<&'static str>>,
}

impl Service {
    fn new(detectors: &[Detector], symlink: &'static str, process: &'static str) -> Service {
        let releases = Releases::new(detectors);
        let mut service = Service {
            releases,
            now: 0,
            changes: Vec::new(),
            named: Vec::new(),
            journal: (Vec::new(), Vec::new()),
            symlink: Some(symlink),
            processes: vec![Some(process)],
        };
        service.run(300);
        service
    }

    /// Somebody says so, right after a look.
    fn announce(&mut self, value: &str) {
        let place = self.releases.detectors().iter().position(|detector| detector.kind == DetectorKind::Announced);
        self.releases.read(place.expect("it is announced"), None, Ok(value.to_owned()), at(self.now));
        self.update();
    }

    fn update(&mut self) {
        if let Some(change) = self.releases.update(at(self.now)) {
            let named_by = self.releases.named_by().map(str::to_owned);
            self.releases.take(change.clone());
            self.journal.0.push((change.clone(), named_by));
            self.changes.push(change);
        }
        let learned = self.releases.take_learned();
        self.journal.1.extend(learned.clone());
        self.named.extend(learned);
    }

    /// What the journal has of names: value and release.
    fn kept(&self) -> Vec<(&str, Option<&str>)> {
        self.named.iter().map(|named| (&*named.value, named.release.as_ref().map(|release| &*release.0))).collect()
    }

    fn run(&mut self, seconds: i64) {
        for _ in 0..seconds / 10 {
            self.now += 10;
            for index in 0..self.releases.detectors().len() {
                if self.releases.is_inside(index) {
                    for (place, process) in self.processes.clone().into_iter().enumerate() {
                        let target = TargetId(u32::try_from(place).expect("few") + 1);
                        match process {
                            Some(value) => {
                                self.releases.read(index, Some(target), Ok(value.to_owned()), at(self.now));
                            }
                            None => self.releases.unread(target),
                        }
                    }
                } else if self.releases.detectors()[index].kind == DetectorKind::Outside {
                    let value = self.symlink.map(str::to_owned).ok_or_else(|| "no such file".to_owned());
                    self.releases.read(index, None, value, at(self.now));
                }
            }
            self.update();
        }
    }

    fn appeared(&self) -> Vec<&str> {
        self.changes.iter().map(|change| &*change.release.0).collect()
    }

    fn last(&self) -> &Change {
        self.changes.last().expect("a change")
    }
}

#[test]
fn a_normal_release_appears_once_under_the_name_of_the_first_detector() {
    for (detectors, names) in [([outside(), inside()], ["r1", "r2"]), ([inside(), outside()], ["1.0", "2.0"])] {
        let mut service = Service::new(&detectors, "r1", "1.0");
        service.symlink = Some("r2");
        service.run(20);
        service.processes = vec![Some("2.0")];
        service.run(300);
        assert_eq!(service.appeared(), names);
        assert_eq!(service.last().old_last_seen, Some(at(300)), "dated by the symlink: {names:?}");
        assert!(!service.last().returned);
        // Either detector alone names it the same.
        service.symlink = None;
        service.run(100);
        service.symlink = Some("r2");
        service.run(20);
        service.processes = vec![None];
        service.run(100);
        assert_eq!(service.appeared(), names, "{:?}", service.releases.running);
    }
}

#[test]
fn a_release_that_never_answers_is_seen_by_the_symlink() {
    for (detectors, names) in [([outside(), inside()], ["r1", "r2"]), ([inside(), outside()], ["1.0", "r2"])] {
        let mut service = Service::new(&detectors, "r1", "1.0");
        service.symlink = Some("r2");
        service.processes = vec![None];
        service.run(10);
        assert_eq!(service.appeared(), names, "at the first look");
        assert_eq!((service.last().old_last_seen, service.last().first_seen), (Some(at(300)), at(310)));
        assert_eq!(service.releases.running, Running::One(release("r2")));
        // Somebody repairs the host, and it answers after all: still the same release.
        service.run(600);
        service.processes = vec![Some("2.0")];
        service.run(600);
        assert_eq!(service.appeared(), names);
        assert_eq!(service.releases.running, Running::One(release("r2")));
    }
}

#[test]
fn a_crashed_release_that_is_rolled_back_gives_the_old_name_again() {
    let mut service = Service::new(&[inside(), outside()], "r1", "1.0");
    service.symlink = Some("r2");
    service.processes = vec![None];
    service.run(200);
    service.symlink = Some("r1");
    service.processes = vec![Some("1.0")];
    service.run(200);
    assert_eq!(service.appeared(), ["1.0", "r2", "1.0"]);
    assert!(service.last().returned);
}

#[test]
fn a_process_that_dies_without_a_release_stays_what_it_was() {
    for detectors in [[outside(), inside()], [inside(), outside()]] {
        let mut service = Service::new(&detectors, "r1", "1.0");
        let named = service.releases.running.clone();
        service.processes = vec![None];
        service.run(600);
        assert_eq!((service.changes.len(), &service.releases.running), (1, &named));
    }
}

#[test]
fn a_symlink_that_waits_for_a_restart_is_not_the_release_that_runs() {
    let mut service = Service::new(&[inside(), outside()], "r1", "1.0");
    service.symlink = Some("r2");
    service.run(600);
    assert_eq!(service.appeared(), ["1.0"], "the process was not restarted yet");
    service.processes = vec![None];
    service.run(10);
    assert_eq!(service.appeared(), ["1.0", "r2"], "it was, and died");
}

#[test]
fn a_rolling_release_is_a_mix_and_appears_once() {
    let mut service = Service::new(&[inside()], "", "1.0");
    service.processes = vec![Some("1.0"); 3];
    service.run(100);
    service.processes[2] = Some("2.0");
    service.run(10);
    assert_eq!(service.appeared(), ["1.0", "2.0"]);
    let Running::Mix(shares) = &service.releases.running else { panic!("{:?}", service.releases.running) };
    assert_eq!(shares[0].0, release("1.0"));
    service.processes[1] = Some("2.0");
    service.run(50);
    service.processes[0] = Some("2.0");
    service.run(50);
    assert_eq!(service.appeared(), ["1.0", "2.0"]);
    assert_eq!(service.releases.running, Running::One(release("2.0")));
    // And back, by way of a mix: a return once it is complete.
    service.processes[0] = Some("1.0");
    service.run(50);
    assert_eq!(service.appeared(), ["1.0", "2.0"]);
    service.processes = vec![Some("1.0"); 3];
    service.run(50);
    assert_eq!(service.appeared(), ["1.0", "2.0", "1.0"]);
    assert!(service.last().returned);
}

#[test]
fn a_third_release_in_a_mix_is_another_change() {
    let mut service = Service::new(&[inside()], "", "1.0");
    service.processes = vec![Some("1.0"), Some("2.0")];
    service.run(50);
    service.processes = vec![Some("3.0"), Some("2.0")];
    service.run(50);
    assert_eq!(service.appeared(), ["1.0", "2.0", "3.0"]);
}

#[test]
fn an_unreadable_first_detector_is_stood_in_for_and_a_stranger_is_not_guessed() {
    let mut service = Service::new(&[outside(), inside()], "r1", "1.0");
    service.symlink = None;
    service.run(100);
    assert_eq!(service.releases.running, Running::One(release("r1")));
    service.symlink = Some("r1");
    service.run(10);
    assert_eq!(service.appeared(), ["r1"]);
    // A link that is removed and made anew is a change like any other.
    service.symlink = None;
    service.run(10);
    service.symlink = Some("r2");
    service.run(10);
    assert_eq!(service.appeared(), ["r1", "r2"]);
    assert_eq!(service.last().old_last_seen, Some(at(410)));
}

#[test]
fn nothing_readable_is_unknown_and_changes_nothing() {
    let mut service = Service::new(&[outside()], "r1", "");
    service.symlink = None;
    service.run(50);
    assert!(matches!(&service.releases.running, Running::Unknown(why) if why.contains("no such file")));
    service.symlink = Some("r1");
    service.run(10);
    assert_eq!(service.appeared(), ["r1"]);
}

/// What a new daemon knows after replay.
fn restarted(service: &Service) -> Service {
    let mut releases = Releases::new(service.releases.detectors());
    for (change, named_by) in &service.journal.0 {
        releases.take(change.clone());
        releases.was_named_by(named_by.as_deref());
    }
    for named in &service.journal.1 {
        releases.remember(named.clone());
    }
    releases.resume(at(service.now));
    Service {
        releases,
        now: service.now + 100,
        changes: Vec::new(),
        named: Vec::new(),
        journal: service.journal.clone(),
        symlink: service.symlink,
        processes: service.processes.clone(),
    }
}

#[test]
fn after_a_restart_the_same_release_is_no_change_and_another_one_is() {
    for detectors in [[outside(), inside()], [inside(), outside()]] {
        let mut same = restarted(&Service::new(&detectors, "r1", "1.0"));
        same.run(100);
        assert!(same.changes.is_empty());

        let mut other = restarted(&Service::new(&detectors, "r1", "1.0"));
        (other.symlink, other.processes) = (Some("r2"), vec![Some("2.0")]);
        other.run(100);
        assert_eq!(other.changes.len(), 1);
        assert_eq!(other.last().old_last_seen, Some(at(300)), "as long as the daemon had seen the old one");
    }
}

#[test]
fn after_a_restart_a_stand_in_that_nobody_matched_names_nothing() {
    let mut service = restarted(&Service::new(&[inside(), outside()], "r1", "1.0"));
    (service.symlink, service.processes) = (Some("r2"), vec![None]);
    service.run(200);
    assert!(service.changes.is_empty());
    assert!(matches!(service.releases.running, Running::Unknown(_)), "{:?}", service.releases.running);
}

#[test]
fn an_announced_release_is_remembered_over_a_restart() {
    let mut releases = Releases::new(&[announced()]);
    releases.read(0, None, Ok("r1".to_owned()), at(1));
    let change = releases.update(at(1)).expect("a change");
    let mut releases = Releases::new(releases.detectors());
    releases.take(change);
    releases.resume(at(50));
    assert_eq!(releases.update(at(100)), None);
    assert_eq!(releases.running, Running::One(release("r1")));
}

fn history(names: &[(&str, bool)]) -> Releases {
    let mut releases = Releases::new(&[outside()]);
    for (place, (name, good)) in (1..).zip(names) {
        releases.read(0, None, Ok((*name).to_owned()), at(place * 100));
        if let Some(change) = releases.update(at(place * 100)) {
            releases.take(change);
        }
        if *good {
            releases.mark_good(&release(name));
        }
    }
    releases
}

#[test]
fn the_way_back_is_the_newest_good_release_before() {
    let mut releases = history(&[("a", true), ("b", true), ("c", false), ("d", false)]);
    let back = |releases: &Releases, from: &str| releases.way_back(&release(from)).map(ToString::to_string);
    assert_eq!(back(&releases, "d").as_deref(), Some("b"), "c never proved itself");
    assert_eq!(back(&releases, "b").as_deref(), Some("a"), "only what came before");
    assert_eq!(back(&releases, "a"), None);
    assert_eq!(back(&releases, "x"), None);
    releases.mark_bad(&release("b"), IncidentId("i".into()));
    assert_eq!(back(&releases, "d").as_deref(), Some("a"), "a bad one is none");
    assert!(releases.forget("b") && !releases.forget("b"));
    assert_eq!(back(&releases, "d").as_deref(), Some("b"));
    // Ordered by the latest stint, not by the first.
    let releases = history(&[("a", true), ("b", true), ("a", true), ("c", false)]);
    assert_eq!(back(&releases, "c").as_deref(), Some("a"));
}

#[test]
fn a_release_grows_good_by_calm_time_only() {
    let mut releases = history(&[("a", false)]);
    let half_hour = Duration::from_mins(30);
    let grow = |releases: &mut Releases, calm, second| releases.grow(calm, true, half_hour, at(second));
    assert_eq!(grow(&mut releases, true, 100), None);
    assert_eq!(grow(&mut releases, false, 1800), None, "a firing verdict starts it anew");
    assert_eq!(grow(&mut releases, true, 1900), None);
    assert_eq!(releases.good_at(half_hour), Some(at(3700)));
    assert_eq!(grow(&mut releases, true, 3699), None);
    assert_eq!(grow(&mut releases, true, 3700), Some(release("a")));
    releases.mark_good(&release("a"));
    assert_eq!((grow(&mut releases, true, 3701), releases.good_at(half_hour)), (None, None));
}

#[test]
fn the_symlink_must_have_been_read_since_the_breach() {
    let mut releases = Releases::new(&[outside(), inside()]);
    releases.read(0, None, Ok("r1".to_owned()), at(100));
    releases.read(1, TARGET, Ok("1.0".to_owned()), at(105));
    assert!(!releases.read_since(at(103), at(106)), "the process answers, but it cannot show what was flipped");
    assert!(releases.read_since(at(100), at(106)));
    releases.read(0, None, Err("gone".to_owned()), at(110));
    assert!(releases.read_since(at(103), at(111)), "what cannot be read is not waited for");
}

#[test]
fn what_may_fire_in_a_moment_is_not_called_good_now() {
    let mut releases = history(&[("a", false)]);
    let half_hour = Duration::from_mins(30);
    assert_eq!(releases.grow(true, true, half_hour, at(100)), None);
    assert_eq!(releases.grow(true, false, half_hour, at(1900)), None, "pending");
    assert_eq!(releases.grow(true, true, half_hour, at(1910)), Some(release("a")), "and it did not fire");
}

#[test]
fn a_release_that_fired_must_earn_its_good_mark_anew() {
    let mut releases = history(&[("a", false)]);
    let half_hour = Duration::from_mins(30);
    releases.mark_good(&release("a"));
    releases.doubt(&release("a"));
    assert!(releases.known().iter().all(|known| !known.good));
    assert_eq!(releases.grow(true, true, half_hour, at(100)), None);
    assert_eq!(releases.grow(true, true, half_hour, at(1900)), Some(release("a")));
}

#[test]
fn both_names_of_a_release_whose_beginning_was_watched_are_kept_over_a_restart() {
    for (detectors, kept, name) in
        [([outside(), inside()], ("2.0", Some("r2")), "r2"), ([inside(), outside()], ("r2", Some("2.0")), "2.0")]
    {
        let mut service = Service::new(&detectors, "r1", "1.0");
        assert!(service.kept().is_empty(), "whether what was found together belongs together, nobody knows");
        (service.symlink, service.processes) = (Some("r2"), vec![Some("2.0")]);
        service.run(3600);
        assert_eq!(service.kept(), [kept], "once");
        (service.symlink, service.processes) = (Some("r3"), vec![Some("3.0")]);
        service.run(300);
        let mut later = restarted(&service);
        later.run(300);
        // Only the second detector shows it.
        let first_is_outside = kept.0 == "2.0";
        (later.symlink, later.processes) =
            if first_is_outside { (None, vec![Some("2.0")]) } else { (Some("r2"), vec![None]) };
        later.run(50);
        assert_eq!(later.appeared(), [name]);
    }
}

#[test]
fn a_release_that_changed_while_the_daemon_was_down_is_kept_if_both_names_moved_on() {
    for (symlink, kept) in [("r3", vec![("r3", Some("3.0"))]), ("r2", Vec::new())] {
        let mut service = Service::new(&[inside(), outside()], "r1", "1.0");
        (service.symlink, service.processes) = (Some("r2"), vec![Some("2.0")]);
        service.run(300);
        let mut later = restarted(&service);
        (later.symlink, later.processes) = (Some(symlink), vec![Some("3.0")]);
        later.run(300);
        assert_eq!(later.kept(), kept, "{symlink}");
    }
}

#[test]
fn a_symlink_that_was_flipped_before_the_daemon_started_is_not_kept_as_a_name_of_the_old_process() {
    let mut service = Service::new(&[inside(), outside()], "r1", "1.0");
    (service.symlink, service.processes) = (Some("r2"), vec![Some("2.0")]);
    service.run(300);
    service.symlink = Some("r3");
    let mut later = restarted(&service);
    later.run(600);
    assert!(later.kept().is_empty(), "{:?}", later.kept());
    later.processes = vec![Some("3.0")];
    later.run(300);
    assert_eq!(later.kept(), [("r3", Some("3.0"))]);
}

#[test]
fn a_name_that_turned_out_to_be_of_two_releases_is_of_none_after_a_restart_too() {
    let mut service = Service::new(&[outside(), inside()], "r1", "1.0");
    (service.symlink, service.processes) = (Some("r2"), vec![Some("2.0")]);
    service.run(300);
    service.symlink = Some("r3");
    service.run(300);
    assert_eq!(service.kept(), [("2.0", Some("r2")), ("2.0", None)]);
    let mut later = restarted(&service);
    later.symlink = None;
    later.run(300);
    assert!(matches!(later.releases.running, Running::Unknown(_)), "{:?}", later.releases.running);
}

#[test]
fn a_detector_that_says_something_else_each_time_does_not_fill_the_journal() {
    const BUILDS: [&str; 12] = ["a", "b", "c", "d", "e", "f", "g", "h", "i", "j", "k", "l"];
    let mut service = Service::new(&[inside(), inside_other()], "", "");
    let mut now = service.now;
    for build in BUILDS {
        for _ in 0..10 {
            now += 10;
            service.releases.read(0, TARGET, Ok("1.0".to_owned()), at(now));
            service.releases.read(1, TARGET, Ok(build.to_owned()), at(now));
            service.now = now;
            service.update();
        }
    }
    assert_eq!(service.named.len(), 8, "{:?}", service.kept());
}

#[test]
fn names_are_of_the_first_detector_that_gave_them() {
    let mut service = Service::new(&[outside(), inside()], "r1", "1.0");
    (service.symlink, service.processes) = (Some("r2"), vec![Some("2.0")]);
    service.run(300);
    let named = |releases: &Releases| releases.alias(1, "2.0");
    service.releases.reconfigure(&[inside_other(), inside()]);
    assert_eq!(named(&service.releases), None, "that one calls the releases by other names");
    service.releases.reconfigure(&[outside(), inside()]);
    assert_eq!(named(&service.releases), Some(release("r2")));
}

#[test]
fn what_was_announced_before_another_release_was_seen_does_not_stand_in() {
    for (second, third) in [("r2", "r3"), ("2.0", "r3")] {
        let mut service = Service::new(&[outside(), announced()], "r1", "r1");
        service.announce(second);
        service.symlink = Some("r2");
        service.run(300);
        service.symlink = Some(third);
        service.run(300);
        assert_eq!(service.appeared(), ["r1", "r2", "r3"], "nobody announced the third: {second}");
        service.symlink = None;
        service.run(300);
        assert_eq!(service.appeared(), ["r1", "r2", "r3"], "{second}");
        assert!(matches!(service.releases.running, Running::Unknown(_)), "{:?}", service.releases.running);
        service.symlink = Some("r4");
        service.run(300);
        assert_eq!(service.releases.running, Running::One(release("r4")), "{second}");
        assert!(!service.kept().contains(&("r4", Some("r2"))), "{:?}", service.kept());
        // Announced anew, it is what runs.
        service.symlink = None;
        service.run(50);
        service.announce(second);
        assert_eq!(service.releases.running, Running::One(release("r2")), "{second}");
    }
}

#[test]
fn a_symlink_that_stays_while_the_process_moves_on_was_no_name_of_the_old_one() {
    for restarts in [false, true] {
        let mut service = Service::new(&[outside(), inside()], "r1", "1.0");
        service.symlink = None;
        service.run(50);
        service.processes = vec![Some("2.0")];
        service.run(20);
        assert_eq!(service.appeared(), ["r1", "2.0"], "the process names it while the symlink cannot be read");
        // The next deployment has flipped the symlink when it is read again, and its process starts late.
        service.symlink = Some("r3");
        service.run(400);
        if restarts {
            assert!(service.kept().contains(&("r3", Some("2.0"))), "{:?}", service.kept());
            service = restarted(&service);
        }
        service.run(50);
        service.processes = vec![Some("3.0")];
        service.run(10);
        assert_eq!(service.releases.running, Running::One(release("r3")), "restarts: {restarts}");
        assert_eq!(service.kept().last(), Some(&("r3", Some("r3"))), "at once");
        service.run(300);
        let mut later = restarted(&service);
        later.run(300);
        assert_eq!(later.appeared(), Vec::<&str>::new(), "restarts: {restarts}");
        assert_eq!(later.releases.running, Running::One(release("r3")), "restarts: {restarts}");
    }
}

#[test]
fn a_symlink_that_is_already_at_the_next_release_is_no_name_of_what_still_runs() {
    let mut service = Service::new(&[outside(), inside()], "r1", "1.0");
    service.symlink = None;
    service.run(50);
    service.processes = vec![Some("2.0")];
    service.run(100);
    // The process of the release before takes its time to end.
    service.symlink = Some("r3");
    service.run(200);
    let why = "symlink says r3: it is not known yet whether that is 2.0, which probe has shown";
    assert_eq!(service.releases.running, Running::Unknown(why.to_owned()));
    service.processes = vec![None];
    service.run(50);
    assert_eq!(service.releases.running, Running::Unknown(why.to_owned()), "it may be dying");
    service.processes = vec![Some("3.0")];
    service.run(100);
    assert_eq!((service.appeared(), service.last().returned), (vec!["r1", "2.0", "r3"], false));
}

#[test]
fn a_process_that_outruns_the_look_at_the_symlink_is_not_what_the_symlink_said_last() {
    let mut service = Service::new(&[inside(), outside()], "r1", "1.0");
    service.processes = vec![None];
    service.symlink = Some("r2");
    service.run(30);
    assert_eq!(service.appeared(), ["1.0", "r2"]);
    // Looked at right before the next deployment flipped it, as its process was right after.
    service.processes = vec![Some("3.0")];
    service.run(10);
    service.symlink = Some("r3");
    service.run(100);
    assert_eq!(service.appeared(), ["1.0", "r2", "3.0"]);
}

#[test]
fn a_process_that_boots_slowly_is_what_the_symlink_said_soon() {
    let mut service = Service::new(&[inside(), outside()], "r1", "1.0");
    service.processes = vec![None];
    service.symlink = Some("r2");
    service.run(600);
    service.processes = vec![Some("2.0")];
    service.run(60);
    assert_eq!((service.appeared(), &service.releases.running), (vec!["1.0", "r2"], &Running::One(release("r2"))));
}

#[test]
fn what_a_stand_in_named_is_no_other_release_when_the_first_detector_is_back_after_a_restart() {
    let mut service = Service::new(&[inside(), outside()], "r1", "1.0");
    service.processes = vec![None];
    service.symlink = Some("r2");
    service.run(100);
    assert_eq!(service.appeared(), ["1.0", "r2"]);
    let mut service = restarted(&service);
    // The process is looked at before the symlink.
    service.processes = vec![Some("2.0")];
    service.releases.read(0, TARGET, Ok("2.0".to_owned()), at(service.now));
    service.update();
    assert_eq!(service.releases.running, Running::Unknown("symlink has not been read yet".to_owned()));
    service.run(400);
    assert_eq!((service.appeared(), &service.releases.running), (vec![], &Running::One(release("r2"))));
    let mut service = restarted(&service);
    service.run(10);
    assert_eq!((service.appeared(), &service.releases.running), (vec![], &Running::One(release("r2"))), "it is kept");
}

#[test]
fn a_name_from_another_detector_than_before_the_restart_has_no_date() {
    for (names, dated) in [("symlink", false), ("probe", true)] {
        let mut service = Service::new(&[inside(), outside()], "r1", "1.0");
        service.symlink = None;
        if names == "symlink" {
            service.processes = vec![None];
            service.symlink = Some("r2");
            service.run(100);
        }
        let mut service = restarted(&service);
        service.symlink = None;
        service.processes = vec![Some("3.0")];
        service.run(100);
        assert_eq!((service.appeared(), service.last().old_last_seen.is_some()), (vec!["3.0"], dated), "{names}");
    }
}

#[test]
fn a_symlink_that_says_another_word_than_an_announcement_that_uses_its_words_is_another_release() {
    for (words, runs) in [("r", "r3"), ("1.", "1.2")] {
        let mut service = Service::new(&[outside(), announced()], "r1", "r1");
        service.announce(&format!("{words}1"));
        service.run(100);
        service.symlink = None;
        service.run(50);
        service.announce(&format!("{words}2"));
        service.run(100);
        assert_eq!(service.releases.running, Running::One(release(&format!("{words}2"))));
        service.symlink = Some("r3");
        service.run(400);
        assert_eq!(service.releases.running, Running::One(release(runs)));
        assert!(!service.kept().iter().any(|(name, _)| *name == "r3"), "nobody can look again: {:?}", service.kept());
    }
}
