use super::*;
use clap::CommandFactory as _;

fn parse(line: &str) -> Result<Command, clap::Error> {
    let words = std::iter::once("quorate-sim").chain(line.split_whitespace());
    Cli::try_parse_from(words).map(|cli| cli.command)
}

fn run(line: &str) -> Run {
    match parse(line) {
        Ok(Command::Run(args)) => args,
        other => panic!("{line}: {other:?}"),
    }
}

#[test]
fn the_definition_is_sound() {
    Cli::command().debug_assert();
}

#[test]
fn ranges_include_both_ends() {
    let cases = [
        ("1", 0, 0),
        ("2000", 0, 1_999),
        ("5-5", 5, 5),
        ("7-16", 7, 16),
        ("0x10-0x1f", 16, 31),
    ];
    for (text, first, last) in cases {
        let seeds: Seeds = text.parse().unwrap();
        assert_eq!(seeds, Seeds { first, last }, "{text}");
        assert_eq!(seeds.count(), last - first + 1);
        assert_eq!(seeds.iter().count() as u64, seeds.count());
    }
    let end: Seeds = "0xfffffffffffffffe-18446744073709551615".parse().unwrap();
    assert_eq!(end.iter().collect::<Vec<_>>(), [u64::MAX - 1, u64::MAX]);
    for text in [
        "",
        "0",
        "-1",
        "5-4",
        "1-",
        "-",
        "1-2-3",
        "+5",
        "0x",
        "1e3",
        "10000001",
        "0-10000000",
        "0x+1",
    ] {
        assert!(text.parse::<Seeds>().is_err(), "{text}");
    }
    let nodes: Nodes = "3-7".parse().unwrap();
    assert_eq!((nodes.first, nodes.last, nodes.to_string()), (3, 7, "3-7".into()));
    let nodes: Nodes = "64".parse().unwrap();
    assert_eq!(
        (nodes.first, nodes.last, nodes.to_string()),
        (64, 64, "64".into())
    );
    for text in ["", "0", "0-3", "7-3", "65", "3-65", "3-", "x"] {
        assert!(text.parse::<Nodes>().is_err(), "{text}");
    }
}

#[test]
fn seeds_are_decimal_or_hexadecimal() {
    assert_eq!(parse_seed("0x2a"), Some(42));
    assert_eq!(parse_seed("0X2A"), Some(42));
    assert_eq!(parse_seed("42"), Some(42));
    assert_eq!(parse_seed("0xffffffffffffffff"), Some(u64::MAX));
    for text in [
        "",
        "0x",
        "2a",
        "-1",
        "+1",
        "0x-1",
        "0x10000000000000000",
        "4 2",
        "1_000",
    ] {
        assert_eq!(parse_seed(text), None, "{text}");
    }
    assert_eq!("0x2a".parse(), Ok(Subject::Seed(42)));
    assert_eq!("./42".parse(), Ok(Subject::Named("./42".into())));
}

#[test]
fn defaults_are_those_of_the_help() {
    let args = run("run");
    assert_eq!(args.seeds, Seeds { first: 0, last: 999 });
    assert_eq!(args.draw, DrawArgs::default());
    assert!(args.jobs.count() >= 1 && !args.json);
    let draw = args.draw.draw();
    assert_eq!(draw, Draw::default());
}

#[test]
fn what_is_drawn_from_reaches_the_draw_and_the_command_line_again() {
    let args = run("run --nodes 5 --minutes 0.5 --faults crash,loss --loss 2.5 --seeds 3-4 --jobs 2");
    let draw = args.draw.draw();
    assert_eq!(draw.hosts, 5..=5);
    assert_eq!(draw.chaos, Duration::from_secs(30));
    assert_eq!(draw.kinds.to_string(), "loss,crash");
    assert_eq!(draw.loss, Some(25));
    assert_eq!(args.jobs.count(), 2);
    let options = args.draw.to_string();
    assert_eq!(options, "--nodes 5 --minutes 0.5 --faults loss,crash --loss 2.5");
    assert_eq!(run(&format!("run {options}")).draw, args.draw);
    assert_eq!(run("run").draw.to_string(), "--nodes 3-7 --minutes 2");
    assert_eq!(run("run --minutes 0.1").draw.draw().chaos, Duration::from_secs(6));
}

#[test]
fn bad_values_name_the_flag_and_its_range() {
    for (line, flag, range) in [
        ("run --seeds 0", "--seeds", "from 1 to 10000000"),
        ("run --seeds 9-3", "--seeds", "A-B"),
        ("run --seeds -3", "--seeds", "from 1 to 10000000"),
        ("run --nodes 65", "--nodes", "from 1 to 64"),
        ("run --nodes 0-3", "--nodes", "from 1 to 64"),
        ("run --minutes -1", "--minutes", "from 0 to 1440"),
        ("run --minutes NaN", "--minutes", "from 0 to 1440"),
        ("run --minutes 1441", "--minutes", "from 0 to 1440"),
        ("run --loss 101", "--loss", "from 0 to 100"),
        ("run --loss 0.05", "--loss", "steps of 0.1"),
        ("run --jobs 0", "--jobs", "from 1 to 256"),
        ("run --faults tornado", "--faults", "loss"),
        ("plant all --budget 0", "--budget", "from 1 to 1000000"),
        ("plant all --repetitions 1001", "--repetitions", "from 1 to 1000"),
        ("plant nonsense", "nonsense", "all"),
        ("repro 1 --plant nonsense", "--plant", "nonsense"),
        ("shrink 1 --budget x", "--budget", "from 1 to 1000000"),
        ("show 1 --events 1", "--events", "from 100 to 1000000"),
        ("bench --case idel", "--case", "idle, busy, membership, growth"),
        ("bench --max-nodes 1001", "--max-nodes", "from 3 to 1000"),
        ("liveness --seeds 0", "--seeds", "from 1 to 1000000"),
    ] {
        let error = parse(line).expect_err(line);
        let text = error.to_string();
        assert!(text.contains(flag) && text.contains(range), "{line}: {text}");
        assert_eq!(error.exit_code(), 2, "{line}");
    }
}

#[test]
fn every_command_shows_an_example_that_parses() {
    for command in Cli::command().get_subcommands() {
        let help = command.clone().render_long_help().to_string();
        let (_, examples) = help
            .split_once("Example")
            .unwrap_or_else(|| panic!("{}", command.get_name()));
        let lines = examples
            .lines()
            .filter_map(|line| line.trim().strip_prefix("quorate-sim "));
        let mut count = 0;
        for line in lines {
            let line = line.split(" > ").next().unwrap_or(line);
            assert!(line.starts_with(command.get_name()), "{line}");
            parse(line).unwrap_or_else(|error| panic!("{line}: {error}"));
            count += 1;
        }
        assert!(count > 0, "{help}");
    }
}

#[test]
fn one_bug_or_all_can_be_planted() {
    let bugs = |text: &str| text.parse::<Bugs>().map(|bugs| bugs.0);
    assert_eq!(bugs("all"), Ok(PlantedBug::ALL.to_vec()));
    let first = PlantedBug::ALL[0];
    assert_eq!(bugs(first.name()), Ok(vec![first]));
    assert!(bugs("nonsense").is_err());
}
