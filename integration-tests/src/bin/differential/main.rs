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
use operations::{Operation, Step};
use outcome::{Difference, Outcome};
use player::Stage;
use report::{Report, Verdict};
use settings::Settings;
use std::process::ExitCode;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Mutex, PoisonError};
use std::time::{Duration, Instant};

/// Time for making one sequence shorter.
const SHRINK_SECONDS: u64 = 60;
/// Times as long as usual that a sequence rests when it has differed.
const PATIENCE: u32 = 10;
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
    let report = match run(&brokers, &settings) {
        Ok(report) => report,
        Err(error) => {
            eprintln!("differential: {error}");
            return ExitCode::from(2);
        }
    };
    print!("{}", report.summary(&settings));
    if report.is_clean() {
        ExitCode::SUCCESS
    } else {
        ExitCode::FAILURE
    }
}

/// Plays sequences until there have been enough, the time is over, or too many differ; several at a time, each worker in a virtual
/// host of its own.
fn run(brokers: &Brokers, settings: &Settings) -> Result<Report, String> {
    let names: Vec<String> = (1..=settings.workers).map(|number| format!("stage{number}")).collect();
    let stages = names.iter().map(|name| brokers.stages(name));
    let stages = stages.collect::<Result<Vec<_>, String>>()?;
    let began = Instant::now();
    let next = AtomicU64::new(0);
    let report = Mutex::new(Report::default());
    std::thread::scope(|scope| {
        for stages in stages {
            let worker = Worker { stages, settings };
            let (next, report) = (&next, &report);
            scope.spawn(move || worker.run(began, next, report));
        }
    });
    let mut report = report.into_inner().unwrap_or_else(PoisonError::into_inner);
    report.seconds = began.elapsed().as_secs();
    Ok(report)
}

/// Plays one sequence after the other.
struct Worker<'a> {
    stages: [Stage<'a>; 2],
    settings: &'a Settings,
}

impl Worker<'_> {
    /// Takes seeds from `next` on.
    fn run(&self, began: Instant, next: &AtomicU64, report: &Mutex<Report>) {
        let end = began + Duration::from_secs(self.settings.seconds);
        let report = || report.lock().unwrap_or_else(PoisonError::into_inner);
        loop {
            let number = next.fetch_add(1, Ordering::Relaxed);
            let enough = report().differing() >= self.settings.differences;
            if number >= self.settings.count || Instant::now() > end || enough {
                return;
            }
            let seed = self.settings.seed.saturating_add(number);
            let steps = generator::generate(seed, &self.settings.themes);
            if self.settings.verbose {
                println!("seed {seed}");
            }
            let played = self.play(&steps);
            if self.settings.transcripts {
                println!("\nseed {seed}:\n{}", played.transcript(&steps));
            }
            let verdict = match played.verdict(&steps) {
                Verdict::Different => self.look_closer(seed, &steps, played),
                verdict => verdict,
            };
            report().add(steps.len(), verdict);
        }
    }

    /// Plays a sequence at both brokers.
    fn play(&self, steps: &[Step]) -> Played {
        let [rabbitmq, leveret] = self.stages;
        std::thread::scope(|scope| {
            let rabbitmq = scope.spawn(|| player::play(rabbitmq, steps));
            let leveret = player::play(leveret, steps);
            match rabbitmq.join() {
                Ok(rabbitmq) => Played { rabbitmq, leveret },
                Err(panic) => std::panic::resume_unwind(panic),
            }
        })
    }

    /// Whether a difference comes again; if so, prints the shortest sequence that has one.
    ///
    /// Where something expires a busy machine may need more time for it than there was, so such a sequence is played with more.
    fn look_closer(&self, seed: u64, steps: &[Step], first: Played) -> Verdict {
        let patient: Vec<Step> = steps.iter().map(|step| step.resting(PATIENCE)).collect();
        let rests = steps.iter().any(|step| !step.rest.is_zero());
        if rests && !matches!(self.play(&patient).verdict(steps), Verdict::Different) {
            return Verdict::Late;
        }
        for _ in 0..REPETITIONS {
            let again = self.play(steps);
            if !matches!(again.verdict(steps), Verdict::Different) {
                let transcript = first.transcript(steps);
                println!("\nseed {seed} differed, but not when it was played again:\n{transcript}");
                return Verdict::Unsteady;
            }
        }
        let end = Instant::now() + Duration::from_secs(SHRINK_SECONDS);
        let is_request = |step: &&Step| matches!(step.operation, Operation::Request(_));
        let requests = steps.iter().filter(is_request).count();
        let shortest = shrink::shrink(steps, |steps| {
            // Without their policies messages live on, which is another difference.
            let is_another = rests && steps.iter().filter(is_request).count() < requests;
            let differs = || !is_another && matches!(self.play(steps).verdict(steps), Verdict::Different);
            (Instant::now() < end).then(differs)
        });
        let transcript = self.play(&shortest).transcript(&shortest);
        println!(
            "\nseed {seed} differs; {} of its {} steps are enough:\n{transcript}",
            shortest.len(),
            steps.len()
        );
        Verdict::Different
    }
}

/// A sequence played at both brokers.
struct Played {
    rabbitmq: Vec<Outcome>,
    leveret: Vec<Outcome>,
}

impl Played {
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
