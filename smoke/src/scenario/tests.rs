use super::*;

fn scenario(name: &str, stage: &str) -> Scenario {
    parse(name.to_owned(), &format!("#!/bin/bash\n# claim: it works\n# as: dev\n# stage: {stage}\n")).unwrap()
}

#[test]
fn a_header_says_everything() {
    let text = "#!/bin/bash\n# claim: it works\n# as: root\n# needs: kernel programs\n# limit: 20\nset -e\n# as: dev\n";
    let parsed = parse("x".to_owned(), text).unwrap();
    assert_eq!(parsed.claim, "it works");
    assert_eq!(parsed.runs_as, User::Root);
    assert_eq!(parsed.stage, Stage::Daily);
    assert_eq!(parsed.needs, [Need::Kernel, Need::Programs]);
    assert_eq!(parsed.limit, Duration::from_secs(20));
    assert_eq!(parsed.phases, [Phase::Whole]);
    let text = "# claim: it works\n# as: root\n# stage: faults\n# reboot: yes\n";
    let parsed = parse("x".to_owned(), text).unwrap();
    assert_eq!(parsed.phases, [Phase::Before, Phase::After]);
    assert!(parsed.stage > Stage::Daily && parsed.stage < Stage::Uninstall);
}

#[test]
fn a_wrong_header_is_refused() {
    for (text, part) in [
        ("# as: dev\n", "claim"),
        ("# claim: x\n", "as"),
        ("# claim: x\n# as: joe\n", "joe"),
        ("# claim: x\n# as: dev\n# needs: luck\n", "luck"),
        ("# claim: x\n# as: dev\n# stage: never\n", "never"),
        ("# claim: x\n# as: dev\n# limit: long\n", "limit"),
        ("# claim: x\n# as: dev\n# run: never\n", "never"),
    ] {
        let reason = parse("x".to_owned(), text).unwrap_err();
        assert!(reason.contains(part), "{reason}");
    }
}

#[test]
fn a_daily_scenario_brings_the_installation_with_it() {
    let all = vec![scenario("bare", "host"), scenario("setup", "install"), scenario("work", "daily")];
    let names = |asked: &[&str]| {
        let asked: Vec<String> = asked.iter().map(|&name| name.to_owned()).collect();
        select(all.clone(), &asked).map(|chosen| chosen.into_iter().map(|one| one.name).collect::<Vec<_>>())
    };
    assert_eq!(names(&["work"]).unwrap(), ["setup", "work"]);
    assert_eq!(names(&["bare"]).unwrap(), ["bare"]);
    assert_eq!(names(&[]).unwrap(), ["bare", "setup", "work"]);
    assert!(names(&["other"]).is_err());
}

#[test]
fn what_runs_when_asked_only_is_not_among_all() {
    let bench = parse("bench".to_owned(), "# claim: it is fast\n# as: dev\n# stage: host\n# run: asked\n").unwrap();
    let all = vec![scenario("bare", "host"), bench];
    let names = |asked: &[String]| {
        let chosen = select(all.clone(), asked).unwrap();
        chosen.into_iter().map(|one| one.name).collect::<Vec<_>>()
    };
    assert_eq!(names(&[]), ["bare"]);
    assert_eq!(names(&["bench".to_owned()]), ["bench"]);
}
