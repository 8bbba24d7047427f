//! One run from start to end.

use ebpf_congestion_signals::{EbpfSource, SignalSource};

use crate::args::Args;
use crate::error::ValidateError;
use crate::interrupt::Interrupt;
use crate::load::Load;
use crate::measure::{self, Measured};
use crate::output::Output;
use crate::probes::{self, ProbeReport};
use crate::report::{Report, Verdict};
use crate::self_test;

/// Validates this host as `args` say, and reports.
pub(crate) fn run(args: &Args) -> Result<Verdict, ValidateError> {
    let runtime = tokio::runtime::Builder::new_current_thread()
        .enable_all()
        .build()
        .map_err(ValidateError::Runtime)?;
    runtime.block_on(validate(args))
}

async fn validate(args: &Args) -> Result<Verdict, ValidateError> {
    let mut interrupt = Interrupt::listen()?;
    let output = Output::new(args.json);

    let source = EbpfSource::load()?;
    let probes: Vec<ProbeReport> = source.capabilities().into_iter().map(Into::into).collect();
    probes::show(&probes, output);
    let self_test = self_test::run(&source, output).await;
    drop(source);

    output.say("");
    let load = Load::start(args, &mut interrupt, output).await?;
    let description = load.as_ref().map(Load::description);
    let measured = match load {
        Some(mut load) => measure::measure(args, &mut load, &mut interrupt, output).await?,
        None => Measured::nothing(),
    };
    let report = Report::new(
        args,
        probes,
        self_test,
        description,
        &measured,
        interrupt.seen(),
    );
    report.show(output);
    output.object(&serde_json::to_string(&report)?);
    Ok(report.verdict)
}
