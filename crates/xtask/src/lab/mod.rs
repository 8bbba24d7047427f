//! The live lab: scenarios on real queues, stock and governed flows in turn.
//!
//! A run sets up a path of network namespaces, with a token bucket of the kernel as the bottleneck
//! and a relay in user space for delay and loss, starts the examples at its ends, and removes
//! everything afterwards. Nothing remains: namespaces, devices and programs end with this process,
//! however it ends.

mod check;
mod choices;
mod disturb;
mod document;
mod endpoints;
mod figures;
mod interrupt;
mod limits;
mod measure;
mod over_time;
mod overrides;
mod parameters;
mod plot;
mod programs;
mod report;
mod run;
mod scenarios;
mod topology;
mod tree;
mod vm;

use std::fs;
use std::path::{Path, PathBuf};
use std::process::ExitCode;
use std::thread;

use anyhow::{Context, Result, bail, ensure};
use clap::Args;
use examples::args::Base;

use choices::{BottleneckAt, Signals};
use figures::Side;
use interrupt::Interrupt;
use over_time::Course;
use overrides::Overrides;
use parameters::Parameters;
use plot::{Half, Picture};
use programs::Programs;
use report::{Before, Report, Run, ScenarioReport};
use run::{Bench, Outcome, load_average};
use scenarios::Scenario;

/// Where pictures and results go when nothing else is said, in the workspace.
const DIRECTORY: &str = "target/lab";

/// Runs scenarios on real queues: stock flows and governed ones in turn, and what must hold of
/// them.
#[derive(Args, Debug)]
pub(crate) struct Options {
    /// Scenarios, or `all`; --list prints their names.
    #[arg(required_unless_present_any = ["list", "document"])]
    names: Vec<String>,
    /// Run in a virtual machine whose time counts instructions, so that figures do not depend on
    /// the machine's load. By default with a fifth of the rates, and one round.
    #[arg(long)]
    vm: bool,
    /// The kernel there: the newest that Debian has of this series. Of several, with commas
    /// between, each runs in a machine of its own, all at once.
    #[arg(
        long,
        value_name = "SERIES",
        value_delimiter = ',',
        default_value = "6.12",
        requires = "vm"
    )]
    kernel: Vec<String>,
    /// Distribute the scenarios over the kernels, instead of running each scenario on each kernel.
    #[arg(long, requires = "vm", conflicts_with = "document")]
    deal: bool,
    /// Print the scenarios and their checks, and run none.
    #[arg(long)]
    list: bool,
    /// Base controllers; the scenario is run with each.
    #[arg(long, value_enum, value_delimiter = ',', default_value = "cubic")]
    base: Vec<Base>,
    /// Do not watch stock flows by probes, which take time to load. Pictures then lack the queue of
    /// stock runs.
    #[arg(long)]
    unwatched: bool,
    /// Where governed flows get their signals from. With any but `ebpf` the lab needs no privilege
    /// where user namespaces are allowed.
    #[arg(long, value_enum, default_value = "ebpf")]
    source: Signals,
    /// In each round also run: governed by the socket source, and, where the scenario allows it,
    /// other remedies for a standing queue: a small send buffer, one that follows the measured
    /// rate, a fixed rate, TCP Cubic and TCP BBR. Shows all side by side.
    #[arg(long, conflicts_with = "source")]
    compare: bool,
    /// Write the comparison into this document, where a comment marks its place; without scenarios,
    /// the comparison of the last run.
    #[arg(long, value_name = "FILE", conflicts_with = "list")]
    document: Option<PathBuf>,
    /// Print only one JSON object on standard output, at the end.
    #[arg(long)]
    json: bool,
    /// Fail if a check is missed.
    #[arg(long)]
    check: bool,
    /// Check figures against wide bounds, for a machine with other load.
    #[arg(long)]
    wide: bool,
    /// Take the programs `client` and `server` from this directory instead of building them.
    #[arg(long, value_name = "DIR", conflicts_with = "vm")]
    programs: Option<PathBuf>,
    /// Where pictures (NAME.svg) and results (lab.json) go; default: target/lab.
    #[arg(long, value_name = "DIR")]
    out: Option<PathBuf>,
    #[command(flatten)]
    overrides: Overrides,
}

/// What a scenario is to be run with.
struct Plan {
    scenario: &'static Scenario,
    parameters: Parameters,
    /// In the order of the first round.
    sides: &'static [Side],
    /// Of its files.
    name: String,
}

/// Stock and governed flows in turn.
const BOTH: [Side; 2] = [Side::Stock, Side::Governed];

/// Alternatives to compare with, as far as the scenario allows them.
fn compared(parameters: &Parameters) -> &'static [Side] {
    let Parameters {
        peers,
        bottleneck,
        tcp,
        rivals,
        burst_kb,
        disturb,
        detach,
        policy_percent,
        flood_mbps,
        step_mbps,
        ..
    } = *parameters;
    if peers > 0 || bottleneck == BottleneckAt::SameHost {
        // By the other source.
        return &Side::ALL[..3];
    }
    let something_else = tcp > 0
        || rivals > 0
        || burst_kb.is_some()
        || disturb.is_some()
        || detach.is_some()
        || policy_percent > 0.0
        || flood_mbps > 0.0
        || step_mbps.is_some();
    if something_else {
        // And what else a sending client can do.
        &Side::ALL[..6]
    } else {
        &Side::ALL
    }
}

