//! What every program here does around its own work.

use std::net::SocketAddr;

use crate::args::{Common, Load};
use crate::certificate::Trust;
use crate::control::Control;
use crate::download::Downloads;
use crate::lines::Lines;
use crate::report::{SenderReport, print_json, sender_totals};
use crate::signals::{FlowTotals, Observation};
use crate::upload::Uploads;

/// Writes logs to standard error, as much as the environment variable `RUST_LOG` asks for.
pub fn init_logs() {
    use tracing_subscriber::EnvFilter;
    let filter = EnvFilter::try_from_default_env().unwrap_or_else(|_| EnvFilter::new("warn"));
    tracing_subscriber::fmt()
        .with_env_filter(filter)
        .with_writer(std::io::stderr)
        .init();
}

/// How a program controls its connections and what it observes meanwhile.
pub struct Session {
    /// Makes the connections' controllers.
    pub control: Control,
    /// `None` without a source.
    pub observation: Option<Observation>,
    json: bool,
}

impl Session {
    /// Chooses the source of signals, says which, and begins to read it.
    pub async fn start(options: &Common) -> anyhow::Result<Self> {
        let control = Control::new(options)?;
        crate::say!("{}", control.source().notice());
        let observation = match control.source().signals() {
            Some(source) => Some(Observation::start(source).await?),
            None => None,
        };
        Ok(Self {
            control,
            observation,
            json: options.json,
        })
    }

    /// Uploads as `load` says and reports. `others` tells what the source knows in the end of
    /// watched flows beside the senders' own.
    pub async fn upload(
        mut self,
        server: SocketAddr,
        trust: &Trust,
        load: Load,
        others: impl FnOnce(&Observation) -> Vec<FlowTotals>,
    ) -> anyhow::Result<()> {
        let uploads = Uploads::connect(server, trust, load, &self.control).await?;
        crate::say!("connected to {server}, sending");
        let measured = uploads
            .run(
                &self.control,
                self.observation.as_mut(),
                &mut Lines::default(),
            )
            .await?;
        let observation = self.observation.as_ref();
        let others = observation.map(others).unwrap_or_default();
        let report = SenderReport::new(&measured, &self.control, observation, &others);
        crate::say!("\nSummary:\n{report}");
        if let Some(observation) = observation {
            let mut flows = sender_totals(&measured, observation);
            flows.extend(others);
            print_drops(observation, &flows);
        }
        self.finish(&report)?;
        measured.failure.map_or(Ok(()), Err)
    }

    /// Downloads as `load` says and reports. What is sent, and so governed, is the server's.
    pub async fn download(
        self,
        server: SocketAddr,
        trust: &Trust,
        load: &Load,
    ) -> anyhow::Result<()> {
        let downloads = Downloads::connect(server, trust, load, &self.control).await?;
        crate::say!("connected to {server}, receiving");
        let report = downloads.run().await?;
        crate::say!("\nSummary: {report}");
        self.finish(&report)
    }

    /// Prints the report as JSON if that was asked for.
    pub fn finish(&self, report: &impl serde::Serialize) -> anyhow::Result<()> {
        if self.json {
            print_json(report)?;
        }
        Ok(())
    }
}

/// Prints where packets of these flows were dropped, if any was.
pub fn print_drops(observation: &Observation, flows: &[FlowTotals]) {
    let drops = observation.drops(flows);
    if !drops.is_empty() {
        crate::say!("Drops of these flows on this host:\n{drops}");
    }
}
