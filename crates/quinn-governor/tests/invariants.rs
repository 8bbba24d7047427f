//! What must hold whatever a connection, a link and a source do.

use proptest::prelude::*;
use quinn_governor::testing::{BaseChoice, Op, drive};

fn base() -> impl Strategy<Value = BaseChoice> {
    prop_oneof![
        Just(BaseChoice::Cubic),
        Just(BaseChoice::NewReno),
        Just(BaseChoice::Bbr)
    ]
}

fn op() -> impl Strategy<Value = Op> {
    let counter = || prop_oneof![0..50u64, any::<u64>()];
    let gauge = || prop_oneof![0..200_000u64, any::<u64>()];
    let say = (
        counter(),
        counter(),
        counter(),
        gauge(),
        gauge(),
        gauge(),
        counter(),
    );
    prop_oneof![
        4 => any::<u8>().prop_map(Op::Turn),
        1 => Just(Op::Open),
        1 => Just(Op::Close),
        8 => (0..200u16).prop_map(Op::Wait),
        1 => any::<u16>().prop_map(Op::Wait),
        12 => any::<u8>().prop_map(Op::Send),
        12 => (any::<u8>(), prop::bool::weighted(0.2))
            .prop_map(|(datagrams, app_limited)| Op::Ack { datagrams, app_limited }),
        2 => (0..20u8, prop::bool::weighted(0.1))
            .prop_map(|(datagrams, persistent)| Op::Lose { datagrams, persistent }),
        1 => Just(Op::Mark),
        1 => (1200..9000u16).prop_map(Op::Mtu),
        1 => Just(Op::Migrate),
        1 => Just(Op::Rebind),
        2 => Just(Op::Observe),
        1 => (any::<u8>(), any::<bool>())
            .prop_map(|(datagrams, reported)| Op::Refuse { datagrams, reported }),
        2 => Just(Op::SendAck),
        10 => (0..500u16).prop_map(Op::Drain),
        2 => (0..1000u16).prop_map(Op::Others),
        2 => any::<u8>().prop_map(Op::Drop),
        1 => any::<u8>().prop_map(Op::Rule),
        1 => (0..1500u16).prop_map(Op::Limit),
        1 => (0..70u8).prop_map(Op::Queue),
        1 => any::<bool>().prop_map(Op::Deaf),
        1 => any::<bool>().prop_map(Op::Live),
        1 => say.prop_map(|(observed, drops, policy_drops, own, shared, total, drained)| Op::Say {
            observed, drops, policy_drops, own, shared, total, drained,
        }),
    ]
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 400, failure_persistence: None, ..ProptestConfig::default() })]

    #[test]
    fn nothing_that_happens_breaks_the_law(
        base in base(),
        ops in prop::collection::vec(op(), 0..200),
    ) {
        drive(base, &ops);
    }

    #[test]
    fn nothing_a_working_link_does_breaks_the_law(
        base in base(),
        rounds in prop::collection::vec((any::<u8>(), 1..40u16, 0..600u16, 0..40u8, 0..3u8), 0..100),
    ) {
        let ops: Vec<Op> = rounds
            .into_iter()
            .flat_map(|(send, wait, drain, datagrams, drop)| {
                [
                    Op::Drop(drop / 2),
                    Op::Send(send),
                    Op::Wait(wait),
                    Op::Drain(drain),
                    Op::Ack { datagrams, app_limited: false },
                    Op::Lose { datagrams: drop / 2, persistent: false },
                ]
            })
            .collect();
        drive(base, &ops);
    }
}