/// Runs what the options say. The exit code reports interruption and, if asked to, checks that
/// do not hold.
pub(crate) fn run(workspace: &Path, options: &Options) -> Result<ExitCode> {
    if options.list {
        list();
        return Ok(ExitCode::SUCCESS);
    }
    if options.vm {
        ensure!(
            !options.deal || options.names.len() >= options.kernel.len(),
            "there are more kernels than scenarios to deal"
        );
        return vm::run(workspace, options);
    }
    let directory = options
        .out
        .clone()
        .unwrap_or_else(|| workspace.join(DIRECTORY));
    let file = directory.join("lab.json");
    if let (true, Some(document)) = (options.names.is_empty(), &options.document) {
        document::write(&file, document)?;
        return Ok(ExitCode::SUCCESS);
    }
    let plans = plan(options)?;
    if options.source != Signals::Ebpf {
        // What is missing is reported below.
        drop(netlab::acquire_privilege());
    }
    if let Some(missing) = netlab::missing_privilege() {
        bail!("the lab makes network namespaces and loads probes: {missing}");
    }
    let interrupt = Interrupt::catch()?;
    let mut report = Report {
        load_average: load_average()?,
        processors: thread::available_parallelism()?.get(),
        kernel: kernel()?,
        wide: options.wide,
        scenarios: Vec::new(),
    };
    fs::create_dir_all(&directory)
        .with_context(|| format!("cannot make the directory {}", directory.display()))?;
    let programs = match &options.programs {
        Some(directory) => Programs::within(directory)?,
        None => {
            eprintln!("building the examples");
            Programs::build(workspace)?
        }
    };
    let scratch = tempfile::tempdir().context("cannot make a directory for traces")?;
    eprintln!(
        "Linux {}, {} processors, load average {:.2}",
        report.kernel, report.processors, report.load_average
    );
    let mut interrupted = false;
    for plan in &plans {
        let bench = Bench {
            programs: &programs,
            parameters: &plan.parameters,
            interrupt: &interrupt,
            scratch: scratch.path(),
        };
        let measured = plan.measure(&bench, &directory, options.wide);
        // Ctrl-C reaches programs that the lab runs too: then it is theirs that fails first.
        interrupted = measured.is_err() && interrupt.check().is_err();
        if interrupted {
            eprintln!("interrupted; everything it made is gone");
            break;
        }
        let measured = measured.with_context(|| plan.name.clone())?;
        if !options.json {
            examples::say!("\n{measured}");
        }
        report.scenarios.push(measured);
    }
    let json = serde_json::to_string(&report)?;
    fs::write(&file, &json).with_context(|| format!("cannot write {}", file.display()))?;
    if let Some(document) = &options.document {
        document::write(&file, document)?;
    }
    if options.json {
        examples::say!("{json}");
    }
    let missed: usize = report.scenarios.iter().map(ScenarioReport::missed).sum();
    Ok(if interrupted {
        ExitCode::from(interrupt::EXIT_CODE)
    } else if options.check && missed > 0 {
        eprintln!("{missed} of what must hold did not");
        ExitCode::FAILURE
    } else {
        ExitCode::SUCCESS
    })
}

/// The scenarios asked for, each with each base.
fn plan(options: &Options) -> Result<Vec<Plan>> {
    let mut plans = Vec::new();
    for name in &options.names {
        let named = Scenario::named(name);
        let asked: Vec<&'static Scenario> = match (name.as_str(), named) {
            ("all", _) => scenarios::all().collect(),
            (_, Some(scenario)) => vec![scenario],
            _ => {
                let names: Vec<_> = scenarios::all().map(|known| known.name).collect();
                bail!(
                    "there is no scenario {name}; there are: all, {}",
                    names.join(", ")
                );
            }
        };
        for (scenario, base) in asked
            .into_iter()
            .flat_map(|scenario| options.base.iter().map(move |base| (scenario, *base)))
        {
            let own = Parameters {
                base,
                source: options.source,
                unwatched: options.unwatched,
                ..scenario.own()
            };
            let name = match base {
                Base::Cubic => scenario.name.to_owned(),
                other => format!("{}-{other:?}", scenario.name).to_lowercase(),
            };
            let parameters = options
                .overrides
                .apply(own)
                .with_context(|| format!("scenario {}", scenario.name))?;
            plans.push(Plan {
                scenario,
                parameters,
                sides: if options.compare {
                    compared(&parameters)
                } else {
                    &BOTH
                },
                name,
            });
        }
    }
    Ok(plans)
}

