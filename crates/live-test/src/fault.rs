//! System calls that fail.

use std::collections::BTreeMap;
use std::thread;

use seccompiler::{
    BpfProgram, SeccompAction, SeccompCmpArgLen, SeccompCmpOp, SeccompCondition, SeccompFilter,
    SeccompRule, apply_filter,
};

/// A system call that answers with an error, whatever it is asked for or where arguments of it have
/// certain values.
#[derive(Clone, Debug)]
pub struct Fault {
    call: i64,
    error: i32,
    arguments: Vec<(u8, u32)>,
}

impl Fault {
    /// The call of this number (`libc::SYS_*`) fails with this error number.
    #[must_use]
    pub fn new(call: i64, error: i32) -> Self {
        Self {
            call,
            error,
            arguments: Vec::new(),
        }
    }

    /// Only where the low 32 bits of the argument at `index` (0 to 5) are `value`.
    #[must_use]
    pub fn when(mut self, index: u8, value: u32) -> Self {
        self.arguments.push((index, value));
        self
    }

    fn program(&self) -> Result<BpfProgram, seccompiler::BackendError> {
        let conditions = self.arguments.iter().map(|(index, value)| {
            let (length, equal) = (SeccompCmpArgLen::Dword, SeccompCmpOp::Eq);
            SeccompCondition::new(*index, length, equal, u64::from(*value))
        });
        let conditions = conditions.collect::<Result<Vec<_>, _>>()?;
        let rules = if conditions.is_empty() {
            Vec::new()
        } else {
            vec![SeccompRule::new(conditions)?]
        };
        SeccompFilter::new(
            BTreeMap::from([(self.call, rules)]),
            SeccompAction::Allow,
            SeccompAction::Errno(self.error.unsigned_abs()),
            std::env::consts::ARCH.try_into()?,
        )?
        .try_into()
    }
}

/// Runs `f` where these calls fail: on a thread of its own, and on the threads that it starts.
///
/// The kernel's seccomp filters do it, which a thread keeps until it ends. No privilege is needed.
///
/// # Panics
///
/// When `f` does, and where the kernel has no seccomp filters.
pub fn under<T: Send>(faults: &[Fault], f: impl FnOnce() -> T + Send) -> T {
    thread::scope(|scope| {
        let thread = scope.spawn(|| {
            for fault in faults {
                let program = fault.program().expect("the filter is well formed");
                apply_filter(&program).expect("the kernel has seccomp filters");
            }
            f()
        });
        match thread.join() {
            Ok(result) => result,
            Err(panic) => std::panic::resume_unwind(panic),
        }
    })
}
