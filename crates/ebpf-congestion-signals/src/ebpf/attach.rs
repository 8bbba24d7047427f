//! Attaches the probes that this kernel supports, and reports why others cannot be attached.

use std::io;

use aya::Ebpf;
use aya::programs::{BtfTracePoint, FExit, Program, ProgramError};
use ebpf_congestion_signals_common::ABSENT;

use super::denial;
use super::denial::is_denied;
use super::offsets::Offsets;
use super::options::EbpfOptions;
use super::probes::{Hook, NOTHING, PROBES, Probe};
use crate::btf::{Btf, BtfError};
use crate::error::LoadError;
use crate::error::with_causes;
use crate::shortage::{of_system, remedy};
use crate::source::Capability;

/// Attaches every probe that the options ask for and this kernel supports. Returns a capability for
/// each, except for fallbacks of a probe that is attached.
pub(super) fn attach(
    ebpf: &mut Ebpf,
    btf: &Btf,
    hooks: &aya::Btf,
    offsets: &Offsets,
    options: &EbpfOptions,
) -> Result<Vec<Capability>, LoadError> {
    let mut capabilities: Vec<Capability> = Vec::with_capacity(PROBES.len());
    let mut first_rejected = None;
    let works = |capabilities: &[Capability], name: &str| {
        capabilities
            .iter()
            .any(|capability| capability.name == name && capability.missing.is_none())
    };
    for probe in &PROBES {
        let is_spare = match probe.hook {
            Hook::Tracepoint { .. } => false,
            Hook::WithoutReceiver => offsets.kernel.kfree_skb_rx_sk != ABSENT,
            Hook::Function { instead_of, .. } => works(&capabilities, instead_of),
        };
        if is_spare {
            continue;
        }
        let missing = match hookable(probe, btf, options)? {
            Err(why) => Some(why),
            Ok(()) => match attach_one(ebpf, hooks, probe) {
                Ok(()) => None,
                Err(Refusal::NotPermitted(source)) => match probe.hook {
                    Hook::Tracepoint { .. } | Hook::WithoutReceiver => {
                        return Err(LoadError::NotPermitted {
                            refused: "a tracing program",
                            cause: denial::explain(source.raw_os_error()),
                            source,
                        });
                    }
                    Hook::Function { .. } => {
                        Some("this kernel lets no probe be put on functions".into())
                    }
                },
                Err(Refusal::Exhausted(source)) => {
                    return Err(LoadError::Exhausted {
                        refused: "a tracing program",
                        source,
                    });
                }
                // What reads the kernel's memory is refused by the verifier then, at length.
                Err(Refusal::Rejected(_)) if denial::is_locked_down() => {
                    return Err(LoadError::NotPermitted {
                        refused: "a program that reads the kernel's memory",
                        cause: denial::explain(None),
                        source: io::ErrorKind::PermissionDenied.into(),
                    });
                }
                Err(Refusal::Rejected(log)) => {
                    tracing::warn!(probe = probe.name, %log, "probe rejected");
                    let log = format!("{log}{}", offsets.missing.join("; "));
                    first_rejected.get_or_insert((probe.name, log.clone()));
                    Some(format!("this kernel rejected the probe: {log}"))
                }
            },
        };
        capabilities.push(Capability::new(probe.name, probe.gives, missing));
    }
    if options.calibration {
        let (name, tracepoint) = NOTHING;
        if let Err(Refusal::Rejected(log)) = attach_tracepoint(ebpf, hooks, name, tracepoint) {
            tracing::warn!(%log, "calibration rejected");
        }
    }
    let asked_for = PROBES.iter().any(|probe| probe.is_needed(options));
    let attached = capabilities
        .iter()
        .any(|capability| capability.missing.is_none());
    if attached || !asked_for {
        return Ok(capabilities);
    }
    Err(match first_rejected {
        Some((probe, log)) => LoadError::Rejected { probe, log },
        None => LoadError::KernelTooOld {
            needs: "Linux 5.10 or later",
        },
    })
}

