//! The differential test: the same random sequences of operations at RabbitMQ and at Leveret, with every outcome compared.
//!
//! See docs/differential.md for how to run it and how to read what it prints.
//!
//! - [`generator`] makes a sequence from a seed and one of the [`themes`], of [`values`], [`odd`] frames, [`policies`] and
//!   the [`features`] that the theme is about.
//! - [`player`] plays it at a broker, over the connections of [`link`], which masks the broker's own [`names`].
//! - [`outcome`] compares, [`known`] says which differences are meant, [`shrink`] finds the shortest sequence that differs.
//! - [`brokers`] starts both; [`report`] prints.

mod brokers;
mod describe;
mod features;
mod generator;
mod known;
mod link;
mod names;
mod odd;
mod operations;
mod outcome;
mod player;
mod policies;
mod report;
mod settings;
mod shrink;
mod themes;
mod values;

use brokers::Brokers;
use operations::Step;
use outcome::{Difference, Outcome};
use report::{Report, Verdict};
use settings::Settings;
use std::process::ExitCode;
use std::time::{Duration, Instant};

/// Time for making one sequence shorter.
const SHRINK_SECONDS: u64 = 60;
/// How often a difference must come again to count as one.
const REPETITIONS: usize = 2;

fn main() -> ExitCode {
    let settings = match Settings::from_environment() {
        Ok(settings) => settings,
        Err(error) => {
            eprintln!("differential: {error}");
            return ExitCode::from(2);
        }
    };
    if !brokers::rabbitmq_is_installed() {
        println!(
            "SKIPPED: Leveret was not compared with RabbitMQ, because RabbitMQ is not installed (apt-get install rabbitmq-server)"
        );
        return ExitCode::SUCCESS;
    }
    let brokers = match Brokers::start() {
        Ok(brokers) => brokers,
        Err(error) => {
            eprintln!("differential: {error}");
            return ExitCode::from(2);
        }
    };
    let report = run(&brokers, &settings);
    print!("{}", report.summary(&settings));
    if report.is_clean() {
        ExitCode::SUCCESS
    } else {
        ExitCode::FAILURE
    }
}

/// Plays sequences until there have been enough, the time is over, or too many differ.
fn run(brokers: &Brokers, settings: &Settings) -> Report {
    let mut report = Report::default();
    let began = Instant::now();
    let end = began + Duration::from_secs(settings.seconds);
    for seed in settings.seed..settings.seed.saturating_add(settings.count) {
        if Instant::now() > end || report.differing() >= settings.differences {
            break;
        }
        let steps = generator::generate(seed, &settings.themes);
        if settings.verbose {
            println!("seed {seed}");
        }
        let played = Played::play(brokers, &steps);
        let verdict = match played.verdict(&steps) {
            Verdict::Different => look_closer(brokers, seed, &steps, played),
            verdict => verdict,
        };
        report.add(steps.len(), verdict);
    }
    report.seconds = began.elapsed().as_secs();
    report
}

/// Whether a difference comes again; if so, prints the shortest sequence that has one.
fn look_closer(brokers: &Brokers, seed: u64, steps: &[Step], first: Played) -> Verdict {
    for _ in 0..REPETITIONS {
        let again = Played::play(brokers, steps);
        if !matches!(again.verdict(steps), Verdict::Different) {
            println!("\nseed {seed} differed, but not when it was played again:");
            println!("{}", first.transcript(steps));
            return Verdict::Unsteady;
        }
    }
    let end = Instant::now() + Duration::from_secs(SHRINK_SECONDS);
    let shortest = shrink::shrink(steps, |steps| {
        (Instant::now() < end).then(|| matches!(Played::play(brokers, steps).verdict(steps), Verdict::Different))
    });
    let last = Played::play(brokers, &shortest);
    println!(
        "\nseed {seed} differs; {} of its {} steps are enough:",
        shortest.len(),
        steps.len()
    );
    println!("{}", last.transcript(&shortest));
    Verdict::Different
}

/// A sequence played at both brokers.
struct Played {
    rabbitmq: Vec<Outcome>,
    leveret: Vec<Outcome>,
}

impl Played {
    fn play(brokers: &Brokers, steps: &[Step]) -> Self {
        std::thread::scope(|scope| {
            let rabbitmq = scope.spawn(|| player::play(brokers.rabbitmq.addresses(), steps));
            let leveret = player::play(brokers::addresses_of(&brokers.leveret), steps);
            match rabbitmq.join() {
                Ok(rabbitmq) => Self { rabbitmq, leveret },
                Err(panic) => std::panic::resume_unwind(panic),
            }
        })
    }

    /// The first step with different outcomes. The end of the sequence counts as one more step.
    fn first_difference(&self) -> Option<(usize, Difference)> {
        let pairs = self.rabbitmq.iter().zip(&self.leveret);
        pairs
            .enumerate()
            .find_map(|(number, (rabbitmq, leveret))| Some((number, outcome::compare(rabbitmq, leveret)?)))
    }

    fn verdict(&self, steps: &[Step]) -> Verdict {
        match self.first_difference() {
            None => Verdict::Same,
            Some((number, difference)) => match known::find(steps, number, &difference) {
                Some(known) => Verdict::Known(known.name),
                None => Verdict::Different,
            },
        }
    }

    /// Both transcripts up to the first difference.
    fn transcript(&self, steps: &[Step]) -> String {
        let end = self.first_difference().map_or(steps.len(), |(number, _)| number) + 1;
        let titles = player::titles(steps);
        outcome::side_by_side(&titles[..end.min(titles.len())], &self.rabbitmq, &self.leveret)
    }
}
