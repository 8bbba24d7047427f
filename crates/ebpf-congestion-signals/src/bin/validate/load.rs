//! What loads the network while overhead is measured, and how much of its work was done.

use std::time::Duration;

use serde::Serialize;

use crate::args::{Args, LoadChoice};
use crate::cpu::Meter;
use crate::error::ValidateError;
use crate::interrupt::Interrupt;
use crate::iperf3::{self, Iperf3};
use crate::output::Output;

/// How long a load runs before it is measured: buffers and clocks settle.
const WARM_UP: Duration = Duration::from_secs(1);

/// A load that runs; ended when dropped.
#[derive(Debug)]
pub(crate) struct Load {
    iperf3: Option<Iperf3>,
    meter: Meter,
    description: LoadDescription,
}

/// What the report says of it.
#[derive(Clone, Copy, Debug, Serialize)]
#[serde(tag = "kind", rename_all = "lowercase")]
pub(crate) enum LoadDescription {
    None,
    Iperf3 {
        streams: u32,
        mbps_per_stream: u32,
        /// As asked for; `null`: iperf3's own choice.
        datagram_bytes: Option<u16>,
    },
}

/// How far a load has come, and what that took.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(crate) struct Progress {
    /// Processor time: of the load, or of the host where there is none of our own.
    pub(crate) cpu: Duration,
    /// Bytes sent and bytes received; `None` where the work is not known.
    pub(crate) work: Option<u64>,
}

impl Load {
    /// Starts what `args` ask for; `None` when an end was asked for meanwhile.
    pub(crate) async fn start(
        args: &Args,
        interrupt: &mut Interrupt,
        output: Output,
    ) -> Result<Option<Self>, ValidateError> {
        if args.load == LoadChoice::None {
            output.say("Load: what runs on this host by itself");
            return Ok(Some(Self {
                iperf3: None,
                meter: Meter::Host,
                description: LoadDescription::None,
            }));
        }
        let iperf3 = Iperf3::start(args.seconds, args.datagram_bytes, interrupt).await?;
        let Some(iperf3) = iperf3 else {
            return Ok(None);
        };
        let meter = Meter::of_processes(&iperf3.ids())?;
        let length = match args.datagram_bytes {
            Some(bytes) => format!("datagrams of {bytes} bytes"),
            None => "datagrams as large as iperf3 makes them".to_owned(),
        };
        output.say(&format!(
            "Load: iperf3 over loopback, UDP, {} streams of {} Mbit/s, {length}",
            iperf3::STREAMS,
            iperf3::MBPS_PER_STREAM,
        ));
        if interrupt.cuts_short(WARM_UP).await {
            return Ok(None);
        }
        Ok(Some(Self {
            iperf3: Some(iperf3),
            meter,
            description: LoadDescription::Iperf3 {
                streams: iperf3::STREAMS,
                mbps_per_stream: iperf3::MBPS_PER_STREAM,
                datagram_bytes: args.datagram_bytes,
            },
        }))
    }

    pub(crate) fn description(&self) -> LoadDescription {
        self.description
    }

    pub(crate) fn progress(&mut self) -> Result<Progress, ValidateError> {
        let work = match &mut self.iperf3 {
            Some(iperf3) => {
                let (sent, received) = iperf3.transferred()?;
                Some(sent + received)
            }
            None => None,
        };
        Ok(Progress {
            cpu: self.meter.read()?,
            work,
        })
    }
}