/// Whether a probe is wanted and this kernel has what it hooks; if not, why.
fn hookable(
    probe: &Probe,
    btf: &Btf,
    options: &EbpfOptions,
) -> Result<Result<(), String>, BtfError> {
    if !probe.is_needed(options) {
        return Ok(Err("switched off by the options of loading".into()));
    }
    let name = probe.name;
    let tracepoint = |otherwise: String| match btf.tracepoint_args(name) {
        Err(absence) if absence.is_absence() => Ok(Err(otherwise)),
        Err(damage) => Err(damage),
        Ok(_) => Ok(Ok(())),
    };
    match probe.hook {
        Hook::Tracepoint { .. } if options.function_probes && is_replaceable(name) => {
            Ok(Err("switched off for probes on functions".into()))
        }
        Hook::Tracepoint { since } => {
            tracepoint(format!("this kernel has no tracepoint {name}: {since} has"))
        }
        Hook::WithoutReceiver => tracepoint(format!("this kernel has no tracepoint {name}")),
        Hook::Function { args, .. } => match btf.function_args(name) {
            Err(absence) if absence.is_absence() => {
                Ok(Err(format!("this kernel has no function {name}")))
            }
            Err(damage) => Err(damage),
            // A receive's result is not read, so only the leading arguments must be known.
            Ok(found) if found.len() >= args && (args == 1 || found.len() == args) => Ok(Ok(())),
            Ok(found) => Ok(Err(format!(
                "this kernel's function {name} has {} arguments, not {args}",
                found.len()
            ))),
        },
    }
}

fn is_replaceable(tracepoint: &str) -> bool {
    PROBES.iter().any(
        |probe| matches!(probe.hook, Hook::Function { instead_of, .. } if instead_of == tracepoint),
    )
}

enum Refusal {
    NotPermitted(io::Error),
    Exhausted(io::Error),
    Rejected(String),
}

/// Times that a program is loaded anew where a signal interrupted the verifier, as libbpf does
/// (`PROG_LOAD_ATTEMPTS`).
const ATTEMPTS: u32 = 5;

fn attach_one(ebpf: &mut Ebpf, btf: &aya::Btf, probe: &Probe) -> Result<(), Refusal> {
    let mut attempts = 1..ATTEMPTS;
    loop {
        match attach_once(ebpf, btf, probe) {
            Err(Refusal::Exhausted(error))
                if error.kind() == io::ErrorKind::WouldBlock && attempts.next().is_some() => {}
            result => return result,
        }
    }
}

fn attach_once(ebpf: &mut Ebpf, btf: &aya::Btf, probe: &Probe) -> Result<(), Refusal> {
    match probe.hook {
        Hook::Tracepoint { .. } | Hook::WithoutReceiver => {
            attach_tracepoint(ebpf, btf, probe.name, probe.name)
        }
        Hook::Function { .. } => {
            let program: &mut FExit = built(ebpf, probe.name)?.try_into().map_err(rejected)?;
            program.load(probe.name, btf).map_err(rejected)?;
            program.attach().map(drop).map_err(rejected)
        }
    }
}

fn attach_tracepoint(
    ebpf: &mut Ebpf,
    btf: &aya::Btf,
    name: &str,
    tracepoint: &str,
) -> Result<(), Refusal> {
    let program: &mut BtfTracePoint = built(ebpf, name)?.try_into().map_err(rejected)?;
    program.load(tracepoint, btf).map_err(rejected)?;
    program.attach().map(drop).map_err(rejected)
}

fn built<'a>(ebpf: &'a mut Ebpf, name: &str) -> Result<&'a mut Program, Refusal> {
    ebpf.program_mut(name)
        .ok_or_else(|| Refusal::Rejected("not built".into()))
}

fn rejected(error: ProgramError) -> Refusal {
    match error {
        // Without a log, the verifier never checked the program.
        ProgramError::LoadError {
            io_error,
            verifier_log,
        } if is_denied(&io_error) && verifier_log.to_string().trim().is_empty() => {
            Refusal::NotPermitted(io_error)
        }
        ProgramError::LoadError { io_error, .. } if remedy(&io_error).is_some() => {
            Refusal::Exhausted(io_error)
        }
        ProgramError::LoadError { verifier_log, .. } => Refusal::Rejected(verifier_log.to_string()),
        ProgramError::SyscallError(call) if is_denied(&call.io_error) => {
            Refusal::NotPermitted(call.io_error)
        }
        other => match of_system(&other).filter(|error| remedy(error).is_some()) {
            Some(error) => Refusal::Exhausted(error),
            None => Refusal::Rejected(with_causes(&other)),
        },
    }
}