impl Plan {
    fn measure(&self, bench: &Bench<'_>, directory: &Path, wide: bool) -> Result<ScenarioReport> {
        let parameters = &self.parameters;
        let load_average = load_average()?;
        let idle_ms = bench.idle().context("on the idle path")?;
        let mut runs = Vec::new();
        let mut notes = Vec::new();
        let processors = thread::available_parallelism()?.get() as f64;
        if load_average > processors {
            notes.push(format!(
                "the machine was busy with other things (load average {load_average:.1}, \
                 {processors} processors): goodput and round trips are worth less than they seem"
            ));
        }
        let mut outcomes = Vec::new();
        for round in 1..=parameters.rounds {
            let mut sides = self.sides.to_vec();
            // In turn, so that neither is always the one that comes after the other.
            if round % 2 == 0 {
                sides.reverse();
            }
            for side in sides {
                let what = format!("{}: round {round}, {side}", self.name);
                if let Some(congestion) = side.tcp() {
                    let (tcp, queue) = bench.run_tcp(congestion).context(what.clone())?;
                    let figures = measure::tcp_figures(&tcp, queue.as_ref(), parameters);
                    eprintln!("{what}: {:.1} Mbit/s", tcp.goodput / 1e6);
                    runs.push(Run {
                        round,
                        side,
                        figures,
                    });
                    outcomes.push(None);
                    continue;
                }
                let outcome = bench.run(side).context(what.clone())?;
                let figures = measure::figures(&outcome, parameters, side, idle_ms);
                eprintln!("{what}: {}", summary(&outcome));
                if outcome.relay_drops > 0 {
                    let drops = outcome.relay_drops;
                    notes.push(format!(
                        "round {round}, {side}: the relay dropped {drops} packets unasked: it was \
                         a bottleneck itself"
                    ));
                }
                let source = match side {
                    Side::Governed => Some(parameters.source),
                    Side::BySocket => Some(Signals::Socket),
                    _ => None,
                };
                if let Some(source) = source
                    && !source.is(&outcome.report.source)
                {
                    bail!("the source {} could not be had: {what}", source.name());
                }
                runs.push(Run {
                    round,
                    side,
                    figures,
                });
                outcomes.push(Some(outcome));
            }
        }
        let before = Before {
            load_average,
            idle_ms,
        };
        let mut report = ScenarioReport::new(self.scenario, *parameters, before, runs, notes, wide);
        let typical = |side| -> Result<&Outcome> {
            let index = report.typical(side).context("there was no round")?;
            outcomes[index].as_ref().context("it is TCP's")
        };
        let (stock, governed) = (typical(Side::Stock)?, typical(Side::Governed)?);
        let file = directory.join(format!("{}.svg", self.name));
        self.picture(&report, idle_ms, stock, governed)
            .draw(&file)?;
        report.plot = Some(file);
        Ok(report)
    }

    /// One round of each.
    fn picture<'a>(
        &self,
        report: &ScenarioReport,
        idle_ms: f64,
        stock: &'a Outcome,
        governed: &'a Outcome,
    ) -> Picture<'a> {
        let half = |outcome: &'a Outcome| Half {
            over_time: &outcome.over_time,
            tcp: tcp_course(outcome),
        };
        let local = self.parameters.bottleneck == BottleneckAt::Local;
        Picture {
            title: format!("{}: {}", self.name, self.scenario.about),
            path: format!("{}; drawn: those nearest to the medians", self.parameters),
            headline: report.headline(),
            idle_ms,
            queue_kb: local.then_some(self.parameters.queue_kb),
            stock: half(stock),
            governed: half(governed),
        }
    }
}

/// A run, in one line.
fn summary(outcome: &Outcome) -> String {
    let report = &outcome.report;
    let mut line = format!(
        "{:.1} Mbit/s, {} lost, round trip p50 {:.1} ms",
        report.goodput_mbps,
        report.lost_packets,
        report.rtt_us.p50 as f64 / 1e3
    );
    if let Some(tcp) = &outcome.tcp {
        line += &format!(", TCP {:.1} Mbit/s", tcp.goodput / 1e6);
    }
    if let Some(rivals) = outcome.rivals_mbps {
        line += &format!(", the others {rivals:.1} Mbit/s");
    }
    line
}

fn tcp_course(outcome: &Outcome) -> Course {
    let intervals = outcome.tcp.iter().flat_map(|tcp| &tcp.intervals);
    let end = outcome.over_time.end();
    intervals
        .map(|interval| (interval.end, interval.rate / 1e6))
        .filter(|(time, _)| *time <= end)
        .collect()
}

fn kernel() -> Result<String> {
    let release = fs::read_to_string("/proc/sys/kernel/osrelease");
    Ok(release
        .context("cannot read the kernel's release")?
        .trim()
        .to_owned())
}

/// Prints the scenarios.
fn list() {
    for scenario in scenarios::all() {
        let own = scenario.own();
        examples::say!("{}: {}", scenario.name, scenario.about);
        examples::say!("    {own}");
        for check in (scenario.checks)(&own) {
            examples::say!("    {}: {}", check.quantity, check.goal);
        }
    }
}
